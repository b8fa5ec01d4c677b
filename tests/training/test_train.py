"""Training is recorded, seeded and resumable: an interrupted run ends with the result of an uninterrupted one."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.data import Manifest, Record, read_dataset
from pneumoscope.data.splits import read_split
from pneumoscope.errors import DatasetError, RunError
from pneumoscope.labels import BACTERIAL, NORMAL, PNEUMONIA, VIRAL
from pneumoscope.training.inputs import training_class
from pneumoscope.training.runs import open_finished_run, run_lock
from pneumoscope.training.train import _verdict_is_right, squashed_note, train


def _figures(run):
    """The history without the seconds."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]


def _arrays(run, name):
    with np.load(run.folder / name, allow_pickle=False) as saved:
        return {key: saved[key] for key in saved.files if key != "history"}


def _assert_same_run(a, b):
    assert _figures(a) == _figures(b)
    for name in ("best.npz", "checkpoint.npz"):
        first, second = _arrays(a, name), _arrays(b, name)
        assert first.keys() == second.keys()
        for key in first:
            np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name} {key}")


def test_a_run_folder_records_the_training(trained):
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["recipe"] == trained.recipe.to_dict()
    assert config["split_fingerprint"] == read_split(trained.folder / "split.json").fingerprint
    assert set(config["versions"]) >= {"tensorflow", "keras", "numpy", "pneumoscope"}
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert set(trained.history[0]) == {"epoch", "accuracy", "loss", "val_accuracy", "val_loss", "seconds"}
    assert not list(trained.folder.glob("*.partial"))
    assert open_finished_run(trained.folder).recipe == trained.recipe


def test_equal_seeds_give_equal_weights_other_seeds_do_not(trained, tiny_recipe, samples_folder, tmp_path):
    model = trained.recipe.model
    _assert_same_run(trained, train(tiny_recipe(model), samples_folder, runs=tmp_path))
    other = train(tiny_recipe(model, seed=1, epochs=1), samples_folder, runs=tmp_path)
    assert _figures(other)[0] != _figures(trained)[0]


@pytest.mark.parametrize("stop_at", [2, 5])
def test_interrupted_and_resumed_equals_uninterrupted(trained, tiny_recipe, samples_folder, tmp_path, stop_at):
    """Stopped inside the first epoch, and inside the second."""

    def interrupt(step, steps, metrics):
        if step == stop_at:
            raise KeyboardInterrupt

    recipe = tiny_recipe(trained.recipe.model)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, samples_folder, runs=tmp_path, on_batch=interrupt)
    resumed = train(recipe, samples_folder, runs=tmp_path, resume=True)
    _assert_same_run(trained, resumed)


def test_killed_and_resumed_equals_uninterrupted(tiny_recipe, samples_folder, tmp_path):
    """kill -9 between two epochs of a real process, resumed by another one."""
    recipe = tiny_recipe("mobilenet", epochs=40)
    whole = train(recipe, samples_folder, runs=tmp_path / "whole")
    program = (
        "import json, sys\n"
        "from pneumoscope.training.recipe import Recipe\n"
        "from pneumoscope.training.train import train\n"
        "train(Recipe(**json.loads(sys.argv[1])), sys.argv[2], runs=sys.argv[3])\n"
    )
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", program, json.dumps(recipe.to_dict()), str(samples_folder), str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = killed / whole.folder.name / "checkpoint.npz"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)  # polls a file of another process
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    resumed = train(recipe, samples_folder, runs=killed, resume=True)
    _assert_same_run(whole, resumed)


def test_the_feature_cache_changes_nothing(tiny_recipe, samples_folder, tmp_path):
    """Other batch sizes add in another order: the results are equal up to float32 rounding, not to the bit."""
    recipe = tiny_recipe("mobilenet")
    cached = train(recipe, samples_folder, runs=tmp_path / "cached")
    plain = train(recipe, samples_folder, runs=tmp_path / "plain", cache=False)
    for cached_row, plain_row in zip(_figures(cached), _figures(plain), strict=True):
        assert cached_row == pytest.approx(plain_row, abs=1e-4)
    first, second = _arrays(cached, "best.npz"), _arrays(plain, "best.npz")
    for key in first:
        np.testing.assert_allclose(first[key], second[key], atol=1e-4)


