"""What other operating points would do: predictive values by prevalence, net benefit, and bands of the two curves.

All intervals are pointwise percentile intervals of a bootstrap over patients.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pneumoscope.evaluation.bootstrap import RESAMPLES, bootstrap, cumulative_counts
from pneumoscope.evaluation.metrics import validate
from pneumoscope.labels import LABELS, POSITIVE

#: Shares of pneumonia at which predictive values are given: screening, general practice, emergency room, half and half.
PREVALENCES = (0.02, 0.1, 0.3, 0.5)

_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_DECISIONS = np.arange(1, 100) / 100
_GRID = np.linspace(0, 1, 101)


def threshold_table(
    labels: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    prevalences: Sequence[float] = PREVALENCES,
) -> list[dict[str, Any]]:
    """Sensitivity, specificity and predictive values at a range of thresholds, with the operating point among them.

    The predictive values at another prevalence follow from Bayes' theorem, if sensitivity and specificity are the same
    there: ``PPV = se p / (se p + (1 - sp) (1 - p))``, ``NPV = sp (1 - p) / (sp (1 - p) + (1 - se) p)``.

    Reference: Altman and Bland, "Diagnostic tests 2: predictive values", BMJ 309, 1994.

    Args:
        labels, probability, threshold, groups: see :mod:`pneumoscope.evaluation.metrics`.
        seed, resamples: of the bootstrap.
        prevalences: shares of pneumonia that predictive values are wanted for.

    Returns:
        For each threshold, rising: ``threshold``, ``operating_point`` (bool), the estimates ``sensitivity`` and
        ``specificity``, and ``ppv`` and ``npv``: lists of ``prevalence`` and estimate.
    """
    labels, probability, threshold, patient = validate(labels, probability, threshold, groups)
    points = sorted({*_THRESHOLDS, threshold})
    by_patient = _sum_by_patient(labels, probability, np.array(points), patient)

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        tp, fp, positives, negatives = _weigh(weights, by_patient)
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN, which means undefined
            se, sp = tp / positives, 1 - fp / negatives  # (R, T)
            columns = {"sensitivity": se, "specificity": sp}
            for p in prevalences:
                columns[f"ppv {p}"] = se * p / (se * p + (1 - sp) * (1 - p))
                columns[f"npv {p}"] = sp * (1 - p) / (sp * (1 - p) + (1 - se) * p)
        return {f"{name} {t}": column[:, t] for name, column in columns.items() for t in range(len(points))}

    estimates = bootstrap(statistics, patient, seed, resamples)
    return [
        {
            "threshold": point,
            "operating_point": point == threshold,
            "sensitivity": estimates[f"sensitivity {t}"],
            "specificity": estimates[f"specificity {t}"],
            **{
                value: [{"prevalence": p, **estimates[f"{value} {p} {t}"]} for p in prevalences]
                for value in ("ppv", "npv")
            },
        }
        for t, point in enumerate(points)
    ]


def decision_curve(
    labels: np.ndarray,
    probability: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, list[float | None]] | None:
    """Net benefit of acting on the model, on all radiographs, or on none (which is 0), by the threshold of the action.

    ``net benefit = TP / n - FP / n * t / (1 - t)``: true positives, less the false positives at the rate at which
    somebody who acts from probability t would exchange them. It holds at the share of pneumonia of these radiographs.

    Reference: Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26(6), 2006.

    Returns:
        Lists of one length: ``threshold``, ``model`` with ``low`` and ``high``, ``all``. None if a label has no
        radiograph.
    """
    labels, probability, _, patient = validate(labels, probability, groups=groups)
    if len(set(labels.tolist())) < len(LABELS):
        return None
    by_patient = _sum_by_patient(labels, probability, _DECISIONS, patient)
    odds = _DECISIONS / (1 - _DECISIONS)

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        tp, fp, positives, negatives = _weigh(weights, by_patient)
        benefit = (tp - fp * odds) / (positives + negatives)
        return {f"{t}": benefit[:, t] for t in range(len(odds))}

    share = float((labels == POSITIVE).mean())
    return {
        "threshold": _rounded(_DECISIONS),
        **_band(bootstrap(statistics, patient, seed, resamples), "model"),
        "all": _rounded(share - (1 - share) * odds),
    }


def curve_bands(
    labels: np.ndarray,
    probability: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, list[float | None]]] | None:
    """Pointwise 95 % bands of the ROC curve and of the precision-recall curve.

    Returns:
        ``roc``: lists ``false_positive_rate`` (a grid), ``sensitivity``, ``low``, ``high``; ``pr``: ``recall`` (a
        grid), ``precision``, ``low``, ``high``. None if a label has no radiograph.
    """
    labels, probability, _, patient = validate(labels, probability, groups=groups)
    if len(set(labels.tolist())) < len(LABELS):
        return None

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        tp, fp, _ = cumulative_counts(labels, probability, weights[:, patient])
        rows = [_on_grid(*counts) for counts in zip(tp, fp, strict=True)]
        sensitivity, precision = np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
        return {
            **{f"roc {place}": sensitivity[:, place] for place in range(len(_GRID))},
            **{f"pr {place}": precision[:, place] for place in range(len(_GRID))},
        }

    estimates = bootstrap(statistics, patient, seed, resamples)
    roc = {name: value for name, value in estimates.items() if name.startswith("roc")}
    pr = {name: value for name, value in estimates.items() if name.startswith("pr")}
    return {
        "roc": {"false_positive_rate": _rounded(_GRID), **_band(roc, "sensitivity")},
        "pr": {"recall": _rounded(_GRID), **_band(pr, "precision")},
    }


def _on_grid(tp: np.ndarray, fp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity at a grid of false positive rates, and precision at a grid of recalls; NaN where undefined.

    Args:
        tp, fp: (K,) int, at falling thresholds.
    """
    if not tp[-1] or not fp[-1]:
        return np.full(len(_GRID), np.nan), np.full(len(_GRID), np.nan)
    recall = tp / tp[-1]
    sensitivity = np.interp(_GRID, np.append(0, fp / fp[-1]), np.append(0, recall))
    precision = tp / np.maximum(tp + fp, 1)
    return sensitivity, precision[np.searchsorted(recall, _GRID).clip(max=len(recall) - 1)]


def _sum_by_patient(labels: np.ndarray, probability: np.ndarray, points: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """(patients, T, 4) float64: true and false positives at each threshold, positives and negatives of each patient."""
    positive = (labels == POSITIVE)[:, None]
    called = probability[:, None] >= points  # (N, T)
    every = np.ones_like(called)
    cells = np.stack([called & positive, called & ~positive, every & positive, every & ~positive], axis=2)
    sums = np.zeros((int(patient.max(initial=-1)) + 1, *cells.shape[1:]))
    np.add.at(sums, patient, cells)
    return sums


def _weigh(weights: np.ndarray, by_patient: np.ndarray) -> tuple[np.ndarray, ...]:
    """(R, T) float64 each: true positives, false positives, positives, negatives of each resample."""
    sums = np.tensordot(weights.astype(np.float64), by_patient, axes=1)
    return tuple(sums[..., cell] for cell in range(sums.shape[-1]))


def _band(estimates: dict[str, Any], name: str) -> dict[str, list[float | None]]:
    return {
        name: [_round(estimate["value"]) for estimate in estimates.values()],
        "low": [_round(estimate["low"]) for estimate in estimates.values()],
        "high": [_round(estimate["high"]) for estimate in estimates.values()],
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return [_round(float(value)) for value in values]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
