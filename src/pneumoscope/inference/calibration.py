"""Probabilities and log odds: calibrating, a threshold for a sensitivity, the prevalence that is assumed.

Pure functions of arrays, NumPy only; what is fitted, and on what, is in :mod:`pneumoscope.training.crossval`.
"""

import numpy as np


def calibrate(probability: np.ndarray, slope: float, intercept: float = 0.0) -> np.ndarray:
    """Calibrated probabilities, as :class:`pneumoscope.training.export.inference_graph.CalibratedProbabilities` computes them.

    >>> calibrate(np.array([0.5]), 2.0)
    array([0.5])
    """
    return sigmoid(slope * log_odds(probability) + intercept)


def log_odds(probability: np.ndarray, margin: float = 1e-6) -> np.ndarray:
    """``log(p / (1 - p))`` in float64, with p kept ``margin`` away from 0 and 1."""
    p = np.clip(np.asarray(probability, np.float64), margin, 1 - margin)
    return np.log(p / (1 - p))


def sigmoid(odds: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-odds))``: the probability of log odds."""
    return 1 / (1 + np.exp(-odds))


def highest_threshold(labels: np.ndarray, probability: np.ndarray, sensitivity: float) -> float:
    """The highest threshold whose sensitivity is at least this; the best specificity among those.

    >>> highest_threshold(np.array([0, 1, 1]), np.array([0.2, 0.6, 0.9]), 1.0)
    0.6
    """
    positive = np.sort(probability[labels == 1])[::-1]
    return float(positive[int(np.ceil(sensitivity * len(positive) - 1e-9)) - 1])


def midpoint_below(scores: np.ndarray, threshold: float) -> float:
    """Log odds half way from a threshold, itself a score, to the next lower score, or its half: no image sits on it."""
    lower = scores[scores < threshold]
    odds = log_odds(np.array([threshold, lower.max() if len(lower) else threshold / 2]))
    return float(odds.mean())


def assumed_prevalence(labels: np.ndarray, probability: np.ndarray) -> float:
    """The share of pneumonia at which probabilities are right on average.

    With mean probability m0 over the normal and m1 over the pneumonia images, the share s for which
    ``s = s m1 + (1 - s) m0``.

    >>> assumed_prevalence(np.array([0, 1]), np.array([0.25, 0.75]))
    0.5
    """
    normal, pneumonia = (float(probability[labels == label].mean()) for label in (0, 1))
    return normal / (normal + 1 - pneumonia)
