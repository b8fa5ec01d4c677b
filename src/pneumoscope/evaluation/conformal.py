"""Prediction sets that contain the label with a coverage that is stated: split conformal prediction, class by class.

The score of a label is one minus its probability. A label is in the set of an image if its score is at most the limit
of its class. The limit is the quantile ``ceil((n + 1) coverage) / (n + 1)`` of the scores of calibration images of
this class. So of all images of each class, at least the stated share has its label in the set, whatever the model does,
as long as new patients are like those of the calibration. Images of one patient resemble each other: each patient
counts once, with the images sharing the weight.

Reference: Vovk, "Conditional validity of inductive conformal predictors", 2012 (a limit for each class); Dunn,
Wasserman and Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", 2022 (groups share a
weight).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pneumoscope.evaluation.bootstrap import RESAMPLES, ratios_by_patient
from pneumoscope.labels import LABELS, POSITIVE

#: Coverages that are offered.
COVERAGES = (0.9, 0.95)

_FOLDS = 5


def fit_limits(labels: np.ndarray, probability: np.ndarray, groups: np.ndarray, coverage: float) -> dict[str, float]:
    """Largest score of each label that is admitted to a prediction set.

    Args:
        labels: (N,) int, of images that the model was not trained on.
        probability: (N,) float in [0, 1], of PNEUMONIA.
        groups: (N,), patients.
        coverage: 0 to 1.

    Returns:
        For each label a score from 0 to 1. It is 1, which admits every image, with too few patients for the coverage.
    """
    scores = _scores(probability)
    return {
        label: _quantile(scores[labels == index, index], groups[labels == index], coverage)
        for index, label in enumerate(LABELS)
    }


def prediction_sets(probability: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
    """(N,) float probabilities of PNEUMONIA -> (N, 2) bool: whether NORMAL and PNEUMONIA are in the set.

    >>> prediction_sets(np.array([0.02, 0.5, 0.98]), {"NORMAL": 0.6, "PNEUMONIA": 0.6}).tolist()
    [[True, False], [True, True], [False, True]]
    """
    return np.asarray(_scores(probability) <= np.array([limits[label] for label in LABELS]))


def measure_sets(
    labels: np.ndarray, sets: np.ndarray, groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """How often the label is in the set, how often the set is an answer, and how often the answer is right.

    Args:
        labels: (N,) int.
        sets: (N, 2) bool, from :func:`prediction_sets`.
        groups: (N,), patients.
        seed, resamples: of the bootstrap over patients.

    Returns:
        Estimates: ``coverage`` and ``coverage NORMAL``, ``coverage PNEUMONIA``; ``answered``, the share of sets with
        one label; ``accuracy`` of these; ``empty``, the share of sets without a label.
    """
    covered = sets[np.arange(len(labels)), labels]
    size = sets.sum(axis=1)
    every = np.ones(len(labels), bool)
    ratios = {
        "coverage": (covered, every),
        **{f"coverage {label}": (covered & (labels == i), labels == i) for i, label in enumerate(LABELS)},
        "answered": (size == 1, every),
        "accuracy": (covered & (size == 1), size == 1),
        "empty": (size == 0, every),
    }
    return ratios_by_patient(ratios, groups, seed, resamples)


def cross_fitted_sets(
    labels: np.ndarray, probability: np.ndarray, groups: np.ndarray, coverage: float, seed: int = 0
) -> np.ndarray | None:
    """Prediction sets of held-out images, each with limits from other patients.

    Returns:
        (N, 2) bool; None with fewer than two patients of a label.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(_FOLDS, *(len(set(groups[labels == index].tolist())) for index in range(len(LABELS))))
    if folds < 2:
        return None
    sets = np.zeros((len(labels), len(LABELS)), bool)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(probability[:, None], labels, groups)
    for known, new in parts:
        sets[new] = prediction_sets(
            probability[new], fit_limits(labels[known], probability[known], groups[known], coverage)
        )
    return sets


def _scores(probability: np.ndarray) -> np.ndarray:
    """(N, 2) float: one minus the probability of each label."""
    scores = np.empty((len(probability), len(LABELS)))
    scores[:, POSITIVE] = 1 - probability
    scores[:, 1 - POSITIVE] = probability
    return scores


def _quantile(scores: np.ndarray, groups: np.ndarray, coverage: float) -> float:
    """The score that the stated share of the patients is at or below, one patient more being above all."""
    patients, first, count = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    below = np.cumsum((1 / count)[first][order]) / (len(patients) + 1)
    reached = np.flatnonzero(below >= coverage - 1e-9)
    return float(scores[order[reached[0]]]) if len(reached) else 1.0
