"""PNG and JPEG files that are cut off, damaged, inconsistent or of another format."""

import random
import struct

import numpy as np
import pytest
from builders.image_files import PNG_SIGNATURE, encode, png_chunk, png_file, unfiltered_rows, with_jpeg_size
from PIL import Image

from pneumoscope.errors import ImageError, ImageTooLarge, RefusedImage, UnreadableImage
from pneumoscope.radiographs.containers import check_complete, image_size
from pneumoscope.radiographs.images import MIN_SIDE, read_radiograph


def test_a_file_cut_off_anywhere_is_refused_without_output(samples, gray, capfd):
    """Two bundled radiographs have EXIF thumbnails. The end-of-image marker of a thumbnail must not count."""
    files = [path.read_bytes() for path in samples]
    files += [encode(gray, "JPEG"), encode(gray, "JPEG", progressive=True), encode(gray, "PNG")]
    assert any(data.count(b"\xff\xda") > 1 for data in files)
    rng = random.Random(0)
    for data in files:
        near_ends = [1, 2, 3, 8, 20, 33, 100, len(data) - 9, len(data) - 4, len(data) - 3]
        for length in near_ends + [rng.randrange(1, len(data) - 2) for _ in range(10)]:
            with pytest.raises(UnreadableImage, match=r"cut off|something else"):
                read_radiograph(data[:length])
    assert capfd.readouterr() == ("", "")


def test_any_changed_byte_of_a_png_is_refused_without_output(gray, capfd):
    data = encode(gray, "PNG")
    rng = random.Random(0)
    for position in range(len(PNG_SIGNATURE), len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.randrange(8)
        with pytest.raises((UnreadableImage, ImageTooLarge), match=r"damaged|cut off|megapixels"):
            read_radiograph(bytes(damaged))
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_with_missing_bytes_is_refused_without_output(samples, gray, capfd):
    rng = random.Random(0)
    for data in [path.read_bytes() for path in samples] + [
        encode(gray, "JPEG"),
        encode(gray, "JPEG", progressive=True),
    ]:
        scan = data.rindex(b"\xff\xda")
        for _ in range(5):
            start = rng.randrange(scan + 20, len(data) - 20)
            with pytest.raises(UnreadableImage, match="damaged"):
                read_radiograph(data[:start] + data[start + rng.randrange(8, 5000) : -2] + data[-2:])
    assert capfd.readouterr() == ("", "")


def test_changed_bytes_in_a_jpeg_scan_never_crash(samples, gray, capfd):
    """A JPEG has no checksums: a change that does not break the code is read, with the same result each time."""
    rng = random.Random(0)
    refused = 0
    for data in (samples[0].read_bytes(), encode(gray, "JPEG"), encode(gray, "JPEG", progressive=True)):
        scan = data.rindex(b"\xff\xda")
        for changes in (1, 1, 1, 1, 1, 1, 30):
            damaged = bytearray(data)
            for _ in range(changes):
                damaged[rng.randrange(scan + 20, len(data) - 2)] = rng.randrange(256)
            first = pixels_or_error(bytes(damaged))
            second = pixels_or_error(bytes(damaged))
            assert type(first) is type(second)
            refused += isinstance(first, UnreadableImage)
            if isinstance(first, np.ndarray):
                np.testing.assert_array_equal(first, second)
    assert refused >= 7
    assert capfd.readouterr() == ("", "")


def test_random_changes_in_a_jpeg_header_never_crash(gray):
    data = encode(gray, "JPEG")
    header = data.index(b"\xff\xda")
    rng = random.Random(1)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            damaged[rng.randrange(header)] = rng.randrange(256)
        pixels_or_error(bytes(damaged))


def pixels_or_error(data: bytes) -> np.ndarray | ImageError:
    try:
        return read_radiograph(data).pixels
    except ImageError as error:
        return error


@pytest.mark.parametrize("side", [60, 64, 79, 81, 400])
def test_a_png_header_with_a_wrong_size_never_crashes(gray, side):
    """More rows than the header says: the extra ones are ignored. Fewer: the file is refused."""
    data = png_file(100, side, unfiltered_rows(gray))
    if side < MIN_SIDE:
        with pytest.raises(RefusedImage, match="at least 64 pixels"):
            read_radiograph(data)
    elif side < 80:
        np.testing.assert_array_equal(read_radiograph(data).pixels, gray[:side])
    else:
        with pytest.raises(UnreadableImage, match="damaged"):
            read_radiograph(data)


@pytest.mark.parametrize(
    "data",
    [
        png_file(0, 0, b""),
        png_file(0, 100, b""),
        png_file(100, 80, b"", depth=3),
        png_file(100, 80, b"", colour=5),
        png_file(100, 80, b""),
        PNG_SIGNATURE + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 80, 8, 0, 0, 0, 0)) + png_chunk(b"IEND", b""),
        PNG_SIGNATURE + png_chunk(b"IDAT", bytes(30)) + png_chunk(b"IEND", b""),
        PNG_SIGNATURE + b"\xff\xff\xff\xffIHDR" + bytes(40),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\0" + bytes(40),
        b"\xff\xd8" + b"\xff" * 100_000,
    ],
)
def test_headers_without_an_image_are_refused(data):
    with pytest.raises(UnreadableImage, match=r"whole .* image, received"):
        read_radiograph(data)


