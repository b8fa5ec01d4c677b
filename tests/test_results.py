"""Results on disk: what is written, what an interruption leaves, and how it goes on."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys

import cv2
import pyarrow.parquet
import pytest

from pneumoscope import load, results
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.images import read_radiograph
from pneumoscope.predict import FIELDS, NothingFound
from pneumoscope.results import CsvFile, JsonLinesFile, ParquetParts, judged_before

KINDS = {"csv": CsvFile, "jsonl": JsonLinesFile, "parquet": ParquetParts}


@pytest.fixture(scope="module")
def predictor():
    return load()


@pytest.fixture(scope="module")
def judged(predictor, samples):
    """Predictions of every kind: judged, refused, unreadable, with names that need quoting."""
    found = list(predictor.predict_many([*samples[:5], NothingFound('odd, "name"\nof two lines', "found none")]))
    assert [one.judged for one in found] == [True] * 5 + [False]
    return found


@pytest.fixture(params=KINDS)
def open_file(request, tmp_path, predictor):
    """Opens one file of one kind, again and again."""

    def open_again(resume=True, predictor=predictor):
        return KINDS[request.param](tmp_path / f"results.{request.param}", predictor, resume)

    return open_again


def _content(path):
    files = sorted(path.glob("part-*")) if path.is_dir() else [path]
    return [file.read_bytes() for file in files]


def test_what_was_written_is_read_back(open_file, judged):
    file = open_file()
    assert file.predictions == []
    for prediction in judged:
        file.write(prediction)
    file.close()
    again = open_file()
    assert again.predictions == judged
    again.close()


def test_the_rows_are_those_of_the_documented_fields(judged, predictor, tmp_path):
    for name, kind in KINDS.items():
        file = kind(tmp_path / name, predictor, False)
        for prediction in judged:
            file.write(prediction)
        file.close()
    with (tmp_path / "csv").open(newline="") as file:
        tables = [list(csv.DictReader(file))]
    tables.append([json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()])
    tables.append(pyarrow.parquet.read_table(tmp_path / "parquet").to_pylist())
    for table in tables:
        assert [tuple(row) for row in table] == [FIELDS] * 6
        assert [row["path"] for row in table] == [one.path for one in judged]
        assert [float(row["probability"] or -1) for row in table] == [one.probability or -1 for one in judged]


@pytest.mark.parametrize("after", range(7))
def test_a_file_that_went_on_equals_one_that_was_written_at_once(open_file, judged, monkeypatch, after):
    monkeypatch.setattr(results, "PART_ROWS", 4)
    whole = open_file()
    for prediction in judged:
        whole.write(prediction)
    whole.close()
    expected = _content(whole.path)
    shutil.rmtree(whole.path) if whole.path.is_dir() else whole.path.unlink()
    for end in (after, 6):
        file = open_file()
        for prediction in judged[:end]:
            file.write(prediction)
        file.close()
    assert _content(file.path) == expected


@pytest.mark.parametrize("kind", [CsvFile, JsonLinesFile])
def test_a_row_cut_off_anywhere_is_written_again(kind, judged, predictor, tmp_path):
    path = tmp_path / "results"
    file = kind(path, predictor, False)
    for prediction in judged:
        file.write(prediction)
    file.close()
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        file = kind(path, predictor, True)
        assert file.predictions == judged[: len(file.predictions)]
        for prediction in judged:
            file.write(prediction)
        file.close()
        assert path.read_bytes() == whole, cut


def test_the_same_image_named_twice_has_two_rows(open_file, judged):
    for _ in range(2):
        file = open_file()
        for prediction in (judged[0], judged[0]):
            file.write(prediction)
        file.close()
    file = open_file()
    file.close()
    assert file.predictions == [judged[0]] * 2


@pytest.mark.parametrize("kind", [CsvFile, JsonLinesFile])
def test_another_file_is_never_taken_for_results(kind, predictor, tmp_path):
    path = tmp_path / "notes"
    for content in (b"my notes", b"my notes\n", b'path,label\n"a\n', b'{"path": 1}\n', b"\xff\xd8\xff\xe0"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="expected results that pneumoscope wrote in"):
            kind(path, predictor, True)
        assert path.read_bytes() == content


def test_foreign_parts_and_parts_of_before_are_kept(predictor, judged, tmp_path):
    file = ParquetParts(tmp_path / "parts", predictor, False)
    file.write(judged[0])
    file.close()
    with pytest.raises(UsageError, match=r"it has 1 parts: go on with them by --resume"):
        ParquetParts(tmp_path / "parts", predictor, False)
    (tmp_path / "parts" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="expected parts that pneumoscope wrote in"):
        ParquetParts(tmp_path / "parts", predictor, True)


@pytest.mark.parametrize("options", [{"threshold": 0.4}, {"prevalence": 0.1}, {"model": "reference-mobilenet"}])
def test_results_of_another_model_or_point_do_not_mix(open_file, judged, options):
    file = open_file()
    file.write(judged[0])
    file.close()
    before = _content(file.path)
    with pytest.raises(UsageError, match="it holds others: name another file"):
        open_file(predictor=load(**options))
    assert _content(file.path) == before


def test_pyarrow_missing_is_one_sentence(predictor, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"--parquet needs the package 'pyarrow.*'pneumoscope\[parquet\]'"):
        ParquetParts(tmp_path / "parts", predictor, False)


def test_a_changed_image_is_judged_again_and_a_known_one_is_not(predictor, samples, tmp_path):
    paths = [tmp_path / f"{number}.jpeg" for number in range(3)]
    for path, sample in zip(paths, samples, strict=False):
        shutil.copy(sample, path)
    missing, empty = tmp_path / "missing.png", NothingFound("*.nothing", "found none")
    sources = [*paths, missing, empty, samples[5]]
    file = JsonLinesFile(tmp_path / "r.jsonl", predictor, False)
    first = list(predictor.predict_many(sources[:5]))
    for prediction in first:
        file.write(prediction)
    file.close()
    pixels = read_radiograph(paths[1]).pixels
    cv2.imwrite(str(paths[1]), pixels[:, ::-1])
    file = JsonLinesFile(tmp_path / "r.jsonl", predictor, True)
    found = judged_before([file], sources)
    file.close()
    assert found == [first[0], None, first[2], first[3], None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_time_and_resumed_the_result_is_that_of_an_uninterrupted_run(samples, tmp_path, kind):
    """Real processes, killed three times while they write, then left to end."""
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{path}\n" for path in samples) * 4)

    def command(out):
        return [sys.executable, "-m", "pneumoscope", "predict", "-", f"--{kind}", str(tmp_path / out), "--resume"]

    with names.open() as listed:
        subprocess.run(command("whole"), stdin=listed, capture_output=True, check=True)
    waits = random.Random(kind)
    rows = []
    for _ in range(3):
        out = tmp_path / "resumed"
        with names.open() as listed, subprocess.Popen(command("resumed"), stdin=listed, stdout=subprocess.PIPE) as run:
            for _ in range(waits.randrange(2, 60)):
                run.stdout.readline()
            run.send_signal(signal.SIGKILL)
        rows.append(sum(len(content) for content in _content(out)) if out.exists() else 0)
    assert run.returncode == -signal.SIGKILL
    assert rows == sorted(rows), "a later run lost what an earlier one had written"
    with names.open() as listed:
        done = subprocess.run(command("resumed"), stdin=listed, capture_output=True, check=True, text=True)
    assert _content(tmp_path / "resumed") == _content(tmp_path / "whole")
    if kind != "parquet":  # 96 rows fill no part, and a killed process leaves none that is not full
        assert "of 96 images are judged already" in done.stderr
    assert done.stdout.count("\n") == 98
