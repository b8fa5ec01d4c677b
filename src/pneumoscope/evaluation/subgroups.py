"""Metrics on a part of the radiographs: bacterial against viral, or a ratio or style typical of the other label."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pneumoscope.data.aspect_ratio import common_ratio, median_ratios
from pneumoscope.evaluation.bootstrap import RESAMPLES, Estimate
from pneumoscope.evaluation.metric_registry import evaluate_metrics
from pneumoscope.evaluation.metrics import log_loss, roc_auc_estimate
from pneumoscope.evaluation.report_files import PREDICTION_COLUMNS, to_arrays
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL

#: Values of an attribute that few images have, and that no image has.
OTHER, UNKNOWN = "other", "unknown"
#: An attribute with more values than this is no attribute of groups.
MAX_VALUES = 12

_MIN_IMAGES = 10  # of each label, for metrics on the radiographs against the ratio or the style; of a subgroup
#: Upper ends of the groups of ages, in years; the models are for the second.
_AGES = ((1, "under 1"), (6, "1 to 5"), (18, "6 to 17"), (65, "18 to 64"), (math.inf, "65 and over"))


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
    return roc_auc_estimate(kinds, share, groups, seed, resamples)


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


def measure_subgroups(
    rows: Sequence[dict[str, Any]], threshold: float, seed: int = 0, resamples: int = RESAMPLES
) -> list[dict[str, Any]]:
    """Figures of the patients of one age, sex, view, or whatever else a table says of them, and of each sub-type.

    Ages are put into groups. A value that fewer than ten images have is counted under ``other``; an attribute with
    more values than :data:`MAX_VALUES` is left out. Images without a value are counted under ``unknown``.

    Args:
        rows: with ``label``, ``sublabel``, ``patient``, ``probability`` and the attributes.
        threshold: the operating point.
        seed, resamples: of the bootstrap.

    Returns:
        For each value of each attribute: ``attribute``, ``value``, ``images``, ``patients``, and the estimates
        ``sensitivity``, ``specificity`` and ``roc_auc``, whose value is None where a label has no image.
    """
    names = dict.fromkeys(name for row in rows for name in row if name not in PREDICTION_COLUMNS)
    found = []
    for name in names:
        values = [_group_of(name, str(row.get(name) or "")) for row in rows]
        counts = Counter(values)
        values = [value if counts[value] >= _MIN_IMAGES or value == UNKNOWN else OTHER for value in values]
        if 1 < len(set(values)) <= MAX_VALUES:
            for value in sorted(set(values), key=_place):
                chosen = [row for row, own in zip(rows, values, strict=True) if own == value]
                found.append({"attribute": name, "value": value, **_figures(chosen, threshold, seed, resamples)})
    sublabels = sorted({row["sublabel"] for row in rows if row["sublabel"]})
    for value in sublabels:
        chosen = [row for row in rows if row["sublabel"] == value or row["label"] == NORMAL]
        figures = _figures(chosen, threshold, seed, resamples)
        found.append({"attribute": "sub-type, with all NORMAL", "value": value, **figures})
    return found


def _figures(rows: Sequence[dict[str, Any]], threshold: float, seed: int, resamples: int) -> dict[str, Any]:
    labels, probability, groups = to_arrays(rows)
    metrics = evaluate_metrics(labels, probability, threshold, groups, seed, resamples)
    return {
        "images": len(rows),
        "patients": len(set(groups.tolist())),
        **{name: metrics[name] for name in ("sensitivity", "specificity", "roc_auc")},
    }


def _group_of(name: str, value: str) -> str:
    """The group of a value: of an age in years its range, otherwise the value itself."""
    if not value:
        return UNKNOWN
    if name != "age":
        return value
    years = age_in_years(value)
    if years is None:
        return UNKNOWN
    return next(title for end, title in _AGES if years < end)


def age_in_years(text: str) -> float | None:
    """An age as tables and DICOM headers write it (``4``, ``004Y``, ``18M``, ``3.5``) in years; None if it is no age.

    >>> age_in_years("018M")
    1.5
    """
    match = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*([DWMY]?)", text.strip().upper(), re.ASCII)
    if not match:
        return None
    return float(match[1].replace(",", ".")) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1, "": 1}[match[2]]


def _place(value: str) -> tuple[int, str]:
    """Ages in their order, other values by the alphabet, the rest at the end."""
    ages = [title for _, title in _AGES]
    return (ages.index(value) if value in ages else len(ages) + (value in (OTHER, UNKNOWN))), value


def _measure(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Number of images of each label, and the metrics at 0.5; None with too few images of either label."""
    counts = [sum(row["label"] == label for row in rows) for label in LABELS]
    if min(counts) < _MIN_IMAGES:
        return None
    labels, probability, groups = to_arrays(rows)
    return {"normal": counts[0], "pneumonia": counts[1], **evaluate_metrics(labels, probability, 0.5, groups)}
