"""Two models on the same radiographs: the exact McNemar test, and the paired difference of AUCs."""

import numpy as np
import pytest
from builders.predictions import draw_predictions
from scipy import stats

from pneumoscope.evaluation import evaluate_metrics, metrics
from pneumoscope.evaluation.paired_comparison import mcnemar_exact, paired_auc_difference

SIX_LABELS = np.array([0, 0, 0, 1, 1, 1])
SIX = np.array([0.1, 0.4, 0.8, 0.35, 0.8, 0.9])  # one tie across the classes


def test_mcnemar_by_hand():
    """One and eight: 2 * (C(9, 0) + C(9, 1)) / 2^9."""
    a, b = np.array([True] * 11 + [False] * 9), np.array([True] * 10 + [False] + [True] * 8 + [False])
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a) == 20 / 512


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 5), (3, 3), (4, 3), (40, 61), (900, 1100)])
def test_mcnemar_is_the_sign_test(only_a, only_b):
    a = np.repeat([True, False, True], [only_a, only_b, 10])
    b = np.repeat([False, True, True], [only_a, only_b, 10])
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert mcnemar_exact(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("other", [np.ones(3, bool), np.ones(4, int), np.ones((4, 1), bool)])
def test_mcnemar_refuses_arrays_that_are_not_pairs(other):
    with pytest.raises(ValueError, match="expected two bool arrays of one length"):
        mcnemar_exact(np.ones(4, bool), other)


def test_probabilities_of_two_models_have_one_length():
    with pytest.raises(ValueError, match="of one length"):
        paired_auc_difference(SIX_LABELS, SIX, SIX[:5])


def test_the_difference_of_a_model_to_itself_is_zero():
    labels, probability, patients = draw_predictions(13)
    difference = paired_auc_difference(labels, probability, probability, patients, resamples=50)
    assert (difference["value"], difference["low"], difference["high"], difference["n"]) == (0, 0, 0, len(labels))


def test_the_auc_difference_is_paired_and_antisymmetric():
    labels, a, patients = draw_predictions(14)
    b = np.clip(a + np.random.default_rng(0).normal(0, 0.05, len(a)), 0, 1)
    difference = paired_auc_difference(labels, a, b, patients, resamples=400)
    reversed_ = paired_auc_difference(labels, b, a, patients, resamples=400)
    assert difference["value"] == pytest.approx(metrics.roc_auc(labels, a) - metrics.roc_auc(labels, b))
    assert (difference["low"], difference["high"]) == pytest.approx((-reversed_["high"], -reversed_["low"]))
    assert difference["low"] <= difference["value"] <= difference["high"]
    alone = evaluate_metrics(labels, a, 0.5, patients, resamples=400)["roc_auc"]
    assert difference["high"] - difference["low"] < 0.5 * (
        alone["high"] - alone["low"]
    )  # hard radiographs have the same effect on both


def test_the_auc_difference_without_a_class_is_undefined():
    difference = paired_auc_difference(np.ones(9, int), np.linspace(0, 1, 9), np.linspace(1, 0, 9), resamples=20)
    assert (difference["value"], difference["low"], difference["high"]) == (None, None, None)
