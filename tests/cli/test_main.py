"""The program as a whole: help, wrong usage, interruption."""

import signal
import subprocess
import sys

import pyarrow.parquet
import pytest

from pneumoscope.samples import SAMPLES


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("predict", "explain", "demo", "train", "export", "evaluate", "compare", "data"):
        assert command in out
    assert run("--version")[1].startswith("pneumoscope 0.")


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_written(samples, tmp_path, number):
    """A real process on a long list, interrupted after its third row."""
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{path}\n" for path in samples) * 40)
    command = [sys.executable, "-m", "pneumoscope", "predict", "-", "--csv", str(tmp_path / "r.csv"), "--json"]
    command += ["--parquet", str(tmp_path / "parts")]
    with (
        names.open() as listed,
        (tmp_path / "err.txt").open("w") as errors,
        subprocess.Popen(
            command,
            stdin=listed,
            stdout=subprocess.PIPE,
            stderr=errors,
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
