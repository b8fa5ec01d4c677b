"""Metrics on a part of the radiographs: bacterial against viral, or a ratio or style typical of the other label."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pneumoscope.data.aspect_ratio import common_ratio, median_ratios
from pneumoscope.evaluation.bootstrap import RESAMPLES, Estimate
from pneumoscope.evaluation.metric_registry import evaluate_metrics
from pneumoscope.evaluation.metrics import log_loss
from pneumoscope.evaluation.report_files import to_arrays
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL

_MIN_IMAGES = 10  # of each label, for metrics on the radiographs against the ratio or the style


def subtype_auc(rows: Sequence[dict[str, Any]], seed: int = 0, resamples: int = RESAMPLES) -> Estimate | None:
    """ROC AUC of bacterial against viral, on the pneumonias with a known sub-label.

    Args:
        rows: with ``label``, ``sublabel``, ``patient`` and ``bacterial`` (float or None).
        seed, resamples: of the bootstrap.

    Returns:
        The estimate with its interval; None for a model without this output, or without images of both kinds.
    """
    rows = [row for row in rows if row["sublabel"] and row["bacterial"] is not None]
    kinds = np.array([int(row["sublabel"] == BACTERIAL) for row in rows], dtype=np.int64)
    if len(set(kinds.tolist())) < 2:
        return None
    share = np.array([row["bacterial"] for row in rows], dtype=np.float64).clip(0, 1)
    groups = np.array([row["patient"] for row in rows], dtype=str)
    estimate: Estimate = evaluate_metrics(kinds, share, 0.5, groups, seed, resamples)["roc_auc"]
    return estimate


def against_ratio(rows: Sequence[dict[str, Any]], ratios: dict[str, float]) -> dict[str, Any] | None:
    """Metrics on the radiographs whose aspect ratio is typical of the other label.

    These are normal radiographs that are wider, and pneumonias that are narrower, than the common ratio of
    :func:`pneumoscope.data.aspect_ratio.common_ratio`. A model that reads the ratio from a squashed image makes its
    first errors here.

    Args:
        rows: with ``path``, ``label``, ``patient`` and ``probability`` (float or None).
        ratios: width over height of the original radiograph by path, if known.

    Returns:
        ``common`` ratio, ``normal`` and ``pneumonia`` (number of images of each), and the metrics of
        :func:`pneumoscope.evaluation.metric_registry.evaluate_metrics` at 0.5. None with fewer than ten images of
        either label.
    """
    rows = [row for row in rows if row["probability"] is not None and ratios.get(row["path"])]
    ratio = np.array([ratios[row["path"]] for row in rows])
    medians = median_ratios(ratio, np.array([row["label"] for row in rows]))
    if len(medians) < len(LABELS):
        return None
    common = common_ratio(medians)
    chosen = [row for row in rows if (ratios[row["path"]] > common) == (row["label"] == NORMAL)]
    found = _measure(chosen)
    return found and {"common": common, **found}


def against_style(rows: Sequence[dict[str, Any]], scores: dict[str, float]) -> dict[str, Any] | None:
    """Metrics on the radiographs whose style is typical of the other label.

    Args:
        rows: as for :func:`against_ratio`.
        scores: how much the style looks like PNEUMONIA, from 0 to 1, by path, if known; see
            :func:`pneumoscope.evaluation.style_proxies.style_scores`.

    Returns:
        ``normal`` and ``pneumonia`` (number of images of each), ``log_loss``, and the metrics of
        :func:`pneumoscope.evaluation.metric_registry.evaluate_metrics` at 0.5. None with fewer than ten images of
        either label.
    """
    rows = [row for row in rows if row["probability"] is not None and row["path"] in scores]
    chosen = [row for row in rows if (scores[row["path"]] >= 0.5) == (row["label"] == NORMAL)]
    found = _measure(chosen)
    return found and {**found, "log_loss": log_loss(*to_arrays(chosen)[:2])}


def _measure(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Number of images of each label, and the metrics at 0.5; None with too few images of either label."""
    counts = [sum(row["label"] == label for row in rows) for label in LABELS]
    if min(counts) < _MIN_IMAGES:
        return None
    labels, probability, groups = to_arrays(rows)
    return {"normal": counts[0], "pneumonia": counts[1], **evaluate_metrics(labels, probability, 0.5, groups)}