def test_a_second_run_reads_the_cache(tiny_recipe, samples_folder, tmp_path, monkeypatch):
    train(tiny_recipe("mobilenet", epochs=1), samples_folder, runs=tmp_path)
    monkeypatch.setattr(
        "pneumoscope.training.batches.to_input", lambda *_: pytest.fail("a cached feature was computed again")
    )
    read = "pneumoscope.inference.preprocess.read_radiograph"
    monkeypatch.setattr(read, lambda *_: pytest.fail("a cached image was read again"))
    train(tiny_recipe("mobilenet", epochs=1, seed=1), samples_folder, runs=tmp_path)


def test_a_run_is_not_overwritten(trained, tiny_recipe, samples_folder):
    recipe = tiny_recipe(trained.recipe.model)
    with pytest.raises(RunError, match=r"exists: add  --resume  to go on, or another --seed"):
        train(recipe, samples_folder, runs=trained.folder.parent)


def test_a_finished_run_resumes_to_itself(trained, tiny_recipe, samples_folder):
    before = _figures(trained)
    again = train(tiny_recipe(trained.recipe.model), samples_folder, runs=trained.folder.parent, resume=True)
    assert _figures(again) == before


def test_resuming_with_other_options_is_refused(trained, tiny_recipe, samples_folder):
    recipe = tiny_recipe(trained.recipe.model, batch_size=5)
    with pytest.raises(RunError, match="batch_size was 8 and is 5"):
        train(recipe, samples_folder, runs=trained.folder.parent, resume=True)


def test_a_run_begun_before_a_recipe_had_all_its_keys_resumes(trained, tiny_recipe, samples_folder, tmp_path):
    """Its version had neither teacher nor mirror; the defaults of today mean the same."""
    folder = Path(shutil.copytree(trained.folder, tmp_path / trained.folder.name))
    config = json.loads((folder / "config.json").read_text())
    for key in ("mirror", "teacher", "teacher_share"):
        del config["recipe"][key]
    (folder / "config.json").write_text(json.dumps(config))
    recipe = tiny_recipe(trained.recipe.model)
    with pytest.raises(RunError, match=r"exists: add  --resume  to go on"):
        train(recipe, samples_folder, runs=tmp_path)
    assert _figures(train(recipe, samples_folder, runs=tmp_path, resume=True)) == _figures(trained)
    with pytest.raises(RunError, match=r"with the recipe it began with, batch_size was 8 and is 5: give"):
        train(replace(recipe, batch_size=5), samples_folder, runs=tmp_path, resume=True)
    del config["recipe"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="with the recipe it began with"):
        train(recipe, samples_folder, runs=tmp_path, resume=True)


def test_resuming_on_other_weights_is_refused(tiny_recipe, backbone_weights, samples_folder, tmp_path):
    """The path is the same, the content of the file is not."""
    copied = tmp_path / "copied.weights.h5"
    copied.write_bytes(backbone_weights.read_bytes())
    recipe = replace(tiny_recipe("mobilenet", epochs=1), weights=str(copied))
    train(recipe, samples_folder, runs=tmp_path)
    copied.write_bytes(backbone_weights.read_bytes() + b"0")
    with pytest.raises(RunError, match="with the weights_sha256 it began with"):
        train(recipe, samples_folder, runs=tmp_path, resume=True)


def test_two_trainings_of_one_run_do_not_mix(trained, tiny_recipe, samples_folder):
    recipe = tiny_recipe(trained.recipe.model)
    with run_lock(trained.folder), pytest.raises(RunError, match="expected to train alone"):
        train(recipe, samples_folder, runs=trained.folder.parent, resume=True)


