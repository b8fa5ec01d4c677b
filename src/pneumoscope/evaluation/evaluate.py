"""Model file + labelled radiographs -> report.json and predictions.csv; reports -> a comparison.

What is measured is the file that ships, on the path that screens. Both files hold no date: equal model and
data give equal bytes. ``predictions.csv`` has one row a radiograph; its ``patient`` is the record's group, so
that patients who share a picture count as one.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.data.augment import common_ratio, median_ratios
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import metrics
from pneumoscope.inference.predict import UNCERTAIN, Prediction, Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL, label_index

REPORT_NAME = "report.json"
PREDICTIONS_NAME = "predictions.csv"
#: Version of the keys of ``report.json``.
SCHEMA = 1

_COLUMNS = ("path", "sha256", "label", "sublabel", "patient", "probability", "verdict", "status", "bacterial")
_FEWEST = 10  # images of each label, below which no figure against the ratio is given
_CURVE_POINTS = 200  # enough for a figure; the areas come from all points
_REQUIRED = {
    "version": str, "model": dict, "data": dict, "images": int, "judged": dict, "metrics": dict, "curves": dict,
    "confusion_matrix": list, "failed": list,
}  # fmt: skip


def evaluate_model(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    split_name: str,
    out: str | Path | None = None,
    progress: Callable | None = None,
    *,
    fingerprint: str | None = None,
    seed: int = 0,
    resamples: int = metrics.RESAMPLES,
) -> dict:
    """Judge labelled radiographs and say how well that went.

    Args:
        predictor: the model with its operating point.
        manifest: where the records lie.
        records: radiographs to judge.
        split_name: what they are, for people: ``"test"``, ``"validation"``.
        out: folder for ``report.json`` and ``predictions.csv``; created where missing.
        progress: wraps the iteration over images, ``progress(iterator, total, what)``.
        fingerprint: of the split that the records come from, recorded as it is.
        seed, resamples: of the bootstrap.

    Returns:
        The report, as written to ``report.json``. ``images`` counts all records; those without a probability
        are listed under ``failed`` and enter no metric, the others are counted under ``judged``.

    Raises:
        DatasetError: no record, or one path twice.
    """
    records = list(records)
    _check_records(records, manifest)
    show = progress or (lambda items, total, what: items)
    judged = predictor.predict_many([manifest.path(record) for record in records])
    found = list(show(judged, len(records), "judging radiographs"))
    rows = [_row(record, one, predictor.threshold) for record, one in zip(records, found, strict=True)]
    report = {
        "schema": SCHEMA,
        "version": __version__,
        "notice": RESEARCH_USE_ONLY,
        "model": {
            "name": predictor.bundle.name,
            "sha256": predictor.bundle.sha256,
            "threshold": float(predictor.threshold),
            "prevalence": predictor.prevalence,
        },
        "data": _describe(records, manifest, split_name, fingerprint),
        "images": len(records),
        **_measure(rows, predictor.threshold, seed, resamples),
        "uncertain": sum(row["status"] == UNCERTAIN for row in rows),
        "failed": [
            {"path": record.path, "status": one.status, "reason": one.reason}
            for record, one in zip(records, found, strict=True)
            if one.probability is None
        ],
    }
    if out is not None:
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / PREDICTIONS_NAME, csv_bytes(rows, _COLUMNS))
        text = json.dumps(report, indent=1, allow_nan=False) + "\n"
        write_atomic(out / REPORT_NAME, text.encode())
    return report


def read_report(source: str | Path) -> tuple[dict, list[dict]]:
    """Read what :func:`evaluate_model` wrote.

    Args:
        source: the folder, or its ``report.json``.

    Returns:
        The report, and one dict a radiograph: ``path``, ``label``, ``patient``, ``probability`` (float or
        None), ``verdict`` (a label or None), ``status``.

    Raises:
        DatasetError: a file is missing, not one of these, or the two do not belong together.
    """
    path = Path(source)
    path = path / REPORT_NAME if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"expected an evaluation report at {path}, cannot read it ({error}): make one with  pneumoscope evaluate"
        ) from None
    schema = report.get("schema") if isinstance(report, dict) else None
    wrong = [name for name, kind in _REQUIRED.items() if not isinstance(report.get(name), kind)] if schema else []
    if schema != SCHEMA or wrong:
        found = f"its {wrong[0]} is missing or of another kind" if wrong else f"received version {schema!r}"
        raise DatasetError(
            f"expected an evaluation report of version {SCHEMA} at {path}, {found}: "
            "make it again with  pneumoscope evaluate"
        )
    predictions = _read_predictions(path.with_name(PREDICTIONS_NAME))
    if len(predictions) != report["images"]:
        raise DatasetError(
            f"expected the {report['images']} radiographs of {path} in {PREDICTIONS_NAME} beside it, "
            f"received {len(predictions)}: evaluate again"
        )
    return report, predictions


def compare(reports: Sequence[dict], predictions: Sequence[Sequence[dict]]) -> dict:
    """Models side by side, and each pair on the radiographs that both judged.

    Args:
        reports: from :func:`read_report`, two or more.
        predictions: of each report, from :func:`read_report`.

    Returns:
        ``models``: for each report ``name``, ``sha256``, ``threshold``, ``split``, ``images`` and its
        ``metrics``. ``pairs``: for each two of them ``a`` and ``b`` (positions in ``models``), ``images`` that
        both judged, ``left_out`` (judged by one alone), ``disagreements`` of the verdicts, ``only_a_correct``,
        ``only_b_correct``, ``mcnemar_p``, and ``auc_difference`` of a minus b with its interval; the last two
        are None without a common radiograph.

    Raises:
        DatasetError: fewer than two reports, or one radiograph under two labels.
    """
    if len(reports) < 2 or len(reports) != len(predictions):
        raise DatasetError(
            f"expected two or more reports, each with its predictions, received {len(reports)} and {len(predictions)}"
        )
    models = [
        {**report["model"], "split": report["data"]["split"], "images": report["images"], "metrics": report["metrics"]}
        for report in reports
    ]
    judged = [{_picture(row): row for row in rows if row["probability"] is not None} for rows in predictions]
    pairs = [{"a": a, "b": b, **_compare_two(judged[a], judged[b])} for a, b in combinations(range(len(reports)), 2)]
    return {"version": __version__, "notice": RESEARCH_USE_ONLY, "models": models, "pairs": pairs}


def _check_records(records: list[Record], manifest: Manifest) -> None:
    if not records:
        raise DatasetError(f"expected radiographs to evaluate under {manifest.root}, found none: check the split")
    path, count = Counter(record.path for record in records).most_common(1)[0]
    if count > 1:
        raise DatasetError(f"expected each radiograph once, {path} comes {count} times: evaluate one split at a time")


def _row(record: Record, prediction: Prediction, threshold: float) -> dict:
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
    }


def _patient(record: Record) -> str:
    return record.group or record.patient or record.path


def _describe(records: list[Record], manifest: Manifest, split_name: str, fingerprint: str | None) -> dict:
    labels = Counter(record.label for record in records)
    # Names, labels and contents: tells whether two reports speak of the same radiographs.
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


def _median_size(records: list[Record]) -> str | None:
    """Median width and height in pixels; None where the manifest does not hold the sizes."""
    sizes = np.array([(record.width, record.height) for record in records])
    if not sizes.all():
        return None
    width, height = np.median(sizes, axis=0)
    return f"{width:.0f}x{height:.0f}"


def _measure(rows: list[dict], threshold: float, seed: int, resamples: int) -> dict:
    """Metrics, curves and confusion matrix of the rows that were judged."""
    rows = [row for row in rows if row["probability"] is not None]
    labels, probability, groups = to_arrays(rows)
    roc, pr = metrics.roc_curve(labels, probability), metrics.pr_curve(labels, probability)
    return {
        "judged": {"images": len(rows), "patients": len(set(groups.tolist()))},
        "metrics": metrics.evaluate(labels, probability, threshold, groups, seed, resamples),
        "confusion_matrix": metrics.confusion_matrix(labels, probability, threshold).tolist(),
        "subtypes": subtype_auc(rows, seed, resamples),
        "curves": {
            "roc": _thinned(roc, ("false_positive_rate", "sensitivity", "threshold")),
            "pr": _thinned(pr, ("recall", "precision", "threshold")),
            "calibration": metrics.calibration_curve(labels, probability),
        },
    }


def subtype_auc(rows: Sequence[dict], seed: int = 0, resamples: int = metrics.RESAMPLES) -> dict | None:
    """Area under the ROC curve of bacterial against viral, over the pneumonias whose sub-label is known.

    Args:
        rows: with ``label``, ``sublabel``, ``patient`` and ``bacterial`` (float or None).
        seed, resamples: of the bootstrap.

    Returns:
        The estimate with its interval; None for a model that does not tell, or without both kinds.
    """
    rows = [row for row in rows if row["sublabel"] and row["bacterial"] is not None]
    kinds = np.array([int(row["sublabel"] == BACTERIAL) for row in rows], dtype=np.int64)
    if len(set(kinds.tolist())) < 2:
        return None
    share = np.array([row["bacterial"] for row in rows], dtype=np.float64).clip(0, 1)
    groups = np.array([row["patient"] for row in rows], dtype=str)
    return metrics.evaluate(kinds, share, 0.5, groups, seed, resamples)["roc_auc"]


def against_ratio(rows: Sequence[dict], ratios: dict[str, float]) -> dict | None:
    """Figures on the radiographs whose own aspect ratio speaks against their label: a shift that nature made.

    Normals wider and pneumonias narrower than :func:`pneumoscope.data.augment.common_ratio`. A model that reads the ratio
    off a squashed image errs here first.

    Args:
        rows: with ``path``, ``label``, ``patient`` and ``probability`` (float or None).
        ratios: width over height of the original, by path, where known.

    Returns:
        ``common`` ratio, ``normal`` and ``pneumonia`` (images of each), and the figures of
        :func:`pneumoscope.evaluation.metrics.evaluate` at 0.5; None with fewer than ten images of either.
    """
    rows = [row for row in rows if row["probability"] is not None and ratios.get(row["path"])]
    ratio = np.array([ratios[row["path"]] for row in rows])
    medians = median_ratios(ratio, np.array([row["label"] for row in rows]))
    if len(medians) < len(LABELS):
        return None
    common = common_ratio(medians)
    chosen = [row for row in rows if (ratios[row["path"]] > common) == (row["label"] == NORMAL)]
    labels, probability, groups = to_arrays(chosen)
    counts = np.bincount(labels, minlength=len(LABELS)).tolist()
    if min(counts) < _FEWEST:
        return None
    figures = metrics.evaluate(labels, probability, 0.5, groups)
    return {"common": common, "normal": counts[0], "pneumonia": counts[1], **figures}


def to_arrays(rows: Sequence[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) int labels, (N,) float64 probabilities, (N,) str patients."""
    labels = np.array([label_index(row["label"]) for row in rows], dtype=np.int64)
    probability = np.array([row["probability"] for row in rows], dtype=np.float64)
    return labels, probability, np.array([row["patient"] for row in rows], dtype=str)


