"""Folders become manifests: which records, which refused files, and which pictures are the same."""

import hashlib
import pathlib
import random

import cv2
import numpy as np
import pytest

from pneumoscope.data import scan
from pneumoscope.data.kaggle import KAGGLE_COUNTS
from pneumoscope.data.manifest import MANIFEST_NAME, Refused
from pneumoscope.data.scan import read_dataset, same_pictures, scan_folder
from pneumoscope.errors import DatasetError
from pneumoscope.inference import resize
from pneumoscope.labels import NORMAL, PNEUMONIA
from pneumoscope.radiographs import image_size, read_radiograph

NORMALS = ("NORMAL/IM-0001-0001.png", "NORMAL/NORMAL2-IM-0002-0001.png")
PNEUMONIAS = ("PNEUMONIA/person1_bacteria_1.png", "PNEUMONIA/person2_virus_2.png")


# Folders ---------------------------------------------------------------------------------------------------


def test_a_record_describes_its_file(samples_folder, samples):
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


def test_the_bundled_manifest_matches_the_bundled_files(samples_folder):
    """Also a golden test: hashes, patients and order of the 24 radiographs do not change by accident."""
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


def test_hidden_files_are_skipped(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    for name in (".DS_Store", "._IM-0001-0001.png"):
        (folder / "NORMAL" / name).write_bytes(b"\0\5\x16\7")
    assert len(read_dataset(folder)) == 4


def test_unreadable_files_are_listed_with_their_reason(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    (folder / "NORMAL" / "bad.png").write_bytes(b"not an image")
    (folder / "PNEUMONIA" / "empty.jpeg").touch()
    manifest, refused = scan_folder(folder)
    assert len(manifest) == 4
    assert [pathlib.Path(file.path).name for file in refused] == ["bad.png", "empty.jpeg"]
    assert "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM" in refused[0].reason
    with pytest.raises(
        DatasetError, match=r"2 cannot be read \(first: .*bad.png: expected a JPEG, PNG, TIFF, BMP, WebP or DICOM"
    ):
        read_dataset(folder)


def test_a_folder_of_unreadable_files_only_is_an_error(data_folder):
    folder = data_folder(*NORMALS)
    for name in NORMALS:
        (folder / name).write_bytes(b"not an image")
    with pytest.raises(DatasetError, match="2 cannot be read"):
        read_dataset(folder)


@pytest.mark.parametrize("names", [(), ("images/a.png",), ("normals/a.png",), ("train/other/a.png",)])
def test_a_folder_without_labels_is_an_error(data_folder, tmp_path, names):
    (tmp_path / "data").mkdir()
    data_folder(*names)
    with pytest.raises(DatasetError, match=r"expected folders NORMAL and PNEUMONIA .* found none.*: check the path"):
        read_dataset(tmp_path / "data")


def test_progress_sees_every_file(data_folder):
    seen = []

    def progress(results):
        for result in results:
            seen.append(result)
            yield result

    assert len(read_dataset(data_folder(*NORMALS, *PNEUMONIAS), progress=progress)) == len(seen) == 4


def test_scanning_decodes_a_limited_number_of_files_ahead(data_folder, monkeypatch):
    """The memory is bounded: full-size radiographs are decoded only shortly before their turn."""
    started = []

    def describe(path, *_):
        started.append(path)
        return Refused(str(path), "not needed here")

    monkeypatch.setattr(scan, "_describe", describe)
    folder = data_folder(*(f"NORMAL/{number}.png" for number in range(100)))

    def progress(results):
        for returned, result in enumerate(results):
            assert len(started) <= returned + 33
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


def test_groups_join_in_chains_in_any_order(data_folder):
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
    """Pairs within and across the blocks of 1,024 rows; another brightness is still the same picture."""
    thumbnails = np.random.default_rng(0).integers(60, 180, (2100, 32, 32), dtype=np.uint8)
    thumbnails[5], thumbnails[2050], thumbnails[1030] = thumbnails[3], thumbnails[3] + 40, thumbnails[1029]
    assert same_pictures(thumbnails) == [(3, 5), (3, 2050), (5, 2050), (1029, 1030)]


def test_blank_thumbnails_are_not_a_pair():
    assert same_pictures(np.full((3, 32, 32), 9, np.uint8)) == []
    assert same_pictures(np.zeros((0, 32, 32), np.uint8)) == []


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
        [resize(read_radiograph(real_manifest.path(record)), scan.THUMBNAIL) for record in real_manifest.records]
    )
    pairs = same_pictures(thumbnails)
    assert len(pairs) == 28
    records = real_manifest.records
    assert all(records[i].group == records[j].group and records[i].label == records[j].label for i, j in pairs)
