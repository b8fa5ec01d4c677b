"""Prediction sets: the quantile by hand, and the coverage that is promised, over many drawings."""

import numpy as np
import pytest

from pneumoscope.evaluation.conformal import (
    COVERAGES,
    cross_fitted_sets,
    fit_limits,
    measure_sets,
    prediction_sets,
)
from pneumoscope.labels import NORMAL, PNEUMONIA


def drawn(rng, patients, images=1, shift=0.0):
    """Labels, probabilities and patients; the images of one patient have nearly one probability."""
    labels = np.repeat(rng.integers(0, 2, patients), images)
    own = np.repeat(rng.normal(0, 1.5, patients), images)
    odds = 3 * (labels - 0.5) + own + rng.normal(0, 0.1, patients * images) + shift
    return labels, 1 / (1 + np.exp(-odds)), np.repeat(np.arange(patients), images)


def test_the_limit_is_the_quantile_by_hand():
    """Nine patients: of ten, one more being above all, nine are at or below the largest score."""
    probability = np.arange(1, 10) / 20
    limits = fit_limits(np.zeros(9, int), probability, np.arange(9), 0.9)
    assert limits[NORMAL] == pytest.approx(0.45)
    assert fit_limits(np.zeros(9, int), probability, np.arange(9), 0.8)[NORMAL] == pytest.approx(0.40)
    assert fit_limits(np.zeros(9, int), probability, np.arange(9), 0.95)[NORMAL] == 1  # too few patients
    assert limits[PNEUMONIA] == 1  # none


def test_each_patient_counts_once():
    """One patient with a hundred bad images is one of ten."""
    probability = np.concatenate([np.full(100, 0.9), np.arange(1, 10) / 20])
    groups = np.concatenate([np.zeros(100, int), np.arange(1, 10)])
    assert fit_limits(np.zeros(109, int), probability, groups, 0.8)[NORMAL] == pytest.approx(0.45)


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("images", [1, 4])
def test_the_coverage_of_each_class_holds(coverage, images):
    """Over 200 drawings of 120 patients; the mean is at least what is promised, and not much more."""
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        labels, probability, groups = drawn(rng, 120, images)
        limits = fit_limits(labels, probability, groups, coverage)
        new, new_probability, _ = drawn(rng, 300)
        covered = prediction_sets(new_probability, limits)[np.arange(len(new)), new]
        found.append([covered[new == label].mean() for label in (0, 1)])
    means = np.mean(found, axis=0)
    assert (means >= coverage - 0.005).all()
    assert (means <= coverage + 0.03).all()


def test_cross_fitted_sets_have_the_coverage_on_the_same_images():
    labels, probability, groups = drawn(np.random.default_rng(1), 600, 2)
    sets = cross_fitted_sets(labels, probability, groups, 0.9)
    found = measure_sets(labels, sets, groups, resamples=200)
    for name in ("coverage", "coverage NORMAL", "coverage PNEUMONIA"):
        assert found[name]["low"] < 0.9 < found[name]["high"]
    assert found["accuracy"]["value"] > 0.8
    assert 0 < found["answered"]["value"] < 1
    assert cross_fitted_sets(np.zeros(5, int), np.full(5, 0.1), np.arange(5), 0.9) is None


def test_what_is_answered_is_counted_by_hand():
    labels = np.array([0, 0, 1, 1])
    sets = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], bool)
    found = measure_sets(labels, sets, np.arange(4), resamples=20)
    values = {name: estimate["value"] for name, estimate in found.items()}
    assert values == {
        "coverage": 0.5, "coverage NORMAL": 1, "coverage PNEUMONIA": 0, "answered": 0.5, "accuracy": 0.5, "empty": 0.25,
    }  # fmt: skip


def test_without_an_answer_the_accuracy_is_undefined():
    found = measure_sets(np.array([0, 1]), np.ones((2, 2), bool), np.arange(2), resamples=20)
    assert found["accuracy"]["value"] is None
