"""A zip is untrusted input: what is extracted, what is refused by name, and what an interruption leaves."""

import os
import stat
import zipfile
from pathlib import Path

import pytest
from builders.collections import (
    TRAIN_NORMAL,
    first_normal,
    jpeg_names,
    times_of_files,
    with_macos_leftovers,
    write_folder,
    write_zip,
)

from pneumoscope.data import archive as archive_module
from pneumoscope.data.fetch import fetch
from pneumoscope.data.manifest import read_manifest
from pneumoscope.errors import DatasetError
from pneumoscope.radiographs import zip_files


def test_a_zip_with_a_second_copy_and_macos_leftovers(tmp_path, layout, counted):
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", with_macos_leftovers(layout)))
    assert result.refused == []
    assert result.count_errors == []
    expected = {name.removeprefix("chest_xray/") for name in layout}
    assert {record.path for record in result.manifest.records} == expected
    assert jpeg_names(tmp_path / "out") == expected
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "val", "test", "manifest.csv"}
    assert result.manifest == read_manifest(result.manifest_path)


def test_an_image_that_is_only_in_the_second_copy_is_reported(tmp_path, layout):
    files = with_macos_leftovers(layout)
    del files[first_normal(layout)]
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", files))
    assert [refused.path for refused in result.refused] == [
        first_normal(layout).replace("chest_xray/", "chest_xray/" * 2, 1)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpeg",
        "chest_xray/train/NORMAL/../../../../evil.jpeg",
        "/evil.jpeg",
        "C:/train/NORMAL/evil.jpeg",
        "chest_xray\\train\\NORMAL\\evil.jpeg",
        "chest_xray/train/NORMAL/..\\..\\evil.jpeg",
    ],
)
def test_a_member_that_points_outside_is_refused_by_name(tmp_path, layout, name, counted):
    path = write_zip(tmp_path / "a.zip", {name: layout[first_normal(layout)], **layout})
    result = fetch(tmp_path / "deep" / "out", path)
    assert [(refused.path, "outside" in refused.reason) for refused in result.refused] == [(name, True)]
    assert result.count_errors == []
    assert jpeg_names(tmp_path) == {"deep/out/" + member.removeprefix("chest_xray/") for member in layout}


def test_a_symbolic_link_is_refused_by_name(tmp_path, layout):
    link = zipfile.ZipInfo(TRAIN_NORMAL + "link.jpeg")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "a.zip", layout)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    result = fetch(tmp_path / "out", path)
    assert [(refused.path, refused.reason) for refused in result.refused] == [
        (link.filename, "expected a file, this is a symbolic link")
    ]
    assert len(result.manifest) == len(layout)


def test_a_member_with_a_password_or_another_compression_is_refused_by_name(tmp_path, layout):
    path = write_zip(tmp_path / "a.zip", layout)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(TRAIN_NORMAL + "bz.jpeg", b"0" * 100, zipfile.ZIP_BZIP2)
        archive.writestr(TRAIN_NORMAL + "locked.jpeg", b"0" * 100)
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\1\2") + 8] |= 1  # the encryption bit of the last member in the list
    path.write_bytes(data)
    reasons = {refused.path: refused.reason for refused in fetch(tmp_path / "out", path).refused}
    assert "uses another compression" in reasons[TRAIN_NORMAL + "bz.jpeg"]
    assert "encrypted" in reasons[TRAIN_NORMAL + "locked.jpeg"]


def test_the_same_name_twice(tmp_path, layout):
    path = write_zip(tmp_path / "a.zip", layout)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(first_normal(layout), b"other")
    result = fetch(tmp_path / "out", path)
    assert [refused.path for refused in result.refused] == [first_normal(layout)]
    assert len(result.manifest) == len(layout)


