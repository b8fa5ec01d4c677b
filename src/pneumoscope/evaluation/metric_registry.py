"""The metrics of an evaluation, defined in one place, and their estimates with 95 % intervals.

To add a metric, add one entry to :data:`METRICS`. It is then in ``report.json``, in the printed table, in the HTML page
and in comparisons. A proportion of radiographs needs a function of the confusion matrix. Its interval is Wilson's score
interval. Any other metric needs a function of :class:`~pneumoscope.evaluation.bootstrap.Resamples`. Its interval is a
percentile bootstrap over patients, because radiographs of one patient resemble each other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pneumoscope.evaluation.bootstrap import BINS, RESAMPLES, Estimate, Resamples, bootstrap, resampler
from pneumoscope.evaluation.metrics import (
    accuracy_counts,
    confusion_matrix,
    precision_counts,
    recall_counts,
    validate,
    wilson_interval,
)
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, label_index


@dataclass(frozen=True)
class Metric:
    """One metric of an evaluation. It has either ``counts`` or ``statistic``.

    Attributes:
        key: its name in JSON.
        title: the name of its row in tables; an empty string keeps it out of tables.
        label: class that it belongs to. In JSON it is then under ``classes``.
        counts: of a proportion: (2, 2) confusion matrix -> number of successes, number of radiographs.
        statistic: of another metric: resamples -> (R,) float64 values, NaN where undefined.
    """

    key: str
    title: str
    label: str | None = None
    counts: Callable[[np.ndarray], tuple[int, int]] | None = None
    statistic: Callable[[Resamples], np.ndarray] | None = None

    def __post_init__(self) -> None:
        if (self.counts is None) == (self.statistic is None):
            raise ValueError(f"expected the metric {self.key} with counts or with a statistic, received both or none")

    @property
    def name(self) -> str:
        """The key, with the label if it has one: unique among the metrics."""
        return self.key if self.label is None else f"{self.key} {self.label}"


def _f1(sample: Resamples, label: str) -> np.ndarray:
    index = label_index(label)
    called_or_labelled = sample.matrix[:, index].sum(axis=1) + sample.matrix[:, :, index].sum(axis=1)
    return np.asarray(2 * sample.matrix[:, index, index] / called_or_labelled)


#: All metrics, in the order of the tables.
METRICS = (
    Metric("accuracy", "Accuracy", counts=accuracy_counts),
    Metric("sensitivity", "Sensitivity (recall of PNEUMONIA)", counts=partial(recall_counts, label=PNEUMONIA)),
    Metric("specificity", "Specificity (recall of NORMAL)", counts=partial(recall_counts, label=NORMAL)),
    Metric(
        "precision",
        "Precision of PNEUMONIA (positive predictive value)",
        PNEUMONIA,
        counts=partial(precision_counts, label=PNEUMONIA),
    ),
    Metric(
        "precision",
        "Precision of NORMAL (negative predictive value)",
        NORMAL,
        counts=partial(precision_counts, label=NORMAL),
    ),
    # Without rows: these are sensitivity and specificity once more, for readers of the JSON who look under a class.
    Metric("recall", "", PNEUMONIA, counts=partial(recall_counts, label=PNEUMONIA)),
    Metric("recall", "", NORMAL, counts=partial(recall_counts, label=NORMAL)),
    Metric("f1", "F1 of PNEUMONIA", PNEUMONIA, statistic=partial(_f1, label=PNEUMONIA)),
    Metric("f1", "F1 of NORMAL", NORMAL, statistic=partial(_f1, label=NORMAL)),
    Metric("roc_auc", "ROC AUC", statistic=lambda sample: sample.areas[0]),
    Metric("pr_auc", "PR AUC (average precision)", statistic=lambda sample: sample.areas[1]),
    Metric("brier", "Brier score (0 is best)", statistic=lambda sample: sample.squared_error / sample.images),
    Metric(
        "ece",
        f"Calibration error (0 is best, {BINS} bins)",
        statistic=lambda sample: np.abs(sample.residuals).sum(axis=1) / sample.images,
    ),
)


def evaluate_metrics(
    labels: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Every metric with its 95 % interval.

    The bootstrap draws as many patients as there are, with replacement, and takes all radiographs of each. Resamples
    without a value (no radiograph of a class) are left out. If these are more than 5 %, or if there is only one
    patient, the ends of the interval are None. Resampling increases the calibration error, so its interval could be
    above the estimate. Therefore an interval is widened to include its estimate.

    Reference: Efron and Tibshirani (1993), *An Introduction to the Bootstrap*, ch. 13; Field and Welsh (2007),
    *JRSS B* 69(3), for whole patients.

    Args:
        labels, probability, threshold, groups: see :mod:`pneumoscope.evaluation.metrics`.
        seed, resamples: of the bootstrap.

    Returns:
        An :class:`~pneumoscope.evaluation.bootstrap.Estimate` for the key of each metric, such as ``accuracy`` or
        ``roc_auc``. Metrics of a class are under ``classes`` and their label. The order of the radiographs changes
        nothing.

    Raises:
        ValueError: what :func:`pneumoscope.evaluation.metrics.validate` refuses, or fewer than one resample.
    """
    labels, probability, threshold, patient = validate(labels, probability, threshold, groups)
    matrix = confusion_matrix(labels, probability, threshold)
    resample = resampler(labels, probability, threshold, patient)

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        sample = resample(weights)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which means undefined
            return {metric.name: metric.statistic(sample) for metric in METRICS if metric.statistic}

    bootstrapped = bootstrap(statistics, patient, seed, resamples)
    overall: dict[str, Any] = {}
    classes: dict[str, dict[str, Estimate]] = {label: {} for label in LABELS}
    for metric in METRICS:
        estimate = _proportion(*metric.counts(matrix)) if metric.counts else bootstrapped[metric.name]
        (overall if metric.label is None else classes[metric.label])[metric.key] = estimate
    return {**overall, "classes": classes}


def titled_estimates(metrics: dict[str, Any]) -> Iterator[tuple[Metric, Estimate]]:
    """The metrics that have a row in tables, in their order, each with its estimate.

    Args:
        metrics: from :func:`evaluate_metrics`, or ``metrics`` of a report. A report may be older than a metric; the
            metric is then left out.
    """
    for metric in METRICS:
        estimates = metrics if metric.label is None else metrics["classes"][metric.label]
        if metric.title and metric.key in estimates:
            yield metric, estimates[metric.key]


def _proportion(successes: int, n: int) -> Estimate:
    low, high = wilson_interval(successes, n)
    value = successes / n if n else None
    return {"value": value, "low": low, "high": high, "n": n, "method": "Wilson score"}
