"""A model file and labelled radiographs -> report.json and predictions.csv.

The evaluation measures the file that ships, on the same path as ``predict``.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.data.overlaps import find_overlaps
from pneumoscope.data.patients import describe_sources
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.bootstrap import RESAMPLES
from pneumoscope.evaluation.metric_registry import evaluate_metrics
from pneumoscope.evaluation.metrics import calibration_curve, confusion_matrix, pr_curve, roc_curve
from pneumoscope.evaluation.report_files import SCHEMA, to_arrays, write_report
from pneumoscope.evaluation.subgroups import measure_subgroups, subtype_auc
from pneumoscope.evaluation.thresholds import curve_bands, decision_curve, threshold_table
from pneumoscope.inference import UNCERTAIN, Prediction, Predictor
from pneumoscope.labels import LABELS

_CURVE_POINTS = 200  # enough for a figure; the areas come from all points


def evaluate_model(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    split_name: str,
    out: str | Path | None = None,
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
    *,
    fingerprint: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Judge labelled radiographs and measure how well the model did.

    Args:
        predictor: the model with its operating point.
        manifest: has the folder of the records.
        records: radiographs to judge.
        split_name: name of these radiographs for people: ``"test"``, ``"validation"``.
        out: folder for ``report.json`` and ``predictions.csv``; created if missing.
        progress: wraps the iteration over images, ``progress(iterator, total, what)``.
        fingerprint: of the split that the records come from; only recorded.
        seed, resamples: of the bootstrap.

    Returns:
        The report, as written to ``report.json``. ``images`` counts all records. Those without a probability are listed
        under ``failed`` and are in no metric; the others are counted under ``judged``.

    Raises:
        DatasetError: no record, or a repeated path.
    """
    records = list(records)
    _check_records(records, manifest)
    judging: Iterable[Prediction] = predictor.predict_many([manifest.path(record) for record in records])
    predictions = list(progress(judging, len(records), "judging radiographs") if progress else judging)
    pairs = list(zip(records, predictions, strict=True))
    rows = [_row(record, prediction, predictor.threshold) for record, prediction in pairs]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "version": __version__,
        "notice": RESEARCH_USE_ONLY,
        "model": {
            "name": predictor.bundle.name,
            "sha256": predictor.bundle.sha256,
            "threshold": float(predictor.threshold),
            "prevalence": predictor.prevalence,
        },
        "data": {
            **_describe(records, manifest, split_name, fingerprint),
            **_describe_quality(records, predictions, manifest),
        },
        "images": len(records),
        **_measure(rows, predictor.threshold, seed, resamples),
        "uncertain": sum(row["status"] == UNCERTAIN for row in rows),
        "failed": [
            {"path": record.path, "status": prediction.status, "reason": prediction.reason}
            for record, prediction in pairs
            if prediction.probability is None
        ],
    }
    if out is not None:
        write_report(report, rows, Path(out))
    return report


def _check_records(records: list[Record], manifest: Manifest) -> None:
    if not records:
        raise DatasetError(f"expected radiographs to evaluate under {manifest.root}, found none: check the split")
    path, count = Counter(record.path for record in records).most_common(1)[0]
    if count > 1:
        raise DatasetError(
            f"expected each radiograph once, {path} is in the list {count} times: evaluate one split at a time"
        )


def _row(record: Record, prediction: Prediction, threshold: float) -> dict[str, Any]:
    """One row of ``predictions.csv``."""
    probability = prediction.probability
    return {
        "path": record.path,
        "sha256": record.sha256,
        "label": record.label,
        "sublabel": record.sublabel,
        "patient": _patient(record),
        "probability": probability,
        "verdict": None if probability is None else LABELS[int(probability >= threshold)],
        "status": prediction.status,
        "bacterial": prediction.bacterial,
        **dict(record.attributes),
    }


def _patient(record: Record) -> str:
    return record.group or record.patient or record.path


