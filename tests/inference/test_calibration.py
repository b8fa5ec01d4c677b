"""Calibration: log odds, thresholds and prevalence, by hand and by their defining properties."""

import numpy as np
import pytest

from pneumoscope.inference.calibration import (
    assumed_prevalence,
    calibrate,
    highest_threshold,
    log_odds,
    midpoint_below,
)


def test_log_odds_by_hand():
    np.testing.assert_allclose(log_odds([0.5, 0.75, 0.1]), [0, np.log(3), -np.log(9)])
    assert np.isfinite(log_odds([0.0, 1.0])).all()
    assert log_odds([0.0])[0] == pytest.approx(-log_odds([1.0])[0])


def test_calibration_by_hand():
    np.testing.assert_allclose(calibrate(np.array([0.75, 0.25, 0.5]), 2.0), [0.9, 0.1, 0.5])  # odds of 3 become 9
    probability = np.random.default_rng(0).random(100)
    np.testing.assert_allclose(calibrate(probability, 1.0), probability, atol=1e-6)
    np.testing.assert_allclose(calibrate(calibrate(probability, 0.4), 2.5), probability, atol=1e-6)
    assert (np.argsort(calibrate(probability, 0.3)) == np.argsort(probability)).all()


def test_an_assumed_prevalence_by_hand():
    """Means 0.1 and 0.7: one in four, because 0.25 * 0.7 + 0.75 * 0.1 = 0.25."""
    labels = np.array([0, 1, 0, 1, 1])
    assert assumed_prevalence(labels, np.array([0.05, 0.5, 0.15, 0.8, 0.8])) == pytest.approx(0.25)
    assert assumed_prevalence(labels, np.full(5, 0.3)) == pytest.approx(0.3)  # the same probability for all


def test_the_assumed_prevalence_is_that_of_the_population_of_the_probabilities():
    """Even if the sample has the classes in other shares."""
    rng = np.random.default_rng(0)
    probability = rng.random(200_000) ** 2
    labels = (rng.random(len(probability)) < probability).astype(int)
    assert assumed_prevalence(labels, probability) == pytest.approx(1 / 3, abs=0.005)  # mean of the square
    fewer = np.concatenate([np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)[::10]])
    assert labels[fewer].mean() > 0.8
    assert assumed_prevalence(labels[fewer], probability[fewer]) == pytest.approx(1 / 3, abs=0.005)


def test_the_midpoint_below_a_threshold_by_hand():
    """Odds of 9 and 1 have the middle 3; ties and order do not matter."""
    assert midpoint_below(np.array([0.2, 0.9, 0.5, 0.9, 0.5]), 0.9) == pytest.approx(np.log(3))
    assert midpoint_below(np.array([0.2, 0.9, 0.5]), 0.5) == pytest.approx(-np.log(4) / 2)
    assert midpoint_below(np.array([0.5, 0.9]), 0.5) == pytest.approx(-np.log(3) / 2)  # without a lower score: its half


def test_the_highest_threshold_reaches_its_sensitivity_and_no_higher_one_does():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 60)
        probability = rng.random(60).round(int(rng.integers(1, 4)))  # with and without ties
        for wanted in (0.01, 0.5, 0.9, 0.99, 1.0):
            threshold = highest_threshold(labels, probability, wanted)
            positive = probability[labels == 1]
            assert (positive >= threshold).mean() >= wanted
            assert (positive >= np.nextafter(threshold, 2)).mean() < wanted
    assert highest_threshold(np.ones(100, int), np.arange(100) / 100, 0.99) == 0.01
    assert highest_threshold(np.ones(100, int), np.arange(100) / 100, 1.0) == 0.0
