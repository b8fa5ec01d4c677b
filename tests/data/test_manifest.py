"""Folders and CSV files become manifests: who is who, what is refused, and which pictures are one."""

import csv
import hashlib
import os
import pathlib
import random
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pneumoscope.data import manifest as datasets
from pneumoscope.data.manifest import (
    KAGGLE_COUNTS,
    MANIFEST_NAME,
    Record,
    patient_of,
    read_dataset,
    read_manifest,
    same_pictures,
    scan_folder,
    sublabel_of,
    write_manifest,
)
from pneumoscope.errors import DatasetError
from pneumoscope.labels import NORMAL, PNEUMONIA
from pneumoscope.radiographs.images import image_size, read_radiograph

NORMALS = ("NORMAL/IM-0001-0001.png", "NORMAL/NORMAL2-IM-0002-0001.png")
PNEUMONIAS = ("PNEUMONIA/person1_bacteria_1.png", "PNEUMONIA/person2_virus_2.png")


def csv_file(folder, text, name="labels.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


# Names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patient", "sublabel"),
    [
        ("person123_bacteria_456.jpeg", "person123", "bacterial"),
        ("person123_virus_456.jpeg", "person123", "viral"),
        ("person447_virus_921_1.jpeg", "person447", "viral"),
        ("IM-0115-0001.jpeg", "IM-0115", ""),
        ("IM-0666-0001-0002.jpeg", "IM-0666", ""),
        ("NORMAL2-IM-0793-0001.jpeg", "NORMAL2-IM-0793", ""),
        ("NORMAL2-IM-0793-0001-0002.png", "NORMAL2-IM-0793", ""),
        ("00001299_000.jpeg", "00001299", ""),  # NIH ChestX-ray14: patient and follow-up number
        ("00001299_012.png", "00001299", ""),
        ("20240131_001.png", "20240131_001", ""),  # a date is no patient
        ("someone.else.png", "someone.else", ""),
        ("myperson1_bacteria_1.png", "myperson1_bacteria_1", ""),
        ("person_bacteria.png", "person_bacteria", ""),
        ("person1_bacterial_2.png", "person1", ""),
        ("", "", ""),
    ],
)
def test_patient_and_sublabel_come_from_the_name(name, patient, sublabel):
    assert patient_of(name) == patient
    assert sublabel_of(name) == sublabel


def test_one_number_is_not_the_beginning_of_another():
    assert patient_of("person1_virus_6.jpeg") != patient_of("person11_virus_6.jpeg")
    assert patient_of("IM-0115-0001.jpeg") != patient_of("NORMAL2-IM-0115-0001.jpeg")


# Folders ---------------------------------------------------------------------------------------------------


def test_a_record_holds_what_lies_on_the_disk(samples_folder, samples):
    manifest, refused = scan_folder(samples_folder)
    assert refused == []
    assert len(manifest) == len(samples)
    for record, path in zip(manifest.records, samples, strict=True):
        data = path.read_bytes()
        assert manifest.path(record) == path
        assert record.label == path.parent.name
        assert record.sha256 == hashlib.sha256(data).hexdigest()
        assert record.bytes == len(data)
        assert (record.width, record.height) == image_size(data)
        assert record.key == f"all/{record.label}/{path.name}"


def test_the_bundled_manifest_is_that_of_the_bundled_files(samples_folder):
    """Also a golden test: hashes, patients and order of the 24 radiographs never change by accident."""
    assert read_dataset(samples_folder) == scan_folder(samples_folder)[0]
    assert (samples_folder / MANIFEST_NAME).is_file()


def test_official_splits_are_read_in_their_order(data_folder):
    folder = data_folder(*(f"{split}/{name}" for split in ("val", "test", "train") for name in NORMALS + PNEUMONIAS))
    manifest = read_dataset(folder)
    assert [record.split for record in manifest.records] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert manifest.counts() == {
        (split, label): 2 for split in ("train", "val", "test") for label in (NORMAL, PNEUMONIA)
    }
    assert [record.split for record in manifest.select("test", "train")] == ["train"] * 4 + ["test"] * 4
    assert manifest.select() == ()


def test_the_order_is_not_that_of_the_file_system(data_folder, monkeypatch):
    folder = data_folder(*NORMALS, *PNEUMONIAS, "NORMAL/a.png", "NORMAL/B.png", "NORMAL/a-1.png")
    expected = read_dataset(folder)
    listing = pathlib.Path.iterdir

    def shuffled(path):
        entries = sorted(listing(path))
        random.Random(1).shuffle(entries)
        return iter(entries)

    monkeypatch.setattr(pathlib.Path, "iterdir", shuffled)
    assert read_dataset(folder) == expected


