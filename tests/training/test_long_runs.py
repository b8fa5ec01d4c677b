"""What happens to long trainings: figures that are not finite, damaged files, more epochs, other defaults of Keras."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pneumoscope.errors import RunError
from pneumoscope.training.runs import Run, open_finished_run
from pneumoscope.training.train import train

STATES = ("checkpoint.npz", "checkpoint-earlier.npz", "best.npz")


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    """The published head on a frozen backbone, whose features are cached: an epoch takes a blink."""
    return tiny_recipe("mobilenet", epochs=4)


@pytest.fixture(scope="module")
def whole(recipe, samples_folder, tmp_path_factory) -> Run:
    """A finished run."""
    return train(recipe, samples_folder, runs=tmp_path_factory.mktemp("whole"))


@pytest.fixture
def stopped(recipe, samples_folder, whole, tmp_path) -> Run:
    """A run that was interrupted in its fourth epoch."""
    shutil.copytree(whole.folder.parent / "cache", tmp_path / "cache")

    def interrupt(step, steps, metrics):
        if step == steps - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, samples_folder, runs=tmp_path, on_batch=interrupt)
    run = Run(tmp_path / whole.folder.name, recipe, whole.split)
    assert len(run.history) == 3
    assert all((run.folder / name).is_file() for name in STATES)
    return run


def cut(path) -> None:
    """Cut a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def assert_same_end(one: Run, other: Run) -> None:
    assert [row["val_loss"] for row in one.history] == [row["val_loss"] for row in other.history]
    for name in ("best.npz", "checkpoint.npz"):
        with np.load(one.folder / name) as first, np.load(other.folder / name) as second:
            assert first.files == second.files
            for key in first.files:
                assert key == "history" or np.array_equal(first[key], second[key]), (name, key)


def test_a_finished_run_keeps_one_state(whole):
    assert not (whole.folder / "checkpoint-earlier.npz").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_a_damaged_state_costs_one_epoch(stopped, whole, recipe, samples_folder, damage, caplog):
    """The state before it is used, and the run ends with the bits of an uninterrupted one."""
    path = stopped.folder / "checkpoint.npz"
    {"cut": cut, "empty": lambda path: path.write_bytes(b""), "missing": lambda path: path.unlink()}[damage](path)
    resumed = train(recipe, samples_folder, runs=stopped.folder.parent, resume=True)
    assert_same_end(resumed, whole)
    notes = [record.getMessage() for record in caplog.records if record.name.startswith("pneumoscope")]
    assert len(notes) == (damage != "missing")  # a process that is killed between two files leaves the earlier one
    assert all("checkpoint.npz cannot be read (" in note and note.endswith(" after epoch 2") for note in notes)


def test_two_damaged_states_are_one_sentence(stopped, recipe, samples_folder):
    for name in STATES[:2]:
        cut(stopped.folder / name)
    with pytest.raises(RunError, match=r"checkpoint\.npz cannot be read .*there is no earlier one: bring back a copy"):
        train(recipe, samples_folder, runs=stopped.folder.parent, resume=True)


def test_a_changed_byte_in_the_weights_is_found(stopped, whole, recipe, samples_folder):
    path = stopped.folder / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert_same_end(train(recipe, samples_folder, runs=stopped.folder.parent, resume=True), whole)


def test_damaged_kept_weights_of_the_last_epoch_are_made_again(whole, recipe, samples_folder, tmp_path):
    last = replace(recipe, keep="last", epochs=2)
    run = train(last, samples_folder, runs=tmp_path)
    with np.load(run.folder / "best.npz") as saved:
        kept = {name: saved[name] for name in saved.files}
    cut(run.folder / "best.npz")
    train(last, samples_folder, runs=tmp_path, resume=True)
    with np.load(run.folder / "best.npz") as saved:
        assert all(np.array_equal(saved[name], kept[name]) for name in kept)


def test_damaged_kept_weights_of_an_earlier_epoch_are_one_sentence(stopped, recipe, samples_folder):
    cut(stopped.folder / "best.npz")
    figures = [row["val_accuracy"] for row in stopped.history]
    if figures.index(max(figures)) == len(figures) - 1:
        pytest.fail("the best epoch is the last one: this test needs another recipe")
    with pytest.raises(RunError, match=r"the best epoch of .* and a later epoch has begun: bring back a copy"):
        train(recipe, samples_folder, runs=stopped.folder.parent, resume=True)


