"""Results with odd file names: pandas, pyarrow and jq read them, no spreadsheet runs them, --resume knows them."""

import csv
import io
import json
import os
import shutil
import subprocess

import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pytest

from pneumoscope import load
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.io.names import decode_name
from pneumoscope.output import formats
from pneumoscope.output.results import FIRST_FIELDS
from pneumoscope.output.text_files import CsvFile, JsonLinesFile

NAMES = [
    os.fsdecode(name)
    for name in (
        b"=cmd.png", b"+1.png", b"-1.png", b"@SUM(A1).png", b"\t=1.png", b"\r=1.png", b"two\nlines.png",
        b"scan-\xff.png", b"a\\xff.png", b'a, "b".png', b"a;=cmd.png", b"\x1b[31mred.png",
        "\u80ba\u709e.png".encode(),
    )
]  # fmt: skip
FORMATS = {entry.option: entry for entry in formats.FORMATS}


@pytest.fixture(scope="module")
def predictor():
    return load()


@pytest.fixture(scope="module")
def sources(samples, tmp_path_factory):
    """The same radiograph under every name."""
    folder = tmp_path_factory.mktemp("odd")
    for name in NAMES:
        shutil.copy(samples[0], folder / name)
    before = os.getcwd()
    os.chdir(folder)
    yield NAMES
    os.chdir(before)


@pytest.fixture
def write(predictor, sources, tmp_path):
    """Writes all results, or those from a number on; returns the file."""
    predictions = list(predictor.predict_many(sources))

    def write(option, resume=False, rows=None):
        file = FORMATS[option].open(tmp_path / f"results.{option}", predictor, resume)
        file.begin()
        for prediction in predictions[:rows]:
            file.write(prediction)
        file.close()
        return file.path

    return write


def tables(write):
    """Each format, read by the programs that people use."""
    pandas = pytest.importorskip("pandas")
    path = write("csv")
    yield list(pandas.read_csv(path)["path"])
    yield pyarrow.csv.read_csv(path)["path"].to_pylist()
    yield [row["path"] for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    path = write("jsonl")
    yield list(pandas.read_json(path, lines=True)["path"])
    yield pyarrow.json.read_json(path)["path"].to_pylist()
    if shutil.which("jq"):
        done = subprocess.run(["jq", "-c", ".path", path], capture_output=True, check=True, encoding="utf-8")
        yield [json.loads(line) for line in done.stdout.splitlines()]
    yield pyarrow.parquet.read_table(write("parquet"))["path"].to_pylist()


def test_other_programs_read_every_name_and_it_can_be_turned_back(write, sources):
    for names in tables(write):
        assert [decode_name(name) for name in names] == sources
        assert all(os.path.exists(decode_name(name)) for name in names)


def test_no_cell_of_a_table_is_a_formula(write):
    for line in csv.reader(write("csv").read_text(encoding="utf-8").splitlines()):
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_json_and_parquet_keep_what_only_a_spreadsheet_misreads(write, sources):
    rows = [json.loads(line) for line in write("jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["path"] for row in rows][:4] == sources[:4]
    assert pyarrow.parquet.read_table(write("parquet"))["path"].to_pylist()[:4] == sources[:4]


@pytest.mark.parametrize("option", FORMATS)
def test_a_resumed_run_knows_every_name(write, option, predictor, sources):
    path = write(option)
    first = sorted(file.read_bytes() for file in path.rglob("part*")) if path.is_dir() else path.read_bytes()
    file = FORMATS[option].open(path, predictor, True)
    assert [prediction.path for prediction in file.predictions] == sources
    file.release()
    write(option, resume=True)
    assert first == (sorted(file.read_bytes() for file in path.rglob("part*")) if path.is_dir() else path.read_bytes())


def test_a_table_without_codes_is_continued_without_them(write, predictor, sources):
    path = write("csv", rows=3)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    old = io.StringIO()
    csv.writer(old, lineterminator="\n").writerows(row[: len(FIRST_FIELDS)] for row in rows)
    path.write_text(old.getvalue())
    write("csv", resume=True)
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == FIRST_FIELDS
    assert [decode_name(row["path"]) for row in table] == sources
    again = CsvFile(path, predictor, True)
    again.release()
    assert len(again.predictions) == len(sources)


def test_json_lines_and_parts_without_codes_are_continued(write, predictor, sources):
    path = write("jsonl", rows=3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({name: row[name] for name in FIRST_FIELDS}) + "\n" for row in rows))
    write("jsonl", resume=True)
    again = JsonLinesFile(path, predictor, True)
    again.release()
    assert [prediction.path for prediction in again.predictions] == sources
    part = write("parquet", rows=3) / "part-00000.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(part).drop_columns(list(FIELDS[len(FIRST_FIELDS) :])), part)
    write("parquet", resume=True)
    assert pyarrow.parquet.read_table(part)["path"].to_pylist()[:2] == sources[:2]
    assert pyarrow.parquet.read_table(part).num_rows == len(sources)


def test_a_row_says_why_an_image_was_not_judged(predictor, tmp_path):
    missing = predictor.predict(tmp_path / "missing.png")
    assert (missing.status, bool(missing.code)) == ("error", True)
    assert missing.to_dict()["code"] == "not_found"
