"""Labels and probabilities -> metrics, in NumPy alone. An undefined metric is None.

:func:`validate` checks the arrays, and one function computes each metric. ``metric_registry.py`` lists the metrics of
an evaluation and adds their intervals::

    labels       (N,) int, 0 NORMAL or 1 PNEUMONIA
    probability  (N,) float in [0, 1], of PNEUMONIA; at or above the threshold the verdict is PNEUMONIA
    groups       (N,) str or int, the patient of each radiograph
"""

import math
from typing import Any

import numpy as np

from pneumoscope.evaluation.bootstrap import (
    BINS,
    RESAMPLES,
    Estimate,
    bin_indices,
    bootstrap,
    confusion_cells,
    cumulative_counts,
    nan_to_none,
    roc_and_pr_auc,
)
from pneumoscope.labels import LABELS, POSITIVE, label_index

_Z = 1.959963984540054  # 95 % of the standard normal distribution is within +-_Z
_LOG_LOSS_MARGIN = 1e-6


def validate(
    labels: np.ndarray, probability: np.ndarray, threshold: float = 0.5, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Check the arrays and convert each to one type.

    Returns:
        labels (N,) int64; probability (N,) float64; threshold; patient (N,) int64, numbered from 0 in the sorted order
        of ``groups`` (without groups, each radiograph has its own patient).

    Raises:
        ValueError: a wrong shape, length or value, or a number that is not finite.
    """
    labels, probability = np.asarray(labels), np.asarray(probability, dtype=np.float64)
    if labels.ndim != 1 or probability.shape != labels.shape:
        raise ValueError(
            f"expected labels and probability of one length (N,), received {labels.shape} and {probability.shape}"
        )
    if not np.isin(labels, range(len(LABELS))).all():
        raise ValueError(f"expected labels 0 ({LABELS[0]}) and 1 ({LABELS[1]}), received {set(labels.tolist())}")
    if not ((probability >= 0) & (probability <= 1)).all():  # false for NaN as well
        raise ValueError(f"expected probabilities from 0 to 1, received {_first_invalid(probability)}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold from 0 to 1, received {threshold}")
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if groups.shape != labels.shape:
        raise ValueError(f"expected one patient for each radiograph, {labels.shape}, received {groups.shape}")
    patient = np.unique(groups, return_inverse=True)[1]
    return labels.astype(np.int64), probability, float(threshold), patient.astype(np.int64)


def confusion_matrix(labels: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Number of radiographs by label (rows) and verdict (columns), both in the order of ``labels.LABELS``.

    Returns:
        (2, 2) int64: ``[[true negatives, false positives], [false negatives, true positives]]``.

    >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0.1, 0.5, 0.4, 0.9])).tolist()
    [[1, 1], [1, 1]]
    """
    labels, probability, threshold, _ = validate(labels, probability, threshold)
    return np.bincount(confusion_cells(labels, probability, threshold), minlength=4).reshape(2, 2)


def accuracy(matrix: np.ndarray) -> float | None:
    """Share of right verdicts, ``(TN + TP) / N``; None without radiographs.

    Args:
        matrix: (2, 2) int, from :func:`confusion_matrix`.
    """
    return _ratio(*accuracy_counts(matrix))


def accuracy_counts(matrix: np.ndarray) -> tuple[int, int]:
    """Right verdicts, and all verdicts."""
    return int(np.trace(matrix)), int(matrix.sum())


def precision(matrix: np.ndarray, label: str) -> float | None:
    """Share of a label's verdicts that are right, for PNEUMONIA ``TP / (TP + FP)``; None without such verdicts."""
    return _ratio(*precision_counts(matrix, label))


def precision_counts(matrix: np.ndarray, label: str) -> tuple[int, int]:
    """Right verdicts of a label, and all verdicts of this label."""
    index = label_index(label)
    return int(matrix[index, index]), int(matrix[:, index].sum())


def recall(matrix: np.ndarray, label: str) -> float | None:
    """Share of a label's radiographs with this verdict, for PNEUMONIA ``TP / (TP + FN)``; None without radiographs."""
    return _ratio(*recall_counts(matrix, label))


def recall_counts(matrix: np.ndarray, label: str) -> tuple[int, int]:
    """Right verdicts of a label, and all radiographs with this label."""
    index = label_index(label)
    return int(matrix[index, index]), int(matrix[index].sum())


def f1(matrix: np.ndarray, label: str) -> float | None:
    """Harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``; None if all three are 0.

    Reference: van Rijsbergen (1979), *Information Retrieval*, ch. 7.
    """
    index = label_index(label)
    return _ratio(2 * matrix[index, index], matrix[index].sum() + matrix[:, index].sum())


def sensitivity(matrix: np.ndarray) -> float | None:
    """Share of the pneumonia radiographs with the verdict PNEUMONIA: the recall of PNEUMONIA.

    Reference: Yerushalmy (1947), *Public Health Reports* 62(40).
    """
    return recall(matrix, LABELS[POSITIVE])


def specificity(matrix: np.ndarray) -> float | None:
    """Share of the normal radiographs with the verdict NORMAL: the recall of NORMAL.

    Reference: Yerushalmy (1947), *Public Health Reports* 62(40).
    """
    return recall(matrix, LABELS[1 - POSITIVE])


def roc_curve(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Receiver operating characteristic: one point for each distinct probability as threshold.

    Reference: Fawcett (2006), *Pattern Recognition Letters* 27(8), section 5.

    Returns:
        (K + 1,) float64 each: 1 - specificity and sensitivity, both rising from 0 to 1, and the threshold,
        falling from infinity. None if a class has no radiograph.
    """
    labels, probability, *_ = validate(labels, probability)
    if len(set(labels.tolist())) < len(LABELS):
        return None
    tp, fp, thresholds = cumulative_counts(labels, probability, np.ones((1, len(labels)), np.int64))
    tp, fp = np.append(0, tp[0]), np.append(0, fp[0])
    return fp / fp[-1], tp / tp[-1], np.append(np.inf, thresholds)


def roc_auc(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Chance that a pneumonia radiograph has a higher probability than a normal one; a tie counts half.

    ``U / (P * N)`` with the Mann-Whitney statistic U. This is the area under :func:`roc_curve` by trapezoids.

    Reference: Hanley and McNeil (1982), *Radiology* 143(1).

    Returns:
        0 to 1; None if a class has no radiograph.

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.9]))
    0.875
    """
    labels, probability, *_ = validate(labels, probability)
    return nan_to_none(roc_and_pr_auc(labels, probability, np.ones((1, len(labels)), np.int64))[0][0])


def roc_auc_estimate(
    labels: np.ndarray,
    probability: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """:func:`roc_auc` with the interval that an evaluation gives it, without the other metrics of an evaluation."""
    labels, probability, _, patient = validate(labels, probability, groups=groups)

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"roc_auc": roc_and_pr_auc(labels, probability, weights[:, patient])[0]}

    return bootstrap(statistics, patient, seed, resamples)["roc_auc"]


def pr_curve(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Precision and recall of PNEUMONIA, one point for each distinct probability as threshold.

    Reference: Davis and Goadrich (2006), *ICML*.

    Returns:
        (K,) float64 each: recall, rising to 1; precision; threshold, falling. None without pneumonia.
    """
    labels, probability, *_ = validate(labels, probability)
    if not labels.any():
        return None
    tp, fp, thresholds = cumulative_counts(labels, probability, np.ones((1, len(labels)), np.int64))
    return tp[0] / tp[0, -1], tp[0] / (tp[0] + fp[0]), thresholds


def pr_auc(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Average precision: the area under :func:`pr_curve` in steps, as scikit-learn defines it.

    ``sum_k (R_k - R_{k-1}) P_k``, without the optimistic straight lines between the points.

    Reference: Davis and Goadrich (2006), *ICML*; Boyd, Eng and Page (2013), *ECML*.

    Returns:
        0 to 1; None without pneumonia. Random probabilities have the share of pneumonia as expected value.
    """
    labels, probability, *_ = validate(labels, probability)
    return nan_to_none(roc_and_pr_auc(labels, probability, np.ones((1, len(labels)), np.int64))[1][0])


def brier(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean squared distance between probability and label: 0 is perfect, a constant 0.5 has 0.25.

    Reference: Brier (1950), *Monthly Weather Review* 78(1).
    """
    labels, probability, *_ = validate(labels, probability)
    return _ratio(((probability - labels) ** 2).sum(), len(labels))


def log_loss(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean negative logarithm of the probability of the label: 0 is perfect, a constant 0.5 has 0.693.

    ``-1/N * sum_n log(p_n if label_n else 1 - p_n)``. Probabilities are moved into [1e-6, 1 - 1e-6], because a single
    wrong 0 would make the mean infinite.

    Reference: Good (1952), *JRSS B* 14(1).
    """
    labels, probability, *_ = validate(labels, probability)
    of_label = np.where(labels == 1, probability, 1 - probability).clip(_LOG_LOSS_MARGIN, 1 - _LOG_LOSS_MARGIN)
    return _ratio(-np.log(of_label).sum(), len(labels))


def expected_calibration_error(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean distance between the probability of pneumonia and its observed share, over 15 equal-width bins.

    ``sum_b n_b / N * |share_b - probability_b|``. A bin includes its lower edge, the last bin both edges. The error is
    that of the probability of PNEUMONIA, not of the confidence in the winning class.

    Reference: Naeini, Cooper and Hauskrecht (2015), *AAAI*; Guo et al. (2017), *ICML*, for the 15 bins.
    """
    labels, probability, *_ = validate(labels, probability)
    residuals = np.bincount(bin_indices(probability), labels - probability, minlength=BINS)
    return _ratio(np.abs(residuals).sum(), len(labels))


def calibration_curve(labels: np.ndarray, probability: np.ndarray) -> list[dict[str, Any]]:
    """Mean probability and observed share of pneumonia in each of the 15 bins that has a radiograph.

    Returns:
        One dict for each bin: ``bin`` 0 to 14, ``n``, ``probability``, ``observed``, and ``low`` and ``high`` of the
        Wilson interval of ``observed``.
    """
    labels, probability, *_ = validate(labels, probability)
    bins = bin_indices(probability)
    rows = []
    for index in np.unique(bins).tolist():
        inside = bins == index
        count, positives = int(inside.sum()), int(labels[inside].sum())
        low, high = wilson_interval(positives, count)
        mean = float(probability[inside].mean())
        observed = positives / count
        rows.append({"bin": index, "n": count, "probability": mean, "observed": observed, "low": low, "high": high})
    return rows


def wilson_interval(successes: int, n: int) -> tuple[float, float] | tuple[None, None]:
    """95 % score interval of a proportion; it stays inside [0, 1] and is valid for few or no successes.

    ``(p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n)``. It treats the radiographs as independent. If
    patients have several radiographs, it is slightly too narrow.

    Reference: Wilson (1927), *JASA* 22(158); Newcombe (1998), *Statistics in Medicine* 17(8), method 3.

    Returns:
        Lower and upper end; None and None for n = 0.

    >>> low, high = wilson_interval(81, 263)  # Newcombe (1998), table I
    >>> round(low, 4), round(high, 4)
    (0.2553, 0.3662)
    """
    if n == 0:
        return None, None
    share = successes / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # At the ends the formula gives 0 and 1 up to rounding.
    low = 0.0 if successes == 0 else (centre - half) / (1 + _Z**2 / n)
    high = 1.0 if successes == n else (centre + half) / (1 + _Z**2 / n)
    return float(low), float(high)


def _first_invalid(probability: np.ndarray) -> float:
    return float(probability[~((probability >= 0) & (probability <= 1))][0])


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