def test_damaged_kept_weights_are_not_exported(whole, tmp_path):
    from pneumoscope.training.export.onnx_export import export_run

    shutil.copytree(whole.folder, tmp_path / "run")
    cut(tmp_path / "run" / "best.npz")
    with pytest.raises(RunError, match=r"in best\.npz, they cannot be read .* --resume  to make them again"):
        export_run(open_finished_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config.json", "expected the options of a run in .*config.json, they cannot be read"),
        ("history.csv", "expected figures of epochs in .*history.csv, one line cannot be read: run the same training"),
        ("split.json", "expected a split file at .*split.json, cannot read it"),
    ],
)
def test_other_damaged_files_of_a_run_are_one_sentence(stopped, recipe, samples_folder, name, expected):
    from pneumoscope.errors import PneumoscopeError

    cut(stopped.folder / name)
    with pytest.raises(PneumoscopeError, match="expected "):
        open_finished_run(stopped.folder)
    if name == "config.json":
        with pytest.raises(RunError, match=expected):
            train(recipe, samples_folder, runs=stopped.folder.parent, resume=True)
    else:  # both are made again from the state and the data
        assert len(train(recipe, samples_folder, runs=stopped.folder.parent, resume=True).history) == 4


def test_a_loss_that_is_not_finite_ends_the_training(recipe, samples_folder, whole, tmp_path):
    shutil.copytree(whole.folder.parent / "cache", tmp_path / "cache")
    broken = replace(recipe, learning_rate=1e38)
    with pytest.raises(RunError, match=r"expected finite figures in training, received loss .* lower learning_rate"):
        train(broken, samples_folder, runs=tmp_path)
    run = tmp_path / whole.folder.name
    assert not (run / "best.npz").exists()
    assert not (run / "checkpoint.npz").exists()


def test_a_finished_run_gets_more_epochs_where_the_schedule_allows(whole, recipe, samples_folder, tmp_path):
    shorter = train(replace(recipe, epochs=2), samples_folder, runs=tmp_path)
    longer = train(recipe, samples_folder, runs=tmp_path, resume=True)
    assert longer.folder == shorter.folder
    assert_same_end(longer, whole)
    assert json.loads((longer.folder / "config.json").read_text())["recipe"]["epochs"] == 4
    assert open_finished_run(longer.folder).recipe == recipe
    with pytest.raises(RunError, match="epochs was 4 and is 3: give the same options"):
        train(replace(recipe, epochs=3), samples_folder, runs=tmp_path, resume=True)


def test_a_schedule_that_depends_on_the_epochs_says_why_not(recipe, samples_folder, tmp_path):
    cosine = replace(recipe, epochs=1, schedule="cosine")
    train(cosine, samples_folder, runs=tmp_path)
    sentence = "epochs was 1 and is 2: the learning rate of the cosine schedule depends on the epochs; give"
    with pytest.raises(RunError, match=sentence):
        train(replace(cosine, epochs=2), samples_folder, runs=tmp_path, resume=True)


def test_other_defaults_of_keras_change_nothing(recipe, samples_folder, whole, tmp_path):
    """A keras.json as another project may have left it; in a process of its own, as Keras reads it once."""
    (tmp_path / ".keras").mkdir()
    defaults = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1e-3, "backend": "jax"}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(defaults))
    program = (
        "import json, sys\n"
        "from pneumoscope.training.recipe import Recipe\n"
        "from pneumoscope.training.train import train\n"
        "train(Recipe(**json.loads(sys.argv[1])), sys.argv[2], runs=sys.argv[3])\n"
    )
    command = [sys.executable, "-c", program, json.dumps(recipe.to_dict()), str(samples_folder), str(tmp_path / "runs")]
    environment = {**os.environ, "KERAS_HOME": str(tmp_path / ".keras"), "HOME": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    subprocess.run(command, check=True, env=environment)
    assert_same_end(Run(tmp_path / "runs" / whole.folder.name, recipe, whole.split), whole)
