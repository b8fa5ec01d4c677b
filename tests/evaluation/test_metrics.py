"""Metrics: properties and small cases by hand first, then parity with scikit-learn, then the intervals."""

import json
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve as reference_calibration_curve

from pneumoscope.evaluation import bootstrap, metrics
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA

SIX_LABELS = np.array([0, 0, 0, 1, 1, 1])
SIX = np.array([0.1, 0.4, 0.8, 0.35, 0.8, 0.9])  # one tie across the classes


def draw(seed: int, n: int = 400, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients with one to some radiographs each, all of one label."""
    random = np.random.default_rng(seed)
    patients = random.integers(0, n // 2, n)
    labels = (random.random(n // 2) < 0.6).astype(int)[patients]
    probability = np.clip(random.normal(0.35 + 0.3 * labels, 0.25), 0, 1)
    return labels, np.round(probability, 2) if ties else probability, patients


def estimates(result: dict) -> dict[str, dict]:
    flat = {name: one for name, one in result.items() if name != "classes"}
    return flat | {f"{name} {label}": one for label, found in result["classes"].items() for name, one in found.items()}


# Properties


@pytest.mark.parametrize(
    ("probability", "auc"), [([0.1, 0.2, 0.8, 0.9], 1), ([0.9, 0.8, 0.2, 0.1], 0), ([0.5] * 4, 0.5)]
)
def test_auc_of_perfect_reversed_and_constant(probability, auc):
    assert metrics.roc_auc(np.array([0, 0, 1, 1]), np.array(probability)) == auc


def test_auc_sees_the_order_alone():
    labels, probability, _ = draw(0)
    auc = metrics.roc_auc(labels, probability)
    assert metrics.roc_auc(labels, probability**3) == auc
    assert metrics.roc_auc(labels, 1 - probability) == pytest.approx(1 - auc)
    assert metrics.roc_auc(1 - labels, probability) == pytest.approx(1 - auc)


def test_auc_is_the_share_of_pairs_in_order():
    labels, probability, _ = draw(1, n=60)
    pairs = np.sign(probability[labels == 1][:, None] - probability[labels == 0])
    assert metrics.roc_auc(labels, probability) == pytest.approx((pairs.mean() + 1) / 2)


def test_average_precision_of_a_constant_is_the_share_of_pneumonia():
    assert metrics.pr_auc(np.array([0, 1, 1, 1]), np.full(4, 0.3)) == 0.75


def test_swapping_the_classes_swaps_sensitivity_and_specificity():
    labels, probability, _ = draw(2)
    matrix = metrics.confusion_matrix(labels, probability, 0.505)  # between two probabilities, so no tie moves
    swapped = metrics.confusion_matrix(1 - labels, 1 - probability, 0.495)
    assert metrics.sensitivity(matrix) == metrics.specificity(swapped)
    assert metrics.f1(matrix, NORMAL) == metrics.f1(swapped, PNEUMONIA)
    assert metrics.accuracy(matrix) == metrics.accuracy(swapped)


def test_f1_is_the_harmonic_mean():
    matrix = np.array([[50, 7], [11, 90]])
    for label in LABELS:
        mean = stats.hmean([metrics.precision(matrix, label), metrics.recall(matrix, label)])
        assert metrics.f1(matrix, label) == pytest.approx(mean)


def test_curves_run_from_corner_to_corner_and_never_turn_back():
    labels, probability, _ = draw(3)
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


def test_every_roc_point_is_a_confusion_matrix():
    labels, probability, _ = draw(4, n=50)
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
    """9 pairs: 0.35 beats one of three, 0.8 beats two and ties one, 0.9 beats three."""
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


def test_a_bin_holds_its_lower_edge_and_the_last_one_both():
    edges = np.arange(metrics.BINS + 1) / metrics.BINS
    curve = metrics.calibration_curve(np.zeros(16, int), edges)
    assert [row["bin"] for row in curve] == list(range(15))
    assert [row["n"] for row in curve] == [1] * 14 + [2]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes, n, low, high):
    """Newcombe (1998), table I, method 3."""
    np.testing.assert_allclose(metrics.wilson_interval(successes, n), (low, high), atol=5e-5)


def test_wilson_is_symmetric_and_ends_at_the_ends():
    low, high = metrics.wilson_interval(3, 40)
    assert metrics.wilson_interval(37, 40) == pytest.approx((1 - high, 1 - low))
    assert metrics.wilson_interval(0, 7)[0] == 0
    assert metrics.wilson_interval(7, 7)[1] == 1
    assert metrics.wilson_interval(0, 0) == (None, None)


def test_mcnemar_by_hand():
    """One against eight: 2 * (C(9, 0) + C(9, 1)) / 2^9."""
    a, b = np.array([True] * 11 + [False] * 9), np.array([True] * 10 + [False] + [True] * 8 + [False])
    assert metrics.mcnemar_exact(a, b) == metrics.mcnemar_exact(b, a) == 20 / 512


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 5), (3, 3), (4, 3), (40, 61), (900, 1100)])
def test_mcnemar_is_the_sign_test(only_a, only_b):
    a = np.repeat([True, False, True], [only_a, only_b, 10])
    b = np.repeat([False, True, True], [only_a, only_b, 10])
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert metrics.mcnemar_exact(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("other", [np.ones(3, bool), np.ones(4, int), np.ones((4, 1), bool)])
def test_mcnemar_refuses_what_does_not_pair(other):
    with pytest.raises(ValueError, match="expected two bool arrays of one length"):
        metrics.mcnemar_exact(np.ones(4, bool), other)


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
    for one in estimates(metrics.evaluate(empty, empty, 0.5, empty, resamples=20)).values():
        assert (one["value"], one["low"], one["high"], one["n"]) == (None, None, None, 0)


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_what_needs_both_is_undefined(label):
    labels, probability = np.full(30, label), np.linspace(0, 1, 30)
    found = estimates(metrics.evaluate(labels, probability, 0.5, resamples=50))
    assert found["roc_auc"]["value"] is found["roc_auc"]["low"] is metrics.roc_curve(labels, probability) is None
    assert found[["sensitivity", "specificity"][label]]["value"] is None
    assert found[f"recall {LABELS[1 - label]}"]["value"] is None
    assert (found["pr_auc"]["value"] is None) == (label == 0)
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]


def test_precision_of_a_verdict_never_given_is_undefined():
    found = estimates(metrics.evaluate(SIX_LABELS, SIX, 1.0, resamples=50))
    assert found["precision PNEUMONIA"] == {"value": None, "low": None, "high": None, "n": 0, "method": "Wilson score"}
    assert found["f1 PNEUMONIA"]["value"] == 0


def test_one_patient_has_no_interval():
    found = estimates(metrics.evaluate(SIX_LABELS, SIX, 0.5, np.full(6, "a"), resamples=50))
    assert found["roc_auc"]["value"] is not None
    assert found["roc_auc"]["low"] is found["roc_auc"]["high"] is found["brier"]["low"] is None


def test_a_class_of_one_patient_has_no_interval_of_the_auc():
    """In more than a third of the resamples that patient is missing; the rest would flatter."""
    labels = np.array([1] + [0] * 30)
    found = metrics.evaluate(labels, np.linspace(0.9, 0.1, 31), 0.5, resamples=200)
    assert found["roc_auc"]["value"] == 1
    assert found["roc_auc"]["low"] is found["roc_auc"]["high"] is None
    assert found["brier"]["low"] is not None


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1, 2])}, r"expected labels 0 \(NORMAL\) and 1 \(PNEUMONIA\), received \{0, 1, 2\}"),
        ({"labels": np.array(["NORMAL", "NORMAL", "NORMAL"])}, "expected labels 0"),
        ({"labels": np.array([0, 1])}, "expected labels and probability of one length"),
        ({"labels": np.zeros((3, 1), int)}, "expected labels and probability of one length"),
        ({"probability": np.array([0.1, 0.2, 1.1])}, "expected probabilities from 0 to 1, received 1.1"),
        ({"probability": np.array([0.1, np.nan, 0.5])}, "expected probabilities from 0 to 1, received nan"),
        ({"threshold": 1.5}, "expected a threshold from 0 to 1, received 1.5"),
        ({"threshold": float("nan")}, "expected a threshold from 0 to 1"),
        ({"groups": np.array(["a", "b"])}, "expected one patient a radiograph"),
        ({"resamples": 0}, "expected at least one resample, received 0"),
    ],
)
def test_wrong_arrays_are_refused(change, message):
    right = {"labels": np.array([0, 1, 1]), "probability": np.array([0.1, 0.2, 0.3]), "threshold": 0.5}
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(**{**right, **change})


def test_probabilities_of_two_models_must_pair():
    with pytest.raises(ValueError, match="of one length"):
        metrics.paired_auc_difference(SIX_LABELS, SIX, SIX[:5])


# Parity with scikit-learn


@pytest.mark.parametrize("seed", range(5))
def test_parity_with_scikit_learn(seed):
    labels, probability, patients = draw(seed, n=317)
    verdict = (probability >= 0.5).astype(int)
    found = estimates(metrics.evaluate(labels, probability, 0.5, patients, resamples=2))
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
    labels, probability, _ = draw(6)
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
    labels, probability, _ = draw(7, n=2000, ties=False)
    probability = np.clip(probability, 1e-6, 1 - 1e-6)  # no edges: scikit-learn gives them to the bin below
    observed, mean = reference_calibration_curve(labels, probability, n_bins=15)
    curve = metrics.calibration_curve(labels, probability)
    np.testing.assert_allclose([row["observed"] for row in curve], observed)
    np.testing.assert_allclose([row["probability"] for row in curve], mean)
    ece = sum(row["n"] * abs(row["observed"] - row["probability"]) for row in curve) / 2000
    assert metrics.expected_calibration_error(labels, probability) == pytest.approx(ece)


# Intervals


def test_every_estimate_lies_in_its_interval_and_says_how_it_was_made():
    labels, probability, patients = draw(8)
    result = metrics.evaluate(labels, probability, 0.5, patients, resamples=300)
    assert json.loads(json.dumps(result, allow_nan=False)) == result  # plain numbers
    for name, one in estimates(result).items():
        assert list(one) == ["value", "low", "high", "n", "method"]
        assert 0 <= one["low"] < one["value"] < one["high"] <= 1 or name == "ece"
        assert one["low"] <= one["value"] <= one["high"]
        assert one["method"] == "Wilson score" or "300 resamples, seed 0" in one["method"]
    assert result["sensitivity"] == result["classes"][PNEUMONIA]["recall"]
    assert result["sensitivity"]["n"] + result["specificity"]["n"] == result["accuracy"]["n"] == len(labels)
    right = int(((probability >= 0.5) == labels).sum())
    assert (result["accuracy"]["low"], result["accuracy"]["high"]) == metrics.wilson_interval(right, len(labels))


def test_the_bootstrap_is_the_one_a_loop_would_make():
    labels, probability, patients = draw(9, n=80)
    count, resamples = len(np.unique(patients)), 60
    members = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    drawn = np.random.default_rng(5).integers(count, size=(resamples, count))
    loops = {
        "roc_auc": metrics.roc_auc,
        "pr_auc": metrics.pr_auc,
        "brier": metrics.brier,
        "ece": metrics.expected_calibration_error,
        "f1 NORMAL": lambda y, p: metrics.f1(metrics.confusion_matrix(y, p, 0.4), NORMAL),
        "f1 PNEUMONIA": lambda y, p: metrics.f1(metrics.confusion_matrix(y, p, 0.4), PNEUMONIA),
    }
    found = estimates(metrics.evaluate(labels, probability, 0.4, patients, seed=5, resamples=resamples))
    for name, metric in loops.items():
        values = []
        for row in drawn:
            images = np.concatenate([members[patient] for patient in row])
            values.append(metric(labels[images], probability[images]))
        low, high = np.quantile(values, (0.025, 0.975))
        value = metric(labels, probability)
        expected = (value, min(low, value), max(high, value))
        assert (found[name]["value"], found[name]["low"], found[name]["high"]) == pytest.approx(expected, abs=1e-12)


def test_the_order_of_the_radiographs_changes_nothing():
    labels, probability, patients = draw(10)
    names = np.array([f"person{patient}" for patient in patients])
    result = metrics.evaluate(labels, probability, 0.5, names, resamples=100)
    order = np.random.default_rng(0).permutation(len(labels))
    assert metrics.evaluate(labels[order], probability[order], 0.5, names[order], resamples=100) == result
    assert metrics.evaluate(labels, probability, 0.5, names, resamples=100) == result
    assert metrics.evaluate(labels, probability, 0.5, names, seed=1, resamples=100) != result


def test_the_blocks_of_resamples_leave_no_seam(monkeypatch):
    labels, probability, patients = draw(11)
    result = metrics.evaluate(labels, probability, 0.5, patients, resamples=100)
    monkeypatch.setattr(bootstrap, "_BLOCK", 7 * len(labels))
    for name, one in estimates(metrics.evaluate(labels, probability, 0.5, patients, resamples=100)).items():
        for end in ("value", "low", "high"):
            assert one[end] == pytest.approx(estimates(result)[name][end], abs=1e-12), name


def test_copies_of_a_radiograph_add_nothing_when_they_are_one_patient():
    labels, probability, _ = draw(12, n=150)
    patients = np.arange(150)
    once = estimates(metrics.evaluate(labels, probability, 0.5, patients, resamples=500))
    copies = [np.repeat(column, 4) for column in (labels, probability, patients)]
    clustered = estimates(metrics.evaluate(copies[0], copies[1], 0.5, copies[2], resamples=500))
    apart = estimates(metrics.evaluate(copies[0], copies[1], 0.5, None, resamples=500))
    for name in ("roc_auc", "pr_auc", "brier", "ece", "f1 NORMAL", "f1 PNEUMONIA"):
        for end in ("value", "low", "high"):
            assert clustered[name][end] == pytest.approx(once[name][end]), name
        # four times as many independent radiographs would halve the width
        width = apart[name]["high"] - apart[name]["low"]
        assert clustered[name]["high"] - clustered[name]["low"] > 1.5 * width, name


def test_the_interval_of_the_auc_holds_the_truth_as_often_as_it_says():
    """Five radiographs a patient that differ little; taking them as independent holds it far less often."""
    truth = NormalDist().cdf(1.2 / np.sqrt(2 * (0.9 + 0.1)))
    held = {"patients": 0, "images": 0}
    trials, each = 150, np.repeat(np.arange(60), 5)
    for trial in range(trials):
        random = np.random.default_rng(trial)
        labels = each % 2
        score = 1.2 * labels + random.normal(0, np.sqrt(0.9), 60)[each] + random.normal(0, np.sqrt(0.1), len(each))
        probability = 1 / (1 + np.exp(-score))
        for kind, groups in (("patients", each), ("images", None)):
            one = metrics.evaluate(labels, probability, 0.5, groups, seed=trial, resamples=200)["roc_auc"]
            held[kind] += one["low"] <= truth <= one["high"]
    assert held["patients"] >= 0.88 * trials  # 0.95 less three standard errors and the bias of percentiles
    assert held["images"] < 0.8 * trials


def test_a_difference_of_a_model_to_itself_is_nothing():
    labels, probability, patients = draw(13)
    one = metrics.paired_auc_difference(labels, probability, probability, patients, resamples=50)
    assert (one["value"], one["low"], one["high"], one["n"]) == (0, 0, 0, len(labels))


def test_the_auc_difference_is_paired_and_antisymmetric():
    labels, a, patients = draw(14)
    b = np.clip(a + np.random.default_rng(0).normal(0, 0.05, len(a)), 0, 1)
    one = metrics.paired_auc_difference(labels, a, b, patients, resamples=400)
    other = metrics.paired_auc_difference(labels, b, a, patients, resamples=400)
    assert one["value"] == pytest.approx(metrics.roc_auc(labels, a) - metrics.roc_auc(labels, b))
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert one["low"] <= one["value"] <= one["high"]
    alone = metrics.evaluate(labels, a, 0.5, patients, resamples=400)["roc_auc"]
    assert one["high"] - one["low"] < 0.5 * (alone["high"] - alone["low"])  # what is hard for both cancels out


def test_the_auc_difference_without_a_class_is_undefined():
    one = metrics.paired_auc_difference(np.ones(9, int), np.linspace(0, 1, 9), np.linspace(1, 0, 9), resamples=20)
    assert (one["value"], one["low"], one["high"]) == (None, None, None)


def test_metrics_need_numpy_alone():
    heavy = "{'scipy', 'sklearn', 'pandas', 'matplotlib', 'onnxruntime', 'tensorflow', 'cv2'}"
    code = f"import sys, pneumoscope.evaluation.metrics; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
