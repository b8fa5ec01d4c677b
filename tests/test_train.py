"""Training is recorded, seeded and resumable: an interrupted run ends as an uninterrupted one."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from pneumoscope.datasets import read_dataset
from pneumoscope.errors import DatasetError, RunError
from pneumoscope.runs import locked, open_finished
from pneumoscope.splits import read_split
from pneumoscope.train import train


def _figures(run):
    """The history without the seconds."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]


def _arrays(run, name):
    with np.load(run.folder / name, allow_pickle=False) as saved:
        return {key: saved[key] for key in saved.files if key != "history"}


def _assert_same_run(one, other):
    assert _figures(one) == _figures(other)
    for name in ("best.npz", "checkpoint.npz"):
        first, second = _arrays(one, name), _arrays(other, name)
        assert first.keys() == second.keys()
        for key in first:
            np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name} {key}")


def test_a_run_folder_says_what_was_done(trained):
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["recipe"] == trained.recipe.to_dict()
    assert config["split_fingerprint"] == read_split(trained.folder / "split.json").fingerprint
    assert set(config["versions"]) >= {"tensorflow", "keras", "numpy", "pneumoscope"}
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert set(trained.history[0]) == {"epoch", "accuracy", "loss", "val_accuracy", "val_loss", "seconds"}
    assert not list(trained.folder.glob("*.partial"))
    assert open_finished(trained.folder).recipe == trained.recipe


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
        "from pneumoscope.recipe import Recipe\n"
        "from pneumoscope.train import train\n"
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
    """Other batch sizes sum in another order: equal to float32 rounding, not to the bit."""
    recipe = tiny_recipe("mobilenet")
    cached = train(recipe, samples_folder, runs=tmp_path / "cached")
    plain = train(recipe, samples_folder, runs=tmp_path / "plain", cache=False)
    for one, other in zip(_figures(cached), _figures(plain), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    first, second = _arrays(cached, "best.npz"), _arrays(plain, "best.npz")
    for key in first:
        np.testing.assert_allclose(first[key], second[key], atol=1e-4)


def test_a_second_run_reads_the_cache(tiny_recipe, samples_folder, tmp_path, monkeypatch):
    train(tiny_recipe("mobilenet", epochs=1), samples_folder, runs=tmp_path)
    monkeypatch.setattr("pneumoscope.feed.to_input", lambda *_: pytest.fail("a cached feature was computed again"))
    monkeypatch.setattr("pneumoscope.feed.read_radiograph", lambda *_: pytest.fail("a cached image was read again"))
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
    recipe = tiny_recipe(trained.recipe.model, epochs=5)
    with pytest.raises(RunError, match="epochs was 3 and is 5"):
        train(recipe, samples_folder, runs=trained.folder.parent, resume=True)


def test_resuming_on_other_weights_is_refused(tiny_recipe, backbone_weights, samples_folder, tmp_path):
    """The path is the same, the file is not."""
    copied = tmp_path / "copied.weights.h5"
    copied.write_bytes(backbone_weights.read_bytes())
    recipe = replace(tiny_recipe("mobilenet", epochs=1), weights=str(copied))
    train(recipe, samples_folder, runs=tmp_path)
    copied.write_bytes(backbone_weights.read_bytes() + b"0")
    with pytest.raises(RunError, match="with the weights_sha256 it began with"):
        train(recipe, samples_folder, runs=tmp_path, resume=True)


def test_two_trainings_of_one_run_do_not_mix(trained, tiny_recipe, samples_folder):
    recipe = tiny_recipe(trained.recipe.model)
    with locked(trained.folder), pytest.raises(RunError, match="expected to train alone"):
        train(recipe, samples_folder, runs=trained.folder.parent, resume=True)


def test_a_missing_image_is_named(tiny_recipe, samples, tmp_path):
    table = tmp_path / "mine.csv"
    rows = "".join(f"{path},{path.parent.name}\n" for path in samples)
    table.write_text(f"path,label\n{rows}gone.jpeg,NORMAL\n")
    with pytest.raises(DatasetError, match=r"expected the image .*gone\.jpeg of the manifest"):
        train(tiny_recipe("mobilenet", epochs=1), table, runs=tmp_path)


def test_nothing_to_resume_is_said(tiny_recipe, samples_folder, tmp_path):
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
        open_finished(folder)
    with pytest.raises(RunError, match="expected a run folder"):
        open_finished(tmp_path / "elsewhere")


def test_tensorboard_logs_on_request(tiny_recipe, samples_folder, tmp_path):
    run = train(tiny_recipe("mobilenet", epochs=1), samples_folder, runs=tmp_path, tensorboard=True)
    assert list(run.folder.glob("tensorboard/**/events.*"))


def test_no_patient_on_two_sides(trained, samples_folder):
    manifest = read_dataset(samples_folder)
    sides = [{record.group for record in trained.split.records(manifest, side)} for side in ("train", "val")]
    assert not sides[0] & sides[1]
