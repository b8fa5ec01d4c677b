"""Results on disk: what is written, what remains after an interruption, and how it is resumed."""

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

from pneumoscope import load
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.io.names import decode_name
from pneumoscope.output import formats, parquet_files
from pneumoscope.output.parquet_files import ParquetParts
from pneumoscope.output.results import find_finished
from pneumoscope.output.text_files import CsvFile, JsonLinesFile
from pneumoscope.radiographs.images import read_radiograph
from pneumoscope.radiographs.sources import NothingFound

FORMATS = {entry.option: entry.open for entry in formats.FORMATS}  # a new format is tested as soon as it is listed


@pytest.fixture(scope="module")
def predictor():
    return load()


@pytest.fixture(scope="module")
def judged(predictor, samples):
    """Five judged images and one that cannot be read, whose name needs quoting in CSV."""
    predictions = list(
        predictor.predict_many([*samples[:5], NothingFound('odd, "name"\r\nof two lines', "found none")])
    )
    assert [p.judged for p in predictions] == [True] * 5 + [False]
    return predictions


def open_results(open_file, *arguments):
    file = open_file(*arguments)
    file.begin()
    return file


@pytest.fixture(params=FORMATS)
def open_file(request, tmp_path, predictor):
    """Opens the same file of one format, any number of times."""

    def open_again(resume=True, predictor=predictor):
        return open_results(FORMATS[request.param], tmp_path / f"results.{request.param}", predictor, resume)

    return open_again


def _content(path):
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
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


def test_rows_have_the_documented_fields(judged, predictor, tmp_path):
    for name, open_file in FORMATS.items():
        file = open_results(open_file, tmp_path / name, predictor, False)
        for prediction in judged:
            file.write(prediction)
        file.close()
    with (tmp_path / "csv").open(newline="") as file:
        tables = [list(csv.DictReader(file))]
    tables.append([json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()])
    tables.append(pyarrow.parquet.read_table(tmp_path / "parquet").to_pylist())
    for table in tables:
        assert [tuple(row) for row in table] == [FIELDS] * 6
        assert [decode_name(row["path"]) for row in table] == [p.path for p in judged]
        assert [float(row["probability"] or -1) for row in table] == [p.probability or -1 for p in judged]


@pytest.mark.parametrize("after", range(7))
def test_a_resumed_file_equals_one_that_was_written_at_once(open_file, judged, monkeypatch, after):
    monkeypatch.setattr(parquet_files, "PART_ROWS", 4)
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


@pytest.mark.parametrize("results_class", [CsvFile, JsonLinesFile])
def test_a_row_cut_off_anywhere_is_written_again(results_class, judged, predictor, tmp_path):
    path = tmp_path / "results"
    file = open_results(results_class, path, predictor, False)
    for prediction in judged:
        file.write(prediction)
    file.close()
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        file = open_results(results_class, path, predictor, True)
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


@pytest.mark.parametrize("results_class", [CsvFile, JsonLinesFile])
def test_a_file_that_is_not_ours_is_refused_and_kept(results_class, predictor, tmp_path):
    path = tmp_path / "notes"
    head = ",".join(FIELDS).encode() + b"\n"
    foreign = [
        b"my notes", b"my notes\n", b'path,label\n"a\n', b'{"path": 1}\n', b"\xff\xd8\xff\xe0", b'{"images": [1]}',
        b'{"path": "of another"}', b"[" * 100_000, head + b"a remark\n", b"x" * 200_000 + b"," + head, b"a\rb\n",
    ]  # fmt: skip
    for content in foreign:
        path.write_bytes(content)
        with pytest.raises(UsageError, match="expected results that pneumoscope wrote in"):
            results_class(path, predictor, True)
        assert path.read_bytes() == content


def test_parts_of_an_earlier_run_and_foreign_parts_are_kept(predictor, judged, tmp_path):
    file = open_results(ParquetParts, tmp_path / "parts", predictor, False)
    file.write(judged[0])
    file.close()
    with pytest.raises(UsageError, match=r"it has 1 parts: resume from them with --resume"):
        ParquetParts(tmp_path / "parts", predictor, False)
    (tmp_path / "parts" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="expected every part that pneumoscope wrote in"):
        ParquetParts(tmp_path / "parts", predictor, True)


@pytest.mark.parametrize("options", [{"threshold": 0.4}, {"prevalence": 0.1}, {"model": "reference-mobilenet"}])
def test_results_of_another_model_or_operating_point_do_not_mix(open_file, judged, options):
    file = open_file()
    file.write(judged[0])
    file.close()
    before = _content(file.path)
    with pytest.raises(UsageError, match="received others: name another file"):
        open_file(predictor=load(**options))
    assert _content(file.path) == before


def test_without_pyarrow_the_error_is_one_sentence(predictor, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"--parquet needs the package 'pyarrow.*'pneumoscope\[parquet\]'"):
        ParquetParts(tmp_path / "parts", predictor, False)


def test_with_a_missing_part_nothing_is_overwritten(predictor, judged, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "PART_ROWS", 2)
    file = open_results(ParquetParts, tmp_path / "parts", predictor, False)
    for prediction in judged:
        file.write(prediction)
    file.close()
    (tmp_path / "parts" / "part-00000.parquet").unlink()
    before = _content(tmp_path / "parts")
    with pytest.raises(UsageError, match=r"from part-00000\.parquet on"):
        ParquetParts(tmp_path / "parts", predictor, True)
    assert _content(tmp_path / "parts") == before


