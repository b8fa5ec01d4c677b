"""Labels and log odds -> the slope that makes probabilities of them: one over the temperature."""

import numpy as np


def fit_slope(labels: np.ndarray, odds: np.ndarray, prevalence: float) -> tuple[float, str]:
    """The slope around log odds of 0, and how it was found.

    A model that calls most normal images PNEUMONIA at its operating point is least wrong there with a slope below 0,
    which would turn its verdicts round; such a one gets the slope of a fit whose intercept is free.

    Args:
        labels: (N,) 0 or 1.
        odds: (N,) log odds, moved so that the operating point is 0.
        prevalence: share of the weight on pneumonia.

    Returns:
        The slope, above 0, and in words how it was found.
    """
    slope = fit_temperature(labels, odds, prevalence)
    if slope > 0:
        return slope, "by maximum likelihood"
    slope = fit_temperature(labels, odds, prevalence, intercept=True)
    if slope > 0:
        return slope, "by maximum likelihood with a free intercept, for without one it would turn the verdicts round,"
    return 1.0, "left as trained, for the log odds do not rise with the label"


def fit_temperature(labels: np.ndarray, odds: np.ndarray, prevalence: float, intercept: bool = False) -> float:
    """Slope of the log odds by maximum likelihood, classes weighted to a prevalence; one over the temperature.

    Reference: Guo et al., "On calibration of modern neural networks", 2017, section 4.2.

    Args:
        labels: (N,) 0 or 1.
        odds: (N,) log odds.
        prevalence: share of the weight on pneumonia.
        intercept: fit one as well.
    """
    from sklearn.linear_model import LogisticRegression

    share = float(np.mean(labels))
    weights = {0: (1 - prevalence) / (1 - share), 1: prevalence / share}
    model = LogisticRegression(C=np.inf, class_weight=weights, fit_intercept=intercept)
    return float(model.fit(odds[:, None], labels).coef_[0, 0])