def test_a_missing_image_is_named(tiny_recipe, samples, tmp_path):
    table = tmp_path / "mine.csv"
    rows = "".join(f"{path},{path.parent.name}\n" for path in samples)
    table.write_text(f"path,label\n{rows}gone.jpeg,NORMAL\n")
    with pytest.raises(DatasetError, match=r"expected the image .*gone\.jpeg of the manifest"):
        train(tiny_recipe("mobilenet", epochs=1), table, runs=tmp_path)


def test_a_missing_run_cannot_be_resumed(tiny_recipe, samples_folder, tmp_path):
    with pytest.raises(RunError, match="found none: leave out --resume"):
        train(tiny_recipe("lstm"), samples_folder, runs=tmp_path, resume=True)


def test_an_unfinished_run_is_not_exported(tiny_recipe, samples_folder, tmp_path):
    def interrupt(step, steps, metrics):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe("mobilenet"), samples_folder, runs=tmp_path, on_batch=interrupt)
    (folder,) = tmp_path.glob("reference-*")
    with pytest.raises(RunError, match="it stands after epoch 1 of 3"):
        open_finished_run(folder)
    with pytest.raises(RunError, match="expected a run folder"):
        open_finished_run(tmp_path / "elsewhere")


def test_tensorboard_logs_on_request(tiny_recipe, samples_folder, tmp_path):
    run = train(tiny_recipe("mobilenet", epochs=1), samples_folder, runs=tmp_path, tensorboard=True)
    assert list(run.folder.glob("tensorboard/**/events.*"))


def test_no_patient_on_two_sides(trained, samples_folder):
    manifest = read_dataset(samples_folder)
    sides = [{record.group for record in trained.split.records(manifest, side)} for side in ("train", "val")]
    assert not sides[0] & sides[1]


# Fine-tuning with changed images -------------------------------------------------------------------------------


def test_a_fine_tuned_run_resumes_to_the_bit(fine_tuned, fine_tuned_recipe, samples_folder, tmp_path):
    """Stopped inside the second epoch: crops, mixup, dropout, learning rate and moving averages continue."""

    def interrupt(step, steps, metrics):
        assert steps == 6
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fine_tuned_recipe(), samples_folder, runs=tmp_path, on_batch=interrupt)
    resumed = train(fine_tuned_recipe(), samples_folder, runs=tmp_path, resume=True)
    _assert_same_run(fine_tuned, resumed)


def test_a_fine_tuned_run_records_the_training(fine_tuned):
    config = json.loads((fine_tuned.folder / "config.json").read_text())
    assert config["recipe"] == fine_tuned.recipe.to_dict()
    assert config["recipe"]["augment"]["crop_side"] == 0.7
    assert open_finished_run(fine_tuned.folder).recipe == fine_tuned.recipe
    assert all(np.isfinite(value) for row in fine_tuned.history for value in row.values())


def test_the_last_epoch_is_kept_if_the_recipe_says_so(tiny_recipe, samples_folder, tmp_path):
    """Only the head is trained, so the checkpoint has its weights; a high rate makes the later epochs worse."""
    options = {"epochs": 4, "size": 64, "learning_rate": 0.02}
    kept = {
        keep: train(tiny_recipe("mobilenet", name=keep, keep=keep, **options), samples_folder, runs=tmp_path)
        for keep in ("best", "last")
    }
    assert _figures(kept["best"]) == _figures(kept["last"])
    best, last = (_arrays(kept[keep], "best.npz") for keep in ("best", "last"))
    accuracy = [row["val_accuracy"] for row in kept["best"].history]
    assert kept["last"].kept["epoch"] == 4
    assert kept["best"].kept["epoch"] == 1 + accuracy.index(max(accuracy)) < 4, "the last epoch is the best one"
    assert any(not np.array_equal(best[name], last[name]) for name in best)
    state = _arrays(kept["last"], "checkpoint.npz")  # of the head: its weights come first
    head = [last[f"weight{number}"] for number in range(len(last) - 4, len(last))]
    for number, weight in enumerate(head):
        np.testing.assert_array_equal(state[f"variable{number}"], weight)


