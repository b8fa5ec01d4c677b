"""Sources that are not a readable gray radiograph: names, types, arrays, tiny, blank, in colour."""

import os
import pathlib

import numpy as np
import pytest
from builders.image_files import encode

from pneumoscope.errors import RefusedImage, UnreadableImage, UsageError
from pneumoscope.radiographs.images import MIN_SIDE, Radiograph, read_radiograph


def test_names_without_a_readable_file(tmp_path):
    with pytest.raises(UnreadableImage, match="received a folder"):
        read_radiograph(tmp_path)
    with pytest.raises(UnreadableImage, match="found nothing under this name"):
        read_radiograph(tmp_path / "missing.png")
    with pytest.raises(UnreadableImage, match="embedded null byte"):
        read_radiograph("nul\0byte.png")
    with pytest.raises(UnreadableImage, match="the system says"):
        read_radiograph("x" * 5_000)
    with pytest.raises(UnreadableImage, match=r"the system says|found nothing"):
        read_radiograph(pathlib.Path(__file__) / "below-a-file.png")
    with pytest.raises(UnreadableImage, match=r"found nothing|the system says"):
        read_radiograph(os.fsdecode(b"\xff\xfe.png"))


def test_a_file_name_that_is_not_utf_8_is_read(tmp_path, gray):
    path = tmp_path / os.fsdecode(b"r\xf6ntgen.png")
    try:
        path.write_bytes(encode(gray, "PNG"))
    except OSError:
        pytest.skip("this file system accepts only UTF-8 names")
    np.testing.assert_array_equal(read_radiograph(path).pixels, gray)


def test_a_file_without_read_permission(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:  # chmod 000 does not stop root, the usual user in containers
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pneumoscope.radiographs.files.os.open", refuse)
    with pytest.raises(UnreadableImage, match="permission denied"):
        read_radiograph(tmp_path / "secret.png")


@pytest.mark.parametrize("source", [None, 3, 1.5, ["a.png"], {"path": "a.png"}, object()])
def test_other_types_raise_a_usage_error(source):
    with pytest.raises(UsageError, match=f"expected a path, encoded bytes, a file object.*{type(source).__name__}"):
        read_radiograph(source)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((80, 100), 1.5), "expected pixels as floats from 0 to 1, received 1.5 to 1.5: divide them"),
        (np.full((80, 100), np.nan), "expected finite pixels, received NaN"),
        (np.zeros((80, 100), bool), "expected uint8 or uint16 pixels, or floats from 0 to 1, received bool"),
        (np.zeros((80, 100), np.int16), "received int16 .*: state the values for black and white as value_range"),
        (np.zeros((80, 100), np.uint32), "received uint32"),
        (np.full((80, 100), "a"), "received <U1 .*: convert them"),
        (np.full((80, 100), None), "received object"),
        (np.zeros(100, np.uint8), "received shape \\(100,\\): pass one image"),
        (np.array(5, np.uint8), "received shape \\(\\)"),
        (np.zeros((80, 100, 2), np.uint8), "received shape \\(80, 100, 2\\)"),
        (np.zeros((80, 100, 5), np.uint16), "received shape \\(80, 100, 5\\)"),
        (np.zeros((3, 80, 100), np.uint8), "received shape \\(3, 80, 100\\)"),
        (np.zeros((2, 80, 100, 3), np.uint8), "received shape \\(2, 80, 100, 3\\)"),
        (np.zeros((0, 100), np.uint8), "received shape \\(0, 100\\)"),
        (np.zeros((80, 0, 3), np.uint16), "received shape \\(80, 0, 3\\)"),
    ],
)
def test_arrays_that_are_not_an_image_are_refused(array, message):
    with pytest.raises(UnreadableImage, match=message):
        read_radiograph(array)


@pytest.mark.parametrize("pixels", [np.zeros((80, 100, 3), np.uint8), np.zeros((80, 100)), [[1, 2]], None])
def test_a_radiograph_accepts_only_gray_uint8_pixels(pixels):
    with pytest.raises(UnreadableImage, match="expected \\(H, W\\) uint8 pixels, received"):
        Radiograph(pixels)


def test_tiny_images_are_refused(gray):
    for image in (np.zeros((1, 1), np.uint8), gray[: MIN_SIDE - 1], gray[:, : MIN_SIDE - 1]):
        with pytest.raises(RefusedImage, match="expected at least 64 pixels a side"):
            read_radiograph(encode(image, "PNG"))
    assert read_radiograph(gray[:MIN_SIDE, :MIN_SIDE]).pixels.shape == (MIN_SIDE, MIN_SIDE)


def test_strips_are_refused(gray):
    strip = np.tile(gray[:64, :64], (1, 5))
    for image in (strip, strip.T):
        with pytest.raises(RefusedImage, match="not a strip of it"):
            read_radiograph(image)
    assert read_radiograph(strip[:, :256]).pixels.shape == (64, 256)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_images_are_refused(value):
    with pytest.raises(RefusedImage, match=r"blank image \(contrast 0\.0 gray levels"):
        read_radiograph(np.full((100, 100), value, np.uint8))


def test_colour_photographs_are_refused():
    photograph = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    for source in (photograph, encode(photograph, "PNG"), encode(photograph, "JPEG"), photograph.astype("u2") << 8):
        with pytest.raises(RefusedImage, match="of this image is in colour"):
            read_radiograph(source)
