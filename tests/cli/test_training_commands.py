"""From labelled data to a model and its evaluation: data, train, evaluate, compare, models."""

import json
import shutil
from types import SimpleNamespace

import cv2

from pneumoscope.cli.evaluations import evaluation_folder
from pneumoscope.cli.progress import TrainingProgress
from pneumoscope.labels import SCOPE
from pneumoscope.samples import SAMPLES


def test_models_lists_what_ships(run):
    out = run("models")[1]
    assert all(name in out for name in ("  mobilenet", "  lstm", "reference-mobilenet", "reference-lstm"))


def test_evaluate_and_compare_on_own_labels(run, tmp_path):
    code, out, _ = run("evaluate", "--data", SAMPLES, "--split", "all", "--out", "a")
    assert code == 0
    assert out.startswith(f"{SCOPE}\n")
    code, out, _ = run(
        "evaluate", "--data", SAMPLES, "--split", "all", "--out", "b", "--model", "reference-lstm", "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert report["images"] == 24
    assert report == json.loads((tmp_path / "b" / "report.json").read_text())
    for name in ("confusion_matrix", "roc", "precision_recall"):
        assert cv2.imread(str(tmp_path / "a" / f"{name}.png")) is not None
    code, out, _ = run("compare", "a", "b")
    assert code == 0
    assert "mobilenet" in out
    assert "reference-lstm" in out
    code, out, _ = run(
        "compare", "reference-mobilenet", "reference-lstm", "--data", SAMPLES, "--split", "all", "--json"
    )
    assert code == 0
    assert len(json.loads(out)["models"]) == 2


def test_data_fetch_split_and_train_from_a_zip(run, tmp_path, backbone_weights):
    """The steps of a new user: a zip, a manifest, a split, a model, its evaluation on the held-out images."""
    shutil.make_archive("kaggle", "zip", SAMPLES)
    code, out, err = run("data", "fetch", "--from", "kaggle.zip", "--out", "data")
    assert code == 1, "the archive holds Python and Markdown files too, refused by name"
    assert "24 images" in out
    assert "ATTRIBUTION.md" in err
    code, out, _ = run("data", "split", "--data", "data", "--fraction", "0.25")
    assert code == 0
    assert "fingerprint" in out
    assert (tmp_path / "data" / "split-patient-seed0.json").is_file()
    saved = "data/split-patient-seed0.json"
    options = [
        "--data",
        "data",
        "--model",
        "mobilenet",
        "--epochs",
        "1",
        "--weights",
        backbone_weights,
        "--split",
        saved,
    ]
    code, out, err = run("train", *options)
    assert code == 0, err
    assert "epoch 1/1" in err
    assert "Sensitivity" in out
    folder = tmp_path / "runs" / "reference-mobilenet-patient-seed0"
    for name in ("model.onnx", "history.csv", "evaluation-val/accuracy.png", "evaluation-val/report.html"):
        assert (folder / name).is_file()
    code, _, err = run("train", *options)
    assert code == 1
    assert "exists: add  --resume" in err
    assert run("train", *options, "--resume")[0] == 0
    code, out, _ = run("evaluate", "--data", "data", "--model", folder)
    assert code == 0
    assert "(val)" in out
    assert run("predict", SAMPLES / "NORMAL", "--model", folder / "model.onnx")[0] in (0, 1)


def test_a_model_without_a_held_out_split_names_the_splits_it_can_be_evaluated_on(run, tmp_path, backbone_weights):
    (tmp_path / "whole.toml").write_text(
        'name = "whole"\nmodel = "mobilenet"\nsize = 64\nepochs = 1\nsplit = "all"\nkeep = "last"\n'
    )
    code, _, err = run("train", "--data", SAMPLES, "--recipe", "whole.toml", "--weights", backbone_weights)
    assert code == 0, err
    assert "trained on every image, without calibration or figures" in err
    model = tmp_path / "runs" / "whole-all-seed0"
    code, _, err = run("evaluate", "--data", SAMPLES, "--model", model)
    assert code == 1
    assert "expected a model with a held-out split" in err
    assert "Traceback" not in err
    code, _, err = run("evaluate", "--data", SAMPLES, "--model", model, "--split", "all")
    assert code == 0, err
    assert "contains the images that this model was trained on, so its figures are too good; use --split test" in err
    (tmp_path / "others").mkdir()
    for number, path in enumerate([*SAMPLES.glob("NORMAL/*.jpeg")][:3] + [*SAMPLES.glob("PNEUMONIA/*.jpeg")][:3]):
        (tmp_path / "others" / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "others" / path.parent.name / f"other{number}.jpeg")
    code, _, err = run("evaluate", "--data", "others", "--model", model, "--split", "all")
    assert code == 0, err
    assert "too good" not in err


def test_two_points_or_prevalences_have_different_evaluation_folders():
    bundle = SimpleNamespace(name="given", sha256="ab" * 32, threshold=0.5, prevalence=0.4)

    def folder(threshold, prevalence):
        predictor = SimpleNamespace(bundle=bundle, threshold=threshold, prevalence=prevalence)
        return str(evaluation_folder(predictor, "val"))

    assert folder(0.5, 0.4) == "evaluations/given-abababab-val"
    assert folder(0.3, 0.4) == "evaluations/given-abababab-val-at0.3"
    assert folder(0.5, 0.1) == "evaluations/given-abababab-val-prevalence0.1"
    assert folder(0.3, 0.1) == "evaluations/given-abababab-val-at0.3-prevalence0.1"


def test_the_clock_starts_with_each_training(monkeypatch, capsys):
    """Two steps an epoch, ten seconds a step: a run resumed in its third epoch, then one from the beginning.

    By the clock of the first one, step 4 of the second would be step zero.
    """
    now = [0.0]
    monkeypatch.setattr("pneumoscope.cli.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(3) as watch:
        for step in (5, 6, 1, 2, 3, 4, 5, 6):
            watch(step, 6, {"loss": 0.5, "accuracy": 0.75})
            now[0] += 10
    lines = capsys.readouterr().err.splitlines()
    figures = "loss 0.5000  accuracy 0.7500"
    assert [line.split("  about ")[0] for line in lines] == [f"epoch {n}/3  {figures}" for n in (3, 1, 2, 3)]
    # The clock starts behind a training's first step: 10 s for two steps, 30 s for four.
    assert [line.split("  about ")[1] for line in lines] == [
        "0 s left", f"{10 / 2 * 4:.0f} s left", f"{30 / 4 * 2:.0f} s left", "0 s left"
    ]  # fmt: skip
