"""Percentile bootstrap over patients. It draws patients, because radiographs of one patient resemble each other.

Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; clusters as in Field and
Welsh, "Bootstrapping clustered data", 2007.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np

CONFIDENCE = 0.95
#: Equal-width bins of the calibration curve and error: 15, as in Guo et al. (2017) and most later work.
BINS = 15
RESAMPLES = 2000  # from seed to seed, the ends of an interval move by about 2 % of its width

_DEFINED = 0.95  # share of resamples that must have a value; a class needs about three patients for this
_BLOCK = 1 << 20  # weights drawn at a time: 8 MB for any number of resamples


class Estimate(TypedDict):
    """A value with its 95 % interval, as it is in ``report.json``.

    ``value``, ``low`` and ``high`` are None if undefined. ``n`` is the number of radiographs behind the value, and
    ``method`` says how the interval was made.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str


@dataclass(frozen=True)
class Resamples:
    """The same radiographs in R resamples, as the sums that metrics are made from.

    Attributes:
        labels: (N,) int64, 0 NORMAL or 1 PNEUMONIA.
        probability: (N,) float64, of PNEUMONIA.
        weights: (R, N) int64, how often each radiograph is in each resample.
        matrix: (R, 2, 2) float64, confusion matrices: labels x verdicts.
        squared_error: (R,) float64, sum of the squared distances between probability and label.
        residuals: (R, BINS) float64, sum of label minus probability in each bin of the probability.
    """

    labels: np.ndarray
    probability: np.ndarray
    weights: np.ndarray
    matrix: np.ndarray
    squared_error: np.ndarray
    residuals: np.ndarray

    @cached_property
    def images(self) -> np.ndarray:
        """(R,) float64, number of radiographs."""
        return np.asarray(self.matrix.sum(axis=(1, 2)))

    @cached_property
    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """(R,) float64 ROC AUC and (R,) float64 average precision; NaN where undefined."""
        return roc_and_pr_auc(self.labels, self.probability, self.weights)


def bootstrap(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]], patient: np.ndarray, seed: int, resamples: int
) -> dict[str, Estimate]:
    """Estimates from all patients, with intervals from patients drawn with replacement.

    Args:
        statistics: (R, patients) int weights -> for each name (R,) float64 values, NaN where undefined.
        patient: (N,) int64, patient of each radiograph, numbered from 0.
        seed: of the drawing.
        resamples: how many.
    """
    if resamples < 1:
        raise ValueError(f"expected at least one resample, received {resamples}")
    count = int(patient.max(initial=-1)) + 1
    method = f"percentile bootstrap over patients, {resamples} resamples, seed {seed}"
    values = statistics(np.ones((1, count), np.int64))
    drawn = {name: [np.empty(0)] for name in values}
    if count > 1:
        for weights in _draw_weights(count, len(patient), seed, resamples):
            for name, column in statistics(weights).items():
                drawn[name].append(column)
    return {
        name: _estimate(float(value[0]), np.concatenate(drawn[name]), len(patient), method)
        for name, value in values.items()
    }


def resampler(
    labels: np.ndarray, probability: np.ndarray, threshold: float, patient: np.ndarray
) -> Callable[[np.ndarray], Resamples]:
    """Function of (R, patients) int weights that makes the :class:`Resamples` of validated arrays (N,).

    Sums over radiographs are first made for each patient, so that a resample is a product of matrices. Only the areas
    need single radiographs.
    """
    # The last bit of a sum of floats depends on the order. This order makes it independent of the caller's order.
    order = np.lexsort((patient, labels, probability))
    labels, probability, patient = labels[order], probability[order], patient[order]
    count = int(patient.max(initial=-1)) + 1

    def sum_by_patient(column: np.ndarray, columns: int, values: np.ndarray | None = None) -> np.ndarray:
        """(patients, columns): sum of the values in each column."""
        flat = np.bincount(patient * columns + column, values, minlength=count * columns)
        return flat.reshape(count, columns).astype(np.float64)  # float: the product runs in BLAS

    cells = sum_by_patient(confusion_cells(labels, probability, threshold), 4)
    squares = sum_by_patient(np.zeros_like(labels), 1, (probability - labels) ** 2)
    residuals = sum_by_patient(bin_indices(probability), BINS, labels - probability)

    def resample(weights: np.ndarray) -> Resamples:
        return Resamples(
            labels=labels,
            probability=probability,
            weights=weights[:, patient],
            matrix=(weights @ cells).reshape(-1, 2, 2),
            squared_error=(weights @ squares)[:, 0],
            residuals=weights @ residuals,
        )

    return resample


