"""Cross-validation: every image judged once by a network that has not seen it, and what is fitted on that."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.data.manifest import Manifest, read_dataset
from pneumoscope.data.splits import make_split, read_split, write_split
from pneumoscope.errors import RunError
from pneumoscope.evaluation import metrics
from pneumoscope.evaluation.evaluate import REPORT_NAME, read_report
from pneumoscope.evaluation.robustness import SHIFTS
from pneumoscope.inference.bundle import open_bundle
from pneumoscope.inference.calibration import (
    assumed_prevalence,
    calibrate,
    highest_threshold,
    log_odds,
    midpoint_below,
)
from pneumoscope.labels import BACTERIAL, NORMAL, PNEUMONIA, VIRAL, label_index
from pneumoscope.training.crossval import (
    RATIOS_NAME,
    SHIFTS_NAME,
    _complete_folds,
    _same,
    cross_validate,
    fold_results,
    implied_prevalence,
    measured_runs,
    pool_folds,
)
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import Run
from pneumoscope.training.temperature import fit_slope, fit_temperature

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
    for name in (
        "pneumoscope.training.train.train",
        "pneumoscope.training.release.release",
        "pneumoscope.training.crossval.measure_shifts",
    ):
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
    assert pooled["metrics"]["roc_auc"]["value"] == pytest.approx(metrics.roc_auc(labels, probability))
    calibrated = calibrate(probability, **pooled["calibration"])
    assert pooled["calibrated"]["brier"]["value"] == pytest.approx(np.mean((calibrated - labels) ** 2))
    point = highest_threshold(labels, probability, 0.94)
    assert (probability[labels == 1] >= point).mean() >= 0.94
    np.testing.assert_array_equal(calibrated >= 0.5, probability >= point)  # the operating point lies at 0.5
    assert pooled["calibrated"]["sensitivity"]["value"] == (calibrated[labels == 1] >= 0.5).mean() >= 0.94
    above, lower = calibrated[calibrated >= 0.5].min(), calibrated[calibrated < 0.5]
    if len(lower):  # with the random weights no image may score below the point
        assert log_odds(above) == pytest.approx(-log_odds(lower.max()))  # half way between two images
    assert above - 0.5 > 1e-6  # and on none
    screening = pooled["operating_points"]["screening"]
    assert screening == highest_threshold(labels, calibrated, 0.99) == calibrated[labels == 1].min()
    assert pooled["subtypes"]["n"] == 16
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


def test_what_is_done_is_not_done_again(crossed, recipe, samples_folder, monkeypatch):
    runs, result, _ = crossed
    no_more_work(monkeypatch)
    assert cross_validate(recipe, samples_folder, splits=TWO_FOLDS, runs=runs) == result


def test_a_missing_measurement_is_made_up_for(copied, crossed, recipe, samples_folder, monkeypatch):
    lost = copied / "two-folds-fold1of2-seed0" / SHIFTS_NAME
    before = lost.read_bytes()
    lost.unlink()
    monkeypatch.setattr("pneumoscope.training.train.train", lambda *_, **__: pytest.fail("trained again"))
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


def test_folds_of_one_seed_stay_pooled_when_another_seed_runs_on_one_of_them(
    copied, crossed, recipe, samples_folder, monkeypatch
):
    folder = Path(shutil.copytree(copied / "two-folds-fold0of2-seed0", copied / "two-folds-fold0of2-seed1"))
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["seed"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    no_more_work(monkeypatch)
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
    usual = np.mean([probability[path] for path in labels if labels[path] == "PNEUMONIA"])
    normal = np.mean([probability[path] for path in labels if labels[path] == "NORMAL"])
    expected = {path for path in labels if probability[path] >= usual and labels[path] == "NORMAL"}
    expected |= {path for path in labels if probability[path] <= normal and labels[path] == "PNEUMONIA"}
    suspects = result["pooled"]["suspects"]
    assert {one["path"] for one in suspects} == expected != set()
    assert all(one["label"] == labels[one["path"]] for one in suspects)
    assert all(one["probability"] == pytest.approx(probability[one["path"]], abs=1e-6) for one in suspects)
    with (runs / "two-folds-suspects.csv").open(newline="", encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [one["path"] for one in suspects]


def test_runs_of_another_recipe_are_refused(copied, recipe, samples_folder, monkeypatch):
    no_more_work(monkeypatch)
    other = replace(recipe, epochs=1)
    with pytest.raises(RunError, match=r"expected the runs of this recipe in .* was made by another: use another"):
        cross_validate(other, samples_folder, splits=TWO_FOLDS, runs=copied)


def without_one(samples_folder) -> Manifest:
    """The samples but for one pneumonia."""
    whole = read_dataset(samples_folder)
    return Manifest(whole.root, whole.records[:-1])


def test_runs_of_other_data_are_refused(copied, recipe, samples_folder, monkeypatch):
    no_more_work(monkeypatch)
    with pytest.raises(RunError, match=r"expected the runs of these data in .*-fold0of2-seed0 was made of others: use"):
        cross_validate(recipe, without_one(samples_folder), splits=TWO_FOLDS, runs=copied)


def test_folds_of_another_number_in_the_same_folder_are_pooled_apart(copied, crossed, recipe, samples_folder):
    """A stray fold0of3 is measured and listed; the two folds are whole without it."""
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
    assert _complete_folds([*three, *runs_of(manifest, "patient"), *two], whole) == [two, three]  # the most folds last
    assert _complete_folds([*three[:2], *two], whole) == [two]
    assert _complete_folds(three[1:], whole) == []
    assert _complete_folds([*two[:1], *runs_of(other, "fold1of2")], whole) == []
    assert _complete_folds([*two, *runs_of(other, *(f"fold{fold}of3" for fold in range(3)))], whole) == [two]


def test_a_run_interrupted_before_its_file_was_sealed_is_measured_again(
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
    sealed = open_bundle(folder)
    assert sealed.contract["uncertain_rule"] != "not fitted"
    assert read_report(folder / "evaluation-val")[0]["model"]["sha256"] == sealed.sha256
    assert result["pooled"] == crossed[1]["pooled"]


def test_results_are_found_for_their_own_data_only(crossed, copied, recipe, samples_folder):
    result, whole = crossed[1], make_split(read_dataset(samples_folder), "all").fingerprint
    assert result["pooled"]["held_out"]["split_fingerprint"] == whole
    assert fold_results(recipe, copied, whole) == result
    assert fold_results(recipe, copied, make_split(without_one(samples_folder), "all").fingerprint) is None
    path = copied / "two-folds-folds.json"
    old = json.loads(path.read_text())
    del old["pooled"]["held_out"]["split_fingerprint"]  # as versions before wrote it: of unknown data
    path.write_text(json.dumps(old))
    assert fold_results(recipe, copied, whole) is None
    assert fold_results(recipe, copied) is None


def test_results_are_found_for_their_own_recipe_only(crossed, recipe, tmp_path):
    runs, result, _ = crossed
    assert fold_results(recipe, runs) == result
    final = replace(recipe, split="all", keep="last", seed=3)
    assert fold_results(final, runs) is None  # another epoch is kept
    assert fold_results(replace(recipe, split="patient", seed=3, weights="elsewhere.h5"), runs) == result
    assert fold_results(replace(recipe, epochs=3), runs) is None
    assert fold_results(recipe, tmp_path) is None


# What is fitted


def test_recipes_are_the_same_but_for_split_seed_and_the_place_of_the_weights(recipe):
    assert _same(replace(recipe, split="fold1of2", seed=3, weights="elsewhere.h5"), recipe)
    assert not _same(replace(recipe, epochs=3), recipe)
    assert recipe.keep == "best"  # cannot train on every image: a comparison must not make one recipe of both
    assert not _same(recipe, replace(recipe, keep="last", split="all"))


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


def test_a_calibration_never_turns_the_verdicts_round():
    """At a point below most normal images the likelihood alone would, where normal images weigh more."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 700])
    odds = np.where(labels == 1, 3.0, 2.0) + rng.normal(size=1000)
    assert fit_temperature(labels, odds, 0.25) < 0
    slope, how = fit_slope(labels, odds, 0.25)
    assert (slope, how[:44]) == (pytest.approx(1.0, abs=0.2), "by maximum likelihood with a free intercept,")
    assert fit_slope(labels, odds - 2.5, 0.5) == (pytest.approx(1.0, abs=0.2), "by maximum likelihood")
    assert fit_slope(labels, -odds, 0.5)[0] == 1.0


