"""Probabilities and log odds: calibration, the threshold for a sensitivity, the assumed prevalence.

Pure functions, NumPy only. What is fitted, and on which data, is in :mod:`pneumoscope.training.crossval`.
"""

import math

import numpy as np


def calibrate(probability: np.ndarray, slope: float, intercept: float = 0.0) -> np.ndarray:
    """Calibrated probabilities: ``sigmoid(slope * log_odds(p) + intercept)``.

    The model file computes the same, see
    :class:`pneumoscope.training.export.inference_graph.CalibratedProbabilities`.

    >>> calibrate(np.array([0.5]), 2.0)
    array([0.5])
    """
    return sigmoid(slope * log_odds(probability) + intercept)


def log_odds(probability: np.ndarray, margin: float = 1e-6) -> np.ndarray:
    """``log(p / (1 - p))`` in float64, with p limited to ``margin`` and ``1 - margin``."""
    p = np.clip(np.asarray(probability, np.float64), margin, 1 - margin)
    odds: np.ndarray = np.log(p / (1 - p))
    return odds


def sigmoid(odds: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-odds))``: log odds -> probability."""
    probability: np.ndarray = 1 / (1 + np.exp(-odds))
    return probability


def exact_log_odds(probability: float) -> float:
    """``log(p / (1 - p))`` of one number, without a margin: 0 and 1 give minus and plus infinity.

    >>> exact_log_odds(0.5), exact_log_odds(1)
    (0.0, inf)
    """
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def shift_log_odds(probability: float, shift: float) -> float:
    """Add ``shift`` to the log odds of a probability. 0 and 1 stay, and a shift of 0 changes no digit.

    >>> round(shift_log_odds(0.5, math.log(3)), 6)  # odds of 1 become odds of 3
    0.75
    """
    if not shift or probability in (0.0, 1.0):
        return probability
    return 1 / (1 + math.exp(min(700.0, -exact_log_odds(probability) - shift)))  # exp(710) overflows


def highest_threshold(labels: np.ndarray, probability: np.ndarray, sensitivity: float) -> float:
    """The highest threshold that reaches a sensitivity: among those that do, it has the best specificity.

    >>> highest_threshold(np.array([0, 1, 1]), np.array([0.2, 0.6, 0.9]), 1.0)
    0.6
    """
    positive = np.sort(probability[labels == 1])[::-1]
    return float(positive[int(np.ceil(sensitivity * len(positive) - 1e-9)) - 1])


def midpoint_below(scores: np.ndarray, threshold: float) -> float:
    """Log odds half way between a threshold, which is itself a score, and the next lower score.

    No image then lies exactly on the threshold. Without a lower score, half of the threshold takes its place.
    """
    lower = scores[scores < threshold]
    odds = log_odds(np.array([threshold, lower.max() if len(lower) else threshold / 2]))
    return float(odds.mean())


def assumed_prevalence(labels: np.ndarray, probability: np.ndarray) -> float:
    """The share of pneumonia at which the probabilities are right on average.

    With mean probability m0 over the normal images and m1 over the pneumonia images, it is the share s that solves
    ``s = s m1 + (1 - s) m0``.

    >>> assumed_prevalence(np.array([0, 1]), np.array([0.25, 0.75]))
    0.5
    """
    normal, pneumonia = (float(probability[labels == label].mean()) for label in (0, 1))
    return normal / (normal + 1 - pneumonia)
