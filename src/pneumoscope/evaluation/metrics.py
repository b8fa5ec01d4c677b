"""Labels + probabilities -> estimates with their intervals, in NumPy alone; undefined is None.

``validate`` checks the arrays, one function makes each metric, ``evaluate`` makes them all::

    labels       (N,) int, 0 NORMAL or 1 PNEUMONIA
    probability  (N,) float in [0, 1], of PNEUMONIA; from the threshold on the verdict is PNEUMONIA
    groups       (N,) str or int, the patient of each radiograph

Every interval is a 95 % interval. Proportions have Wilson's score interval over radiographs; the rest has a
percentile bootstrap over patients, because radiographs of one patient resemble each other.
"""

import math

import numpy as np

from pneumoscope.evaluation.bootstrap import (
    BINS,
    RESAMPLES,
    bin_indices,
    bootstrap,
    confusion_cells,
    cumulative_counts,
    nan_to_none,
    roc_and_pr_auc,
    statistics_by_patient,
)
from pneumoscope.labels import LABELS, POSITIVE, label_index

#: Share of the held-out images that are called uncertain: those nearest to the threshold.
UNCERTAIN_SHARE = 0.05
_Z = 1.959963984540054  # the standard normal distribution holds 95 % within +-_Z


def validate(
    labels: np.ndarray, probability: np.ndarray, threshold: float = 0.5, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Check the arrays and bring them to one type.

    Returns:
        labels (N,) int64; probability (N,) float64; threshold; patient (N,) int64, numbered from 0 in the
        sorted order of ``groups`` (without groups, each radiograph is a patient of its own).

    Raises:
        ValueError: wrong shape, length, value, or a number that is not finite.
    """
    labels, probability = np.asarray(labels), np.asarray(probability, dtype=np.float64)
    if labels.ndim != 1 or probability.shape != labels.shape:
        raise ValueError(
            f"expected labels and probability of one length (N,), received {labels.shape} and {probability.shape}"
        )
    if not np.isin(labels, range(len(LABELS))).all():
        raise ValueError(f"expected labels 0 ({LABELS[0]}) and 1 ({LABELS[1]}), received {set(labels.tolist())}")
    if not ((probability >= 0) & (probability <= 1)).all():  # false for NaN as well
        raise ValueError(f"expected probabilities from 0 to 1, received {_outside(probability)}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold from 0 to 1, received {threshold}")
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if groups.shape != labels.shape:
        raise ValueError(f"expected one patient a radiograph, {labels.shape}, received {groups.shape}")
    patient = np.unique(groups, return_inverse=True)[1]
    return labels.astype(np.int64), probability, float(threshold), patient.astype(np.int64)


def confusion_matrix(labels: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Radiographs by label (rows) and verdict (columns), both in the order of ``labels.LABELS``.

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
    return _ratio(np.trace(matrix), matrix.sum())


def precision(matrix: np.ndarray, label: str) -> float | None:
    """Share of a label's verdicts that are right: for PNEUMONIA ``TP / (TP + FP)``; None where it never is one."""
    index = label_index(label)
    return _ratio(matrix[index, index], matrix[:, index].sum())


def recall(matrix: np.ndarray, label: str) -> float | None:
    """Share of a label's radiographs that are found: for PNEUMONIA ``TP / (TP + FN)``; None where there are none."""
    index = label_index(label)
    return _ratio(matrix[index, index], matrix[index].sum())


def f1(matrix: np.ndarray, label: str) -> float | None:
    """Harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``; None where all three are 0.

    Reference: van Rijsbergen (1979), *Information Retrieval*, ch. 7.
    """
    index = label_index(label)
    return _ratio(2 * matrix[index, index], matrix[index].sum() + matrix[:, index].sum())


def sensitivity(matrix: np.ndarray) -> float | None:
    """Share of the pneumonia radiographs that are found, the recall of PNEUMONIA.

    Reference: Yerushalmy (1947), *Public Health Reports* 62(40).
    """
    return recall(matrix, LABELS[POSITIVE])


def specificity(matrix: np.ndarray) -> float | None:
    """Share of the normal radiographs that are called normal, the recall of NORMAL.

    Reference: Yerushalmy (1947), *Public Health Reports* 62(40).
    """
    return recall(matrix, LABELS[1 - POSITIVE])


def roc_curve(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Receiver operating characteristic: one point for each distinct probability taken as threshold.

    Reference: Fawcett (2006), *Pattern Recognition Letters* 27(8), section 5.

    Returns:
        (K + 1,) float64 each: 1 - specificity and sensitivity, both rising from 0 to 1, and the threshold,
        falling from infinity. None where a class has no radiograph.
    """
    labels, probability, *_ = validate(labels, probability)
    if len(set(labels.tolist())) < len(LABELS):
        return None
    tp, fp, thresholds = cumulative_counts(labels, probability, np.ones((1, len(labels)), np.int64))
    tp, fp = np.append(0, tp[0]), np.append(0, fp[0])
    return fp / fp[-1], tp / tp[-1], np.append(np.inf, thresholds)


def roc_auc(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Chance that a pneumonia radiograph gets a higher probability than a normal one; a tie counts half.

    ``U / (P * N)`` with the Mann-Whitney statistic U, which is the area under :func:`roc_curve` by trapezoids.

    Reference: Hanley and McNeil (1982), *Radiology* 143(1).

    Returns:
        0 to 1; None where a class has no radiograph.

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.9]))
    0.875
    """
    labels, probability, *_ = validate(labels, probability)
    return nan_to_none(roc_and_pr_auc(labels, probability, np.ones((1, len(labels)), np.int64))[0][0])


def pr_curve(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Precision and recall of PNEUMONIA, one point for each distinct probability taken as threshold.

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
        0 to 1; None without pneumonia. A verdict by chance gets the share of pneumonia.
    """
    labels, probability, *_ = validate(labels, probability)
    return nan_to_none(roc_and_pr_auc(labels, probability, np.ones((1, len(labels)), np.int64))[1][0])


def brier(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean squared distance between probability and label: 0 is perfect, 0.25 is always saying one half.

    Reference: Brier (1950), *Monthly Weather Review* 78(1).
    """
    labels, probability, *_ = validate(labels, probability)
    return _ratio(((probability - labels) ** 2).sum(), len(labels))


def expected_calibration_error(labels: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean distance between the probability of pneumonia and its observed share, over 15 equal-width bins.

    ``sum_b n_b / N * |share_b - probability_b|``; a bin holds its lower edge, the last one both edges. It is
    taken on the probability of PNEUMONIA, not on the confidence in the winning class.

    Reference: Naeini, Cooper and Hauskrecht (2015), *AAAI*; Guo et al. (2017), *ICML*, for the 15 bins.
    """
    labels, probability, *_ = validate(labels, probability)
    residuals = np.bincount(bin_indices(probability), labels - probability, minlength=BINS)
    return _ratio(np.abs(residuals).sum(), len(labels))


def calibration_curve(labels: np.ndarray, probability: np.ndarray) -> list[dict]:
    """Mean probability and observed share of pneumonia in each of the 15 bins that holds a radiograph.

    Returns:
        One dict a bin: ``bin`` 0 to 14, ``n``, ``probability``, ``observed``, and ``low`` and ``high`` of the
        share's Wilson interval.
    """
    labels, probability, *_ = validate(labels, probability)
    bins = bin_indices(probability)
    rows = []
    for index in np.unique(bins).tolist():
        inside = bins == index
        count, found = int(inside.sum()), int(labels[inside].sum())
        low, high = wilson_interval(found, count)
        mean = float(probability[inside].mean())
        rows.append(
            {"bin": index, "n": count, "probability": mean, "observed": found / count, "low": low, "high": high}
        )
    return rows


def wilson_interval(successes: int, n: int) -> tuple[float, float] | tuple[None, None]:
    """95 % score interval of a proportion; stays inside [0, 1] and holds for few or no successes.

    ``(p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n)``. It takes the radiographs as independent:
    where patients have several, it is somewhat too narrow.

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


def evaluate(
    labels: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict:
    """Every metric with its 95 % interval.

    The bootstrap draws as many patients as there are, with replacement, and takes all radiographs of each.
    Resamples without a value (no radiograph of a class) are left out; where they are more than 5 %, or there
    is one patient only, the ends are None. Resampling inflates the calibration error, so that its interval
    can lie above the estimate: an interval is widened to hold its estimate.

    Reference: Efron and Tibshirani (1993), *An Introduction to the Bootstrap*, ch. 13; Field and Welsh (2007),
    *JRSS B* 69(3), for whole patients.

    Returns:
        ``accuracy``, ``sensitivity``, ``specificity``, ``roc_auc``, ``pr_auc``, ``brier``, ``ece``, and under
        ``classes`` for each label ``precision``, ``recall``, ``f1``. Each is a dict of ``value``, ``low``,
        ``high`` (None where undefined), ``n`` (radiographs it rests on) and ``method`` of the interval. The
        order of the radiographs changes nothing.

    Raises:
        ValueError: what :func:`validate` refuses, or fewer than one resample.
    """
    labels, probability, threshold, patient = validate(labels, probability, threshold, groups)
    matrix = confusion_matrix(labels, probability, threshold)
    statistics = statistics_by_patient(labels, probability, threshold, patient)
    found = bootstrap(statistics, patient, seed, resamples)
    result = {
        "accuracy": _proportion(np.trace(matrix), matrix.sum()),
        "sensitivity": _proportion(matrix[POSITIVE, POSITIVE], matrix[POSITIVE].sum()),
        "specificity": _proportion(matrix[1 - POSITIVE, 1 - POSITIVE], matrix[1 - POSITIVE].sum()),
        **{name: found[name] for name in ("roc_auc", "pr_auc", "brier", "ece")},
    }
    result["classes"] = {
        label: {
            "precision": _proportion(matrix[index, index], matrix[:, index].sum()),
            "recall": _proportion(matrix[index, index], matrix[index].sum()),
            "f1": found[f"f1 {label}"],
        }
        for index, label in enumerate(LABELS)
    }
    return result


def uncertain_band(probability: np.ndarray, threshold: float, share: float = UNCERTAIN_SHARE) -> tuple[float, float]:
    """The band around the threshold that holds ``share`` of the images.

    >>> uncertain_band(np.array([0.01] * 19 + [0.4]), 0.5)
    (0.4, 0.6)
    """
    distance = np.sort(np.abs(probability - threshold))
    count = max(1, round(share * len(distance)))
    width = float(distance[count - 1])
    return round(max(0.0, threshold - width), 6), round(min(1.0, threshold + width), 6)


def uncertain_rule(probability: np.ndarray, wrong: np.ndarray, low: float, high: float) -> str:
    """Say in a sentence what the band of :func:`uncertain_band` holds; ``wrong`` (N,) bool marks false verdicts."""
    inside = (probability >= low) & (probability <= high)
    return (
        f"the {UNCERTAIN_SHARE:.0%} of the {len(probability)} held-out images nearest to the threshold; "
        f"{int(wrong[inside].sum())} of {int(inside.sum())} verdicts inside are wrong, "
        f"{int(wrong[~inside].sum())} of {int((~inside).sum())} outside"
    )


def mcnemar_exact(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Two-sided p-value that two models are right equally often on the same radiographs.

    Of the n radiographs where exactly one model is right, the smaller side counts k:
    ``min(1, 2 * sum_{i <= k} C(n, i) / 2^n)``; 1 where they never differ. It takes the radiographs as
    independent.

    Reference: McNemar (1947), *Psychometrika* 12(2); exact form: Fagerland, Lydersen and Laake (2013),
    *BMC Medical Research Methodology* 13:91.

    Args:
        correct_a, correct_b: (N,) bool, whether each model's verdict is right.

    Raises:
        ValueError: shapes that differ.

    >>> mcnemar_exact(np.array([True] + [False] * 8), np.array([False] + [True] * 8))  # 1 against 8
    0.0390625
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or a.dtype != bool or b.dtype != bool:
        raise ValueError(
            f"expected two bool arrays of one length (N,), received {a.shape} {a.dtype}, {b.shape} {b.dtype}"
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, term, total = only_a + only_b, 1, 0
    for i in range(min(only_a, only_b) + 1):  # whole numbers: exact for thousands of radiographs
        total += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * total / 2**n)


def paired_auc_difference(
    labels: np.ndarray,
    prob_a: np.ndarray,
    prob_b: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict:
    """ROC AUC of model a minus that of model b on the same radiographs, with its 95 % interval.

    Both models see the same patients in each resample, so that what is hard for both cancels out. An interval
    that holds 0 leaves open which model is the better one.

    Reference: Hanley and McNeil (1983), *Radiology* 148(3), for why pairing matters; interval as in
    :func:`evaluate`.

    Returns:
        A dict as in :func:`evaluate`.

    Raises:
        ValueError: what :func:`validate` refuses, or fewer than one resample.
    """
    labels, prob_a, _, patient = validate(labels, prob_a, groups=groups)
    _, prob_b, *_ = validate(labels, prob_b)

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = weights[:, patient]
        return {"difference": roc_and_pr_auc(labels, prob_a, each)[0] - roc_and_pr_auc(labels, prob_b, each)[0]}

    return bootstrap(difference, patient, seed, resamples)["difference"]


def _outside(probability: np.ndarray) -> float:
    return float(probability[~((probability >= 0) & (probability <= 1))][0])


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _proportion(successes: int, n: int) -> dict:
    low, high = wilson_interval(int(successes), int(n))
    return {"value": _ratio(successes, n), "low": low, "high": high, "n": int(n), "method": "Wilson score"}