def _thinned(curve: tuple[np.ndarray, ...] | None, names: tuple[str, str, str]) -> dict[str, list] | None:
    """At most 200 points of a curve, both ends among them: its corners, or points evenly spread along it."""
    if curve is None:
        return None
    x, y, threshold = curve
    dx, dy = np.diff(x), np.diff(y)
    turns = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-12  # rounding of the shares stays far below
    keep = np.flatnonzero(np.concatenate(([True], turns, [True]))) if len(x) > 2 else np.arange(len(x))
    if len(keep) > _CURVE_POINTS:
        length = np.append(0, np.cumsum(np.abs(np.diff(x[keep])) + np.abs(np.diff(y[keep]))))
        at = np.searchsorted(length, np.linspace(0, length[-1], _CURVE_POINTS)).clip(max=len(keep) - 1)
        keep = keep[np.unique(np.append(at[:-1], len(keep) - 1))]
    values = [[round(float(value), 6) for value in axis[keep]] for axis in (x, y)]
    # JSON knows no infinity, the threshold of the first ROC point.
    return dict(zip(names, [*values, [float(t) if np.isfinite(t) else None for t in threshold[keep]]], strict=True))


def csv_bytes(rows: Sequence[dict], columns: Sequence[str]) -> bytes:
    """A table of images; a name that is not UTF-8 stays as it is."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)  # None becomes an empty cell, a float all its digits
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read_predictions(path: Path) -> list[dict]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise DatasetError(
                    f"expected the columns {', '.join(_COLUMNS)} in {path}, "
                    f"received {', '.join(reader.fieldnames or ()) or 'none'}: evaluate again"
                )
            return [_prediction(row, path, line) for line, row in enumerate(reader, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"expected the predictions of the report at {path}: {error}") from None


def _prediction(row: dict, path: Path, line: int) -> dict:
    try:
        probability, bacterial = (float(row[name]) if row[name] else None for name in ("probability", "bacterial"))
        judged = probability is not None
        valid = row["label"] in LABELS and (not judged or 0 <= probability <= 1)
        valid = valid and (row["verdict"] in LABELS if judged else not row["verdict"])
        valid = valid and (bacterial is None or 0 <= bacterial <= 1)
    except (TypeError, ValueError):
        valid = False
    if not valid or None in row or None in row.values():  # a cell too many, or too few
        raise DatasetError(
            f"expected {', '.join(_COLUMNS)} in {path} line {line}, received {list(row.values())}: evaluate again"
        )
    return {**row, "probability": probability, "bacterial": bacterial, "verdict": row["verdict"] or None}


def _picture(row: dict) -> str:
    """What two reports call the same image: its label folder, name and content, wherever the data lie."""
    if not row["sha256"]:
        return row["path"]
    return "/".join([*Path(row["path"]).parts[-2:], row["sha256"]])


def _compare_two(a: dict[str, dict], b: dict[str, dict]) -> dict:
    common = sorted(a.keys() & b.keys())
    relabelled = [path for path in common if a[path]["label"] != b[path]["label"]]
    if relabelled:
        raise DatasetError(
            f"expected reports on the same labelled radiographs, {relabelled[0]} is {a[relabelled[0]]['label']} in "
            f"one and {b[relabelled[0]]['label']} in the other: evaluate both on one data folder"
        )
    result = {"images": len(common), "left_out": len(a.keys() ^ b.keys())}
    labels, prob_a, groups = to_arrays([a[path] for path in common])
    prob_b = to_arrays([b[path] for path in common])[1]
    right_a, right_b = (
        np.array([rows[path]["verdict"] == rows[path]["label"] for path in common], dtype=bool) for rows in (a, b)
    )
    return {
        **result,
        # With two classes, verdicts differ where exactly one of them is right.
        "disagreements": int((right_a ^ right_b).sum()),
        "only_a_correct": int((right_a & ~right_b).sum()),
        "only_b_correct": int((right_b & ~right_a).sum()),
        "mcnemar_p": metrics.mcnemar_exact(right_a, right_b) if common else None,
        "auc_difference": metrics.paired_auc_difference(labels, prob_a, prob_b, groups) if common else None,
    }