def test_with_nothing_held_out_every_image_trains(fine_tuned_recipe, samples_folder, tmp_path):
    recipe = fine_tuned_recipe(split="all", epochs=1, subtypes=False)
    run = train(recipe, samples_folder, runs=tmp_path)
    assert (len(run.split.train), len(run.split.val)) == (24, 0)
    assert set(run.history[0]) == {"epoch", "accuracy", "loss", "seconds"}
    assert run.kept["epoch"] == 1
    assert open_finished_run(run.folder).split == run.split


def test_with_nothing_held_out_a_frozen_network_trains_too(tiny_recipe, samples_folder, tmp_path):
    run = train(tiny_recipe("mobilenet", size=64, split="all", keep="last", epochs=2), samples_folder, runs=tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert "val_accuracy" not in run.history[0]


def test_the_source_size_changes_nothing_without_augmentation(tiny_recipe, samples_folder, tmp_path):
    plain = train(tiny_recipe("mobilenet", size=64, epochs=1), samples_folder, runs=tmp_path / "plain")
    sized = train(tiny_recipe("mobilenet", size=64, epochs=1, source_size=80), samples_folder, runs=tmp_path / "sized")
    _assert_same_run(plain, sized)


def test_a_pneumonia_of_unknown_kind_cannot_train_three_classes(fine_tuned_recipe, data_folder, tmp_path):
    names = [f"NORMAL/IM-{number:04d}-0001.png" for number in range(8)]
    names += [f"PNEUMONIA/person{number}_{('virus', 'bacteria')[number % 2]}_1.png" for number in range(8)]
    folder = data_folder(*names, "PNEUMONIA/scan.png")
    with pytest.raises(DatasetError, match=r"expected bacterial or viral for every pneumonia, .*scan\.png has neither"):
        train(fine_tuned_recipe(split="all"), folder, runs=tmp_path)


def test_the_class_of_a_record():
    normal, unknown = Record("a.png", NORMAL), Record("b.png", PNEUMONIA)
    kinds = [Record("c.png", PNEUMONIA, sublabel) for sublabel in (BACTERIAL, VIRAL)]
    assert [training_class(record, False) for record in (normal, unknown, *kinds)] == [NORMAL] + [PNEUMONIA] * 3
    assert [training_class(record, True) for record in (normal, *kinds)] == [NORMAL, BACTERIAL, VIRAL]
    with pytest.raises(DatasetError, match=r"b\.png has neither: fill the column sublabel of the manifest"):
        training_class(unknown, True)


def test_the_accuracy_of_three_classes_is_that_of_the_verdict():
    """Viral in place of bacterial is still a right verdict; at a probability of 0.5 the verdict is PNEUMONIA."""
    targets = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    probabilities = np.array(
        [[0.6, 0.3, 0.1], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.45, 0.275, 0.275], [0.5, 0.3, 0.2], [0.9, 0.1, 0]],
        np.float32,
    )
    assert np.asarray(_verdict_is_right(targets, probabilities)).tolist() == [1, 0, 1, 1, 1, 0]


def test_images_of_one_aspect_ratio_are_noted_if_the_recipe_removes_ratios(fine_tuned_recipe, samples_folder):
    manifest, recipe = read_dataset(samples_folder), fine_tuned_recipe()
    squashed = Manifest(manifest.root, tuple(replace(record, ratio=1.0) for record in manifest.records))
    unknown = Manifest(manifest.root, tuple(replace(record, ratio=0.0) for record in manifest.records))
    assert squashed_note(recipe, manifest) is None
    for data in (squashed, unknown):
        assert squashed_note(recipe, data).startswith("note: fine-tuned removes the aspect ratio of each image, but")
        assert squashed_note(fine_tuned_recipe(augment={"crop_side": 0.7}), data) is None


def test_the_aspect_ratio_of_an_image_changes_the_training(fine_tuned, fine_tuned_recipe, samples_folder, tmp_path):
    manifest = read_dataset(samples_folder)
    squashed = Manifest(manifest.root, tuple(replace(record, ratio=1.0) for record in manifest.records))
    changed = train(fine_tuned_recipe(), squashed, runs=tmp_path).history
    assert [row["loss"] for row in changed] != [row["loss"] for row in fine_tuned.history]
