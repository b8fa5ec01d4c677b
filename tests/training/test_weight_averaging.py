"""The mean of fold models: exact arithmetic, one model with the figures of its folds, and refusals."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pneumoscope.data import read_dataset
from pneumoscope.errors import BundleError, RunError, UsageError
from pneumoscope.inference.bundle import open_bundle
from pneumoscope.inference.calibration import log_odds
from pneumoscope.inference.predict import load
from pneumoscope.training.fold_average import ALIGNMENT_NAME, pooled_results, train_average
from pneumoscope.training.pooling import fold_results
from pneumoscope.training.release import release
from pneumoscope.training.runs import open_finished_run
from pneumoscope.training.train import train
from pneumoscope.training.weight_averaging import average_runs


@pytest.fixture(scope="module")
def averaged(fine_tuned_recipe, samples_folder, tmp_path_factory):
    """A run averaged over two folds, and the runs folder, with the file as exported without calibration: raw.onnx."""
    runs = tmp_path_factory.mktemp("runs")
    options = {"split": "all", "average": 2, "mirror": True, "batch_norm": "frozen"}
    # With seed 0 one of the maps that export_run checks is almost empty, and rounding is large in comparison.
    augment = {"crop_side": 0.7, "rotation": 10, "flip": 0.5, "tone": 0.5, "noise": 0.02, "markers": 0.3}
    recipe = fine_tuned_recipe(name="averaged", initial_seed=1, augment=augment, **options)
    run = train_average(recipe, samples_folder, runs=runs)
    shutil.copy(run.folder / "model.onnx", runs / "raw.onnx")  # made for the alignment; a release overwrites it
    return run, runs


def _weights(folder):
    with np.load(folder / "best.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def test_each_weight_is_the_mean_of_the_folds(averaged):
    run, runs = averaged
    folds = [_weights(runs / f"averaged-fold{fold}of2-seed0") for fold in (0, 1)]
    mean = _weights(run.folder)
    assert mean.keys() == folds[0].keys()
    differing = [name for name in mean if not np.array_equal(folds[0][name], folds[1][name])]
    assert differing, "the folds are the same network: their mean proves nothing"
    for name, value in mean.items():
        expected = (folds[0][name].astype(np.float64) + folds[1][name]) / 2
        np.testing.assert_array_equal(value, expected.astype(value.dtype), err_msg=name)


def test_the_average_trains_on_every_image_and_holds_none_out(averaged, samples_folder):
    run, _ = averaged
    assert (len(run.split.train), len(run.split.val)) == (len(read_dataset(samples_folder)), 0)
    assert open_finished_run(run.folder).recipe == run.recipe


def test_its_file_has_the_figures_and_calibration_of_the_folds(averaged, samples_folder, samples):
    run, runs = averaged
    pooled = fold_results(run.recipe, runs, run.split.fingerprint)["pooled"]
    assert release(run, samples_folder, pooled=pooled) is None
    contract = open_bundle(run.folder).contract
    assert contract["metrics"] == pooled["calibrated"]
    assert contract["held_out"]["images"] == len(samples)
    assert contract["calibration"]["method"] == "temperature and intercept"
    assert contract["calibration"]["slope"] == pooled["calibration"]["slope"] != 1
    assert contract["calibration"]["intercept"] == pooled["calibration"]["intercept"] != 0
    assert contract["prevalence"] == pooled["prevalence"]
    assert contract["held_out"]["split_fingerprint"] == contract["training"]["split_fingerprint"]
    assert contract["operating_points"]["screening"] == pooled["operating_points"]["screening"]
    predictor = load(run.folder, "screening")
    assert predictor.threshold == pooled["operating_points"]["screening"]
    assert all(prediction.judged for prediction in predictor.predict_many(samples))


def test_an_average_that_does_not_know_its_own_training_images_is_refused(averaged, samples_folder):
    """With the lower end of its folds' AUC it passes (see above), with an AUC that no model reaches it does not."""
    run, runs = averaged
    pooled = fold_results(run.recipe, runs)["pooled"]
    perfect = {**pooled, "calibrated": {**pooled["calibrated"], "roc_auc": {"low": 1.0001}}}
    with pytest.raises(BundleError, match=r"expected an AUC of at least 1\.0001, as its folds have, of .* on its own"):
        release(run, samples_folder, pooled=perfect)


def test_a_plain_training_does_not_average(averaged, samples_folder, tmp_path):
    run, _ = averaged
    with pytest.raises(UsageError, match="expected one training, averaged averages 2 folds: use train_average"):
        train(run.recipe, samples_folder, runs=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_same_folds_average_again_and_others_do_not(averaged, samples_folder):
    run, runs = averaged
    manifest = read_dataset(samples_folder)
    folds = [open_finished_run(runs / f"averaged-fold{fold}of2-seed0") for fold in (0, 1)]
    before = _weights(run.folder)
    again = _weights(average_runs(run.recipe, folds, manifest, runs).folder)
    assert all(np.array_equal(before[name], again[name]) for name in before)
    with pytest.raises(RunError, match="with the averaged_sha256 it began with"):
        average_runs(run.recipe, folds[:1], manifest, runs)


def test_nothing_or_other_networks_cannot_be_averaged(averaged, fine_tuned, samples_folder, tmp_path):
    run, runs = averaged
    manifest = read_dataset(samples_folder)
    with pytest.raises(RunError, match="received none: cross-validate it first"):
        average_runs(run.recipe, [], manifest, tmp_path)
    other = replace(fine_tuned, folder=tmp_path / "other")
    other.folder.mkdir()
    np.savez(other.folder / "best.npz", weight0=np.zeros(3, np.float32))
    with pytest.raises(RunError, match="expected networks of one shape to average"):
        average_runs(run.recipe, [open_finished_run(runs / "averaged-fold0of2-seed0"), other], manifest, tmp_path)


def test_the_average_calls_as_many_images_as_its_folds_do(averaged, samples_folder):
    """The mapping does what it should: the folds' deviation, and their share of PNEUMONIA at the operating point."""
    run, runs = averaged
    alignment = json.loads((run.folder / ALIGNMENT_NAME).read_text())
    pooled, mapped = fold_results(run.recipe, runs)["pooled"], pooled_results(run)
    slope, intercept = pooled["calibration"]["slope"], pooled["calibration"]["intercept"]
    assert mapped["calibration"]["slope"] == pytest.approx(slope * alignment["slope"])
    assert mapped["calibration"]["intercept"] == pytest.approx(slope * alignment["intercept"] + intercept)
    assert {name: mapped[name] for name in ("calibrated", "operating_points")} == {
        name: pooled[name] for name in ("calibrated", "operating_points")
    }
    manifest = read_dataset(samples_folder)
    paths = [manifest.path(record) for record in run.split.records(manifest, "train")[::4]]
    files = [runs / "raw.onnx", *(runs / f"averaged-fold{fold}of2-seed0" for fold in (0, 1))]
    probabilities = ([prediction.probability for prediction in load(file).predict_many(paths)] for file in files)
    own, *folds = map(log_odds, probabilities)
    moved, mean = alignment["slope"] * own + alignment["intercept"], np.mean(folds, axis=0)
    assert moved.std() == pytest.approx(mean.std(), rel=1e-3)
    point = -intercept / slope
    assert abs(int((moved >= point).sum()) - int((mean >= point).sum())) <= 1