def _describe(records: list[Record], manifest: Manifest, split_name: str, fingerprint: str | None) -> dict[str, Any]:
    """The part ``data`` of the report."""
    labels = Counter(record.label for record in records)
    # Names, labels and contents: equal hashes mean that two reports are about the same radiographs.
    lines = sorted(f"{record.path} {record.label} {record.sha256}" for record in records)
    return {
        "root": str(manifest.root),
        "split": split_name,
        "images": len(records),
        "patients": len({_patient(record) for record in records}),
        "labels": {label: labels[label] for label in LABELS},
        "median_size": _median_size(records),
        "split_fingerprint": fingerprint,
        "sha256": hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest(),
    }


def _describe_quality(records: list[Record], predictions: list[Prediction], manifest: Manifest) -> dict[str, Any]:
    """Where the patients come from, what was found and not used, and pictures that make the figures wrong."""
    pairs = zip(records, predictions, strict=True)
    hashes = {record.path: prediction.image_sha256 for record, prediction in pairs}
    overlaps = find_overlaps(manifest, records, hashes)
    return {
        "patients_from": describe_sources(record.patient_from for record in records),
        "patients_with_both_labels": overlaps.patients_with_both_labels,
        "unused": dict(manifest.unused),
        "mapping": list(manifest.mapping),
        "both_labels": list(overlaps.both_labels),
        "in_training": list(overlaps.in_training),
        "warnings": overlaps.sentences(),
    }


def _median_size(records: list[Record]) -> str | None:
    """Median width and height in pixels; None if the manifest does not have all sizes."""
    sizes = np.array([(record.width, record.height) for record in records])
    if not sizes.all():
        return None
    width, height = np.median(sizes, axis=0)
    return f"{width:.0f}x{height:.0f}"


def _measure(rows: list[dict[str, Any]], threshold: float, seed: int, resamples: int) -> dict[str, Any]:
    """Metrics, curves and confusion matrix of the rows that were judged."""
    rows = [row for row in rows if row["probability"] is not None]
    labels, probability, groups = to_arrays(rows)
    roc, pr = roc_curve(labels, probability), pr_curve(labels, probability)
    return {
        "judged": {"images": len(rows), "patients": len(set(groups.tolist()))},
        "metrics": evaluate_metrics(labels, probability, threshold, groups, seed, resamples),
        "confusion_matrix": confusion_matrix(labels, probability, threshold).tolist(),
        "subtypes": subtype_auc(rows, seed, resamples),
        "subgroups": measure_subgroups(rows, threshold, seed, resamples),
        "thresholds": threshold_table(labels, probability, threshold, groups, seed, resamples),
        "decision_curve": decision_curve(labels, probability, groups, seed, resamples),
        "bands": curve_bands(labels, probability, groups, seed, resamples),
        "curves": {
            "roc": _thin_curve(roc, ("false_positive_rate", "sensitivity", "threshold")),
            "pr": _thin_curve(pr, ("recall", "precision", "threshold")),
            "calibration": calibration_curve(labels, probability),
        },
    }


def _thin_curve(
    curve: tuple[np.ndarray, ...] | None, names: tuple[str, str, str]
) -> dict[str, list[float | None]] | None:
    """At most 200 points of a curve, with both ends: its corners, or else points at equal distances along it."""
    if curve is None:
        return None
    x, y, threshold = curve
    dx, dy = np.diff(x), np.diff(y)
    turns = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-12  # rounding errors are far smaller
    keep = np.flatnonzero(np.concatenate(([True], turns, [True]))) if len(x) > 2 else np.arange(len(x))
    if len(keep) > _CURVE_POINTS:
        length = np.append(0, np.cumsum(np.abs(np.diff(x[keep])) + np.abs(np.diff(y[keep]))))
        nearest = np.searchsorted(length, np.linspace(0, length[-1], _CURVE_POINTS)).clip(max=len(keep) - 1)
        keep = keep[np.unique(np.append(nearest[:-1], len(keep) - 1))]
    columns: list[list[float | None]] = [[round(float(value), 6) for value in axis[keep]] for axis in (x, y)]
    # The threshold of the first ROC point is infinite, which JSON cannot express.
    columns.append([float(value) if np.isfinite(value) else None for value in threshold[keep]])
    return dict(zip(names, columns, strict=True))
