"""Percentile bootstrap over patients: radiographs of one patient resemble each other, so patients are drawn.

Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; clusters as in Field and
Welsh, "Bootstrapping clustered data", 2007.
"""

from collections.abc import Callable, Iterator

import numpy as np

from pneumoscope.labels import LABELS

CONFIDENCE = 0.95
#: Equal-width bins of the calibration curve and error: 15, as Guo et al. (2017) and most later work.
BINS = 15
RESAMPLES = 2000  # percentile ends move by about 2 % of the interval's width from seed to seed

_DEFINED = 0.95  # share of resamples that must give a value; a class needs about three patients for it
_BLOCK = 1 << 20  # weights drawn at a time: 8 MB, whatever the number of resamples


def bootstrap(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]], patient: np.ndarray, seed: int, resamples: int
) -> dict[str, dict]:
    """Estimates from all patients, intervals from patients drawn with replacement."""
    if resamples < 1:
        raise ValueError(f"expected at least one resample, received {resamples}")
    count = int(patient.max(initial=-1)) + 1
    method = f"percentile bootstrap over patients, {resamples} resamples, seed {seed}"
    values = statistics(np.ones((1, count), np.int64))
    drawn = {name: [np.empty(0)] for name in values}
    if count > 1:
        for weights in _weights(count, len(patient), seed, resamples):
            for name, column in statistics(weights).items():
                drawn[name].append(column)
    return {
        name: _interval(float(value[0]), np.concatenate(drawn[name]), len(patient), method)
        for name, value in values.items()
    }


def statistics_by_patient(
    labels: np.ndarray, probability: np.ndarray, threshold: float, patient: np.ndarray
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Function of (R, patients) int weights: every bootstrapped metric as (R,) float64, NaN where undefined.

    All but the areas are sums over radiographs, so that sums by patient stand for them.
    """
    # Sums of floats depend on their order in the last bit; with this order they do not depend on the caller's.
    order = np.lexsort((patient, labels, probability))
    labels, probability, patient = labels[order], probability[order], patient[order]
    count = int(patient.max(initial=-1)) + 1

    def by_patient(column: np.ndarray, columns: int, values: np.ndarray | None = None) -> np.ndarray:
        """(patients, columns): sum of values in each column."""
        flat = np.bincount(patient * columns + column, values, minlength=count * columns)
        return flat.reshape(count, columns).astype(np.float64)  # float: the product runs in BLAS

    cells = by_patient(confusion_cells(labels, probability, threshold), 4)
    squares = by_patient(np.zeros_like(labels), 1, (probability - labels) ** 2)
    residuals = by_patient(bin_indices(probability), BINS, labels - probability)

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        matrix = (weights @ cells).reshape(-1, 2, 2)
        n = matrix.sum(axis=(1, 2))
        auc_and_ap = roc_and_pr_auc(labels, probability, weights[:, patient])
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that says undefined
            result = {
                "roc_auc": auc_and_ap[0],
                "pr_auc": auc_and_ap[1],
                "brier": (weights @ squares)[:, 0] / n,
                "ece": np.abs(weights @ residuals).sum(axis=1) / n,
            }
            for index, label in enumerate(LABELS):
                called_or_labelled = matrix[:, index].sum(axis=1) + matrix[:, :, index].sum(axis=1)
                result[f"f1 {label}"] = 2 * matrix[:, index, index] / called_or_labelled
        return result

    return statistics


def roc_and_pr_auc(labels: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC and average precision in each of R resamples; NaN where undefined.

    Args:
        weights: (R, N) int.

    Returns:
        (R,) float64, (R,) float64.
    """
    if not len(labels):
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    tp, fp, _ = cumulative_counts(labels, probability, weights)
    new_tp, new_fp = np.diff(tp, prepend=0), np.diff(fp, prepend=0)  # (R, K) in each run of ties
    positives, negatives = tp[:, -1], fp[:, -1]
    twice_u = (new_fp * (2 * tp - new_tp)).sum(axis=1)  # whole numbers: a tie is one half of a pair
    steps = new_tp * (tp / np.maximum(tp + fp, 1))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that says undefined
        return twice_u / (2 * positives * negatives), steps.sum(axis=1) / positives


def cumulative_counts(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives when each distinct probability, from the highest down, is the threshold.

    Args:
        weights: (R, N) int, how often each radiograph counts in each of R resamples.

    Returns:
        (R, K) int true positives, (R, K) int false positives, (K,) float thresholds.
    """
    order = np.argsort(-probability, kind="stable")
    thresholds, firsts = np.unique(-probability[order], return_index=True)
    lasts = np.append(firsts[1:], len(order))[: len(firsts)] - 1  # of each run of ties
    ranked = weights[:, order]
    tp = np.cumsum(ranked * labels[order], axis=1)[:, lasts]
    return tp, np.cumsum(ranked, axis=1)[:, lasts] - tp, -thresholds


def confusion_cells(labels: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) int: cell of the flattened confusion matrix."""
    return 2 * labels + (probability >= threshold)


def bin_indices(probability: np.ndarray) -> np.ndarray:
    """(N,) int: 0 to 14."""
    return np.digitize(probability, np.arange(1, BINS) / BINS)


def nan_to_none(value: float) -> float | None:
    """NaN, which says undefined inside NumPy, is None outside."""
    return None if np.isnan(value) else float(value)


def _weights(count: int, images: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """(R, count) int: how often each patient is drawn, in blocks of resamples."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)


def _interval(value: float, drawn: np.ndarray, n: int, method: str) -> dict:
    defined = drawn[~np.isnan(drawn)]
    low = high = None
    if not np.isnan(value) and len(defined) and len(defined) >= _DEFINED * len(drawn):
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(end) for end in np.quantile(defined, (tail, 1 - tail)))
        low, high = min(low, value), max(high, value)
        if low == high == 1:  # a perfect score in every resample: the bootstrap cannot say how far it may fall
            low = high = None
    return {"value": nan_to_none(value), "low": low, "high": high, "n": n, "method": method}
