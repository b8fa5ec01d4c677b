"""Labels and log odds -> the slope that turns log odds into probabilities: one over the temperature."""

import numpy as np


def fit_slope(labels: np.ndarray, odds: np.ndarray, prevalence: float) -> tuple[float, str]:
    """The slope around log odds of 0, and how it was fitted.

    If a model calls most normal images PNEUMONIA at its operating point, the likelihood can be highest with a slope
    below 0. That would reverse the verdicts, so the slope then comes from a fit with a free intercept.

    Args:
        labels: (N,) 0 or 1.
        odds: (N,) log odds, shifted so that the operating point is 0.
        prevalence: share of the total weight that pneumonia gets.

    Returns:
        The slope, above 0, and a few words on how it was fitted.
    """
    slope = fit_temperature(labels, odds, prevalence)
    if slope > 0:
        return slope, "by maximum likelihood"
    slope = fit_temperature(labels, odds, prevalence, intercept=True)
    if slope > 0:
        return slope, "by maximum likelihood with a free intercept, for without one it would turn the verdicts round,"
    return 1.0, "left as trained, for the log odds do not rise with the label"


def fit_temperature(labels: np.ndarray, odds: np.ndarray, prevalence: float, intercept: bool = False) -> float:
    """Slope of the log odds by maximum likelihood, with the classes weighted to a prevalence; 1 / temperature.

    Reference: Guo et al., "On calibration of modern neural networks", 2017, section 4.2.

    Args:
        labels: (N,) 0 or 1.
        odds: (N,) log odds.
        prevalence: share of the total weight that pneumonia gets.
        intercept: also fit an intercept.
    """
    from sklearn.linear_model import LogisticRegression

    share = float(np.mean(labels))
    weights = {0: (1 - prevalence) / (1 - share), 1: prevalence / share}
    model = LogisticRegression(C=np.inf, class_weight=weights, fit_intercept=intercept)
    return float(model.fit(odds[:, None], labels).coef_[0, 0])
