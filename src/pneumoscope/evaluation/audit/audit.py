"""Labelled radiographs -> audit.json: findings, statistics by label, shortcuts, labels that look wrong."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.data.manifest import Manifest
from pneumoscope.data.patients import describe_sources
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.audit.faults import NOTE, Finding, find_faults
from pneumoscope.evaluation.audit.inspection import Inspected, inspect_files
from pneumoscope.evaluation.audit.shortcuts import find_shortcuts
from pneumoscope.evaluation.bootstrap import RESAMPLES
from pneumoscope.evaluation.label_errors import find_label_errors
from pneumoscope.inference import Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS, label_index

AUDIT_NAME, PAGE_NAME = "audit.json", "audit.html"
#: Version of the keys of ``audit.json``.
SCHEMA = 1

_QUARTILES = (0.25, 0.5, 0.75)


def audit_data(
    manifest: Manifest,
    out: str | Path | None = None,
    predictor: Predictor | None = None,
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Look for what makes the figures of a model wrong, before it is trained or measured.

    Args:
        manifest: the labelled radiographs, for example from :func:`pneumoscope.data.list_dataset`.
        out: folder for ``audit.json``; created if missing.
        predictor: a model that was not trained on these images; with it, labels that look wrong are listed.
        progress: wraps iterations, ``progress(iterator, total, what)``.
        seed, resamples: of the bootstrap over patients.

    Returns:
        ``data`` (what was audited), ``findings``, ``statistics`` (quartiles by label), ``shortcuts``.

    Raises:
        DatasetError: no radiograph.
    """
    if not manifest.records:
        raise DatasetError(f"expected labelled radiographs under {manifest.root}, found none: check the path")

    def show(what: str, total: int | None = None) -> Callable[[Iterable[Any]], Iterable[Any]] | None:
        return (lambda items: progress(items, total, what)) if progress else None

    files = inspect_files(manifest, manifest.records, show("reading images", len(manifest)))
    usable = [file for file in files if not file.problem]
    findings = find_faults(files)
    if predictor is not None and usable:
        findings += _label_errors(usable, manifest, predictor, show("judging radiographs", len(usable)))
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "audit",
        "version": __version__,
        "notice": RESEARCH_USE_ONLY,
        "model": {"name": predictor.bundle.name, "sha256": predictor.bundle.sha256} if predictor else None,
        "data": _describe(files, manifest),
        "findings": findings,
        "statistics": _statistics(usable),
        "shortcuts": find_shortcuts(usable, seed, resamples, show("measuring shortcuts")) if usable else [],
    }
    if out is not None:
        path = Path(out) / AUDIT_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode("utf-8", "surrogateescape"))
    return report


def _describe(files: Sequence[Inspected], manifest: Manifest) -> dict[str, Any]:
    """The part ``data`` of the audit."""
    records = [file.record for file in files]
    lines = sorted(f"{file.record.path} {file.record.label} {file.sha256}" for file in files)
    return {
        "root": str(manifest.root),
        "images": len(files),
        "usable": sum(not file.problem for file in files),
        "patients": len({record.patient for record in records}),
        "patients_from": describe_sources(record.patient_from for record in records),
        "labels": {label: sum(record.label == label for record in records) for label in LABELS},
        "splits": dict(Counter(record.split for record in records)),
        "unused": dict(manifest.unused),
        "mapping": list(manifest.mapping),
        "sha256": hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest(),
    }


def _statistics(usable: Sequence[Inspected]) -> dict[str, dict[str, list[float]]]:
    """Quartiles of each statistic by label; a label without usable files is left out."""
    by_label = {label: [file.statistics for file in usable if file.record.label == label] for label in LABELS}
    return {
        name: {
            label: [round(float(value), 4) for value in np.nanquantile([row[name] for row in rows], _QUARTILES)]
            for label, rows in by_label.items()
            if any(np.isfinite(row[name]) for row in rows)
        }
        for name in (usable[0].statistics if usable else ())
    }


def _label_errors(
    usable: Sequence[Inspected],
    manifest: Manifest,
    predictor: Predictor,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None,
) -> list[Finding]:
    predictions: Iterable[Any] = predictor.predict_many([manifest.path(file.record) for file in usable])
    pairs = [
        (file, prediction.probability)
        for file, prediction in zip(usable, progress(predictions) if progress else predictions, strict=True)
        if prediction.probability is not None
    ]
    labels = np.array([label_index(file.record.label) for file, _ in pairs], np.int64)
    positive = np.array([probability for _, probability in pairs], np.float64)
    suspects, _ = find_label_errors(labels, np.stack([1 - positive, positive], axis=1))
    if not len(suspects):
        return []
    sentence = (
        f"{len(suspects):,} labels look wrong to {predictor.bundle.name}, the most suspicious first: look at these "
        "images; a model that was trained on them finds fewer"
    )
    items = [[pairs[place][0].record.path] for place in suspects.tolist()]
    return [{"kind": "label_error", "severity": NOTE, "sentence": sentence, "items": items}]
