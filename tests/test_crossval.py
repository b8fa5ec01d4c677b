"""Cross-validation: every image judged once by a network that has not seen it, and what is fitted on that."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumoscope import metrics
from pneumoscope.crossval import (
    SHIFTS_NAME,
    calibrate,
    cross_validate,
    fit_temperature,
    fold_results,
    highest_threshold,
    implied_prevalence,
    log_odds,
    measured_runs,
    pool,
)
from pneumoscope.datasets import read_dataset
from pneumoscope.errors import RunError
from pneumoscope.evaluate import read_report
from pneumoscope.labels import BACTERIAL, NORMAL, PNEUMONIA, VIRAL, label_index
from pneumoscope.recipe import Recipe
from pneumoscope.shifts import SHIFTS

TWO_FOLDS = ("fold0of2", "fold1of2")


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> Recipe:
    return tiny_recipe("mobilenet", name="two-folds", size=64, subtypes=True, class_weights="balanced", epochs=2)


@pytest.fixture(scope="module")
def crossed(recipe, samples_folder, tmp_path_factory) -> tuple[Path, dict, list[str]]:
    """Runs folder, result, and the runs told of; interrupted in the second fold and gone on with."""
    runs, told, batches = tmp_path_factory.mktemp("runs"), [], []

    def interrupt(step, steps, figures):
        batches.append(step)
        if len(batches) == 7:  # two steps an epoch: in the second fold's last one, behind its checkpoint
            raise KeyboardInterrupt

    options = {"splits": TWO_FOLDS, "runs": runs, "on_run": lambda row: told.append(row["run"])}
    with pytest.raises(KeyboardInterrupt):
        cross_validate(recipe, samples_folder, on_batch=interrupt, **options)
    assert told == ["two-folds-fold0of2-seed0"]
    assert (runs / "two-folds-fold1of2-seed0" / "checkpoint.npz").is_file()
    assert not (runs / "two-folds-folds.json").exists()
    return runs, cross_validate(recipe, samples_folder, **options), told


@pytest.fixture
def copied(crossed, tmp_path) -> Path:
    """The same runs, to spoil."""
    return Path(shutil.copytree(crossed[0], tmp_path / "copied"))


def no_more_work(monkeypatch):
    for name in ("pneumoscope.train.train", "pneumoscope.release.release", "pneumoscope.crossval.measure_shifts"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("what was done was done again"))


def test_every_fold_is_an_ordinary_run(crossed, recipe):
    runs, result, told = crossed
    assert told[1:] == [f"two-folds-{split}-seed0" for split in TWO_FOLDS]
    assert [row["run"] for row in result["runs"]] == told[1:]
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
        assert row["split_fingerprint"] == run.split.fingerprint
        assert row["recipe"]["weights"] == Path(recipe.weights).name  # no path of this machine
        assert [epoch["epoch"] for epoch in row["history"]] == [1, 2]


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
    assert pooled == pool([run.folder for run in measured_runs(runs)])
    assert pooled["metrics"]["roc_auc"]["value"] == pytest.approx(metrics.roc_auc(labels, probability))
    calibrated = calibrate(probability, **pooled["calibration"])
    assert pooled["calibrated"]["brier"]["value"] == pytest.approx(np.mean((calibrated - labels) ** 2))
    point = highest_threshold(labels, probability, 0.94)
    assert calibrate(point, **pooled["calibration"]) == pytest.approx(0.5)  # the operating point lies at 0.5
    assert (probability[labels == 1] >= point).mean() >= 0.94
    screening = pooled["operating_points"]["screening"]
    assert screening == highest_threshold(labels, calibrated, 0.99) == calibrated[labels == 1].min()
    assert pooled["prevalence"] == pytest.approx(2 / 3)  # balanced over three classes
    assert pooled["subtypes"]["n"] == 16
    low, high = pooled["uncertain"]
    assert 0 <= low <= 0.5 <= high <= 1


def test_what_is_done_is_not_done_again(crossed, recipe, samples_folder, monkeypatch):
    runs, result, _ = crossed
    no_more_work(monkeypatch)
    assert cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=runs) == result


def test_a_missing_measurement_is_made_up_for(copied, crossed, recipe, samples_folder, monkeypatch):
    lost = copied / "two-folds-fold1of2-seed0" / SHIFTS_NAME
    before = lost.read_bytes()
    lost.unlink()
    monkeypatch.setattr("pneumoscope.train.train", lambda *_, **__: pytest.fail("trained again"))
    assert cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=copied) == crossed[1]
    assert lost.read_bytes() == before


def test_some_folds_alone_are_not_pooled(copied, recipe, samples_folder, monkeypatch):
    shutil.rmtree(copied / "two-folds-fold1of2-seed0")
    (copied / "two-folds-folds.json").unlink()
    no_more_work(monkeypatch)
    result = cross_validate(recipe, samples_folder, splits=TWO_FOLDS[:1], runs=copied)
    assert [row["run"] for row in result["runs"]] == ["two-folds-fold0of2-seed0"]
    assert "pooled" not in result
    assert fold_results(recipe, copied) is None


def test_runs_of_another_recipe_are_refused(copied, recipe, samples_folder, monkeypatch):
    no_more_work(monkeypatch)
    other = replace(recipe, epochs=1)
    with pytest.raises(RunError, match=r"expected the runs of this recipe in .* was made by another: use another"):
        cross_validate(other, samples_folder, splits=TWO_FOLDS, runs=copied)


def test_results_are_found_for_their_own_recipe_only(crossed, recipe, tmp_path):
    runs, result, _ = crossed
    assert fold_results(recipe, runs) == result
    final = replace(recipe, split="all", keep="last", seed=3)
    assert fold_results(final, runs) is None  # another epoch is kept
    assert fold_results(replace(recipe, split="patient", seed=3, weights="elsewhere.h5"), runs) == result
    assert fold_results(replace(recipe, epochs=3), runs) is None
    assert fold_results(recipe, tmp_path) is None


# What is fitted


def test_log_odds_by_hand():
    np.testing.assert_allclose(log_odds([0.5, 0.75, 0.1]), [0, np.log(3), -np.log(9)])
    assert np.isfinite(log_odds([0.0, 1.0])).all()
    assert log_odds([0.0])[0] == pytest.approx(-log_odds([1.0])[0])


def test_calibration_by_hand():
    np.testing.assert_allclose(calibrate(np.array([0.75, 0.25, 0.5]), 2.0), [0.9, 0.1, 0.5])  # odds 3 become 9
    probability = np.random.default_rng(0).random(100)
    np.testing.assert_allclose(calibrate(probability, 1.0), probability, atol=1e-6)
    np.testing.assert_allclose(calibrate(calibrate(probability, 0.4), 2.5), probability, atol=1e-6)
    assert (np.argsort(calibrate(probability, 0.3)) == np.argsort(probability)).all()


def test_a_temperature_by_hand():
    """At log odds of 1 three of four are pneumonia, at -1 one of four: the odds should have been 3, not e."""
    probability = np.repeat([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], 4)
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    assert fit_temperature(labels, log_odds(probability), 0.5) == pytest.approx(np.log(3), abs=1e-3)


@pytest.mark.parametrize("slope", [0.4, 1.0, 2.0])
def test_a_known_slope_is_found(slope):
    rng = np.random.default_rng(0)
    odds = rng.normal(0.3, 2, 100_000)
    labels = (rng.random(len(odds)) < 1 / (1 + np.exp(-slope * odds))).astype(int)
    found = fit_temperature(labels, odds, labels.mean())
    assert found == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("prevalence", [0.2, 0.5, 2 / 3])
def test_the_slope_is_where_the_weighted_likelihood_is_flat(prevalence):
    """An equation of its own: the sum of w (y - p) z is zero; and more images of a class change nothing."""
    rng = np.random.default_rng(1)
    labels = (rng.random(2000) < 0.75).astype(int)
    probability = 1 / (1 + np.exp(-rng.normal(2.0 * (labels - 0.5), 1.5)))
    slope = fit_temperature(labels, log_odds(probability), prevalence)
    z = log_odds(probability)
    weights = np.where(labels == 1, prevalence / labels.mean(), (1 - prevalence) / (1 - labels.mean()))

    def flatness(at):
        return float((weights * (labels - 1 / (1 + np.exp(-at * z))) * z).mean())

    assert abs(flatness(slope)) < 1e-4
    assert flatness(slope * 0.95) > 1e-3
    assert flatness(slope * 1.05) < -1e-3
    twice = np.concatenate([np.arange(2000), np.flatnonzero(labels == 0)])
    assert fit_temperature(labels[twice], log_odds(probability[twice]), prevalence) == pytest.approx(slope, rel=1e-3)


def rows_of(normal, bacterial, viral):
    kinds = [(NORMAL, "")] * normal + [(PNEUMONIA, BACTERIAL)] * bacterial + [(PNEUMONIA, VIRAL)] * viral
    return [{"label": label, "sublabel": sublabel} for label, sublabel in kinds]


@pytest.mark.parametrize(
    ("rule", "subtypes", "expected"),
    [
        ("none", False, 3 / 4),
        ("none", True, 3 / 4),
        ("balanced", False, 1 / 2),
        ("balanced", True, 2 / 3),
        ("inverse-ratio", False, 20 / (60 + 20)),
        ("inverse-ratio", True, (30 + 70) / (60 + 30 + 70)),  # the images of all other classes
    ],
)
def test_the_prevalence_that_the_weights_imply(rule, subtypes, expected):
    recipe = Recipe("mine", "mobilenet", class_weights=rule, subtypes=subtypes)
    assert implied_prevalence(rows_of(20, 50, 10), recipe) == pytest.approx(expected)


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
