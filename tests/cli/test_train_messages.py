"""What a training says: how to go on after an interruption, the validation figures, and which options exist."""

import pytest
from PIL import Image

from pneumoscope.cli.progress import TrainingProgress
from pneumoscope.samples import SAMPLES

OPTIONS = ("--data", str(SAMPLES), "--model", "lstm", "--epochs", "1")


def test_an_interrupted_training_says_the_command_that_goes_on(run, monkeypatch, tmp_path):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pneumoscope.training.train.train", interrupted)
    for arguments in (OPTIONS, (*OPTIONS, "--resume")):
        code, _, err = run("train", *arguments, "--runs", "my runs")
        assert code == 130
        assert (
            f"go on with  pneumoscope train --data {SAMPLES} --model lstm --epochs 1 --runs 'my runs' --resume" in err
        )


def test_each_epoch_shows_the_validation_figures(capsys):
    with TrainingProgress(2) as progress:
        for step in range(1, 5):
            metrics = {"loss": 0.5, "accuracy": 0.75}
            progress(step, 4, {**metrics, "val_loss": 0.25, "val_accuracy": 0.875} if step % 2 == 0 else metrics)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "epoch 1/2  loss 0.5000  accuracy 0.7500  validation loss 0.2500  accuracy 0.8750" in lines[0]


def test_a_folder_of_somebody_else_is_not_made_a_run(run, tmp_path):
    folder = tmp_path / "runs" / "reference-lstm-patient-seed0"
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("mine")
    code, _, err = run("train", *OPTIONS)
    assert code == 1
    assert "found other files there (first: 'history.csv'): give another --runs folder" in err
    assert (folder / "history.csv").read_text() == "mine"


@pytest.mark.parametrize("command", [("train", "--model", "lstm"), ("data", "split")])
def test_a_refused_split_names_what_exists(run, data_folder, command):
    folder = data_folder("NORMAL/a.png", "NORMAL/b.png", "PNEUMONIA/c.png")
    code, _, err = run(*command, "--data", folder)
    assert code == 1
    assert "data split --fraction, or validation_fraction in the recipe" in err


def test_masks_are_counted_before_the_training_and_refused_where_they_are_not_used(run, monkeypatch, tmp_path):
    recipe, masks = tmp_path / "lungs.toml", tmp_path / "masks"
    recipe.write_text('name = "lungs"\nmodel = "mobilenet-lungs"\nsize = 64\n')
    (masks / "NORMAL").mkdir(parents=True)
    for number in (350, 458):
        series = "IM" if number == 350 else "NORMAL2-IM"
        Image.new("1", (64, 64), 1).save(masks / "NORMAL" / f"{series}-0{number}-0001.png")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pneumoscope.training.train.train", stop)
    _, _, err = run("train", "--data", SAMPLES, "--recipe", recipe, "--masks", masks)
    assert "masks for 2 of 24 images" in err
    code, _, err = run("train", "--data", SAMPLES, "--recipe", recipe)
    assert (code, "expected lung masks for lungs, which learns the lungs" in err) == (2, True)
    code, _, err = run("train", *OPTIONS, "--masks", masks)
    assert (code, "whose lstm learns no lungs: leave out --masks" in err) == (2, True)
    code, _, err = run("train", "--data", SAMPLES, "--recipe", recipe, "--masks", tmp_path)
    assert (code, "expected masks of the images in" in err) == (1, True)
