"""The command line as its users meet it: exit codes, sentences, tables, files."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow.parquet
import pytest

from pneumoscope import cli
from pneumoscope.cli.evaluations import evaluation_folder
from pneumoscope.cli.progress import TrainingProgress
from pneumoscope.inference.bundle import ZOO
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.samples import SAMPLES


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in this process: ``code, out, err = run("predict", path)``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["pneumoscope", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return call


def _objects(out):
    return [json.loads(line) for line in out.splitlines()]


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("predict", "explain", "demo", "train", "export", "evaluate", "compare", "data"):
        assert command in out
    assert run("--version")[1].startswith("pneumoscope 0.")


def test_predict_prints_a_table(run, samples):
    code, out, _ = run("predict", *samples[:2])
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["verdict", "probability", "status", "file"]
    assert str(samples[0]) in lines[1]
    assert "2 images" in lines[-1]
    assert "not a medical device" in lines[-1]


def test_predict_prints_json_lines(run, samples):
    code, out, _ = run("predict", "--json", SAMPLES / "NORMAL")
    rows = _objects(out)
    assert code == 0
    assert len(rows) == 8
    assert tuple(rows[0]) == FIELDS
    assert rows[0]["image_sha256"] == hashlib.sha256(sorted((SAMPLES / "NORMAL").iterdir())[0].read_bytes()).hexdigest()
    assert rows[0]["model_sha256"] == hashlib.sha256((ZOO / "mobilenet.onnx").read_bytes()).hexdigest()
    assert 0.5 < rows[0]["prevalence"] < 0.8
    assert rows[0]["status"] in ("ok", "uncertain")


def test_json_goes_to_standard_output_while_the_bar_is_on_a_terminal(samples, tmp_path):
    """A real terminal for standard error, a file for standard output, as in  predict --json > results.jsonl"""
    import pty

    terminal, side = pty.openpty()
    with (tmp_path / "results.jsonl").open("wb") as results:
        command = [sys.executable, "-m", "pneumoscope", "predict", "--json", str(SAMPLES)]
        code = subprocess.run(command, stdout=results, stderr=side, check=False).returncode
    os.close(side)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side is closed and all is read
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert code == 0
    assert len(_objects((tmp_path / "results.jsonl").read_text())) == 24
    assert b"screening" in shown
    assert b'"path"' not in shown


def test_two_writers_of_one_csv_are_kept_apart(run, samples, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "r.csv").open("w") as other:
        other.write("rows of another process")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        code, _, err = run("predict", samples[0], "--csv", "r.csv")
    assert code == 2
    assert "to be free, another pneumoscope process is writing to it" in err
    assert (tmp_path / "r.csv").read_text() == "rows of another process"


def test_predict_takes_folders_globs_and_standard_input(run, samples):
    names = "".join(f"{path}\n" for path in samples[:3])
    assert len(_objects(run("predict", "--json", "-", stdin=names)[1])) == 3
    assert len(_objects(run("predict", "--json", SAMPLES)[1])) == 24
    assert len(_objects(run("predict", "--json", SAMPLES / "*" / "person1*.jpeg")[1])) == 5


def test_predict_writes_csv_heatmaps_and_a_page(run, samples, tmp_path):
    shutil.copy(samples[0], tmp_path / "same.jpeg")
    (tmp_path / "b").mkdir()
    shutil.copy(samples[9], tmp_path / "b" / "same.jpeg")
    code, _, _ = run(
        "predict", "same.jpeg", "b/same.jpeg", "missing.png",
        "--csv", "out/r.csv", "--heatmaps", "h", "--html", "p/i.html",
    )  # fmt: skip
    assert code == 1
    rows = list(csv.DictReader((tmp_path / "out" / "r.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["same.jpeg", "b/same.jpeg", "missing.png"]
    assert rows[2]["probability"] == ""
    assert sorted(path.name for path in (tmp_path / "h").iterdir()) == ["same-2.png", "same.png"]
    assert cv2.imread(str(tmp_path / "h" / "same.png")).shape[0] > 300
    page = (tmp_path / "p" / "i.html").read_text()
    assert 'src="../h/same-2.png"' in page
    assert "found nothing under this name" in page
    assert "not a medical device" in page


def test_resume_judges_the_rest_and_gives_the_whole(run, samples, tmp_path):
    files = ["--csv", "r.csv", "--heatmaps", "h"]
    run("predict", *samples[:18], *files)
    kept, drawn = (tmp_path / "h" / f"{samples[number].stem}.png" for number in (0, 1))
    before, picture = kept.stat().st_mtime_ns, drawn.read_bytes()
    drawn.unlink()
    code, out, err = run("predict", *samples, *files, "--html", "i.html", "--json", "--resume")
    assert code == 0
    assert "16 of 24 images are already done" in err  # the batch that was not full is judged again
    assert [row["path"] for row in _objects(out)] == [str(path) for path in samples]
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(path) for path in samples]
    assert (kept.stat().st_mtime_ns, drawn.read_bytes()) == (before, picture)
    page = (tmp_path / "i.html").read_text()
    assert all(f'src="h/{path.stem}.png"' in page for path in samples)


def test_a_resumed_sheet_shows_each_image_its_own_heatmap(run, samples, tmp_path, monkeypatch):
    """Names of overlays depend on what comes before: a new image of the same name moves them all."""
    for folder, sample in (("b", samples[0]), ("c", samples[9])):
        (tmp_path / folder).mkdir()
        shutil.copy(sample, tmp_path / folder / "IM1.jpeg")
    run("predict", "b", "c", "--csv", "r.csv", "--heatmaps", "h")
    drawn = {one: (tmp_path / "h" / name).read_bytes() for one, name in (("b", "IM1.png"), ("c", "IM1-2.png"))}
    (tmp_path / "a").mkdir()
    shutil.copy(samples[17], tmp_path / "a" / "IM1.jpeg")
    monkeypatch.setattr("pneumoscope.output.results.BATCH", 1)  # or the neighbours of the new one are judged again
    run("predict", "a", "b", "c", "--csv", "r.csv", "--heatmaps", "h", "--resume", "--html", "i.html")
    assert (tmp_path / "h" / "IM1-2.png").read_bytes() == drawn["b"]
    assert (tmp_path / "h" / "IM1-3.png").read_bytes() == drawn["c"]
    assert (tmp_path / "h" / "IM1.png").read_bytes() not in drawn.values()


def test_a_call_refused_for_one_output_leaves_the_other(run, samples, tmp_path):
    run("predict", samples[0], "--csv", "keep.csv", "--parquet", "parts")
    before = (tmp_path / "keep.csv").read_bytes()
    assert run("predict", samples[9], "--csv", "keep.csv", "--parquet", "parts")[0] == 2
    assert (tmp_path / "keep.csv").read_bytes() == before


def test_resume_needs_a_file_to_go_on_with(run, samples):
    code, _, err = run("predict", samples[0], "--resume")
    assert code == 2
    assert "expected --csv, --jsonl or --parquet with --resume" in err


def test_an_image_is_never_overwritten(run, samples, tmp_path):
    image = tmp_path / "chest.png"
    cv2.imwrite(str(image), cv2.imread(str(samples[0])))
    before = image.read_bytes()
    for arguments in (
        ["predict", "chest.png", "--csv", "chest.png"],
        ["predict", "chest.png", "--heatmaps", "h", "--html", "chest.png"],
        ["explain", "chest.png", "--out", "./chest.png"],
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert "expected another output than the image" in err
    assert run("predict", "chest.png", "--heatmaps", ".")[0] == 0
    assert image.read_bytes() == before
    assert (tmp_path / "chest-2.png").is_file()


def test_a_second_call_does_not_judge_its_own_heatmaps(run, samples, tmp_path):
    (tmp_path / "chest").mkdir()
    shutil.copy(samples[0], tmp_path / "chest")
    for _ in range(2):
        code, out, _ = run("predict", "chest", "--heatmaps", "chest/heatmaps", "--json")
        assert code == 0
        assert len(_objects(out)) == 1


def test_a_file_that_can_be_read_only_once_costs_its_picture_alone(run, samples, tmp_path, monkeypatch):
    import pneumoscope.radiographs.images

    once = set()

    def vanishing(path, read=pneumoscope.radiographs.images.read_file):
        if path in once and path.name == samples[0].name:
            raise pneumoscope.radiographs.images.UnreadableImage(
                "expected an image file, found nothing under this name"
            )
        once.add(path)
        return read(path)

    for module in ("radiographs.images", "inference.predict"):  # the first draws, the second judges
        monkeypatch.setattr(f"pneumoscope.{module}.read_file", vanishing)
    code, out, err = run("predict", samples[0], samples[1], "--heatmaps", "h", "--json")
    assert code == 1
    assert [row["label"] for row in _objects(out)] == ["NORMAL", "NORMAL"]
    assert "can be read only once" in err
    assert [path.stem for path in (tmp_path / "h").iterdir()] == [samples[1].stem]


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_an_output_that_cannot_be_written_is_a_sentence(run, samples, option):
    code, _, err = run("predict", samples[0], "--heatmaps", "h", option, "/proc/nowhere/results")
    assert code in (1, 2)
    assert "expected" in err
    assert "Traceback" not in err


def test_a_full_disk_is_a_sentence(run, samples):
    code, _, err = run("predict", samples[0], "--csv", "/dev/full")
    assert code == 1
    assert "No space left on device" in err


def test_names_cannot_steer_the_terminal(run, samples, tmp_path):
    odd = tmp_path / "a\x1b[31m\nb.jpeg"
    odd.write_bytes(samples[0].read_bytes())
    code, out, _ = run("predict", odd)
    assert code == 0
    assert "\x1b" not in out
    assert len(out.splitlines()) == 3


def test_a_hundred_good_and_five_bad(run, samples, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(100):
        shutil.copy(samples[number % len(samples)], folder / f"good{number:03}.jpeg")
    whole = samples[0].read_bytes()
    (folder / "bad0.jpeg").write_bytes(b"")
    (folder / "bad1.jpeg").write_text("text")
    (folder / "bad2.jpeg").write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(folder / "bad3.png"), np.zeros((1, 1), np.uint8))
    (folder / "bad4.png").write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    code, out, _ = run("predict", "--json", folder)
    rows = _objects(out)
    assert code == 1
    assert sum(row["label"] is not None for row in rows) == 100
    failed = [row for row in rows if row["label"] is None]
    assert len(failed) == 5
    assert all(row["reason"].startswith("expected ") and row["probability"] is None for row in failed)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["predict"], 2, "Missing argument"),
        (["predict", "x.png", "--threshold", "2"], 2, "expected a threshold from 0 to 1, or default or screening"),
        (["predict", "x.png", "--model", "no-such"], 2, "found no 'no-such'"),
        (["predict", "x.png", "--html", "p.html"], 2, "expected --heatmaps DIR with --html"),
        (["predict", "-"], 2, "expected file names on standard input"),
        (["predict", "--frobnicate"], 2, "No such option"),
        (["explain", "x.png"], 2, "Missing option '--out'"),
        (["explain", "x.png", "--out", "x.gif"], 2, "expected --out ending in .png or .jpg"),
        (["explain", "x.png", "y.png", "--out", "o.png"], 2, "expected a folder for --out with 2 images"),
        (["train", "--data", "x"], 2, "expected either --model or --recipe"),
        (["train", "--data", "x", "--model", "resnet"], 2, "expected --model mobilenet or lstm"),
        (["train", "--data", "x", "--model", "lstm", "--class-weights", "odd"], 2, "the recipe's class_weights"),
        (["evaluate", "--data", "x"], 1, "expected a folder or a CSV"),
        (["evaluate", "--data", str(SAMPLES)], 1, "expected a model with a held-out split"),
        (["evaluate", "-m", "reference-lstm", "--data", str(SAMPLES)], 1, "expected the data this model was"),
        (["evaluate", "--data", str(SAMPLES), "--split", "test"], 1, "expected images in a test folder"),
        (["evaluate", "--data", str(SAMPLES), "--split", "odd"], 2, "expected the split val, test or all"),
        (["compare", "one"], 2, "expected two or more models"),
        (["compare", "one", "two"], 1, "expected an evaluation report"),
        (["export", "nowhere", "--data", "x"], 1, "expected a run folder"),
        (["data", "split", "--data", "nowhere"], 1, "expected a folder or a CSV"),
        (["data", "fetch", "--from", "nowhere.zip", "--out", "o"], 1, "expected"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence_and_an_exit_code(run, arguments, code, sentence):
    received, out, err = run(*arguments)
    assert received == code
    assert sentence in err
    assert "Traceback" not in out + err


def test_a_folder_without_images_is_an_error_in_its_place(run, tmp_path, samples):
    (tmp_path / "empty").mkdir()
    code, out, _ = run("predict", "--json", tmp_path / "empty", samples[0])
    empty, good = _objects(out)
    assert code == 1
    assert "found none" in empty["reason"]
    assert empty["path"].endswith("empty")
    assert good["label"] is not None


def test_a_name_that_is_not_utf8_is_reported_whole(run, samples, tmp_path):
    odd = os.fsencode(tmp_path) + b"/chest-\xff.jpeg"
    try:
        with open(odd, "wb") as file:
            file.write(samples[0].read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    code, out, _ = run("predict", "--json", os.fsdecode(odd), "--csv", "r.csv", "--heatmaps", "h", "--html", "p.html")
    assert code == 0
    assert os.fsencode(_objects(out)[0]["path"]) == odd
    assert odd in (tmp_path / "r.csv").read_bytes()
    assert run("predict", os.fsdecode(odd))[0] == 0


def test_explain_one_and_many(run, samples, tmp_path):
    code, _, err = run("explain", samples[0], "--out", "overlay.png")
    assert code == 0
    assert "Grad-CAM for NORMAL" in err
    assert cv2.imread(str(tmp_path / "overlay.png")) is not None
    code, _, err = run("explain", samples[0], samples[9], "missing.png", "--out", "many", "--class", "PNEUMONIA")
    assert code == 1
    assert len(list((tmp_path / "many").glob("*.png"))) == 2
    assert "missing.png: expected an image file" in err


def test_explain_says_that_an_lstm_has_no_feature_map(run, samples):
    code, _, err = run("explain", samples[9], "--out", "o.png", "--model", "reference-lstm")
    assert code == 0
    assert "occlusion sensitivity for" in err


def test_demo_writes_a_page_with_every_overlay(run, tmp_path):
    code, out, _ = run("demo", "--out", "shown")
    assert code == 0
    assert "24 images" in out
    page = (tmp_path / "shown" / "index.html").read_text()
    overlays = sorted((tmp_path / "shown" / "heatmaps").glob("*.png"))
    assert len(overlays) == 24
    assert all(f'src="heatmaps/{path.name}"' in page for path in overlays)
    assert "http" not in page.replace("http-equiv", ""), "the page needs no network"


def test_models_lists_what_ships(run):
    out = run("models")[1]
    assert all(name in out for name in ("  mobilenet", "  lstm", "reference-mobilenet", "reference-lstm"))


def test_evaluate_and_compare_on_ones_own_labels(run, tmp_path):
    assert run("evaluate", "--data", SAMPLES, "--split", "all", "--out", "a")[0] == 0
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
    """A newcomer's path: a zip, a manifest, a split, a model, its evaluation on the held-out images."""
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


