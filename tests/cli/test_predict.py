"""What predict reads and prints: tables, JSON lines, names of every kind, damaged files."""

import hashlib
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from builders.command_lines import json_objects

from pneumoscope.inference.bundle import ZOO
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.io.names import decode_name
from pneumoscope.samples import SAMPLES


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
    rows = json_objects(out)
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
    assert len(json_objects((tmp_path / "results.jsonl").read_text())) == 24
    assert b"screening" in shown
    assert b'"path"' not in shown


def test_predict_takes_folders_globs_and_standard_input(run, samples):
    names = "".join(f"{path}\n" for path in samples[:3])
    assert len(json_objects(run("predict", "--json", "-", stdin=names)[1])) == 3
    assert len(json_objects(run("predict", "--json", SAMPLES)[1])) == 24
    assert len(json_objects(run("predict", "--json", SAMPLES / "*" / "person1*.jpeg")[1])) == 5


def test_file_names_cannot_control_the_terminal(run, samples, tmp_path):
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
    rows = json_objects(out)
    assert code == 1
    assert sum(row["label"] is not None for row in rows) == 100
    failed = [row for row in rows if row["label"] is None]
    assert len(failed) == 5
    assert all(row["reason"].startswith("expected ") and row["probability"] is None for row in failed)


def test_a_folder_without_images_is_an_error_in_its_row(run, tmp_path, samples):
    (tmp_path / "empty").mkdir()
    code, out, _ = run("predict", "--json", tmp_path / "empty", samples[0])
    empty, good = json_objects(out)
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
    assert os.fsencode(decode_name(json_objects(out)[0]["path"])) == odd
    assert odd.replace(b"\xff", rb"\xff") in (tmp_path / "r.csv").read_bytes()
    assert run("predict", os.fsdecode(odd))[0] == 0
