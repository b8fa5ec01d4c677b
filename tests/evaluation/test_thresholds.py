"""Other operating points, net benefit and bands: against published figures, other libraries and sums by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from pneumoscope.evaluation.thresholds import curve_bands, decision_curve, threshold_table


def repeated(*rows):
    """Labels and probabilities of (label, probability, number)."""
    labels = np.concatenate([np.full(number, label) for label, _, number in rows])
    return labels, np.concatenate([np.full(number, probability) for _, probability, number in rows])


@pytest.fixture(scope="module")
def random():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    return labels, (0.4 * labels + 0.6 * rng.random(300)).round(3), rng.integers(0, 120, 300)


def at_operating_point(table):
    (row,) = [row for row in table if row["operating_point"]]
    return row


def test_predictive_values_are_those_of_altman_and_bland():
    """BMJ 309, 1994, page 102: a liver scan, and the same scan where a quarter of the patients are ill."""
    labels, probability = repeated((1, 0.9, 231), (1, 0.1, 27), (0, 0.9, 32), (0, 0.1, 54))
    row = at_operating_point(threshold_table(labels, probability, 0.5, resamples=20, prevalences=(258 / 344, 0.25)))
    values = [round(estimate["value"], 2) for pair in zip(row["ppv"], row["npv"], strict=True) for estimate in pair]
    assert values == [0.88, 0.67, 0.45, 0.95]


def test_sensitivity_and_specificity_are_those_of_the_confusion_matrix(random):
    labels, probability, groups = random
    for row in threshold_table(labels, probability, 0.42, groups, resamples=20):
        called = probability >= row["threshold"]
        assert row["sensitivity"]["value"] == pytest.approx(called[labels == 1].mean())
        assert row["specificity"]["value"] == pytest.approx(1 - called[labels == 0].mean())
        for value in (row["sensitivity"], *row["ppv"]):
            assert value["low"] is None or value["low"] <= value["value"] <= value["high"]
    assert at_operating_point(threshold_table(labels, probability, 0.42, resamples=20))["threshold"] == 0.42


def test_predictive_values_without_a_positive_verdict_are_undefined():
    labels, probability = repeated((1, 0.3, 5), (0, 0.2, 5))
    row = at_operating_point(threshold_table(labels, probability, 0.5, resamples=20))
    assert [estimate["value"] for estimate in row["ppv"]] == [None] * 4
    assert row["npv"][3]["value"] == 0.5


def test_without_a_normal_radiograph_specificity_and_predictive_values_are_undefined():
    labels, probability = repeated((1, 0.9, 5))
    row = at_operating_point(threshold_table(labels, probability, 0.5, resamples=20))
    assert row["specificity"]["value"] is None
    assert row["ppv"][0]["value"] is None
    assert decision_curve(labels, probability, resamples=20) is None
    assert curve_bands(labels, probability, resamples=20) is None


def test_net_benefit_is_the_sum_by_hand():
    labels, probability = repeated((1, 0.9, 30), (1, 0.2, 10), (0, 0.7, 12), (0, 0.1, 48))
    curve = decision_curve(labels, probability, resamples=20)
    by_threshold = dict(zip(curve["threshold"], zip(curve["model"], curve["all"], strict=True), strict=True))
    assert by_threshold[0.5] == pytest.approx((0.3 - 0.12, 0.4 - 0.6))
    assert by_threshold[0.2] == pytest.approx((0.4 - 0.12 / 4, 0.4 - 0.6 / 4))
    assert by_threshold[0.05][0] == pytest.approx(by_threshold[0.05][1])  # everybody is treated
    assert by_threshold[0.95][0] == 0  # nobody is


def test_a_perfect_model_has_the_net_benefit_of_all_pneumonias():
    labels, probability = repeated((1, 1.0, 25), (0, 0.0, 75))
    assert set(decision_curve(labels, probability, resamples=20)["model"]) == {0.25}


def test_the_bands_hold_the_curves_of_scikit_learn(random):
    labels, probability, groups = random
    bands = curve_bands(labels, probability, groups, resamples=300)
    fpr, tpr, _ = roc_curve(labels, probability)
    grid = np.array(bands["roc"]["false_positive_rate"])
    assert bands["roc"]["sensitivity"] == pytest.approx(np.interp(grid, fpr, tpr), abs=1e-6)
    precision, recall, _ = precision_recall_curve(labels, probability)
    at_half = bands["pr"]["precision"][50]
    assert at_half == pytest.approx(precision[recall >= 0.5][-1], abs=1e-6)
    for band, name in (("roc", "sensitivity"), ("pr", "precision")):
        low, value, high = (np.array(bands[band][key], float) for key in ("low", name, "high"))
        known = np.isfinite(low)  # unknown where every resample is perfect
        assert known.mean() > 0.3
        assert (low[known] <= value[known]).all()
        assert (value[known] <= high[known]).all()
        assert (high - low)[known].mean() > 0.02


def test_one_patient_has_no_bands(random):
    labels, probability, _ = random
    bands = curve_bands(labels, probability, np.zeros(len(labels), int), resamples=20)
    assert set(bands["roc"]["low"]) == {None}
