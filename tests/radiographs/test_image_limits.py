"""Limits on bytes and pixels are checked before decoding."""

import pathlib

import pytest
from builders.image_files import encode, png_file, with_jpeg_size

from pneumoscope.errors import ImageTooLarge
from pneumoscope.radiographs import files, images
from pneumoscope.radiographs.containers import image_size
from pneumoscope.radiographs.files import MAX_BYTES, read_file
from pneumoscope.radiographs.images import read_radiograph


@pytest.mark.parametrize("size", [(20_000, 20_000), (50_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_a_png_bomb_is_refused_by_its_header(size, no_opencv):
    bomb = png_file(*size, bytes(10))
    assert len(bomb) < 100
    assert image_size(bomb) == size
    with pytest.raises(ImageTooLarge, match=f"at most 50 megapixels, the header announces {size[0]}x{size[1]}"):
        read_radiograph(bomb)


def test_a_jpeg_bomb_is_refused_by_its_header(gray, no_opencv):
    with pytest.raises(ImageTooLarge, match="the header announces 65500x65500"):
        read_radiograph(with_jpeg_size(encode(gray, "JPEG"), 65_500, 65_500))


def test_too_many_bytes_are_refused(no_opencv, monkeypatch, tmp_path, gray):
    for module in (files, images):
        monkeypatch.setattr(module, "MAX_BYTES", 1_000)
    data = encode(gray, "PNG") + bytes(1_000)
    path = tmp_path / "large.png"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ImageTooLarge, match="expected a file of at most 0 MB, received more"):
            read_radiograph(source)


@pytest.mark.skipif(not pathlib.Path("/dev/zero").exists(), reason="needs an endless device file")
def test_an_endless_device_is_read_up_to_the_limit(monkeypatch, no_opencv):
    for module in (files, images):
        monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    assert len(read_file("/dev/zero")) == 1_000_001
    with pytest.raises(ImageTooLarge, match="received more"):
        read_radiograph("/dev/zero")


def test_the_largest_radiographs_are_within_the_limits():
    """A plate of 14x17 inches at 0.1 mm, 16 bits, without compression."""
    pixels = 3_560 * 4_320
    assert pixels < images.MAX_PIXELS
    assert images.MAX_PIXELS * 2 <= MAX_BYTES
