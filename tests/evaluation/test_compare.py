"""Comparison of models on the radiographs that both judged."""

import json

import numpy as np
import pytest
from builders.given_models import given, probabilities

from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import compare_reports, evaluate_model, read_report
from pneumoscope.labels import PNEUMONIA, label_index

pytestmark = pytest.mark.usefixtures("batches_in_order")


def two_evaluations(small_samples, folder, first, second, records_b=None):
    for name, probability, records in (
        ("a", first, small_samples.records),
        ("b", second, records_b or small_samples.records),
    ):
        evaluate_model(given(probability), small_samples, records, "all", out=folder / name, resamples=30)
    reports, predictions = zip(read_report(folder / "a"), read_report(folder / "b"), strict=True)
    return list(reports), list(predictions)


def test_a_model_compared_with_itself(small_samples, tmp_path):
    probability = probabilities(small_samples.records)
    comparison = compare_reports(*two_evaluations(small_samples, tmp_path, probability, probability))
    (pair,) = comparison["pairs"]
    assert (pair["a"], pair["b"], pair["images"], pair["left_out"]) == (0, 1, 24, 0)
    assert (pair["disagreements"], pair["only_a_correct"], pair["only_b_correct"], pair["mcnemar_p"]) == (0, 0, 0, 1)
    difference = pair["auc_difference"]
    assert (difference["value"], difference["low"], difference["high"]) == (0, 0, 0)
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison


def test_two_models_on_the_same_radiographs(small_samples, tmp_path):
    """b is wrong on nine radiographs where a is right, a on one where b is right: 2 * (1 + 10) / 2^10."""
    labels = np.array([label_index(record.label) for record in small_samples.records])
    right = np.where(labels == 1, 0.9, 0.1)
    a, b = right.copy(), right.copy()
    a[20] = 0.2
    b[:9] = 1 - b[:9]
    reports, predictions = two_evaluations(small_samples, tmp_path, a, b)
    comparison = compare_reports(reports, predictions)
    assert [model["metrics"]["accuracy"]["value"] for model in comparison["models"]] == [23 / 24, 15 / 24]
    assert [model["name"] for model in comparison["models"]] == ["given", "given"]
    (pair,) = comparison["pairs"]
    assert (pair["disagreements"], pair["only_a_correct"], pair["only_b_correct"]) == (10, 9, 1)
    assert pair["mcnemar_p"] == 22 / 1024
    aucs = [report["metrics"]["roc_auc"]["value"] for report in reports]
    assert pair["auc_difference"]["value"] == pytest.approx(aucs[0] - aucs[1])
    assert pair["auc_difference"]["low"] > 0


def test_only_radiographs_that_both_judged_are_compared(small_samples, tmp_path):
    probability = probabilities(small_samples.records)
    reports, predictions = two_evaluations(
        small_samples, tmp_path, probability, probability[4:], small_samples.records[4:]
    )
    (pair,) = compare_reports(reports, predictions)["pairs"]
    assert (pair["images"], pair["left_out"], pair["disagreements"]) == (20, 4, 0)


def test_without_a_common_radiograph_nothing_is_compared(small_samples, tmp_path):
    probability = probabilities(small_samples.records)
    reports, predictions = two_evaluations(small_samples, tmp_path, probability, probability, None)
    predictions[1] = [
        {**row, "sha256": row["sha256"][::-1]} for row in predictions[1]
    ]  # equal names alone do not make a pair
    (pair,) = compare_reports(reports, predictions)["pairs"]
    assert (pair["images"], pair["left_out"], pair["mcnemar_p"], pair["auc_difference"]) == (0, 48, None, None)


def test_the_same_radiographs_in_another_folder_are_paired(small_samples, tmp_path):
    probability = probabilities(small_samples.records)
    reports, predictions = two_evaluations(small_samples, tmp_path, probability, probability, None)
    predictions[1] = [{**row, "path": f"/elsewhere/{row['path']}"} for row in predictions[1]]
    (pair,) = compare_reports(reports, predictions)["pairs"]
    assert (pair["images"], pair["left_out"]) == (24, 0)


def test_every_pair_of_three_is_compared(small_samples, tmp_path):
    reports, predictions = two_evaluations(
        small_samples, tmp_path, *(probabilities(small_samples.records, seed) for seed in (0, 1))
    )
    pairs = compare_reports([*reports, reports[0]], [*predictions, predictions[0]])["pairs"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    assert pairs[0]["auc_difference"]["value"] == -pairs[2]["auc_difference"]["value"]


def test_a_radiograph_under_two_labels_cannot_be_compared(small_samples, tmp_path):
    probability = probabilities(small_samples.records)
    reports, predictions = two_evaluations(small_samples, tmp_path, probability, probability)
    predictions[1][0]["label"] = PNEUMONIA
    with pytest.raises(DatasetError, match="is NORMAL in one and PNEUMONIA in the other"):
        compare_reports(reports, predictions)


def test_one_report_is_not_a_comparison(evaluated):
    report, predictions = read_report(evaluated)
    with pytest.raises(DatasetError, match="expected two or more reports"):
        compare_reports([report], [predictions])