def test_a_model_that_held_nothing_out_says_where_it_can_be_evaluated(run, tmp_path, backbone_weights):
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


def test_evaluations_at_two_points_or_prevalences_lie_apart():
    bundle = SimpleNamespace(name="given", sha256="ab" * 32, threshold=0.5, prevalence=0.4)

    def folder(threshold, prevalence):
        predictor = SimpleNamespace(bundle=bundle, threshold=threshold, prevalence=prevalence)
        return str(evaluation_folder(predictor, "val"))

    assert folder(0.5, 0.4) == "evaluations/given-abababab-val"
    assert folder(0.3, 0.4) == "evaluations/given-abababab-val-at0.3"
    assert folder(0.5, 0.1) == "evaluations/given-abababab-val-prevalence0.1"
    assert folder(0.3, 0.1) == "evaluations/given-abababab-val-at0.3-prevalence0.1"


def test_the_clock_of_a_training_starts_with_it(monkeypatch, capsys):
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_written(samples, tmp_path, number):
    """A real process on a long list, interrupted after its third row."""
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{path}\n" for path in samples) * 40)
    command = [sys.executable, "-m", "pneumoscope", "predict", "-", "--csv", str(tmp_path / "r.csv"), "--json"]
    command += ["--parquet", str(tmp_path / "parts")]
    with (
        names.open() as listed,
        (tmp_path / "err.txt").open("w") as said,
        subprocess.Popen(
            command,
            stdin=listed,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            # A job that a script started in the background ignores SIGINT, and so would this child.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process,
    ):
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(60) == 130
    assert "interrupted; what was written so far is kept" in (tmp_path / "err.txt").read_text()
    rows = len((tmp_path / "r.csv").read_text().splitlines()) - 1
    assert 3 <= rows < 960
    assert rows - pyarrow.parquet.read_table(tmp_path / "parts").num_rows in (0, 1)  # written one after the other