def test_a_truncated_zip(tmp_path, layout):
    path = write_zip(tmp_path / "a.zip", layout)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        DatasetError, match=r"^expected a complete zip file, .*a\.zip is truncated .*: download it again$"
    ):
        fetch(tmp_path / "out", path)


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"<html>sign in</html>" * 50])
def test_something_else_named_zip(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DatasetError, match=r"^expected a folder or a zip file, .*a\.zip is neither: check the path$"):
        fetch(tmp_path / "out", tmp_path / "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_corrupted_member_is_refused_by_name(tmp_path, layout, method):
    name = first_normal(layout)
    path = write_zip(tmp_path / "a.zip", layout, method)
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo(name).header_offset + archive.getinfo(name).compress_size // 2
    data = bytearray(path.read_bytes())
    data[middle] ^= 0xFF
    path.write_bytes(data)
    result = fetch(tmp_path / "out", path)
    assert [(refused.path, "damaged in the archive" in refused.reason) for refused in result.refused] == [(name, True)]
    assert len(result.manifest) == len(layout) - 1
    assert len(jpeg_names(tmp_path / "out")) == len(layout) - 1


def test_members_that_are_not_images_are_refused_by_name(tmp_path, layout):
    extra = {
        TRAIN_NORMAL + "text.jpeg": b"not a radiograph",
        TRAIN_NORMAL + "notes.txt": b"seen",
        "chest_xray/README.md": b"read me",
    }
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", {**layout, **extra}))
    reasons = {refused.path: refused.reason for refused in result.refused}
    assert set(reasons) == set(extra)
    assert "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image" in reasons[TRAIN_NORMAL + "text.jpeg"]
    assert "this is elsewhere" in reasons["chest_xray/README.md"]
    assert len(jpeg_names(tmp_path / "out")) == len(layout)


def test_a_truncated_jpeg_is_refused_by_name(tmp_path, layout):
    name = first_normal(layout)
    files = {**layout, name: layout[name][:-5000]}
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", files))
    assert [Path(refused.path).name for refused in result.refused] == [Path(name).name]
    assert "cut off" in result.refused[0].reason
    assert len(result.manifest) == len(layout) - 1


def test_a_zip_without_label_folders(tmp_path):
    with pytest.raises(DatasetError, match=r"found none to extract \(1 members were refused, the first: a\.txt: "):
        fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", {"a.txt": b"text"}))


def test_another_data_set_is_not_mixed_in(tmp_path, layout, samples_folder):
    write_folder(tmp_path / "out", {"PNEUMONIA/mine.jpeg": layout[first_normal(layout)]})
    with pytest.raises(DatasetError, match=r"found PNEUMONIA/mine\.jpeg: name an empty folder"):
        fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", layout))


# --- bombs ------------------------------------------------------------------------------------------------------------


def test_a_member_that_inflates_too_far_is_refused_by_name(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_BYTES", 2_000_000)
    bomb = TRAIN_NORMAL + "bomb.jpeg"
    path = write_zip(tmp_path / "a.zip", {**layout, bomb: b"\xff\xd8\xff" + bytes(2_000_000)})
    result = fetch(tmp_path / "out", path)
    assert [refused.path for refused in result.refused] == [bomb]
    assert result.refused[0].reason == "expected at most 2,000,000 bytes, this inflates to 2,000,003"
    assert len(result.manifest) == len(layout)


def test_a_member_with_a_false_size_is_not_inflated(tmp_path, layout, monkeypatch):
    bomb = TRAIN_NORMAL + "bomb.jpeg"
    path = write_zip(tmp_path / "a.zip", {**layout, bomb: b"\xff\xd8\xff" + bytes(30_000_000)})
    path.write_bytes(path.read_bytes().replace((30_000_003).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    read = []
    monkeypatch.setattr(zipfile.ZipExtFile, "read", _recording(zipfile.ZipExtFile.read, read))
    result = fetch(tmp_path / "out", path)
    assert [(refused.path, "damaged" in refused.reason) for refused in result.refused] == [(bomb, True)]
    assert 1001 in read  # the bound that the inflater received
    assert len(result.manifest) == len(layout)


def _recording(read, bounds: list):
    def wrapper(self, n=-1):
        bounds.append(n)
        return read(self, n)

    return wrapper


def test_a_whole_archive_that_inflates_too_far_is_refused(tmp_path, layout, monkeypatch):
    path = write_zip(tmp_path / "a.zip", layout)
    monkeypatch.setattr(archive_module, "MAX_TOTAL", 100_000)
    with pytest.raises(DatasetError, match=r"at most 0\.0001 GB of images"):
        fetch(tmp_path / "out", path)
    monkeypatch.setattr(zip_files, "MAX_MEMBERS", 5)
    with pytest.raises(DatasetError, match=r"at most 5 members in .*a\.zip, found 9"):
        fetch(tmp_path / "out", path)
    assert list((tmp_path / "out").iterdir()) == []


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_an_interrupted_extraction_is_continued(tmp_path, layout, counted):
    path, out = write_zip(tmp_path / "a.zip", layout), tmp_path / "out"

    def interrupted(items):
        for number, item in enumerate(items):
            if number == 4:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        fetch(out, path, progress=interrupted)
    extracted = {name: time for name, time in times_of_files(out).items() if name.endswith(".jpeg")}
    assert len(extracted) == 4
    changed = Path(next(iter(extracted)))  # same size, other content
    changed.write_bytes(bytes(changed.stat().st_size))
    result = fetch(out, path)
    after = times_of_files(out)
    assert {name: after[name] for name in extracted if name != str(changed)} == {
        name: time for name, time in extracted.items() if name != str(changed)
    }
    assert (len(result.manifest), result.refused, result.count_errors) == (len(layout), [], [])


def test_a_file_that_cannot_be_written_leaves_no_partial_file(tmp_path, layout, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DatasetError, match=r"read and write somewhere, the system says No space left on device: .*"):
        fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", layout))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
