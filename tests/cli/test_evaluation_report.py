"""The report of ``evaluate`` on a table: subgroups, other thresholds, worst errors."""

import csv
import json
import shutil

import pytest

from pneumoscope.evaluation import read_report
from pneumoscope.samples import SAMPLES


@pytest.fixture
def table(tmp_path):
    """The bundled radiographs with ages and a ward; two labels are wrong."""
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient", "Age", "ward"])
        for place, image in enumerate(sorted(SAMPLES.glob("*/*.jpeg"))):
            turned = {"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}[image.parent.name]
            label = turned if place in (2, 9) else image.parent.name
            writer.writerow([image, label, f"p{place}", "3" if place % 2 else "9", "A" if place % 3 else "B"])
    return path


def test_the_report_has_subgroups_thresholds_and_errors(run, table, tmp_path):
    code, _, err = run("evaluate", "--data", table, "--split", "all", "--subgroup", "ward", "--out", "e")
    assert code == 0, err
    report, rows = read_report(tmp_path / "e")
    assert {(group["attribute"], group["value"]) for group in report["subgroups"]} >= {
        ("age", "1 to 5"), ("age", "6 to 17"), ("ward", "A"),
    }  # fmt: skip
    assert sum(group["images"] for group in report["subgroups"] if group["attribute"] == "age") == 24
    assert {row["age"] for row in rows} == {"3", "9"}
    page = (tmp_path / "e" / "report.html").read_text()
    for title in ("Other thresholds", "Subgroups", "Worst errors", "Decision curve"):
        assert title in page
    assert page.count("missed pneumonia: ") >= 2  # alternative text and caption
    wrong = [row for row in rows if row["verdict"] != row["label"]]
    assert page.count("data:image/jpeg;base64,") == len(wrong) >= 2
    assert "This page contains radiographs" in page


def test_without_errors_the_page_has_no_radiograph(run, table, tmp_path):
    code, _, err = run("evaluate", "--data", table, "--split", "all", "--out", "e", "--errors", "0")
    assert code == 0, err
    page = (tmp_path / "e" / "report.html").read_text()
    assert "data:image/jpeg" not in page
    assert "This page contains radiographs" not in page
    assert json.loads((tmp_path / "e" / "report.json").read_text())["thresholds"]


def test_with_robustness_the_page_has_every_change(run, tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "few" / label).mkdir(parents=True)
        for path in sorted(SAMPLES.glob(f"{label}/*.jpeg"))[:2]:
            shutil.copy(path, tmp_path / "few" / label)
    code, _, err = run("evaluate", "--data", "few", "--split", "all", "--out", "e", "--robustness")
    assert code == 0, err
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    assert len(report["robustness"]["corruptions"]) == 65
    page = (tmp_path / "e" / "report.html").read_text()
    for text in ("Robustness", "style turned round", "other scanner", "shot noise", "level 5"):
        assert text in page


def test_a_subgroup_that_is_no_column_is_one_sentence(run, table):
    code, _, err = run("evaluate", "--data", table, "--split", "all", "--subgroup", "hospital")
    assert (code, err.count("\n")) == (1, 1)
    assert "expected the column 'hospital'" in err
