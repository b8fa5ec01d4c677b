"""Images that a Python program holds give the same pixels as the file that holds the same image."""

import gzip
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from builders.image_files import encode
from PIL import Image

from pneumoscope.errors import ImageTooLarge, RefusedImage, UnreadableImage, UsageError
from pneumoscope.radiographs import images
from pneumoscope.radiographs.images import read_radiograph


def same_pixels(one, other):
    np.testing.assert_array_equal(read_radiograph(one).pixels, read_radiograph(other).pixels)


def test_a_file_object_is_read_like_the_file(samples, tmp_path):
    path = samples[3]
    with path.open("rb") as file:
        same_pixels(file, path)
    with path.open("rb", buffering=0) as file:
        same_pixels(file, path)
    same_pixels(io.BytesIO(path.read_bytes()), path)
    (tmp_path / "radiograph.gz").write_bytes(gzip.compress(path.read_bytes()))
    with gzip.open(tmp_path / "radiograph.gz") as file:
        same_pixels(file, path)


def test_a_pipe_that_returns_a_little_at_a_time_is_read_to_its_end(samples):
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb") as file:
            file.write(samples[3].read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb", buffering=0) as file:
        same_pixels(file, samples[3])
    thread.join()


def test_an_endless_file_object_is_read_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 10_000)
    with open("/dev/zero", "rb") as file, pytest.raises(ImageTooLarge):
        read_radiograph(file)


def test_file_objects_that_give_no_bytes_are_refused(samples):
    with pytest.raises(UsageError, match="expected a file object that returns bytes, received str: open it with"):
        read_radiograph(io.StringIO("text"))
    with samples[0].open("rb") as file:
        pass
    with pytest.raises(UnreadableImage, match=r"received an error \(it is closed\)"):
        read_radiograph(file)
    at_the_end = io.BytesIO(b"")
    with pytest.raises(UnreadableImage):
        read_radiograph(at_the_end)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "YCbCr", "I", "F"])
def test_a_pillow_image_of_each_mode_is_read(mode, gray):
    image = Image.fromarray(gray).convert(mode)
    if mode == "F":
        image = Image.fromarray(gray.astype(np.float32) / 255)
    tolerance = 2 if mode in ("YCbCr", "CMYK") else 0  # Pillow rounds on the way there and back
    difference = read_radiograph(image).pixels.astype(int) - (gray if mode != "I" else read_radiograph(gray).pixels)
    assert np.abs(difference).max() <= tolerance


def test_a_pillow_image_of_16_bits_is_read_as_its_file(gray):
    deep = gray.astype(np.uint16) * 16
    same_pixels(Image.fromarray(deep), encode(deep, "PNG"))
    same_pixels(Image.open(io.BytesIO(encode(deep, "PNG"))), encode(deep, "PNG"))


def test_a_pillow_image_of_a_palette_with_transparency_is_read_as_its_file(gray):
    image = Image.fromarray(gray).convert("P")
    image.info["transparency"] = 0
    same_pixels(image, encode(image, "PNG", transparency=0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_of_a_pillow_image_is_applied(orientation, gray):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(gray, "JPEG", exif=exif, quality=95)
    same_pixels(Image.open(io.BytesIO(data)), data)


def test_pillow_images_that_cannot_be_judged_are_refused(gray, monkeypatch):
    with pytest.raises(UnreadableImage, match=r"received Pillow mode LAB: convert it with  image.convert\('L'\)"):
        read_radiograph(Image.new("LAB", (80, 100)))
    with pytest.raises(UnreadableImage, match="Pillow cannot decode this one"):
        read_radiograph(Image.open(io.BytesIO(encode(np.tile(gray, (4, 4)), "JPEG")[:2000])))
    with pytest.raises(RefusedImage, match="blank"):
        read_radiograph(Image.new("L", (80, 100)))
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ImageTooLarge, match="the Pillow image announces 100x80"):
        read_radiograph(Image.fromarray(gray))


def test_floats_from_0_to_1_are_the_pixels_that_were_divided_by_255(gray):
    for kind in (np.float32, np.float64):
        same_pixels(gray.astype(kind) / 255, gray)
    same_pixels(np.dstack([gray] * 3) / 255, gray)
    assert len(np.unique(np.rint(np.arange(256, dtype=np.float16) / np.float16(255) * 255))) == 256
    same_pixels(gray.astype(np.float16) / np.float16(255), gray)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_range_of_all_values_of_n_bits_keeps_the_upper_eight(bits):
    rows, columns = np.mgrid[0:80, 0:100]
    values = ((rows * 100 + columns) * 2**bits // 8000).astype(np.uint16)
    stated = read_radiograph(values, value_range=(0, 2**bits - 1)).pixels
    np.testing.assert_array_equal(stated, values >> (bits - 8))
    same_pixels(values, stated)  # the brightest pixel needs all bits: the same without the range
    for kind in (np.int32, np.int64):
        np.testing.assert_array_equal(read_radiograph(values.astype(kind), value_range=(0, 2**bits - 1)).pixels, stated)


def test_a_stated_range_keeps_the_brightness_of_a_dark_image(gray):
    """Without it, the brightness would depend on the brightest pixel."""
    dark = gray.astype(np.uint16)  # of 12 bits
    assert read_radiograph(dark).pixels.max() == gray.max()
    assert read_radiograph(dark * 8, value_range=(0, 4095)).pixels.max() == gray.max() // 2
    signed = gray.astype(np.int16) - 128
    np.testing.assert_array_equal(read_radiograph(signed, value_range=(-128, 127)).pixels, gray)
    hounsfield = gray / 255 * 2000 - 1000
    np.testing.assert_array_equal(read_radiograph(hounsfield, value_range=(-1000, 1000)).pixels, gray)


def test_the_source_of_an_array_says_the_stated_range(gray):
    assert read_radiograph(gray, value_range=(0, 255)).source == "<array, 0 to 255>"
    assert read_radiograph(gray).source == "<array>"


def test_values_outside_their_range_are_refused(gray):
    with pytest.raises(UnreadableImage, match="within the value_range from 0 to 100, received 0 to 255: state the"):
        read_radiograph(np.resize(np.arange(256), (80, 100)), value_range=(0, 100))
    with pytest.raises(UnreadableImage, match="as floats from 0 to 1, received 0 to 255: divide them"):
        read_radiograph(np.resize(np.arange(256.0), (80, 100)))
    with pytest.raises(UnreadableImage, match="expected finite pixels"):
        read_radiograph(np.full((80, 100), np.inf))


@pytest.mark.parametrize("value_range", [(5, 5), (4095, 0), (0,), 4095, "ab", (0, float("nan")), (0, float("inf"))])
def test_a_range_is_two_rising_numbers(value_range, gray):
    with pytest.raises(UsageError, match="expected value_range as two rising numbers, such as"):
        read_radiograph(gray, value_range=value_range)


def test_a_range_is_for_arrays_only(samples):
    for source in (samples[0], samples[0].read_bytes(), read_radiograph(samples[0])):
        with pytest.raises(UsageError, match="expected an array with value_range, received"):
            read_radiograph(source, value_range=(0, 255))


def test_reading_a_file_does_not_load_pillow(samples):
    code = "import sys; from pneumoscope import read_radiograph as r; r(sys.argv[1]); print('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, samples[0]], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