def roc_and_pr_auc(labels: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC and average precision in each of R resamples; NaN where undefined.

    Args:
        labels, probability: (N,).
        weights: (R, N) int.

    Returns:
        (R,) float64, (R,) float64.
    """
    if not len(labels):
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    tp, fp, _ = cumulative_counts(labels, probability, weights)
    new_tp, new_fp = np.diff(tp, prepend=0), np.diff(fp, prepend=0)  # (R, K) in each run of ties
    positives, negatives = tp[:, -1], fp[:, -1]
    twice_u = (new_fp * (2 * tp - new_tp)).sum(axis=1)  # whole numbers: a tie is half of a pair
    steps = new_tp * (tp / np.maximum(tp + fp, 1))
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which means undefined
        return twice_u / (2 * positives * negatives), steps.sum(axis=1) / positives


def cumulative_counts(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives if each distinct probability, from the highest down, is the threshold.

    Args:
        labels, probability: (N,).
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
    return np.asarray(2 * labels + (probability >= threshold), dtype=np.int64)


def bin_indices(probability: np.ndarray) -> np.ndarray:
    """(N,) int: bin of the calibration curve, 0 to 14."""
    return np.asarray(np.digitize(probability, np.arange(1, BINS) / BINS))


def mean_by_patient(values: np.ndarray, groups: np.ndarray, seed: int, resamples: int) -> Estimate | None:
    """Mean of the values (N,) that are not NaN, with an interval over patients (N,) str; None if none is defined."""
    defined = ~np.isnan(values)
    if not defined.any():
        return None
    ratio = {"mean": (values[defined], np.ones(int(defined.sum())))}
    return ratios_by_patient(ratio, groups[defined], seed, resamples)["mean"]


def ratios_by_patient(
    ratios: Mapping[str, tuple[np.ndarray, np.ndarray]], groups: np.ndarray, seed: int, resamples: int
) -> dict[str, Estimate]:
    """Sum of a part (N,) over the sum of a whole (N,), by name, with intervals over patients (N,); 0 / 0 is None."""
    patient = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    count = int(patient.max(initial=-1)) + 1
    sums = {name: [np.bincount(patient, one, minlength=count) for one in pair] for name, pair in ratios.items()}

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which means undefined
            return {name: (weights @ part) / (weights @ whole) for name, (part, whole) in sums.items()}

    return bootstrap(statistics, patient, seed, resamples)


def nan_to_none(value: float) -> float | None:
    """NaN, which means undefined inside NumPy, becomes None."""
    return None if np.isnan(value) else float(value)


def _draw_weights(count: int, images: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """(R, count) int: how often each patient is drawn, in blocks of resamples."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)


def _estimate(value: float, drawn: np.ndarray, n: int, method: str) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    low = high = None
    if not np.isnan(value) and len(defined) and len(defined) >= _DEFINED * len(drawn):
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(end) for end in np.quantile(defined, (tail, 1 - tail)))
        low, high = min(low, value), max(high, value)
        if low == high == 1:  # perfect in every resample: the bootstrap cannot say how low the value may be
            low = high = None
    return {"value": nan_to_none(value), "low": low, "high": high, "n": n, "method": method}
