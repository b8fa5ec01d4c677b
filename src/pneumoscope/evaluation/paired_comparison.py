"""Two models on the same radiographs: a test of their accuracies, and the difference of their ROC AUCs."""

import numpy as np

from pneumoscope.evaluation.bootstrap import RESAMPLES, Estimate, bootstrap, roc_and_pr_auc
from pneumoscope.evaluation.metrics import validate


def mcnemar_exact(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Two-sided p-value that two models are right equally often on the same radiographs.

    On n radiographs exactly one model is right; k is the smaller number of them for one model. The value is
    ``min(1, 2 * sum_{i <= k} C(n, i) / 2^n)``, or 1 if the models never differ. It treats the radiographs as
    independent.

    Reference: McNemar (1947), *Psychometrika* 12(2); exact form: Fagerland, Lydersen and Laake (2013),
    *BMC Medical Research Methodology* 13:91.

    Args:
        correct_a, correct_b: (N,) bool, whether each model's verdict is right.

    Raises:
        ValueError: different shapes, or arrays that are not bool.

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
    for i in range(min(only_a, only_b) + 1):  # whole numbers are exact for thousands of radiographs
        total += term
        term = term * (n - i) // (i + 1)
    return float(min(1.0, 2 * total / 2**n))


def paired_auc_difference(
    labels: np.ndarray,
    prob_a: np.ndarray,
    prob_b: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """ROC AUC of model a minus ROC AUC of model b on the same radiographs, with its 95 % interval.

    Both models get the same patients in each resample. Radiographs that are hard for both then change neither the
    difference nor its interval. If the interval contains 0, it is open which model is better.

    Reference: Hanley and McNeil (1983), *Radiology* 148(3), for the effect of pairing; the interval is that of
    :func:`pneumoscope.evaluation.metric_registry.evaluate_metrics`.

    Raises:
        ValueError: what :func:`pneumoscope.evaluation.metrics.validate` refuses, or fewer than one resample.
    """
    labels, prob_a, _, patient = validate(labels, prob_a, groups=groups)
    _, prob_b, *_ = validate(labels, prob_b)

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        by_image = weights[:, patient]
        return {"difference": roc_and_pr_auc(labels, prob_a, by_image)[0] - roc_and_pr_auc(labels, prob_b, by_image)[0]}

    return bootstrap(difference, patient, seed, resamples)["difference"]
