"""Names, folders and patterns -> image files, in order; what matches nothing becomes an error in its place."""

import os
from pathlib import Path

import pytest

from pneumoscope.radiographs.sources import NothingFound, expand
from pneumoscope.samples import SAMPLES


def test_files_are_found_in_order(samples):
    assert sorted(expand([str(SAMPLES)])) == samples
    assert list(expand([str(SAMPLES / "NORMAL" / "*.jpeg")])) == [p for p in samples if p.parent.name == "NORMAL"]
    assert list(expand([str(samples[2]), "missing.png"])) == [samples[2], Path("missing.png")]


def test_a_file_whose_name_looks_like_a_pattern_is_found(samples, tmp_path):
    path = tmp_path / "chest[1].jpeg"
    path.write_bytes(samples[0].read_bytes())
    assert list(expand([str(path)])) == [path]


@pytest.mark.parametrize(("kind", "sentence"), [("folder", "found none"), ("glob", "found none")])
def test_a_name_that_matches_nothing_becomes_an_error(kind, sentence, tmp_path):
    argument = str(tmp_path if kind == "folder" else tmp_path / "*.png")
    (error,) = expand([argument])
    assert isinstance(error, NothingFound)
    assert error.path == argument
    assert sentence in str(error)


def test_images_are_found_at_any_depth_and_in_any_case(tmp_path):
    for name in ("b.PNG", "a.JpEg", "deep/er/c.jpg", "d.txt", "e.png.bak", "folder.png/f.jpeg", "._a.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    notes = []
    found = [path.relative_to(tmp_path).as_posix() for path in expand([str(tmp_path)], note=notes.append)]
    assert found == ["a.JpEg", "b.PNG", "deep/er/c.jpg", "folder.png/f.jpeg"]
    assert notes == [
        f"{tmp_path}: left out 1 files ending in .bak, 1 files ending in .txt, 1 hidden or system files and folders"
    ]


def test_a_folder_to_skip_is_left_out(tmp_path):
    for name in ("a.png", "maps/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(expand([str(tmp_path)], skip=[tmp_path / "maps"])) == [tmp_path / "a.png"]
    assert len(list(expand([str(tmp_path)], skip=[tmp_path]))) == 2


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()

    def scandir(path, scan=os.scandir):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", scandir)
    image, closed = expand([str(tmp_path)])
    assert image == tmp_path / "a.png"
    assert closed.path == f"{tmp_path}/closed"
    assert "Permission denied" in str(closed)
