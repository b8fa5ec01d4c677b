"""The registry of metrics, and their intervals."""

import json
from statistics import NormalDist

import numpy as np
import pytest
from builders.given_models import given, probabilities
from builders.predictions import draw_predictions, estimates

from pneumoscope.evaluation import (
    bootstrap,
    compare_reports,
    evaluate_metrics,
    evaluate_model,
    metric_registry,
    metrics,
    read_report,
    render_comparison,
    render_table,
    report_html,
)
from pneumoscope.evaluation.metric_registry import METRICS, Metric
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA

SIX_LABELS = np.array([0, 0, 0, 1, 1, 1])
SIX = np.array([0.1, 0.4, 0.8, 0.35, 0.8, 0.9])  # one tie across the classes


# The registry


@pytest.fixture
def two_more_metrics(monkeypatch):
    """A bootstrapped metric at the beginning, and a proportion of one class at the end."""
    balanced = Metric(
        "balanced_accuracy",
        "Balanced accuracy",
        statistic=lambda sample: (
            sum(sample.matrix[:, index, index] / sample.matrix[:, index].sum(axis=1) for index in range(2)) / 2
        ),
    )
    prevalence = Metric(
        "share", "Share of NORMAL", NORMAL, counts=lambda matrix: (int(matrix[0].sum()), int(matrix.sum()))
    )
    monkeypatch.setattr(metric_registry, "METRICS", (balanced, *METRICS, prevalence))


@pytest.mark.usefixtures("batches_in_order", "two_more_metrics")
def test_a_metric_of_the_registry_is_in_json_table_page_and_comparison(small_samples, tmp_path):
    predictor = given(probabilities(small_samples.records))
    evaluate_model(predictor, small_samples, small_samples.records, "all", out=tmp_path, resamples=50)
    report, predictions = read_report(tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())["metrics"]
    value = written["balanced_accuracy"]["value"]
    assert value == pytest.approx((written["sensitivity"]["value"] + written["specificity"]["value"]) / 2)
    assert written["balanced_accuracy"]["low"] < value < written["balanced_accuracy"]["high"]
    assert "50 resamples" in written["balanced_accuracy"]["method"]
    share = written["classes"][NORMAL]["share"]
    assert (share["value"], share["n"], share["method"]) == (8 / 24, 24, "Wilson score")
    assert (share["low"], share["high"]) == metrics.wilson_interval(8, 24)
    assert "share" not in written["classes"][PNEUMONIA]
    table = render_table(report)
    assert table[0][:2] == ("Balanced accuracy", f"{value:.3f}")
    assert table[-1][:2] == ("Share of NORMAL", "0.333")
    page = report_html(report, [], tmp_path / "report.html").read_text("utf-8")
    assert f'<th scope="row">Balanced accuracy</th><td>{value:.3f}</td>' in page
    assert '<th scope="row">Share of NORMAL</th><td>0.333</td>' in page
    comparison = compare_reports([report, report], [predictions, predictions])
    assert comparison["models"][0]["metrics"]["balanced_accuracy"]["value"] == value
    rows = {name: cells for name, *cells in render_comparison(comparison)[0][1]}
    assert rows["Balanced accuracy"][0].startswith(f"{value:.3f} (")
    assert rows["Share of NORMAL"][1].startswith("0.333 (")


@pytest.mark.usefixtures("batches_in_order")
def test_a_report_may_be_older_than_a_metric(small_samples, tmp_path, two_more_metrics):
    predictor = given(probabilities(small_samples.records))
    new = evaluate_model(predictor, small_samples, small_samples.records, "all", out=tmp_path, resamples=20)
    old = {**new, "metrics": {name: one for name, one in new["metrics"].items() if name != "balanced_accuracy"}}
    assert "Balanced accuracy" not in [name for name, *_ in render_table(old)]
    rows = read_report(tmp_path)[1]
    for reports, expected in (([old, new], 0), ([new, old], 1)):
        table = render_comparison(compare_reports(reports, [rows, rows]))[0][1]
        (cells,) = (cells for name, *cells in table if name == "Balanced accuracy")
        assert [cell == "not recorded" for cell in cells] == [index == expected for index in range(2)]


def test_names_and_titles_are_unique():
    names, titles = [metric.name for metric in METRICS], [metric.title for metric in METRICS if metric.title]
    assert len(set(names)) == len(names)
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("parts", [{}, {"counts": metrics.accuracy_counts, "statistic": lambda sample: sample.images}])
def test_a_metric_has_either_counts_or_a_statistic(parts):
    with pytest.raises(ValueError, match="expected the metric wrong with counts or with a statistic"):
        Metric("wrong", "Wrong", **parts)


# Undefined is None


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_metrics_of_both_classes_are_undefined(label):
    labels, probability = np.full(30, label), np.linspace(0, 1, 30)
    found = estimates(evaluate_metrics(labels, probability, 0.5, resamples=50))
    assert found["roc_auc"]["value"] is found["roc_auc"]["low"] is metrics.roc_curve(labels, probability) is None
    assert found[["sensitivity", "specificity"][label]]["value"] is None
    assert found[f"recall {LABELS[1 - label]}"]["value"] is None
    assert (found["pr_auc"]["value"] is None) == (label == 0)
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]


def test_precision_of_a_verdict_never_given_is_undefined():
    found = estimates(evaluate_metrics(SIX_LABELS, SIX, 1.0, resamples=50))
    assert found["precision PNEUMONIA"] == {"value": None, "low": None, "high": None, "n": 0, "method": "Wilson score"}
    assert found["f1 PNEUMONIA"]["value"] == 0


