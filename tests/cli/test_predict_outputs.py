"""What predict writes, and what it never overwrites."""

import csv
import shutil
import subprocess
import sys

import cv2
import pytest
from builders.command_lines import json_objects
from builders.dicom_files import dicom_file

from pneumoscope.errors import UnreadableImage
from pneumoscope.labels import SCOPE
from pneumoscope.radiographs import read_file, read_radiograph


def test_two_writers_of_one_csv_are_kept_apart(run, samples, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "r.csv").open("w") as other:
        other.write("path,model_sha256\nrows of another process")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        code, _, err = run("predict", samples[0], "--csv", "r.csv")
    assert code == 2
    assert "to be free, another pneumoscope process is writing to it" in err
    assert (tmp_path / "r.csv").read_text() == "path,model_sha256\nrows of another process"


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
    assert SCOPE in page


def test_resume_judges_the_rest_and_outputs_everything(run, samples, tmp_path):
    files = ["--csv", "r.csv", "--heatmaps", "h"]
    run("predict", *samples[:18], *files)
    kept, drawn = (tmp_path / "h" / f"{samples[number].stem}.png" for number in (0, 1))
    before, picture = kept.stat().st_mtime_ns, drawn.read_bytes()
    drawn.unlink()
    code, out, err = run("predict", *samples, *files, "--html", "i.html", "--json", "--resume")
    assert code == 0
    assert "18 of 24 images are already done" in err
    assert [row["path"] for row in json_objects(out)] == [str(path) for path in samples]
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(path) for path in samples]
    assert (kept.stat().st_mtime_ns, drawn.read_bytes()) == (before, picture)
    page = (tmp_path / "i.html").read_text()
    assert all(f'src="h/{path.stem}.png"' in page for path in samples)


def test_a_resumed_sheet_shows_each_image_its_own_heatmap(run, samples, tmp_path):
    """Names of overlays depend on what comes before: a new image of the same name moves them all."""
    for folder, sample in (("b", samples[0]), ("c", samples[9])):
        (tmp_path / folder).mkdir()
        shutil.copy(sample, tmp_path / folder / "IM1.jpeg")
    run("predict", "b", "c", "--csv", "r.csv", "--heatmaps", "h")
    drawn = {one: (tmp_path / "h" / name).read_bytes() for one, name in (("b", "IM1.png"), ("c", "IM1-2.png"))}
    (tmp_path / "a").mkdir()
    shutil.copy(samples[17], tmp_path / "a" / "IM1.jpeg")
    run("predict", "a", "b", "c", "--csv", "r.csv", "--heatmaps", "h", "--resume", "--html", "i.html")
    assert (tmp_path / "h" / "IM1-2.png").read_bytes() == drawn["b"]
    assert (tmp_path / "h" / "IM1-3.png").read_bytes() == drawn["c"]
    assert (tmp_path / "h" / "IM1.png").read_bytes() not in drawn.values()


def test_a_call_refused_for_one_output_leaves_the_other(run, samples, tmp_path):
    run("predict", samples[0], "--csv", "keep.csv", "--parquet", "parts")
    before = (tmp_path / "keep.csv").read_bytes()
    assert run("predict", samples[9], "--csv", "keep.csv", "--parquet", "parts")[0] == 2
    assert (tmp_path / "keep.csv").read_bytes() == before


def test_resume_needs_a_file_to_continue(run, samples):
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
        assert len(json_objects(out)) == 1


def test_a_file_that_can_be_read_only_once_loses_only_its_overlay(run, samples, tmp_path, monkeypatch):
    once = set()

    def vanishing(path, read=read_file):
        if path in once and path.name == samples[0].name:
            raise UnreadableImage("expected an image file, found nothing under this name")
        once.add(path)
        return read(path)

    for module in ("images", "contents"):  # the first draws, the second judges
        monkeypatch.setattr(f"pneumoscope.radiographs.{module}.read_file", vanishing)
    code, out, err = run("predict", samples[0], samples[1], "--heatmaps", "h", "--json")
    assert code == 1
    assert [row["label"] for row in json_objects(out)] == ["NORMAL", "NORMAL"]
    assert "can be read only once" in err
    assert [path.stem for path in (tmp_path / "h").iterdir()] == [samples[1].stem]


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_an_output_that_cannot_be_written_gives_a_sentence(run, samples, option):
    code, _, err = run("predict", samples[0], "--heatmaps", "h", option, "/proc/nowhere/results")
    assert code in (1, 2)
    assert "expected" in err
    assert "Traceback" not in err


def test_a_full_disk_gives_a_sentence(run, samples):
    code, _, err = run("predict", samples[0], "--csv", "/dev/full")
    assert code == 1
    assert "No space left on device" in err


def test_what_was_assumed_about_a_file_is_shown_and_written(run, samples, tmp_path):
    pixels = read_radiograph(samples[9]).pixels
    (tmp_path / "a.dcm").write_bytes(dicom_file(pixels, WindowCenter=128, WindowWidth=0))
    code, out, _ = run("predict", "a.dcm", "--csv", "r.csv", "--heatmaps", "h", "--html", "i.html")
    note = "window of width 0 left out, because it is not valid"
    assert code == 0
    assert f"a.dcm  ({note})" in out
    assert f"<p>{note}</p>" in (tmp_path / "i.html").read_text()
    (row,) = csv.DictReader((tmp_path / "r.csv").read_text().splitlines())
    assert (row["status"], row["reason"], row["note"]) == ("ok", "", note)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_an_overlay_that_cannot_be_written_costs_no_row(samples, tmp_path):
    """The system refuses files of more than 30 kB, as a full disk would; the rows are smaller."""
    import resource

    command = [sys.executable, "-m", "pneumoscope", "predict", *map(str, samples[:5]), "--csv", "r.csv"]
    whole = subprocess.run([*command[:-1], "whole.csv"], cwd=tmp_path, capture_output=True, text=True, check=True)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    limited = subprocess.run(
        [*command, "--heatmaps", "h"], cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert limited.returncode == 1
    lines = limited.stderr.splitlines()
    # Two threads draw, so the sentences have no order.
    assert {line.partition(": ")[0] for line in lines} == {f"no heatmap of {path}" for path in samples[:5]}
    assert all(line.endswith("File too large") for line in lines)
    assert limited.stdout == whole.stdout
    assert (tmp_path / "r.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list((tmp_path / "h").iterdir()) == []
    resumed = subprocess.run([*command, "--heatmaps", "h", "--resume"], cwd=tmp_path, capture_output=True, check=False)
    assert resumed.returncode == 0
    assert (tmp_path / "r.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(list((tmp_path / "h").iterdir())) == 5
