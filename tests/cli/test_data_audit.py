"""``data audit`` on the command line."""

import json
import shutil

import pytest

from pneumoscope.samples import SAMPLES


@pytest.fixture
def collection(tmp_path):
    """The bundled radiographs in official splits, one of them in two."""
    for label in ("NORMAL", "PNEUMONIA"):
        for place, path in enumerate(sorted(SAMPLES.glob(f"{label}/*.jpeg"))):
            target = tmp_path / "data" / ("test" if place % 2 else "train") / label / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path / "data"


@pytest.fixture
def copied(collection):
    shutil.copy(SAMPLES / "NORMAL" / "IM-0350-0001.jpeg", collection / "test" / "NORMAL" / "IM-9999-0001.jpeg")
    return collection


def test_the_command_prints_findings_and_shortcuts_and_writes_a_page(run, copied, tmp_path):
    code, out, _ = run("data", "audit", copied, "--out", "out")
    assert code == 0
    assert "fault: 1 pictures are there in two splits" in out
    assert "aspect ratio" in out
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert report["data"]["images"] == 25
    assert "<title>pneumoscope: audit</title>" in (tmp_path / "out" / "audit.html").read_text()
    assert run("data", "audit", copied, "--out", "out", "--strict")[0] == 1


def test_a_damaged_file_does_not_stop_the_audit(run, collection):
    (collection / "train" / "NORMAL" / "IM-0001-0001.jpeg").write_bytes(b"no image")
    code, out, _ = run("data", "audit", collection)
    assert code == 0
    assert "fault: 1 files cannot be used: expected " in out


def test_a_page_of_somebody_else_is_not_replaced(run, collection, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "audit.html").write_text("<html>mine</html>")
    code, _, err = run("data", "audit", collection, "--out", "out")
    assert code == 2
    assert "audit.html" in err
    assert (tmp_path / "out" / "audit.html").read_text() == "<html>mine</html>"


def test_with_dry_run_nothing_is_written(run, collection, tmp_path):
    code, out, _ = run("data", "audit", collection, "--dry-run")
    assert code == 0
    assert "24 images" in out
    assert not (tmp_path / "audit").exists()


def test_a_folder_without_images_is_one_sentence(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("data", "audit", "empty")
    assert code == 1
    assert err.count("\n") == 1
    assert "expected" in err
