"""Metrics: properties and small cases by hand first, then parity with scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
from builders.predictions import draw_predictions, estimates
from scipy import stats
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve as reference_calibration_curve

from pneumoscope.evaluation import evaluate_metrics, metrics
from pneumoscope.evaluation.bootstrap import BINS
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA

SIX_LABELS = np.array([0, 0, 0, 1, 1, 1])
SIX = np.array([0.1, 0.4, 0.8, 0.35, 0.8, 0.9])  # one tie across the classes


# Properties


@pytest.mark.parametrize(
    ("probability", "auc"), [([0.1, 0.2, 0.8, 0.9], 1), ([0.9, 0.8, 0.2, 0.1], 0), ([0.5] * 4, 0.5)]
)
def test_auc_of_perfect_reversed_and_constant(probability, auc):
    assert metrics.roc_auc(np.array([0, 0, 1, 1]), np.array(probability)) == auc


def test_auc_depends_on_the_order_alone():
    labels, probability, _ = draw_predictions(0)
    auc = metrics.roc_auc(labels, probability)
    assert metrics.roc_auc(labels, probability**3) == auc
    assert metrics.roc_auc(labels, 1 - probability) == pytest.approx(1 - auc)
    assert metrics.roc_auc(1 - labels, probability) == pytest.approx(1 - auc)


def test_auc_is_the_share_of_pairs_in_order():
    labels, probability, _ = draw_predictions(1, n=60)
    pairs = np.sign(probability[labels == 1][:, None] - probability[labels == 0])
    assert metrics.roc_auc(labels, probability) == pytest.approx((pairs.mean() + 1) / 2)


def test_average_precision_of_a_constant_is_the_share_of_pneumonia():
    assert metrics.pr_auc(np.array([0, 1, 1, 1]), np.full(4, 0.3)) == 0.75


def test_swapping_the_classes_swaps_sensitivity_and_specificity():
    labels, probability, _ = draw_predictions(2)
    matrix = metrics.confusion_matrix(
        labels, probability, 0.505
    )  # between two probabilities, so that no tie changes sides
    swapped = metrics.confusion_matrix(1 - labels, 1 - probability, 0.495)
    assert metrics.sensitivity(matrix) == metrics.specificity(swapped)
    assert metrics.f1(matrix, NORMAL) == metrics.f1(swapped, PNEUMONIA)
    assert metrics.accuracy(matrix) == metrics.accuracy(swapped)


def test_f1_is_the_harmonic_mean():
    matrix = np.array([[50, 7], [11, 90]])
    for label in LABELS:
        mean = stats.hmean([metrics.precision(matrix, label), metrics.recall(matrix, label)])
        assert metrics.f1(matrix, label) == pytest.approx(mean)


def test_curves_go_from_corner_to_corner_and_never_back():
    labels, probability, _ = draw_predictions(3)
    fpr, tpr, thresholds = metrics.roc_curve(labels, probability)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.isinf(thresholds[0])
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (np.diff(thresholds) < 0).all()
    recall, precision, thresholds = metrics.pr_curve(labels, probability)
    assert recall[-1] == 1
    assert precision[-1] == labels.mean()
    assert (np.diff(recall) >= 0).all()
    assert (np.diff(thresholds) < 0).all()


def test_every_roc_point_belongs_to_a_confusion_matrix():
    labels, probability, _ = draw_predictions(4, n=50)
    for fpr, tpr, threshold in list(zip(*metrics.roc_curve(labels, probability), strict=True))[1:]:
        matrix = metrics.confusion_matrix(labels, probability, threshold)
        assert metrics.sensitivity(matrix) == tpr
        assert metrics.specificity(matrix) == pytest.approx(1 - fpr)


# Cases by hand


def test_a_probability_at_the_threshold_is_pneumonia():
    assert metrics.confusion_matrix(SIX_LABELS, SIX, 0.8).tolist() == [[2, 1], [1, 2]]
    assert metrics.confusion_matrix(SIX_LABELS, SIX, 0.81).tolist() == [[3, 0], [2, 1]]


def test_rows_are_labels_and_columns_verdicts():
    matrix = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([0.9, 0.9, 0.9]))
    assert matrix.tolist() == [[0, 2], [0, 1]]
    assert matrix.dtype == np.int64


def test_proportions_by_hand():
    matrix = np.array([[5, 3], [2, 10]])
    assert metrics.accuracy(matrix) == 15 / 20
    assert metrics.sensitivity(matrix) == metrics.recall(matrix, PNEUMONIA) == 10 / 12
    assert metrics.specificity(matrix) == metrics.recall(matrix, NORMAL) == 5 / 8
    assert metrics.precision(matrix, PNEUMONIA) == 10 / 13
    assert metrics.precision(matrix, NORMAL) == 5 / 7
    assert metrics.f1(matrix, PNEUMONIA) == 20 / 25
    assert metrics.f1(matrix, NORMAL) == 10 / 15


def test_roc_by_hand():
    """9 pairs: 0.35 is above one of three, 0.8 is above two and equal to one, 0.9 is above three."""
    assert metrics.roc_auc(SIX_LABELS, SIX) == pytest.approx((1 + 2.5 + 3) / 9)
    fpr, tpr, thresholds = metrics.roc_curve(SIX_LABELS, SIX)
    np.testing.assert_allclose(fpr, np.array([0, 0, 1, 2, 2, 3]) / 3)
    np.testing.assert_allclose(tpr, np.array([0, 1, 2, 2, 3, 3]) / 3)
    assert thresholds.tolist() == [np.inf, 0.9, 0.8, 0.4, 0.35, 0.1]


def test_precision_recall_by_hand():
    recall, precision, thresholds = metrics.pr_curve(SIX_LABELS, SIX)
    np.testing.assert_allclose(recall, np.array([1, 2, 2, 3, 3]) / 3)
    np.testing.assert_allclose(precision, [1, 2 / 3, 2 / 4, 3 / 5, 3 / 6])
    assert thresholds.tolist() == [0.9, 0.8, 0.4, 0.35, 0.1]
    assert metrics.pr_auc(SIX_LABELS, SIX) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_brier_by_hand():
    assert metrics.brier(np.array([0, 1]), np.array([0.2, 0.7])) == pytest.approx((0.04 + 0.09) / 2)
    assert metrics.brier(SIX_LABELS, np.full(6, 0.5)) == 0.25
    assert metrics.brier(SIX_LABELS, SIX_LABELS.astype(float)) == 0


def test_calibration_error_by_hand():
    """Two bins: three radiographs at 0.9 with two pneumonias, one at 0.1 with none."""
    labels, probability = np.array([1, 1, 0, 0]), np.array([0.9, 0.9, 0.9, 0.1])
    assert metrics.expected_calibration_error(labels, probability) == pytest.approx(
        3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * 0.1
    )
    low, high = metrics.calibration_curve(labels, probability)
    assert (low["bin"], low["n"], low["observed"]) == (1, 1, 0)
    assert (high["bin"], high["n"], high["observed"]) == (13, 3, 2 / 3)
    assert high["probability"] == pytest.approx(0.9)
    assert (high["low"], high["high"]) == metrics.wilson_interval(2, 3)


def test_a_bin_includes_its_lower_edge_and_the_last_bin_both():
    edges = np.arange(BINS + 1) / BINS
    curve = metrics.calibration_curve(np.zeros(16, int), edges)
    assert [row["bin"] for row in curve] == list(range(15))
    assert [row["n"] for row in curve] == [1] * 14 + [2]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    """Newcombe (1998), table I, method 3."""
    np.testing.assert_allclose(metrics.wilson_interval(successes, n), (low, high), atol=5e-5)


def test_wilson_is_symmetric_and_reaches_0_and_1():
    low, high = metrics.wilson_interval(3, 40)
    assert metrics.wilson_interval(37, 40) == pytest.approx((1 - high, 1 - low))
    assert metrics.wilson_interval(0, 7)[0] == 0
    assert metrics.wilson_interval(7, 7)[1] == 1
    assert metrics.wilson_interval(0, 0) == (None, None)


# Undefined is None


def test_without_radiographs_everything_is_undefined():
    empty = np.empty(0)
    matrix = metrics.confusion_matrix(empty, empty)
    assert matrix.tolist() == [[0, 0], [0, 0]]
    assert metrics.accuracy(matrix) is None
    for metric in (metrics.precision, metrics.recall, metrics.f1):
        assert [metric(matrix, label) for label in LABELS] == [None, None]
    for metric in (metrics.roc_auc, metrics.pr_auc, metrics.brier, metrics.expected_calibration_error):
        assert metric(empty, empty) is None
    assert metrics.roc_curve(empty, empty) is metrics.pr_curve(empty, empty) is None
    assert metrics.calibration_curve(empty, empty) == []
    for estimate in estimates(evaluate_metrics(empty, empty, 0.5, empty, resamples=20)).values():
        assert (estimate["value"], estimate["low"], estimate["high"], estimate["n"]) == (None, None, None, 0)


# Parity with scikit-learn


@pytest.mark.parametrize("seed", range(5))
def test_parity_with_scikit_learn(seed):
    labels, probability, patients = draw_predictions(seed, n=317)
    verdict = (probability >= 0.5).astype(int)
    found = estimates(evaluate_metrics(labels, probability, 0.5, patients, resamples=2))
    assert metrics.confusion_matrix(labels, probability, 0.5).tolist() == (
        reference.confusion_matrix(labels, verdict).tolist()
    )
    expected = {
        "accuracy": reference.accuracy_score(labels, verdict),
        "roc_auc": reference.roc_auc_score(labels, probability),
        "pr_auc": reference.average_precision_score(labels, probability),
        "brier": reference.brier_score_loss(labels, probability),
    }
    rows = reference.precision_recall_fscore_support(labels, verdict)
    for index, label in enumerate(LABELS):
        expected |= {
            f"{name} {label}": row[index] for name, row in zip(("precision", "recall", "f1"), rows[:3], strict=True)
        }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-12), name
    assert metrics.roc_auc(labels, probability) == pytest.approx(expected["roc_auc"], abs=1e-12)
    assert metrics.pr_auc(labels, probability) == pytest.approx(expected["pr_auc"], abs=1e-12)
    assert metrics.brier(labels, probability) == pytest.approx(expected["brier"], abs=1e-12)
    ece = metrics.expected_calibration_error(labels, probability)
    assert found["ece"]["value"] == pytest.approx(ece, abs=1e-12)


def test_curves_are_those_of_scikit_learn():
    labels, probability, _ = draw_predictions(6)
    for ours, theirs in zip(
        metrics.roc_curve(labels, probability),
        reference.roc_curve(labels, probability, drop_intermediate=False),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs)
    precision, recall, thresholds = reference.precision_recall_curve(labels, probability)
    for ours, theirs in zip(
        metrics.pr_curve(labels, probability), (recall[-2::-1], precision[-2::-1], thresholds[::-1]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs)


def test_calibration_curve_is_that_of_scikit_learn():
    labels, probability, _ = draw_predictions(7, n=2000, ties=False)
    probability = np.clip(probability, 1e-6, 1 - 1e-6)  # without edges, which scikit-learn puts in the bin below
    observed, mean = reference_calibration_curve(labels, probability, n_bins=15)
    curve = metrics.calibration_curve(labels, probability)
    np.testing.assert_allclose([row["observed"] for row in curve], observed)
    np.testing.assert_allclose([row["probability"] for row in curve], mean)
    ece = sum(row["n"] * abs(row["observed"] - row["probability"]) for row in curve) / 2000
    assert metrics.expected_calibration_error(labels, probability) == pytest.approx(ece)


def test_metrics_need_numpy_alone():
    heavy = "{'scipy', 'sklearn', 'pandas', 'matplotlib', 'onnxruntime', 'tensorflow', 'cv2'}"
    code = f"import sys, pneumoscope.evaluation.metrics; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
