"""The temperature: a slope of the log odds by maximum likelihood, which never reverses a verdict."""

import numpy as np
import pytest

from pneumoscope.inference.calibration import log_odds
from pneumoscope.training.temperature import fit_slope, fit_temperature


def test_a_temperature_by_hand():
    """At log odds of 1 three of four are pneumonia, at -1 one of four: the odds should be 3, not e."""
    probability = np.repeat([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], 4)
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    assert fit_temperature(labels, log_odds(probability), 0.5) == pytest.approx(np.log(3), abs=1e-3)


@pytest.mark.parametrize("slope", [0.4, 1.0, 2.0])
def test_a_known_slope_is_found(slope):
    rng = np.random.default_rng(0)
    odds = rng.normal(0.3, 2, 100_000)
    labels = (rng.random(len(odds)) < 1 / (1 + np.exp(-slope * odds))).astype(int)
    found = fit_temperature(labels, odds, labels.mean())
    assert found == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("prevalence", [0.2, 0.5, 2 / 3])
def test_the_slope_is_where_the_weighted_likelihood_is_flat(prevalence):
    """An independent equation: the sum of w (y - p) z is zero. More images of one class change nothing."""
    rng = np.random.default_rng(1)
    labels = (rng.random(2000) < 0.75).astype(int)
    probability = 1 / (1 + np.exp(-rng.normal(2.0 * (labels - 0.5), 1.5)))
    slope = fit_temperature(labels, log_odds(probability), prevalence)
    z = log_odds(probability)
    weights = np.where(labels == 1, prevalence / labels.mean(), (1 - prevalence) / (1 - labels.mean()))

    def gradient(slope):
        return float((weights * (labels - 1 / (1 + np.exp(-slope * z))) * z).mean())

    assert abs(gradient(slope)) < 1e-4
    assert gradient(slope * 0.95) > 1e-3
    assert gradient(slope * 1.05) < -1e-3
    twice = np.concatenate([np.arange(2000), np.flatnonzero(labels == 0)])
    assert fit_temperature(labels[twice], log_odds(probability[twice]), prevalence) == pytest.approx(slope, rel=1e-3)


def test_a_calibration_never_reverses_the_verdicts():
    """With an operating point below most normal images, and more weight on these, the likelihood alone would."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 700])
    odds = np.where(labels == 1, 3.0, 2.0) + rng.normal(size=1000)
    assert fit_temperature(labels, odds, 0.25) < 0
    slope, how = fit_slope(labels, odds, 0.25)
    assert (slope, how[:44]) == (pytest.approx(1.0, abs=0.2), "by maximum likelihood with a free intercept,")
    assert fit_slope(labels, odds - 2.5, 0.5) == (pytest.approx(1.0, abs=0.2), "by maximum likelihood")
    assert fit_slope(labels, -odds, 0.5)[0] == 1.0