def test_a_jpeg_without_height_or_width_is_refused(gray):
    data = encode(gray, "JPEG")
    for width, height in ((100, 0), (0, 80), (0, 0)):
        with pytest.raises(UnreadableImage, match="damaged"):
            read_radiograph(with_jpeg_size(data, width, height))


@pytest.mark.parametrize(("marker", "bits"), [(0xC0, 12), (0xC3, 8), (0xC3, 16)])
def test_jpeg_codings_used_only_in_dicom_are_named(gray, marker, bits):
    data = bytearray(encode(gray, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    with pytest.raises(UnreadableImage, match=f"received {bits}-bit coding SOF{marker - 0xC0}: convert it to PNG"):
        read_radiograph(bytes(data))


def test_an_animated_png_is_refused(gray):
    data = encode(gray, "PNG", save_all=True, append_images=[Image.fromarray(255 - gray)])
    with pytest.raises(UnreadableImage, match="received an animated PNG: save one frame"):
        read_radiograph(data)


def other_formats() -> dict[str, bytes]:
    image = Image.linear_gradient("L")
    return {
        "an empty file": b"",
        "a GIF": encode(image, "GIF"),
        "a JPEG 2000": encode(image, "JPEG2000"),
        "a HEIF or AVIF": b"\0\0\0\x20ftypavif" + bytes(20),
        "a PDF": b"%PDF-1.7\n",
        "a zip archive": b"PK\3\4" + bytes(26),
        "a gzip archive": b"\x1f\x8b\x08" + bytes(10),
        "a web page": b"\n<!DOCTYPE html><html>",
        "something else": b"not an image at all",
    }


@pytest.mark.parametrize("name", other_formats())
def test_other_formats_are_named(name, tmp_path):
    path = tmp_path / "radiograph.jpeg"
    path.write_bytes(other_formats()[name])
    sentence = f"^expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image, received {name}[:,]"
    with pytest.raises(UnreadableImage, match=sentence):
        read_radiograph(path)


def test_tiff_of_both_byte_orders_and_dicom_with_a_tiff_preamble():
    with pytest.raises(UnreadableImage, match="expected a whole TIFF image, received one that is cut off"):
        read_radiograph(b"MM\0*" + bytes(2))
    with pytest.raises(UnreadableImage, match="expected a whole DICOM file, received one that is cut off"):
        read_radiograph(b"II*\0" + bytes(124) + b"DICM")


@pytest.mark.parametrize("data", [b"BMW is no bitmap", b"RIFF\0\0\0\0WAVEfmt "])
def test_similar_first_bytes_are_not_named_wrongly(data):
    with pytest.raises(UnreadableImage, match="received something else"):
        read_radiograph(data)


@pytest.mark.real
def test_every_real_file_is_complete_and_has_a_size(real_data):
    for path in sorted(real_data.rglob("*.jpeg")):
        data = path.read_bytes()
        assert min(image_size(data)) >= MIN_SIDE
        check_complete(data)
