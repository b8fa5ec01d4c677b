"""Cross-validation: a network that has not seen an image judges it, once for each image, and the results are pooled."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.cli.reports import echo_fold
from pneumoscope.data import Manifest, read_dataset
from pneumoscope.data.splits import make_split, read_split, write_split
from pneumoscope.errors import RunError
from pneumoscope.evaluation import REPORT_NAME, fit_limits, read_report, to_arrays
from pneumoscope.evaluation.metrics import roc_auc
from pneumoscope.evaluation.robustness import SHIFTS
from pneumoscope.evaluation.style_proxies import OWN, TURNED
from pneumoscope.inference.bundle import open_bundle
from pneumoscope.inference.calibration import calibrate, highest_threshold, log_odds
from pneumoscope.labels import label_index
from pneumoscope.training.crossval import _complete_folds, cross_validate, measured_runs
from pneumoscope.training.pooling import (
    AGAINST_STYLE,
    RATIOS_NAME,
    SHIFTS_NAME,
    STYLE_NAME,
    fold_results,
    pool_folds,
    summarise_run,
)
from pneumoscope.training.recipe import BALANCED, Recipe
from pneumoscope.training.runs import Run

TWO_FOLDS = ("fold0of2", "fold1of2")


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> Recipe:
    return tiny_recipe("mobilenet", name="two-folds", size=64, subtypes=True, class_weights="balanced", epochs=2)


@pytest.fixture(scope="module")
def crossed(recipe, samples_folder, tmp_path_factory) -> tuple[Path, dict, list[str]]:
    """Runs folder, result, and names of the reported runs; interrupted in the second fold, then continued."""
    runs, reported, batches = tmp_path_factory.mktemp("runs"), [], []

    def interrupt(step, steps, figures):
        batches.append(step)
        if len(batches) == 7:  # two steps an epoch: in the last epoch of the second fold, after its first checkpoint
            raise KeyboardInterrupt

    options = {"splits": TWO_FOLDS, "runs": runs, "on_finished_run": lambda row: reported.append(row["run"])}
    with pytest.raises(KeyboardInterrupt):
        cross_validate(recipe, samples_folder, on_batch=interrupt, **options)
    assert reported == ["two-folds-fold0of2-seed0"]
    assert (runs / "two-folds-fold1of2-seed0" / "checkpoint.npz").is_file()
    assert not (runs / "two-folds-folds.json").exists()
    return runs, cross_validate(recipe, samples_folder, **options), reported


@pytest.fixture
def copied(crossed, tmp_path) -> Path:
    """A copy of these runs, to change."""
    return Path(shutil.copytree(crossed[0], tmp_path / "copied"))


def forbid_work(monkeypatch):
    for name in (
        "pneumoscope.training.train.train",
        "pneumoscope.training.release.release",
        "pneumoscope.training.crossval.measure_shifts",
    ):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("a finished step was repeated"))


def test_every_fold_is_an_ordinary_run(crossed, recipe):
    runs, result, reported = crossed
    assert reported[1:] == [f"two-folds-{split}-seed0" for split in TWO_FOLDS]
    assert [row["run"] for row in result["runs"]] == reported[1:]
    for split, run in zip(TWO_FOLDS, measured_runs(runs), strict=True):
        assert run.recipe == replace(recipe, split=split)
        assert (run.folder / "model.onnx").is_file()
        assert set(json.loads((run.folder / SHIFTS_NAME).read_text())) == set(SHIFTS)
    assert json.loads((runs / "two-folds-folds.json").read_text()) == result


def test_every_image_is_judged_once_by_a_network_that_has_not_seen_it(crossed, samples_folder):
    runs, result, _ = crossed
    judged = []
    for run in measured_runs(runs):
        paths = [row["path"] for row in read_report(run.folder / "evaluation-val")[1]]
        assert not {Path(path).name for path in paths} & {Path(key).name for key in run.split.train}
        judged += paths
    assert sorted(judged) == sorted(record.path for record in read_dataset(samples_folder).records)
    assert result["pooled"]["held_out"]["images"] == 24
    assert result["pooled"]["held_out"]["patients"] == 23
    assert result["pooled"]["held_out"]["folds"] == 2


def test_a_row_holds_the_figures_of_its_run(crossed, recipe):
    runs, result, _ = crossed
    for row, run in zip(result["runs"], measured_runs(runs), strict=True):
        report = read_report(run.folder / "evaluation-val")[0]
        shifts = json.loads((run.folder / SHIFTS_NAME).read_text())
        assert row["metrics"]["accuracy"] == report["metrics"]["accuracy"]
        assert row["subtypes"] == report["subtypes"]
        assert row["shifts"]["marks"]["roc_auc"] == shifts["marks"]["roc_auc"]
        assert "probability" not in row["shifts"]["marks"]
        plain = row["shifts"]["none"]
        assert (plain["roc_auc_low"], plain["roc_auc_high"]) == tuple(
            pytest.approx(report["metrics"]["roc_auc"][end], abs=1e-6) for end in ("low", "high")
        )
        assert row["split_fingerprint"] == run.split.fingerprint
        assert row["recipe"]["weights"] == Path(recipe.weights).name  # no path of this machine
        assert [epoch["epoch"] for epoch in row["history"]] == [1, 2]


def test_known_ratios_are_kept_with_their_images(crossed, samples_folder):
    known = {}
    for run in measured_runs(crossed[0]):
        rows = read_report(run.folder / "evaluation-val")[1]
        ratios = json.loads((run.folder / RATIOS_NAME).read_text())
        assert list(ratios) == [row["path"] for row in rows]
        known |= ratios
    assert known == {record.path: record.width / record.height for record in read_dataset(samples_folder).records}


def test_the_style_is_measured_on_the_held_out_images(crossed):
    for row, run in zip(crossed[1]["runs"], measured_runs(crossed[0]), strict=True):
        measured = json.loads((run.folder / STYLE_NAME).read_text())
        paths = [one["path"] for one in read_report(run.folder / "evaluation-val")[1]]
        assert list(measured["scores"]) == paths
        assert list(row["style"]) == [*measured["shifts"], AGAINST_STYLE]
        assert len(measured["shifts"]["style turned round"]["probability"]) == len(paths)
        assert "probability" not in row["style"]["style turned round"]
        assert row["style"][AGAINST_STYLE] is None  # fewer than ten images of a label
        turned, own = (row["style"][name]["balanced_accuracy"] for name in (TURNED, OWN))
        assert row["style_difference"]["value"] == pytest.approx(own - turned)


def test_a_run_measured_before_the_style_was_still_has_a_row(copied):
    folder = copied / "two-folds-fold1of2-seed0"
    (folder / STYLE_NAME).unlink()
    row = summarise_run(folder)
    assert row["style"] is None
    echo_fold(row)


def test_the_shift_without_a_change_is_the_evaluation(crossed):
    for run in measured_runs(crossed[0]):
        plain = json.loads((run.folder / SHIFTS_NAME).read_text())["none"]
        rows = read_report(run.folder / "evaluation-val")[1]
        np.testing.assert_allclose(plain["probability"], [row["probability"] for row in rows], atol=2e-6)


def test_the_pooled_figures_are_those_of_all_predictions_together(crossed, recipe):
    runs, result, _ = crossed
    rows = [row for run in measured_runs(runs) for row in read_report(run.folder / "evaluation-val")[1]]
    labels = np.array([label_index(row["label"]) for row in rows])
    probability = np.array([row["probability"] for row in rows])
    pooled = result["pooled"]
    assert pooled == pool_folds([run.folder for run in measured_runs(runs)])
    assert pooled["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc(labels, probability))
    calibrated = calibrate(probability, **pooled["calibration"])
    assert pooled["calibrated"]["brier"]["value"] == pytest.approx(np.mean((calibrated - labels) ** 2))
    point = highest_threshold(labels, probability, 0.94)
    assert (probability[labels == 1] >= point).mean() >= 0.94
    np.testing.assert_array_equal(calibrated >= 0.5, probability >= point)  # the operating point lies at 0.5
    assert pooled["calibrated"]["sensitivity"]["value"] == (calibrated[labels == 1] >= 0.5).mean() >= 0.94
    above, lower = calibrated[calibrated >= 0.5].min(), calibrated[calibrated < 0.5]
    if len(lower):  # with the random weights no image may score below the point
        assert log_odds(above) == pytest.approx(-log_odds(lower.max()))  # half way between two images
    assert above - 0.5 > 1e-6  # on no image
    screening = pooled["operating_points"]["screening"]
    assert screening == highest_threshold(labels, calibrated, 0.99) == calibrated[labels == 1].min()
    assert pooled["subtypes"]["n"] == 16


def test_the_pooled_prediction_sets_have_limits_and_figures(crossed):
    runs, result, _ = crossed
    rows = [row for run in measured_runs(runs) for row in read_report(run.folder / "evaluation-val")[1]]
    labels, probability, patients = to_arrays(rows)
    pooled = result["pooled"]
    calibrated = calibrate(probability, **pooled["calibration"])
    assert list(pooled["prediction_sets"]) == ["0.9", "0.95"]
    for coverage, found in pooled["prediction_sets"].items():
        assert found["limits"] == fit_limits(labels, calibrated, patients, float(coverage))
        assert found["held_out"]["coverage"]["n"] == len(rows)
        assert found["shifts"]["coverage"]["n"] == len(rows) * len(SHIFTS)


def test_a_balanced_operating_point_is_moved_by_nothing(copied):
    folders = sorted(path.parent for path in copied.glob("*/config.json"))
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        config["recipe"]["operating_point"] = BALANCED
        (folder / "config.json").write_text(json.dumps(config))
    pooled = pool_folds(folders)
    assert pooled["calibration"]["intercept"] == 0
    assert "0.5 of the network as trained" in pooled["rules"]["default"]
    low, high = pooled["uncertain"]
    assert 0 <= low <= 0.5 <= high <= 1


def test_the_pooled_prevalence_is_that_of_the_calibrated_predictions_under_all_shifts(crossed):
    runs, result, _ = crossed
    pooled, by_label = result["pooled"], {0: [], 1: []}
    for run in measured_runs(runs):
        rows = read_report(run.folder / "evaluation-val")[1]
        for shift in json.loads((run.folder / SHIFTS_NAME).read_text()).values():
            for row, probability in zip(rows, shift["probability"], strict=True):
                by_label[label_index(row["label"])].append(probability)
    assert sum(map(len, by_label.values())) == 24 * len(SHIFTS)
    normal, pneumonia = (calibrate(np.array(found), **pooled["calibration"]).mean() for found in by_label.values())
    share = pooled["prevalence"]
    assert 0 < share < 1
    assert share * pneumonia + (1 - share) * normal == pytest.approx(share)


def test_finished_steps_are_not_repeated(crossed, recipe, samples_folder, monkeypatch):
    runs, result, _ = crossed
    forbid_work(monkeypatch)
    assert cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=runs) == result


def test_a_missing_measurement_is_made_again(copied, crossed, recipe, samples_folder, monkeypatch):
    lost = copied / "two-folds-fold1of2-seed0" / SHIFTS_NAME
    before = lost.read_bytes()
    lost.unlink()
    monkeypatch.setattr("pneumoscope.training.train.train", lambda *_, **__: pytest.fail("trained again"))
    assert cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=copied) == crossed[1]
    assert lost.read_bytes() == before


def test_some_folds_alone_are_not_pooled(copied, recipe, samples_folder, monkeypatch):
    shutil.rmtree(copied / "two-folds-fold1of2-seed0")
    (copied / "two-folds-folds.json").unlink()
    forbid_work(monkeypatch)
    result = cross_validate(recipe, samples_folder, splits=TWO_FOLDS[:1], runs=copied)
    assert [row["run"] for row in result["runs"]] == ["two-folds-fold0of2-seed0"]
    assert "pooled" not in result
    assert fold_results(recipe, copied) is None


def test_folds_of_one_seed_stay_pooled_when_another_seed_runs_on_one_of_them(
    copied, crossed, recipe, samples_folder, monkeypatch
):
    folder = Path(shutil.copytree(copied / "two-folds-fold0of2-seed0", copied / "two-folds-fold0of2-seed1"))
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["seed"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    forbid_work(monkeypatch)
    result = cross_validate(recipe, samples_folder, splits=TWO_FOLDS[:1], seeds=(1,), runs=copied)
    assert [row["recipe"]["seed"] for row in result["runs"]] == [0, 1, 0]
    assert result["pooled"] == crossed[1]["pooled"]


def test_suspected_labels_are_those_that_the_calibrated_predictions_contradict(crossed):
    runs, result, _ = crossed
    rows = [row for run in measured_runs(runs) for row in read_report(run.folder / "evaluation-val")[1]]
    calibration = result["pooled"]["calibration"]
    probability = dict(
        zip(
            [row["path"] for row in rows],
            calibrate(np.array([row["probability"] for row in rows]), **calibration),
            strict=True,
        )
    )
    labels = {row["path"]: row["label"] for row in rows}
    mean_pneumonia = np.mean([probability[path] for path in labels if labels[path] == "PNEUMONIA"])
    mean_normal = np.mean([probability[path] for path in labels if labels[path] == "NORMAL"])
    expected = {path for path in labels if probability[path] >= mean_pneumonia and labels[path] == "NORMAL"}
    expected |= {path for path in labels if probability[path] <= mean_normal and labels[path] == "PNEUMONIA"}
    suspects = result["pooled"]["suspects"]
    assert {suspect["path"] for suspect in suspects} == expected != set()
    assert all(suspect["label"] == labels[suspect["path"]] for suspect in suspects)
    for suspect in suspects:
        assert suspect["probability"] == pytest.approx(probability[suspect["path"]], abs=1e-6)
    with (runs / "two-folds-suspects.csv").open(newline="", encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [suspect["path"] for suspect in suspects]


def test_runs_of_another_recipe_are_refused(copied, recipe, samples_folder, monkeypatch):
    forbid_work(monkeypatch)
    other = replace(recipe, epochs=1)
    with pytest.raises(RunError, match=r"expected the runs of this recipe in .* was made by another: use another"):
        cross_validate(other, samples_folder, splits=TWO_FOLDS, runs=copied)


def without_one(samples_folder) -> Manifest:
    """The samples except one pneumonia."""
    whole = read_dataset(samples_folder)
    return Manifest(whole.root, whole.records[:-1])


def test_runs_of_other_data_are_refused(copied, recipe, samples_folder, monkeypatch):
    forbid_work(monkeypatch)
    with pytest.raises(RunError, match=r"expected the runs of these data in .*-fold0of2-seed0 was made of others: use"):
        cross_validate(recipe, without_one(samples_folder), splits=TWO_FOLDS, runs=copied)


def test_folds_of_another_number_in_the_same_folder_are_pooled_apart(copied, crossed, recipe, samples_folder):
    """A single fold0of3 is measured and listed; the two folds are complete without it."""
    folder = Path(shutil.copytree(copied / "two-folds-fold0of2-seed0", copied / "two-folds-fold0of3-seed0"))
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["split"] = "fold0of3"
    (folder / "config.json").write_text(json.dumps(config))
    write_split(replace(read_split(folder / "split.json"), scheme="fold0of3"), folder / "split.json")
    result = cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=copied)
    assert [row["recipe"]["split"] for row in result["runs"]] == ["fold0of2", "fold0of3", "fold1of2"]
    assert result["pooled"] == crossed[1]["pooled"]


def test_complete_folds_are_those_of_one_number_and_of_these_data(recipe, samples_folder):
    manifest, other = read_dataset(samples_folder), without_one(samples_folder)

    def runs_of(data, *splits):
        return [Run(Path(split), replace(recipe, split=split), make_split(data, split)) for split in splits]

    two, three = runs_of(manifest, *TWO_FOLDS), runs_of(manifest, *(f"fold{fold}of3" for fold in range(3)))
    whole = make_split(manifest, "all").train
    assert _complete_folds([*three, *runs_of(manifest, "patient"), *two], whole) == [two, three]  # three folds last
    assert _complete_folds([*three[:2], *two], whole) == [two]
    assert _complete_folds(three[1:], whole) == []
    assert _complete_folds([*two[:1], *runs_of(other, "fold1of2")], whole) == []
    assert _complete_folds([*two, *runs_of(other, *(f"fold{fold}of3" for fold in range(3)))], whole) == [two]


def test_a_run_interrupted_before_its_file_had_figures_is_measured_again(
    copied, crossed, recipe, samples_folder, monkeypatch
):
    folder = copied / "two-folds-fold1of2-seed0"
    shutil.rmtree(folder / "evaluation-val")
    (folder / "model.onnx").unlink()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pneumoscope.training.release.add_evaluation", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=copied)
    assert open_bundle(folder).contract["uncertain_rule"] == "not fitted"
    assert not (folder / "evaluation-val" / REPORT_NAME).exists()
    result = cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=copied)
    bundle = open_bundle(folder)
    assert bundle.contract["uncertain_rule"] != "not fitted"
    assert read_report(folder / "evaluation-val")[0]["model"]["sha256"] == bundle.sha256
    assert result["pooled"] == crossed[1]["pooled"]


def test_results_are_found_for_their_own_data_only(crossed, copied, recipe, samples_folder):
    result, whole = crossed[1], make_split(read_dataset(samples_folder), "all").fingerprint
    assert result["pooled"]["held_out"]["split_fingerprint"] == whole
    assert fold_results(recipe, copied, whole) == result
    assert fold_results(recipe, copied, make_split(without_one(samples_folder), "all").fingerprint) is None
    path = copied / "two-folds-folds.json"
    old = json.loads(path.read_text())
    del old["pooled"]["held_out"]["split_fingerprint"]  # as earlier versions wrote it, of unknown data
    path.write_text(json.dumps(old))
    assert fold_results(recipe, copied, whole) is None
    assert fold_results(recipe, copied) is None


def test_results_are_found_for_their_own_recipe_only(crossed, recipe, tmp_path):
    runs, result, _ = crossed
    assert fold_results(recipe, runs) == result
    final = replace(recipe, split="all", keep="last", seed=3)
    assert fold_results(final, runs) is None  # it keeps another epoch
    assert fold_results(replace(recipe, split="patient", seed=3, weights="elsewhere.h5"), runs) == result
    assert fold_results(replace(recipe, epochs=3), runs) is None
    assert fold_results(recipe, tmp_path) is None
