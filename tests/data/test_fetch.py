"""A folder becomes a manifest: it is used where it is, and its images are counted."""

import pytest
from builders.collections import first_normal, times_of_files, with_macos_leftovers, write_folder, write_zip

from pneumoscope.data import kaggle
from pneumoscope.data.fetch import fetch
from pneumoscope.data.kaggle import KAGGLE_COUNTS
from pneumoscope.data.manifest import read_manifest
from pneumoscope.errors import DatasetError

# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_used_in_place(tmp_path, layout, counted):
    source = write_folder(tmp_path / "download", with_macos_leftovers(layout))
    before = times_of_files(source)
    result = fetch(tmp_path / "data", source)
    assert result.refused == []
    assert result.count_errors == []
    assert result.manifest_path == tmp_path / "data" / "manifest.csv"
    assert {record.path for record in result.manifest.records} == {str(source / name) for name in layout}
    assert times_of_files(source) == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["manifest.csv"]


def test_a_manifest_beside_its_images_is_relative_and_can_be_made_again(tmp_path, layout):
    data = write_folder(tmp_path, layout)
    first_time, second_time = fetch(data, data), fetch(data, data)
    assert {record.path for record in first_time.manifest.records} == set(layout)
    assert second_time.manifest == first_time.manifest == read_manifest(data / "manifest.csv")


def test_the_manifest_of_a_folder_elsewhere_reads_back(tmp_path, layout, monkeypatch):
    write_folder(tmp_path / "download", layout)
    monkeypatch.chdir(tmp_path)
    result = fetch("data", "download/../download")
    again = read_manifest(result.manifest_path)
    assert again == result.manifest
    assert all(again.path(record).is_file() for record in again.records)


def test_label_folders_alone_are_not_counted(tmp_path, samples_folder):
    result = fetch(tmp_path, samples_folder)
    assert (len(result.manifest), result.refused, result.count_errors) == (24, [], [])


def test_two_data_folders_side_by_side_are_ambiguous(tmp_path, layout):
    name = first_normal(layout)
    write_folder(tmp_path / "in", {f"{place}/NORMAL/x.jpeg": layout[name] for place in "ab"})
    write_zip(tmp_path / "in.zip", {f"{place}/NORMAL/x.jpeg": layout[name] for place in "ab"})
    for source in ("in", "in.zip"):
        with pytest.raises(DatasetError, match=r"one folder with train.*found 2 \(.*a, .*b\): name one"):
            fetch(tmp_path / "out", tmp_path / source)


@pytest.mark.parametrize("name", ["nothing.zip", "nothing"])
def test_a_source_that_is_not_there(tmp_path, name):
    with pytest.raises(DatasetError, match=r"found nothing at .*nothing.*: check the path"):
        fetch(tmp_path / "out", tmp_path / name)


def test_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"expected folders NORMAL and PNEUMONIA .* found none"):
        fetch(tmp_path / "out", tmp_path)


def test_an_out_that_is_a_file(tmp_path, samples_folder):
    (tmp_path / "out").write_text("")
    with pytest.raises(DatasetError, match=r"expected to read and write .*out, the system says File exists"):
        fetch(tmp_path / "out", samples_folder)


# --- counts -----------------------------------------------------------------------------------------------------------


def test_different_counts_are_reported_one_by_one(tmp_path, layout):
    partial = {name: data for name, data in layout.items() if "/test/NORMAL/" not in name}
    result = fetch(tmp_path / "out", write_folder(tmp_path / "in", partial))
    assert len(result.count_errors) == len(KAGGLE_COUNTS)
    assert "expected 234 NORMAL images in test, found 0: fetch a complete copy" in result.count_errors
    assert len(read_manifest(result.manifest_path)) == 8


def test_too_many_images_are_reported(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(kaggle, "KAGGLE_COUNTS", {("val", "PNEUMONIA"): 1})
    result = fetch(tmp_path / "out", write_folder(tmp_path / "in", layout))
    assert result.count_errors == [
        "expected 1 PNEUMONIA images in val, found 2: this is not the Kaggle set alone"
    ]  # fmt: skip
