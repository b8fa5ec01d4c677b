"""Radiographs at addresses: read, listed, and named in lists."""

import sys

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from builders.file_server import serving_files

from pneumoscope import load
from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError
from pneumoscope.radiographs.files import read_file
from pneumoscope.radiographs.remote import LISTING_BYTES, read_address
from pneumoscope.radiographs.sources import expand


@pytest.fixture(scope="module")
def predictor():
    return load()


@pytest.fixture(scope="module")
def server(samples_folder):
    """The address at which the bundled radiographs are served."""
    with serving_files(samples_folder) as address:
        yield address


def test_addresses_are_read_like_files(server, samples, predictor):
    address = f"{server}/NORMAL/{samples[0].name}"
    assert read_file(address) == samples[0].read_bytes()
    there, missing = predictor.predict_many([address, f"{server}/none.png"])
    here = predictor.predict_many([samples[0], samples[0].with_name("none.png")])
    assert there.path == address
    assert (there.probability, there.image_sha256) == next((one.probability, one.image_sha256) for one in here)
    assert (missing.status, missing.reason) == (
        "error",
        "expected an image file, found nothing at this address: check it",
    )


def test_reading_stops_at_the_limit(server):
    assert len(read_address(f"{server}/endless.png", 100_000)) == 100_000


@pytest.mark.parametrize("name", ["endless-page", "endless-page/", "endless-page/*.png"])
def test_a_page_that_never_ends_is_no_listing(server, name):
    serving_files.sent = 0
    (found,) = expand([f"{server}/{name}"])
    assert serving_files.sent < 2 * LISTING_BYTES
    assert isinstance(found, UnreadableImage)
    assert "received a page of more than 10 MB, which is no listing" in str(found)


def test_a_long_file_without_an_ending_may_be_an_image(server):
    serving_files.sent = 0
    assert list(expand([f"{server}/endless"])) == [f"{server}/endless"]
    assert serving_files.sent < 2 * LISTING_BYTES


@pytest.mark.parametrize("name", ["short.png", "loop.png", "silent.png"])
def test_servers_that_lie_are_one_unreadable_image(server, samples, predictor, monkeypatch, name):
    fsspec.get_filesystem_class("http").clear_instance_cache()  # its clients keep their patience
    monkeypatch.setattr("pneumoscope.radiographs.remote.SILENT_SECONDS", 0.5)
    found, good = predictor.predict_many([f"{server}/{name}", samples[0]])
    assert (found.status, good.status) == ("error", "ok")
    assert found.reason.startswith("expected a")
    assert "\n" not in found.reason
    fsspec.get_filesystem_class("http").clear_instance_cache()


def test_folders_and_patterns_at_addresses_are_listed(server, samples, samples_folder, tmp_path):
    normal = [path for path in samples if path.parent.name == "NORMAL"]
    assert list(expand([f"{server}/NORMAL/"])) == sorted(f"{server}/NORMAL/{path.name}" for path in normal)
    assert list(expand([f"file://{samples_folder}"])) == sorted(f"file://{path}" for path in samples)
    assert list(expand([f"file://{samples_folder}/NORMAL/*.jpeg"])) == sorted(f"file://{path}" for path in normal)
    for nothing in (f"file://{tmp_path}", f"file://{tmp_path}/*.png", "no-such-kind://a/"):
        (found,) = expand([nothing])
        assert isinstance(found, UnreadableImage)
        assert found.path == nothing


def test_lists_name_images_relative_to_themselves(server, tmp_path):
    names = ["a.png", "sub/b.png", "/c.png", f"{server}/d.png"]
    paths = [tmp_path / "a.png", tmp_path / "sub" / "b.png", tmp_path.__class__("/c.png"), f"{server}/d.png"]
    (tmp_path / "list.csv").write_text("label,path\n" + "".join(f"NORMAL,{name}\n" for name in names))
    pyarrow.parquet.write_table(pyarrow.table({"path": names, "label": [1] * 4}), tmp_path / "list.parquet")
    for kind in ("csv", "parquet"):
        assert list(expand([str(tmp_path / f"list.{kind}")])) == paths
        there = [f"file://{tmp_path}/{name}" for name in names[:2]]
        assert list(expand([f"file://{tmp_path}/list.{kind}"]))[:2] == there


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"names,label\n", "expected a column path in .*, received names, label: name the one"),
        ("a.csv", b"", "received no column"),
        ("a.parquet", b"PAR1", "expected a Parquet file with text in its column path"),
        ("a.csv", None, "expected a list of images at .*: check the name"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        list(expand([str(tmp_path / name)]))


def test_without_fsspec_the_error_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"reading s3:// needs the package 'fsspec'.*pneumoscope\[remote\]"):
        read_file("s3://bucket/a.png")
