"""What reaches a terminal: nothing of a file's content, no colours in files, and each stream by itself."""

import os
import pty
import subprocess
import sys
import warnings

import cv2
import pytest
from builders.image_files import encode, with_profile_name

from pneumoscope import load
from pneumoscope.cluster.cluster_run import Worker
from pneumoscope.cluster.source_lists import encode_sources
from pneumoscope.io.streams import quiet_libraries
from pneumoscope.radiographs.images import read_radiograph

ESCAPES = b"JANE\x1b[31mDOE\nsecond"
COLOUR = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "PY_COLORS": "1", "TTY_COMPATIBLE": "1", "COLORTERM": "truecolor"}


@pytest.fixture
def talkative(samples, tmp_path):
    """A labelled folder whose pictures make libpng print, and a JPEG after whose end other bytes follow."""
    pixels = read_radiograph(samples[0]).pixels
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            png = encode(pixels[number:], "PNG")
            (tmp_path / "data" / label / f"{label}-{number}.png").write_bytes(with_profile_name(png, ESCAPES))
    return tmp_path / "data"


def command(*words, env=COLOUR, **options):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [sys.executable, "-m", "pneumoscope", *map(str, words)], env=os.environ | env, check=False, timeout=120, **pipes
    )


def test_libpng_does_print_the_name(talkative, capfd):
    """Otherwise the tests below would test nothing."""
    cv2.imread(str(next(talkative.rglob("*.png"))))
    assert ESCAPES.decode() in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "data"),
        ("predict", "data", "--json", "--heatmaps", "h"),
        ("explain", "data", "--out", "o"),
        ("evaluate", "--data", "data", "--split", "all", "-m", "reference-lstm", "--out", "e"),
        ("data", "split", "--data", "data"),
    ],
)
def test_nothing_of_a_file_is_printed_and_no_colour_where_nobody_looks(talkative, words):
    done = command(*words, cwd=talkative.parent)
    for stream in (done.stdout, done.stderr):
        assert b"JANE" not in stream
        assert b"\x1b" not in stream
        assert b"libpng" not in stream


def test_a_worker_of_a_cluster_is_quiet_too(talkative, capfd):
    bundle = load().bundle
    worker = Worker(bundle.path.read_bytes(), str(bundle.path), 0.5, None, any_age=False)
    names = [str(path) for path in talkative.rglob("*.png")]
    worker({"number": 0, "sources": encode_sources(names)})
    assert capfd.readouterr().err == ""


def test_a_terminal_still_has_colours_and_the_name_of_a_file_has_none(talkative):
    """On a real terminal, the only escape sequences are our own."""
    (talkative / "\x1b[35mred.png").write_bytes(b"no picture")
    ours, theirs = pty.openpty()
    command("predict", "data", cwd=talkative.parent, stdout=theirs, stderr=theirs, env={"TERM": "xterm-256color"})
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # the end of a terminal
        pass
    os.close(ours)
    assert b"\x1b[" in text
    assert b"JANE" not in text
    assert b"\x1b[35mred" not in text
    assert "\ufffd[35mred.png".encode() in text


def test_names_in_sentences_are_printable(run, tmp_path):
    for words in (
        ("predict", "a\x1b[31m.png"),
        ("predict", "x.png", "--model", "a\x1b[31m"),
        ("explain", "a\x1b[31m.png", "--out", "o.png"),
    ):
        _, out, err = run(*words)
        assert "\x1b" not in out + err
        assert "[31m" in out + err


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_gets_nothing_of_another(samples, talkative, closed):
    """The next file that is opened would take its number."""
    line = f'exec "$0" -m pneumoscope predict data/NORMAL --csv r.csv {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable], cwd=talkative.parent, check=False, timeout=120, capture_output=True
    )
    assert done.returncode == 0
    rows = (talkative.parent / "r.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["path", "data/NORMAL/NORMAL-0.png", "data/NORMAL/NORMAL-1.png"]


def test_a_reader_that_has_enough_ends_it_without_a_word(samples):
    line = f'"$0" -m pneumoscope predict {" ".join(map(str, samples * 20))} | head -1'
    done = subprocess.run(["sh", "-c", line, sys.executable], check=False, timeout=120, capture_output=True)
    assert done.stderr == b""
    assert done.stdout.startswith(b"verdict")


def test_warnings_are_hidden_unless_they_are_asked_for(capfd, monkeypatch):
    def warn_and_print():
        with quiet_libraries():
            warnings.warn("JANE\x1b[31m", UserWarning, stacklevel=1)
            os.write(2, b"JANE")

    monkeypatch.setattr(sys, "warnoptions", [])
    warn_and_print()
    assert "JANE" not in capfd.readouterr().err
    monkeypatch.setenv("PNEUMOSCOPE_SHOW_LIBRARIES", "1")
    with pytest.warns(UserWarning, match="JANE"):
        warn_and_print()
    assert "JANE" in capfd.readouterr().err


def test_logged_errors_have_no_control_characters():
    code = (
        "import logging, os; from pneumoscope.io.streams import quiet_libraries\n"
        "with quiet_libraries(): logging.getLogger('x').error('a\\x1b[31m'); os.write(2, b'hidden')\n"
        "os.write(2, b'shown')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr.decode() == "a\ufffd[31m\nshown"