def test_a_part_that_is_not_full_is_written_after_some_seconds(predictor, judged, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "PART_SECONDS", 0.0)
    file = open_results(ParquetParts, tmp_path / "parts", predictor, False)
    for number, prediction in enumerate(judged, start=1):
        file.write(prediction)
        assert pyarrow.parquet.read_table(tmp_path / "parts").num_rows == number
    file.close()


def test_opening_a_file_does_not_change_its_content(predictor, judged, tmp_path):
    path = tmp_path / "r.csv"
    file = open_results(CsvFile, path, predictor, False)
    for prediction in judged[:2]:
        file.write(prediction)
    file.close()
    before = path.read_bytes()
    for resume in (False, True):
        file = CsvFile(path, load(threshold=0.3) if not resume else predictor, resume)
        file.release()
        assert path.read_bytes() == before
    path.write_bytes(before[:-20])
    with pytest.raises(UsageError, match="received others"):
        CsvFile(path, load(threshold=0.3), True)
    assert path.read_bytes() == before[:-20]


def test_a_changed_image_is_judged_again_and_a_known_one_is_not(predictor, samples, tmp_path):
    paths = [tmp_path / f"{number}.jpeg" for number in range(4)]
    for path, sample in zip(paths, samples, strict=False):
        shutil.copy(sample, path)
    sources = [*paths, tmp_path / "missing.png", NothingFound("*.nothing", "found none"), *samples[4:7]]
    file = open_results(JsonLinesFile, tmp_path / "r.jsonl", predictor, False)
    first = list(predictor.predict_many(sources[:8]))
    for prediction in first:
        file.write(prediction)
    file.close()
    pixels = read_radiograph(paths[3]).pixels
    cv2.imwrite(str(paths[3]), pixels[:, ::-1])
    file = JsonLinesFile(tmp_path / "r.jsonl", predictor, True)
    finished = find_finished([file], sources)
    file.release()
    # The unreadable images are judged again too.
    assert finished == [first[0], first[1], first[2], None, None, None, first[6], first[7], None]


def test_an_unreadable_image_is_judged_again_when_its_extra_is_installed(predictor, samples, tmp_path, monkeypatch):
    from builders.dicom_files import dicom_file

    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(read_radiograph(samples[9]).pixels))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydicom", None)
        file = open_results(CsvFile, tmp_path / "r.csv", predictor, False)
        (failed,) = predictor.predict_many([path])
        file.write(failed)
        file.close()
    assert "pip install" in failed.reason
    file = open_results(CsvFile, tmp_path / "r.csv", predictor, True)
    assert find_finished([file], [path]) == [None]
    for prediction in predictor.predict_many([path]):
        file.write(prediction)
    file.close()
    rows = csv.DictReader((tmp_path / "r.csv").read_text().splitlines())
    assert [row["status"] for row in rows] == ["error", "ok"]


@pytest.mark.parametrize("results_class", [CsvFile, JsonLinesFile])
def test_resumed_after_any_row_a_run_writes_the_same_digits(results_class, predictor, samples, tmp_path):
    """The last digit of a probability depends on the size of the batch."""
    sources = [*samples, *samples[:11]]
    path = tmp_path / "r"
    file = open_results(results_class, path, predictor, False)
    for prediction in predictor.predict_many(sources):
        file.write(prediction)
    file.close()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for rows in range(0, len(sources), 3):
        path.write_bytes(b"".join(lines[: rows + (results_class is CsvFile)]))
        file = open_results(results_class, path, predictor, True)
        before = find_finished([file], sources)
        fresh = predictor.predict_many(source for source, done in zip(sources, before, strict=True) if done is None)
        for done in before:
            file.write(done or next(fresh))
        file.close()
        assert path.read_bytes() == whole, rows


@pytest.mark.parametrize("option", FORMATS)
def test_a_killed_and_resumed_run_gives_the_results_of_an_uninterrupted_one(samples, tmp_path, option):
    """Real processes: killed three times while they write, then run to the end."""
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{path}\n" for path in samples) * 4)
    small_parts = (
        "from pneumoscope import cli; from pneumoscope.output import parquet_files; "
        "parquet_files.PART_ROWS = 10; cli.main()"
    )

    def command(out):
        return [sys.executable, "-c", small_parts, "predict", "-", f"--{option}", str(tmp_path / out), "--resume"]

    with names.open() as name_list:
        subprocess.run(command("whole"), stdin=name_list, capture_output=True, check=True)
    waits = random.Random(option)
    rows = []
    for _ in range(3):
        out = tmp_path / "resumed"
        with (
            names.open() as name_list,
            subprocess.Popen(command("resumed"), stdin=name_list, stdout=subprocess.PIPE) as run,
        ):
            for _ in range(waits.randrange(2, 60)):
                run.stdout.readline()
            run.send_signal(signal.SIGKILL)
        rows.append(sum(len(content) for content in _content(out)) if out.exists() else 0)
    assert rows == sorted(rows), "a later run lost rows of an earlier run"
    with names.open() as name_list:
        done = subprocess.run(command("resumed"), stdin=name_list, capture_output=True, check=True, text=True)
    assert _content(tmp_path / "resumed") == _content(tmp_path / "whole")
    assert rows[-1] > 0
    assert done.stdout.count("\n") == 98
