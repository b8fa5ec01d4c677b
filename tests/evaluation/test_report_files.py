"""Reading report.json and predictions.csv: files that are not what they should be are refused."""

import json
from pathlib import Path

import pytest

from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import read_report

pytestmark = pytest.mark.usefixtures("batches_in_order")


def change_report(folder: Path, **changes) -> None:
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, **changes}))


def test_no_report_is_an_error(tmp_path):
    with pytest.raises(
        DatasetError, match=r"expected an evaluation report at .*report\.json, cannot read it .*No such"
    ):
        read_report(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '{"metrics": {}}', "\x80"])
def test_another_file_is_not_a_report(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"expected an evaluation report .*pneumoscope evaluate"):
        read_report(tmp_path)


def test_a_report_of_another_version_is_refused(evaluated):
    change_report(evaluated, schema=2)
    with pytest.raises(DatasetError, match=r"of version 1 at .*, received version 2"):
        read_report(evaluated)


def test_a_report_without_its_metrics_is_refused(evaluated):
    change_report(evaluated, metrics=None)
    with pytest.raises(DatasetError, match="its metrics is missing or of another kind"):
        read_report(evaluated)


def test_a_report_without_its_predictions_is_refused(evaluated):
    (evaluated / "predictions.csv").unlink()
    with pytest.raises(DatasetError, match="expected the predictions of the report at"):
        read_report(evaluated)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("probability,verdict", "p,verdict", "expected the columns path, sha256, label, sublabel, patient"),
        (",NORMAL,", ",HEALTHY,", r"predictions\.csv line 2, received"),
        ("ok,\n", "ok,,more\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", "\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok,1.01\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok,nan\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok,yes\n", r"predictions\.csv line \d+, received"),
        (",0.", ",zero.", r"predictions\.csv line \d+, received"),
        (",0.", ",7.", r"predictions\.csv line \d+, received"),
        (",0.", ",nan", r"predictions\.csv line \d+, received"),
    ],
)
def test_damaged_predictions_are_refused(evaluated, old, new, message):
    path = evaluated / "predictions.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DatasetError, match=message):
        read_report(evaluated)


def test_predictions_of_another_evaluation_are_refused(evaluated):
    path = evaluated / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DatasetError, match=r"expected the 24 radiographs of .* received 23"):
        read_report(evaluated)


def test_predictions_without_the_column_bacterial_are_refused(evaluated):
    path = evaluated / "predictions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    with pytest.raises(DatasetError, match=r"expected the columns path, .*, bacterial in .*: evaluate again"):
        read_report(evaluated)
