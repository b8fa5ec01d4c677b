"""Labelled folders as people have them: any depth, any case, other files beside the images; all is counted."""

import os
import shutil

import pytest
from builders.collections import write_zip

from pneumoscope.data.class_names import ClassNames
from pneumoscope.data.fetch import fetch
from pneumoscope.data.layout import find_membership
from pneumoscope.data.manifest import TableOptions
from pneumoscope.data.scan import read_dataset
from pneumoscope.data.splits import make_split
from pneumoscope.errors import DatasetError, UsageError

NESTED = (
    *(f"PNEUMONIA/bacteria/b{number}.png" for number in range(4)),
    *(f"PNEUMONIA/virus/v{number}.png" for number in range(4)),
    *(f"NORMAL/n{number}.png" for number in range(7)),
)


def test_images_in_folders_below_a_class_count(data_folder):
    """The gravest of the faults: 7 of 15 images were counted, with exit code 0."""
    manifest = read_dataset(data_folder(*NESTED))
    assert len(manifest) == 15
    assert manifest.counts() == {("all", "NORMAL"): 7, ("all", "PNEUMONIA"): 8}
    assert manifest.unused == {}
    kinds = [record.sublabel for record in manifest.records if record.label == "PNEUMONIA"]
    assert kinds == ["bacterial"] * 4 + ["viral"] * 4


def test_a_zip_counts_them_as_well(data_folder, tmp_path):
    folder = data_folder(*NESTED)
    files = {f"set/{name}": (folder / name).read_bytes() for name in NESTED}
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", files))
    assert (len(result.manifest), result.refused) == (15, [])
    assert {record.path for record in result.manifest.records} == set(NESTED)
    assert [record.key for record in result.manifest.records] == [record.key for record in read_dataset(folder).records]


def test_what_is_not_used_is_counted_by_reason(data_folder):
    folder = data_folder(*NESTED, "COVID/c1.png", "COVID/deep/c2.png", "loose.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._n1.png", "notes.txt", "more.txt", "x.gif"):
        (folder / "NORMAL" / name).write_bytes(b"\0\5\x16\7")
    (folder / ".ipynb_checkpoints").mkdir()
    shutil.copy(folder / NESTED[0], folder / ".ipynb_checkpoints" / "hidden.png")
    os.mkfifo(folder / "PNEUMONIA" / "pipe.png")
    manifest = read_dataset(folder)
    assert len(manifest) == 15
    assert manifest.unused == {
        "hidden or system files and folders": 5,
        "images in the folder COVID, outside of NORMAL and PNEUMONIA": 2,
        "files ending in .txt": 2,
        "files ending in .gif": 1,
        "pipes, sockets or devices": 1,
        "images in no folder, outside of NORMAL and PNEUMONIA": 1,
    }


def test_images_beside_the_official_splits_are_counted(data_folder):
    manifest = read_dataset(data_folder("train/NORMAL/a.png", "test/PNEUMONIA/b.png", "NORMAL/c.png"))
    assert len(manifest) == 2
    assert manifest.unused == {"NORMAL images outside of train, val, test": 1}


@pytest.mark.parametrize(
    ("name", "split", "label"),
    [
        ("normal/a.png", "all", "NORMAL"),
        ("Pneumonia/a.png", "all", "PNEUMONIA"),
        ("No_Finding/a.png", "all", "NORMAL"),
        ("Viral Pneumonia/a.png", "all", "PNEUMONIA"),
        ("Train/normal/a.png", "train", "NORMAL"),
        ("valid/NORMAL/a.png", "val", "NORMAL"),
        ("NORMAL/test/a.png", "test", "NORMAL"),
        ("NORMAL/site/test/a.png", "all", "NORMAL"),
        ("TEST/PNEUMONIA/site/deep/a.png", "test", "PNEUMONIA"),
    ],
)
def test_the_names_of_folders(data_folder, name, split, label):
    (record,) = read_dataset(data_folder(name)).records
    assert (record.path, record.split, record.label) == (name, split, label)


def test_names_of_folders_can_be_given(data_folder):
    folder = data_folder("sick/a.png", "well/b.png", "NORMAL/c.png")
    options = TableOptions(names=ClassNames(("sick",), ("Well",)))
    manifest = read_dataset(folder, options=options)
    assert [(record.path, record.label) for record in manifest.records] == [
        ("well/b.png", "NORMAL"),
        ("sick/a.png", "PNEUMONIA"),
    ]
    assert manifest.unused == {"images in the folder NORMAL, outside of NORMAL and PNEUMONIA": 1}
    files = {f"set/{name}": (folder / name).read_bytes() for name in ("sick/a.png", "well/b.png", "NORMAL/c.png")}
    result = fetch(folder.parent / "out", write_zip(folder.parent / "a.zip", files), names=options.names)
    assert [record.path for record in result.manifest.records] == ["well/b.png", "sick/a.png"]
    assert [refused.path for refused in result.refused] == ["set/NORMAL/c.png"]
    with pytest.raises(UsageError, match="expected different names for --positive and --negative, received 'a'"):
        ClassNames(("a",), ("A",))


def test_folders_of_both_classes_in_one_path_are_an_error(data_folder):
    folder = data_folder("Pneumonia/NORMAL/a.png", "Pneumonia/PNEUMONIA/b.png")
    with pytest.raises(DatasetError, match=r"Pneumonia/NORMAL/a\.png is below folders of both classes"):
        read_dataset(folder)
    assert find_membership(("images", "a.png"), ClassNames()) is None


def test_an_empty_collection_names_the_folders_that_are_there(data_folder):
    folder = data_folder("covid/a.png", "healthy lungs/b.png")
    with pytest.raises(DatasetError, match=r"found none \(its folders are covid, healthy lungs\): check the path"):
        read_dataset(folder)


def test_equal_names_in_different_folders_are_different_images(data_folder, tmp_path):
    names = [
        f"{label}/patient{n}/study1/view1_frontal.png"
        for label, numbers in (("NORMAL", range(8)), ("PNEUMONIA", range(8, 16)))
        for n in numbers
    ]
    folder = data_folder(*names)
    manifest = read_dataset(folder)
    assert len({record.key for record in manifest.records}) == 16
    split = make_split(manifest, fraction=0.25)
    assert len(split.val) == 4
    assert make_split(read_dataset(folder.rename(tmp_path / "elsewhere")), fraction=0.25) == split


def test_a_linked_folder_is_followed_once(data_folder):
    folder = data_folder(*NESTED)
    (folder / "NORMAL" / "again").symlink_to(folder / "NORMAL")
    manifest = read_dataset(folder)
    assert len(manifest) == 15
    assert manifest.unused == {"links to folders that were searched already": 1}
