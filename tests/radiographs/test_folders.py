"""Folders and archives as PACS, disks and people leave them; lists as other programs write them."""

import os
import threading
import time
import zipfile
from pathlib import Path

import pytest
from builders.collections import write_zip

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs import files, zip_files
from pneumoscope.radiographs.files import read_file
from pneumoscope.radiographs.images import read_radiograph
from pneumoscope.radiographs.sources import NothingFound, expand, stem_of


@pytest.fixture
def radiograph(samples) -> bytes:
    """A JPEG file."""
    return samples[0].read_bytes()


def write(folder: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def found(folder: Path) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    sources = list(expand([str(folder)], note=notes.append))
    names = [path.relative_to(folder).as_posix() for path in sources if isinstance(path, Path)]
    return names, [note.partition("left out ")[2] for note in notes]


# Folders -----------------------------------------------------------------------------------------------------


def test_files_without_an_ending_are_judged_by_their_content(tmp_path, radiograph):
    write(tmp_path, "A/IM000001", "A/1.2.840.113619.2.5", "B/7", content=radiograph)
    write(tmp_path, "A/IM000002", content=bytes(128) + b"DICM")
    write(tmp_path, "README", "LICENSE", content=b"text")
    assert found(tmp_path) == (
        ["A/1.2.840.113619.2.5", "A/IM000001", "A/IM000002", "B/7"],
        ["2 files without an ending that are no images"],
    )


def test_the_usual_other_endings(tmp_path):
    names = ["a.JFIF", "b.jpe", "c.dicom", "d.dic", "e.tif", "f.tiff", "g.bmp", "h.webp", "i.IMA"]
    write(tmp_path, *names)
    assert found(tmp_path) == (names, [])


def test_litter_is_left_out_and_said_once(tmp_path):
    write(tmp_path, "DICOMDIR", ".DS_Store", "a/Thumbs.db", "a/desktop.ini", "a/._x.png", "__MACOSX/x.png")
    write(tmp_path, ".ipynb_checkpoints/x.png", ".Trash/x.png", "a/x.png")
    assert found(tmp_path) == (["a/x.png"], ["8 hidden or system files and folders"])


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    write(tmp_path, "in/deep/a.png")
    write(tmp_path / "elsewhere", "b.png")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "deep" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nothing.png")
    names, notes = found(tmp_path / "in")
    assert names in (["deep/a.png", "other/b.png"], ["again/b.png", "deep/a.png"])
    assert notes == ["2 links to folders that were searched already, 1 links to nothing"]


def test_a_file_linked_by_name_is_an_image(tmp_path):
    write(tmp_path, "store/a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "store" / "a.png")
    assert found(tmp_path / "in") == (["b.png"], [])


def test_what_is_no_regular_file_is_left_out_and_nothing_waits(tmp_path):
    write(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == (["a.png"], ["2 pipes, sockets or devices"])
    notes: list[str] = []
    assert list(expand([str(tmp_path / "*.png")], note=notes.append)) == [tmp_path / "a.png"]
    assert notes == [f"{tmp_path}/*.png: left out 1 pipes, sockets or devices"]


def test_a_pipe_that_nobody_writes_to_is_one_sentence(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.setattr(files, "MAX_WAIT", 0.2)
    started = time.monotonic()
    with pytest.raises(UnreadableImage, match=r"empty file|sent nothing"):
        read_radiograph(tmp_path / "pipe.png")
    assert time.monotonic() - started < 5


def test_a_pipe_that_somebody_writes_to_is_read(tmp_path, radiograph):
    """As of a shell: pneumoscope predict <(command)."""
    reader, writer = os.pipe()

    def send() -> None:
        for start in range(0, len(radiograph), 50_000):
            time.sleep(0.01)
            os.write(writer, radiograph[start : start + 50_000])
        os.close(writer)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert read_file(f"/dev/fd/{reader}") == radiograph
    finally:
        thread.join()
        os.close(reader)


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.png", "ünï.png".encode(), b"x" * 251 + b".png", b"new\nline.png", b" .png"]
)
def test_names_of_every_length_and_every_byte(tmp_path, name):
    path = tmp_path / os.fsdecode(name + b".png")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert list(expand([str(tmp_path)])) == [path]


# Archives ----------------------------------------------------------------------------------------------------


def test_a_zip_is_read_in_memory(tmp_path, radiograph):
    files = {"A/IM000001": radiograph, "B/b.png": radiograph, "B/readme.txt": b"", "DICOMDIR": b"", "A/x": b"text"}
    path = write_zip(tmp_path / "export.zip", files)
    notes: list[str] = []
    sources = list(expand([str(path)], note=notes.append))
    assert sources == [f"zip://A/IM000001::{path}", f"zip://B/b.png::{path}"]
    assert notes == [
        f"{path}: left out 1 files ending in .txt, 1 files without an ending that are no images, "
        "1 hidden or system files and folders"
    ]
    assert [read_file(source) for source in sources] == [radiograph] * 2
    assert list(expand([sources[0]])) == sources[:1]
    assert [stem_of(source) for source in sources] == ["IM000001", "b"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["export.zip"]


def test_the_limits_of_an_archive(tmp_path, radiograph, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {"../up.png": radiograph, "bomb.png": bytes(3_000_000), "a.png": radiograph})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bz.png", b"0" * 100, zipfile.ZIP_BZIP2)
    monkeypatch.setattr("pneumoscope.radiographs.folders.MAX_BYTES", 2_000_000)
    sources = list(expand([str(path)]))
    assert [str(source) for source in sources if isinstance(source, NothingFound)] == [
        "expected a name below the archive's own folder, this one may point outside",
        "expected at most 2,000,000 bytes, this inflates to 3,000,000",
        "expected a stored or deflated file, this one uses another compression: pack the zip again",
    ]
    assert f"zip://a.png::{path}" in sources
    monkeypatch.setattr("pneumoscope.radiographs.folders.MAX_TOTAL", 10_000)
    (error,) = expand([str(path)])
    assert "its list announces more" in str(error)
    monkeypatch.setattr(zip_files, "MAX_MEMBERS", 3)
    (error,) = expand([str(path)])
    assert "expected at most 3 members" in str(error)


def test_a_damaged_archive_is_one_sentence(tmp_path, radiograph):
    path = write_zip(tmp_path / "a.zip", {"a.png": radiograph}, zipfile.ZIP_STORED)
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    (error,) = expand([str(path)])
    assert "truncated or damaged" in str(error)
    changed = bytearray(whole)
    changed[2000] ^= 0xFF
    path.write_bytes(changed)
    with pytest.raises(UnreadableImage, match="damaged in the archive"):
        read_file(f"zip://a.png::{path}")
    for address, sentence in ((f"zip://b.png::{path}", "this name"), (f"zip://a.png::{path}x", "the system says")):
        with pytest.raises(UnreadableImage, match=sentence):
            read_file(address)


def test_an_archive_in_a_folder_is_said(tmp_path, radiograph):
    write_zip(tmp_path / "a.zip", {"a.png": radiograph})
    write(tmp_path, "b.png")
    assert found(tmp_path) == (["b.png"], ["1 zip archives (name an archive itself to read it)"])


# Lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label\na.png,x\n\nb.png,y\n", "utf-8"),
        ("path;label\na.png;x\nb.png;y\n", "utf-8-sig"),
        ("Image\tFinding\r\na.png\tx\r\nb.png\ty\r\n", "utf-16"),
        ("sep=;\nlabel;File_Name\nx;a.png\ny;b.png\n", "utf-8"),
        ("label|Image Index\nx|a.png\ny|b.png\n", "utf-8"),
        ("filename\na.png\nb.png\n", "utf-8"),
        ('"image","path"\nz.png,a.png\nz.png,b.png\n', "utf-8"),
    ],
)
def test_lists_of_other_programs(tmp_path, text, encoding):
    (tmp_path / "list.csv").write_bytes(text.encode(encoding))
    assert list(expand([str(tmp_path / "list.csv")])) == [tmp_path / "a.png", tmp_path / "b.png"]


def test_a_column_and_a_root_can_be_given(tmp_path):
    (tmp_path / "list.csv").write_text("path;mine\nx.png;a.png\n")
    notes: list[str] = []
    sources = expand([str(tmp_path / "list.csv")], note=notes.append, path_column="Mine", root=Path("images"))
    assert list(sources) == [Path("images/a.png")]
    assert notes == [f"{tmp_path}/list.csv: file names from the column 'mine', cells separated by ';'"]


def test_a_list_with_a_header_only_is_an_error(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\n")
    (error,) = expand([str(tmp_path / "list.csv")])
    assert isinstance(error, NothingFound)
    assert str(error) == "expected file names below the header of this list, found none"