def test_one_patient_has_no_interval():
    found = estimates(evaluate_metrics(SIX_LABELS, SIX, 0.5, np.full(6, "a"), resamples=50))
    assert found["roc_auc"]["value"] is not None
    assert found["roc_auc"]["low"] is found["roc_auc"]["high"] is found["brier"]["low"] is None


def test_a_class_of_one_patient_has_no_interval_of_the_auc():
    """That patient is missing in more than a third of the resamples. The others would look too good."""
    labels = np.array([1] + [0] * 30)
    found = evaluate_metrics(labels, np.linspace(0.9, 0.1, 31), 0.5, resamples=200)
    assert found["roc_auc"]["value"] == 1
    assert found["roc_auc"]["low"] is found["roc_auc"]["high"] is None
    assert found["brier"]["low"] is not None


# Wrong input


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
        ({"groups": np.array(["a", "b"])}, "expected one patient for each radiograph"),
        ({"resamples": 0}, "expected at least one resample, received 0"),
    ],
)
def test_wrong_arrays_are_refused(change, message):
    right = {"labels": np.array([0, 1, 1]), "probability": np.array([0.1, 0.2, 0.3]), "threshold": 0.5}
    with pytest.raises(ValueError, match=message):
        evaluate_metrics(**{**right, **change})


# Intervals


def test_every_estimate_is_in_its_interval_and_has_a_method():
    labels, probability, patients = draw_predictions(8)
    result = evaluate_metrics(labels, probability, 0.5, patients, resamples=300)
    assert json.loads(json.dumps(result, allow_nan=False)) == result  # plain numbers
    for name, estimate in estimates(result).items():
        assert list(estimate) == ["value", "low", "high", "n", "method"]
        assert 0 <= estimate["low"] < estimate["value"] < estimate["high"] <= 1 or name == "ece"
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["method"] == "Wilson score" or "300 resamples, seed 0" in estimate["method"]
    assert result["sensitivity"] == result["classes"][PNEUMONIA]["recall"]
    assert result["sensitivity"]["n"] + result["specificity"]["n"] == result["accuracy"]["n"] == len(labels)
    right = int(((probability >= 0.5) == labels).sum())
    assert (result["accuracy"]["low"], result["accuracy"]["high"]) == metrics.wilson_interval(right, len(labels))


def test_the_bootstrap_gives_the_same_as_a_loop():
    labels, probability, patients = draw_predictions(9, n=80)
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
    found = estimates(evaluate_metrics(labels, probability, 0.4, patients, seed=5, resamples=resamples))
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
    labels, probability, patients = draw_predictions(10)
    names = np.array([f"person{patient}" for patient in patients])
    result = evaluate_metrics(labels, probability, 0.5, names, resamples=100)
    order = np.random.default_rng(0).permutation(len(labels))
    assert evaluate_metrics(labels[order], probability[order], 0.5, names[order], resamples=100) == result
    assert evaluate_metrics(labels, probability, 0.5, names, resamples=100) == result
    assert evaluate_metrics(labels, probability, 0.5, names, seed=1, resamples=100) != result


def test_the_size_of_a_block_of_resamples_changes_nothing(monkeypatch):
    labels, probability, patients = draw_predictions(11)
    result = evaluate_metrics(labels, probability, 0.5, patients, resamples=100)
    monkeypatch.setattr(bootstrap, "_BLOCK", 7 * len(labels))
    for name, estimate in estimates(evaluate_metrics(labels, probability, 0.5, patients, resamples=100)).items():
        for end in ("value", "low", "high"):
            assert estimate[end] == pytest.approx(estimates(result)[name][end], abs=1e-12), name


def test_copies_of_a_radiograph_of_one_patient_add_nothing():
    labels, probability, _ = draw_predictions(12, n=150)
    patients = np.arange(150)
    once = estimates(evaluate_metrics(labels, probability, 0.5, patients, resamples=500))
    copies = [np.repeat(column, 4) for column in (labels, probability, patients)]
    clustered = estimates(evaluate_metrics(copies[0], copies[1], 0.5, copies[2], resamples=500))
    apart = estimates(evaluate_metrics(copies[0], copies[1], 0.5, None, resamples=500))
    for name in ("roc_auc", "pr_auc", "brier", "ece", "f1 NORMAL", "f1 PNEUMONIA"):
        for end in ("value", "low", "high"):
            assert clustered[name][end] == pytest.approx(once[name][end]), name
        # four times as many independent radiographs would halve the width
        width = apart[name]["high"] - apart[name]["low"]
        assert clustered[name]["high"] - clustered[name]["low"] > 1.5 * width, name


def test_the_interval_of_the_auc_contains_the_truth_as_often_as_promised():
    """Each patient has five similar radiographs. Treating them as independent contains the truth far less often."""
    truth = NormalDist().cdf(1.2 / np.sqrt(2 * (0.9 + 0.1)))
    hits = {"patients": 0, "images": 0}
    trials, each = 150, np.repeat(np.arange(60), 5)
    for trial in range(trials):
        random = np.random.default_rng(trial)
        labels = each % 2
        score = 1.2 * labels + random.normal(0, np.sqrt(0.9), 60)[each] + random.normal(0, np.sqrt(0.1), len(each))
        probability = 1 / (1 + np.exp(-score))
        for unit, groups in (("patients", each), ("images", None)):
            estimate = evaluate_metrics(labels, probability, 0.5, groups, seed=trial, resamples=200)["roc_auc"]
            hits[unit] += estimate["low"] <= truth <= estimate["high"]
    assert hits["patients"] >= 0.88 * trials  # 0.95 minus three standard errors and the bias of percentiles
    assert hits["images"] < 0.8 * trials