def test_an_assumed_prevalence_by_hand():
    """Means 0.1 and 0.7: one in four, because 0.25 * 0.7 + 0.75 * 0.1 = 0.25."""
    labels = np.array([0, 1, 0, 1, 1])
    assert assumed_prevalence(labels, np.array([0.05, 0.5, 0.15, 0.8, 0.8])) == pytest.approx(0.25)
    assert assumed_prevalence(labels, np.full(5, 0.3)) == pytest.approx(0.3)  # probabilities that tell nothing


def test_the_assumed_prevalence_is_that_of_the_population_that_the_probabilities_are_of():
    """Also where the sample holds the classes in another share."""
    rng = np.random.default_rng(0)
    probability = rng.random(200_000) ** 2
    labels = (rng.random(len(probability)) < probability).astype(int)
    assert assumed_prevalence(labels, probability) == pytest.approx(1 / 3, abs=0.005)  # mean of the square
    fewer = np.concatenate([np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)[::10]])
    assert labels[fewer].mean() > 0.8
    assert assumed_prevalence(labels[fewer], probability[fewer]) == pytest.approx(1 / 3, abs=0.005)


def test_half_way_below_a_threshold_by_hand():
    """Odds of 9 and of 1 have the middle 3; ties and order do not matter."""
    assert midpoint_below(np.array([0.2, 0.9, 0.5, 0.9, 0.5]), 0.9) == pytest.approx(np.log(3))
    assert midpoint_below(np.array([0.2, 0.9, 0.5]), 0.5) == pytest.approx(-np.log(4) / 2)
    assert midpoint_below(np.array([0.5, 0.9]), 0.5) == pytest.approx(-np.log(3) / 2)  # the lowest: towards its half


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