def test_a_moved_copy_has_the_same_keys_and_hashes(data_folder, tmp_path):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    before = read_dataset(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert read_dataset(moved).records == before.records


def test_hidden_files_are_no_files(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    for name in (".DS_Store", "._IM-0001-0001.png"):
        (folder / "NORMAL" / name).write_bytes(b"\0\5\x16\7")
    assert len(read_dataset(folder)) == 4


def test_bad_files_are_listed_with_their_reason(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    (folder / "NORMAL" / "bad.png").write_bytes(b"not an image")
    (folder / "PNEUMONIA" / "empty.jpeg").touch()
    manifest, refused = scan_folder(folder)
    assert len(manifest) == 4
    assert [pathlib.Path(one.path).name for one in refused] == ["bad.png", "empty.jpeg"]
    assert "expected a JPEG, PNG or DICOM" in refused[0].reason
    with pytest.raises(DatasetError, match=r"2 cannot be read \(first: .*bad.png: expected a JPEG, PNG or DICOM"):
        read_dataset(folder)


def test_a_folder_of_bad_files_only_is_an_error(data_folder):
    folder = data_folder(*NORMALS)
    for name in NORMALS:
        (folder / name).write_bytes(b"not an image")
    with pytest.raises(DatasetError, match="2 cannot be read"):
        read_dataset(folder)


@pytest.mark.parametrize("names", [(), ("images/a.png",), ("normal/a.png",), ("train/pneumonia/a.png",)])
def test_a_folder_without_labels_is_an_error(data_folder, tmp_path, names):
    (tmp_path / "data").mkdir()
    data_folder(*names)
    with pytest.raises(DatasetError, match=r"expected folders NORMAL and PNEUMONIA .* found none: check the path"):
        read_dataset(tmp_path / "data")


def test_progress_sees_every_file(data_folder):
    seen = []

    def progress(results):
        for result in results:
            seen.append(result)
            yield result

    assert len(read_dataset(data_folder(*NORMALS, *PNEUMONIAS), progress=progress)) == len(seen) == 4


def test_scanning_never_runs_far_ahead(data_folder, monkeypatch):
    """Bounded memory: full-size radiographs wait for their turn undecoded."""
    started = []

    def describe(path, *_):
        started.append(path)
        return datasets.Refused(str(path), "not needed here")

    monkeypatch.setattr(datasets, "_describe", describe)
    folder = data_folder(*(f"NORMAL/{number}.png" for number in range(100)))

    def progress(results):
        for taken, result in enumerate(results):
            assert len(started) <= taken + 33
            yield result

    assert len(scan_folder(folder, progress=progress)[1]) == 100


# Pictures saved twice --------------------------------------------------------------------------------------


def test_a_picture_under_two_patients_makes_them_one_group(data_folder):
    data_folder(*NORMALS, *PNEUMONIAS, "PNEUMONIA/person9_virus_1.png")
    folder = data_folder("PNEUMONIA/person5_virus_1.png", "PNEUMONIA/person9_virus_2.png", picture="the same")
    groups = {record.path.split("/")[1]: record.group for record in read_dataset(folder).records}
    assert groups == {
        "IM-0001-0001.png": "IM-0001",
        "NORMAL2-IM-0002-0001.png": "NORMAL2-IM-0002",
        "person1_bacteria_1.png": "person1",
        "person2_virus_2.png": "person2",
        "person5_virus_1.png": "person5",
        "person9_virus_1.png": "person5",  # another picture of the patient who shares one
        "person9_virus_2.png": "person5",
    }


def test_groups_join_in_chains_whatever_the_order(data_folder):
    data_folder("PNEUMONIA/person3_virus_1.png", "PNEUMONIA/person2_virus_1.png", picture="first")
    data_folder("PNEUMONIA/person2_virus_2.png", "PNEUMONIA/person1_virus_1.png", picture="second")
    folder = data_folder("NORMAL/IM-0001-0001.png", "PNEUMONIA/person3_virus_2.png", picture="third")
    assert {record.group for record in read_dataset(folder).records} == {"IM-0001"}


def test_the_same_picture_is_found_through_size_and_compression(samples):
    pixels = read_radiograph(samples[0]).pixels
    smaller = cv2.resize(pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    compressed = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    other = read_radiograph(samples[1]).pixels
    thumbnails = [
        cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in (other, pixels, smaller, compressed)
    ]
    assert same_pictures(np.stack(thumbnails)) == [(1, 2), (1, 3), (2, 3)]


def test_same_pictures_over_several_blocks():
    """Pairs within and across the blocks of 1,024 rows; brightness and contrast make no other picture."""
    thumbnails = np.random.default_rng(0).integers(60, 180, (2100, 32, 32), dtype=np.uint8)
    thumbnails[5], thumbnails[2050], thumbnails[1030] = thumbnails[3], thumbnails[3] + 40, thumbnails[1029]
    assert same_pictures(thumbnails) == [(3, 5), (3, 2050), (5, 2050), (1029, 1030)]


def test_blank_thumbnails_are_no_pair():
    assert same_pictures(np.full((3, 32, 32), 9, np.uint8)) == []
    assert same_pictures(np.zeros((0, 32, 32), np.uint8)) == []


# Manifests -------------------------------------------------------------------------------------------------


def test_a_manifest_survives_its_file(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS, 'NORMAL/a, "quoted" name.png', "NORMAL/röntgen.png")
    manifest = read_dataset(folder)
    write_manifest(manifest, folder / MANIFEST_NAME)
    assert read_dataset(folder) == manifest
    assert read_dataset(folder / MANIFEST_NAME) == manifest
    assert sorted(path.name for path in folder.iterdir()) == ["NORMAL", "PNEUMONIA", MANIFEST_NAME]


def test_names_that_are_no_utf_8_survive(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    try:
        (folder / NORMALS[0]).rename(folder / "NORMAL" / os.fsdecode(b"r\xf6ntgen.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    manifest = read_dataset(folder)
    write_manifest(manifest, folder / MANIFEST_NAME)
    assert read_dataset(folder) == manifest
    assert all(manifest.path(record).is_file() for record in manifest.records)


def test_a_manifest_may_lie_outside_its_images(data_folder, tmp_path):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    (tmp_path / "lists").mkdir()
    for place in (tmp_path, tmp_path / "lists"):
        manifest, _ = scan_folder(folder, relative_to=place)
        write_manifest(manifest, place / "mine.csv")
        again = read_manifest(place / "mine.csv")
        assert again == manifest
        assert all(again.path(record).is_file() for record in again.records)


def test_a_short_csv_is_completed_from_the_names(tmp_path):
    path = csv_file(tmp_path, "label,path\nPNEUMONIA,scans/person3_virus_4.png\nNORMAL,b.png\n")
    assert read_dataset(path).records == (
        Record("scans/person3_virus_4.png", "PNEUMONIA", "viral", "person3", "person3", "all"),
        Record("b.png", "NORMAL", "", "b", "b", "all"),
    )
    assert read_dataset(path).root == tmp_path


def test_a_ratio_is_that_of_the_size_unless_a_column_says_otherwise(tmp_path):
    sizes = "path,label,width,height\na.png,NORMAL,300,200\nb.png,NORMAL,,\n"
    assert [record.ratio for record in read_dataset(csv_file(tmp_path, sizes)).records] == [1.5, 0.0]
    told = "path,label,width,height,ratio\na.png,NORMAL,224,224,1.37\nb.png,NORMAL,224,224,\n"
    assert [record.ratio for record in read_dataset(csv_file(tmp_path, told)).records] == [1.37, 0.0]


def test_a_ratio_that_is_not_known_survives_the_file(data_folder, tmp_path):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    manifest = read_dataset(folder)
    assert {record.ratio for record in manifest.records} == {r.width / r.height for r in manifest.records}
    told = replace(manifest, records=tuple(replace(r, ratio=i / 3) for i, r in enumerate(manifest.records)))
    write_manifest(told, folder / MANIFEST_NAME)
    assert read_dataset(folder) == told
    assert told.records[0].ratio == 0


def test_a_csv_has_the_last_word_over_the_names(tmp_path):
    text = "path,label,patient,group,sublabel,split,age\nperson3_virus_4.png,NORMAL,ann,,,test,7\n"
    (record,) = read_dataset(csv_file(tmp_path, text)).records
    assert (record.patient, record.group, record.split) == ("ann", "ann", "test")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_files_of_spreadsheets_are_read(tmp_path, encoding, newline):
    text = newline.join(["path,label,note", '"ä, b.png",NORMAL,"two', 'lines"', "c.png,PNEUMONIA,", "", ""])
    records = read_dataset(csv_file(tmp_path, text, encoding=encoding)).records
    assert [(record.path, record.label) for record in records] == [("ä, b.png", "NORMAL"), ("c.png", "PNEUMONIA")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected the columns path and label in .*labels.csv, missing label and path"),
        ("path\na.png\n", "missing label: add a header line"),
        ("a.png,NORMAL\nb.png,PNEUMONIA\n", "missing label and path"),
        ("path;label\na.png;NORMAL\n", "missing label and path"),
        ("path,label\n", "expected at least one row"),
        ("path,label\n\n\n", "expected at least one row"),
        ("path,label\na.png,NORMAL\nb.png,normal\n", r"label NORMAL or PNEUMONIA in .* line 3, received 'normal'"),
        ("path,label\na.png,COVID\n", r"line 2, received 'COVID'"),
        ("path,label\na.png,all\n", r"line 2, received 'all'"),
        ("path,label\na.png,\n", "line 2, received None"),
        ("path,label\na.png\n", "line 2, received None"),
        ("path,label\n,NORMAL\n", "expected a path in .* line 2, received none"),
        ("path,label,split\na.png,NORMAL,validation\n", "split train or val or test or all in .* 'validation'"),
        ("path,label,bytes\na.png,NORMAL,many\n", "expected a whole number of bytes in .* line 2, received 'many'"),
        ("path,label,width\na.png,NORMAL,-5\n", "whole number of width"),
        ("path,label,height\na.png,NORMAL,1.5\n", "whole number of height"),
        ("path,label,ratio\na.png,NORMAL,4:3\n", "expected width over height as ratio in .* line 2, received '4:3'"),
        ("path,label,ratio\na.png,NORMAL,-1\n", "received '-1': give a number, or leave it empty"),
        ("path,label,ratio\na.png,NORMAL,nan\n", "received 'nan'"),
        ("path,label,ratio\na.png,NORMAL,inf\n", "received 'inf'"),
        ("path,label,note\na.png,NORMAL,\n\nb.png,PNEUMONIA,\nc.png,none,\n", "line 5, received 'none'"),
    ],
)
def test_other_csv_files_say_what_is_wrong_and_where(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_dataset(csv_file(tmp_path, text))


def test_files_that_are_no_manifest(tmp_path):
    with pytest.raises(DatasetError, match=r"expected a folder or a CSV .* No such file"):
        read_dataset(tmp_path / "missing")
    with pytest.raises(DatasetError, match=r"expected a folder or a CSV .* null byte"):
        read_dataset("nul\0byte")
    with pytest.raises(DatasetError, match="missing label and path"):
        read_dataset(csv_file(tmp_path, "path,label\na.png,NORMAL\n", encoding="utf-16"))
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DatasetError, match=r"missing label and path|expected a folder or a CSV"):
        read_dataset(tmp_path / "binary.csv")
    with pytest.raises(DatasetError, match="field larger than"):
        read_dataset(csv_file(tmp_path, f"path,label\n{'x' * csv.field_size_limit()}x,NORMAL\n"))


# The real data ---------------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_kermany_images_are_all_there(real_manifest):
    counts = real_manifest.counts()
    assert counts == {key: count for key, count in KAGGLE_COUNTS.items() if key[0] in ("train", "val")}
    train = real_manifest.select("train")
    assert sum(record.sublabel == "bacterial" for record in train) == 2530
    assert sum(record.sublabel == "viral" for record in train) == 1345
    assert {record.sublabel for record in train if record.label == NORMAL} == {""}
    assert len({record.patient for record in train if record.label == NORMAL}) == 1211
    assert len({record.patient for record in train if record.label == PNEUMONIA}) == 1635
    assert sum(record.path.split("/")[-1].startswith("IM-") for record in train) == 597
    assert sum("NORMAL2-" in record.path for record in train) == 744


@pytest.mark.real
def test_the_28_pictures_saved_twice_are_found(real_manifest):
    thumbnails = np.stack(
        [
            datasets.resize(read_radiograph(real_manifest.path(record)), datasets._THUMBNAIL)
            for record in real_manifest.records
        ]
    )
    pairs = same_pictures(thumbnails)
    assert len(pairs) == 28
    records = real_manifest.records
    assert all(records[i].group == records[j].group and records[i].label == records[j].label for i, j in pairs)
