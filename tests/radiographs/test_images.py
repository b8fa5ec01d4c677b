"""Reading: every encoding to the same pixels, every bad file to one sentence, never a crash or a bomb."""

import io
import os
import pathlib
import random
import struct

import cv2
import numpy as np
import pytest
from builders.image_files import (
    GRAY_ALPHA,
    PNG_SIGNATURE,
    RGB,
    chunk,
    encoded,
    png_file,
    unfiltered,
    with_jpeg_size,
)
from PIL import Image, ImageOps

from pneumoscope.errors import ImageError, ImageTooLarge, RefusedImage, UnreadableImage, UsageError
from pneumoscope.radiographs import images
from pneumoscope.radiographs.codestream import exif_orientation
from pneumoscope.radiographs.containers import check_complete, image_size
from pneumoscope.radiographs.images import MAX_BYTES, MIN_SIDE, Radiograph, read_file, read_radiograph


def pixels_of(source: object) -> np.ndarray:
    return read_radiograph(source).pixels


# Properties ------------------------------------------------------------------------------------------------


def test_path_bytes_and_array_give_equal_pixels(samples, tmp_path):
    for path in samples[:3]:
        data = path.read_bytes()
        pixels = pixels_of(path)
        assert pixels.dtype == np.uint8
        assert (pixels.shape[1], pixels.shape[0]) == image_size(data)
        renamed = tmp_path / "another name.png"  # the content decides, not the name
        renamed.write_bytes(data)
        for source in (str(path), data, bytearray(data), memoryview(data), pixels, pixels[..., None], renamed):
            np.testing.assert_array_equal(pixels_of(source), pixels)


def test_a_radiograph_passes_through_and_knows_its_source(gray, samples):
    radiograph = read_radiograph(gray)
    assert read_radiograph(radiograph) is radiograph
    assert (radiograph.height, radiograph.width) == (80, 100)
    assert radiograph.source == "<array>"
    assert read_radiograph(samples[0].read_bytes()).source == "<bytes>"
    assert read_radiograph(samples[0]).source == str(samples[0])


def test_the_caller_keeps_an_array_unchanged(gray):
    before = gray.copy()
    read_radiograph(gray)
    read_radiograph(np.dstack([gray, gray, gray, gray]))
    np.testing.assert_array_equal(gray, before)


def test_lossless_encodings_of_one_image_give_its_pixels(gray):
    image, opaque = Image.fromarray(gray), Image.new("L", (100, 80), 255)
    sixteen = gray.astype(np.uint16) << 8 | gray
    encodings = {
        "gray": encoded(image, "PNG"),
        "RGB": encoded(image.convert("RGB"), "PNG"),
        "RGBA": encoded(Image.merge("RGBA", [image, image, image, opaque]), "PNG"),
        "LA": encoded(Image.merge("LA", [image, opaque]), "PNG"),
        "palette": encoded(image.convert("P"), "PNG"),
        "16 bit": encoded(sixteen, "PNG"),
        "12 bit in 16": encoded(gray.astype(np.uint16) << 4 | gray >> 4, "PNG"),
        "8 bit in 16": encoded(gray.astype(np.uint16), "PNG"),
        "16-bit LA": png_file(
            100, 80, unfiltered(np.dstack([sixteen, np.full_like(sixteen, 65535)]).astype(">u2")), 16, GRAY_ALPHA
        ),
        "12-bit LA": png_file(  # alpha is full scale, the gray values are not
            100, 80, unfiltered(np.dstack([sixteen >> 4, np.full_like(sixteen, 65535)]).astype(">u2")), 16, GRAY_ALPHA
        ),
        "16-bit RGB": png_file(100, 80, unfiltered(np.dstack([sixteen] * 3).astype(">u2")), 16, RGB),
        "interlaced": png_file(100, 80, adam7(gray), interlace=1),
        "no compression": encoded(image, "PNG", compress_level=0),
        "trailing bytes": encoded(image, "PNG") + b"left over",
    }
    for name, data in encodings.items():
        np.testing.assert_array_equal(pixels_of(data), gray, err_msg=name)


def adam7(pixels: np.ndarray) -> bytes:
    """The seven passes of an interlaced PNG (PNG specification, section 8.2)."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(unfiltered(pixels[y::down, x::across]) for x, y, across, down in steps)


def test_few_bit_pngs_span_black_to_white(gray):
    bilevel = Image.fromarray(gray).point(lambda value: 255 * (value > 128))
    np.testing.assert_array_equal(pixels_of(encoded(bilevel.convert("1"), "PNG")), np.asarray(bilevel))
    two = gray >> 6
    packed = two[:, 0::4] << 6 | two[:, 1::4] << 4 | two[:, 2::4] << 2 | two[:, 3::4]
    np.testing.assert_array_equal(pixels_of(png_file(100, 80, unfiltered(packed), depth=2)), two * 85)


def test_transparent_pixels_are_black(gray):
    image = Image.fromarray(gray)
    mask = np.full_like(gray, 255)
    mask[:, :50] = 0
    expected = np.where(mask, gray, 0)
    alpha = Image.fromarray(mask)
    np.testing.assert_array_equal(pixels_of(encoded(Image.merge("RGBA", [image] * 3 + [alpha]), "PNG")), expected)
    np.testing.assert_array_equal(pixels_of(encoded(Image.merge("LA", [image, alpha]), "PNG")), expected)
    np.testing.assert_array_equal(pixels_of(np.dstack([gray, gray, gray, mask])), expected)
    np.testing.assert_array_equal(
        pixels_of(encoded(image.convert("P"), "PNG", transparency=200)), np.where(gray == 200, 0, gray)
    )
    half = np.dstack([gray, gray, gray, np.full_like(gray, 128)])
    np.testing.assert_allclose(pixels_of(half), gray * (128 / 255), atol=0.51)


def test_lossy_encodings_of_one_image_give_nearly_its_pixels(gray):
    image = Image.fromarray(gray)
    ink, none = Image.fromarray(255 - gray), Image.new("L", (100, 80), 0)
    black_ink = encoded(Image.merge("CMYK", [none, none, none, ink]), "JPEG", quality=98)
    adobe = black_ink.index(b"\xff\xee")  # the segment that says so has 16 bytes; the inks lie inverted either way
    assert black_ink[adobe + 4 : adobe + 9] == b"Adobe"
    encodings = {
        "gray": encoded(image, "JPEG", quality=98),
        "RGB": encoded(image.convert("RGB"), "JPEG", quality=98, subsampling=2),
        "progressive": encoded(image, "JPEG", quality=98, progressive=True),
        "restart markers": encoded(image, "JPEG", quality=98, restart_marker_rows=1),
        "CMYK, Adobe": black_ink,
        "CMYK, not Adobe": black_ink[:adobe] + black_ink[adobe + 16 :],
        "CMYK, three inks": encoded(Image.merge("CMYK", [ink, ink, ink, none]), "JPEG", quality=98),
        "trailing bytes": encoded(image, "JPEG", quality=98) + b"left over",
    }
    for name, data in encodings.items():
        assert np.abs(pixels_of(data).astype(int) - gray).max() <= 8, name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_exif_orientation_of_a_jpeg_is_applied(gray, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(gray[:, :-7]).convert(mode), "JPEG", quality=98, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L"))
    np.testing.assert_allclose(pixels_of(data), expected, atol=1 if mode == "L" else 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_upright_exif_is_told_from_one_that_turns(gray, order):
    """And what is not plain is 0, which is left to OpenCV."""

    def orientation(*entries: tuple, directory: int = 8, count: int | None = None, tail: bytes = bytes(4)) -> int:
        tiff = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", directory)
        tiff += struct.pack(order + "H", len(entries) if count is None else count)
        tiff += b"".join(struct.pack(order + "HHIHH", *entry) for entry in entries) + tail
        return exif_orientation(with_exif(gray, tiff))

    upright, turned, other = (0x0112, 3, 1, 1, 0), (0x0112, 3, 1, 6, 0), (0x010F, 2, 2, 65, 0)
    assert (orientation(upright), orientation(turned), orientation(other)) == (1, 6, 1)
    assert (orientation(other, turned), orientation()) == (6, 1)
    assert orientation(upright, turned) == 0
    assert orientation((0x0112, 4, 1, 1, 0)) == 0  # a long, not a short
    assert orientation((0x0112, 3, 2, 1, 0)) == orientation((0x0112, 3, 1, 9, 0)) == 0
    assert orientation(upright, directory=4) == orientation(upright, directory=2**32 - 1) == 0
    assert orientation(upright, count=60_000) == 0
    assert exif_orientation(with_exif(gray, b"neither")) == exif_orientation(with_exif(gray, b"II*\0")) == 0
    assert exif_orientation(encoded(gray, "JPEG")) == 1
    twice = with_exif(gray, b"II*\0" + struct.pack("<IH", 8, 0))
    segment = twice[2 : 2 + 2 + 2 + 6 + 10]
    assert (exif_orientation(twice), exif_orientation(twice[:2] + segment + twice[2:])) == (1, 0)


def with_exif(gray: np.ndarray, tiff: bytes) -> bytes:
    data = encoded(gray, "JPEG", quality=98)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff + data[2:]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_decoded_as_small_as_asked_and_no_smaller(mode):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8), (1200, 900))
    data = encoded(Image.fromarray(smooth).convert(mode), "JPEG", quality=95)
    full, small = read_radiograph(data).pixels, read_radiograph(data, 320).pixels
    assert full.shape == (900, 1200)
    assert 320 <= small.shape[0] < 450
    assert small.shape[1] == pytest.approx(small.shape[0] * 4 / 3, abs=1)
    expected = cv2.resize(full, small.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 1
    assert read_radiograph(data, 900).pixels.shape == full.shape
    np.testing.assert_array_equal(read_radiograph(data, 2000).pixels, full)
    with pytest.raises(UnreadableImage, match="damaged"):
        read_radiograph(data[:2000] + data[2600:], 320)


def test_only_a_jpeg_is_decoded_small_and_then_turned(gray):
    large = cv2.resize(gray, (1200, 900))
    for data in (encoded(large, "PNG"), large):
        np.testing.assert_array_equal(read_radiograph(data, 320).pixels, large)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = (encoded(large, "JPEG", quality=98, exif=each) for each in (exif, Image.Exif()))
    expected = np.rot90(read_radiograph(plain, 320).pixels, -1)
    np.testing.assert_array_equal(read_radiograph(turned, 320).pixels, expected)


def test_gray_content_in_colour_files_is_accepted(gray):
    tinted = np.dstack([gray, gray, np.maximum(gray, 20) - 20])  # a warm scan, a sepia print
    assert pixels_of(tinted).shape == gray.shape
    marked = np.dstack([gray, gray, gray])
    marked[:10, :30] = (255, 0, 0)  # a red marker on under 5 % of the pixels
    assert pixels_of(marked).shape == gray.shape


@pytest.mark.parametrize(
    ("maximum", "shift"), [(255, 0), (256, 1), (1023, 2), (4095, 4), (4096, 5), (16383, 6), (65535, 8)]
)
def test_sixteen_bits_are_scaled_by_those_in_use(gray, maximum, shift):
    values = (gray.astype(np.uint32) * maximum // 255).astype(np.uint16)
    np.testing.assert_array_equal(pixels_of(values), values >> shift)
    np.testing.assert_array_equal(pixels_of(values.astype(">u2")), values >> shift)


# Damage ----------------------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_refused_in_silence(samples, gray, capfd):
    """Two of the bundled radiographs carry EXIF thumbnails, whose end-of-image marker is not the radiograph's."""
    files = [path.read_bytes() for path in samples]
    files += [encoded(gray, "JPEG"), encoded(gray, "JPEG", progressive=True), encoded(gray, "PNG")]
    assert any(data.count(b"\xff\xda") > 1 for data in files)
    chance = random.Random(0)
    for data in files:
        near_ends = [1, 2, 3, 8, 20, 33, 100, len(data) - 9, len(data) - 4, len(data) - 3]
        for length in near_ends + [chance.randrange(1, len(data) - 2) for _ in range(10)]:
            with pytest.raises(UnreadableImage, match=r"cut off|something else"):
                read_radiograph(data[:length])
    assert capfd.readouterr() == ("", "")


def test_any_changed_byte_of_a_png_is_refused_in_silence(gray, capfd):
    data = encoded(gray, "PNG")
    chance = random.Random(0)
    for position in range(len(PNG_SIGNATURE), len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << chance.randrange(8)
        with pytest.raises((UnreadableImage, ImageTooLarge), match=r"damaged|cut off|megapixels"):
            read_radiograph(bytes(damaged))
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_with_a_piece_missing_is_refused_in_silence(samples, gray, capfd):
    chance = random.Random(0)
    for data in [path.read_bytes() for path in samples] + [
        encoded(gray, "JPEG"),
        encoded(gray, "JPEG", progressive=True),
    ]:
        scan = data.rindex(b"\xff\xda")
        for _ in range(5):
            at = chance.randrange(scan + 20, len(data) - 20)
            with pytest.raises(UnreadableImage, match="damaged"):
                read_radiograph(data[:at] + data[at + chance.randrange(8, 5000) : -2] + data[-2:])
    assert capfd.readouterr() == ("", "")


def test_changed_bytes_in_a_jpeg_scan_never_crash(samples, gray, capfd):
    """A JPEG has no checksums: what does not break the code is read with its flaw, the same each time."""
    chance = random.Random(0)
    refused = 0
    for data in (samples[0].read_bytes(), encoded(gray, "JPEG"), encoded(gray, "JPEG", progressive=True)):
        scan = data.rindex(b"\xff\xda")
        for changes in (1, 1, 1, 1, 1, 1, 30):
            damaged = bytearray(data)
            for _ in range(changes):
                damaged[chance.randrange(scan + 20, len(data) - 2)] = chance.randrange(256)
            first = _pixels_or_error(bytes(damaged))
            again = _pixels_or_error(bytes(damaged))
            assert type(first) is type(again)
            refused += isinstance(first, UnreadableImage)
            if isinstance(first, np.ndarray):
                np.testing.assert_array_equal(first, again)
    assert refused >= 7
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "restart_marker_blocks": 4}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_sound_jpeg_has_the_pixels_of_another_decoder(gray, mode, options):
    tinted = np.dstack([gray, gray, np.maximum(gray, 20) - 20])
    data = encoded(gray if mode == "L" else tinted, "JPEG", **options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if mode == "RGB" else cv2.IMREAD_GRAYSCALE)
    if mode == "RGB":
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(pixels_of(data), expected)


def _pixels_or_error(data: bytes) -> np.ndarray | ImageError:
    try:
        return pixels_of(data)
    except ImageError as error:
        return error


def test_random_changes_in_a_jpeg_header_never_crash(gray):
    data = encoded(gray, "JPEG")
    header = data.index(b"\xff\xda")
    chance = random.Random(1)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 3))):
            damaged[chance.randrange(header)] = chance.randrange(256)
        _pixels_or_error(bytes(damaged))


@pytest.mark.parametrize("side", [60, 64, 79, 81, 400])
def test_a_png_header_that_lies_never_crashes(gray, side):
    """More pixels than announced: the announced ones are read. Fewer: refused."""
    data = png_file(100, side, unfiltered(gray))
    if side < MIN_SIDE:
        with pytest.raises(RefusedImage, match="at least 64 pixels"):
            read_radiograph(data)
    elif side < 80:
        np.testing.assert_array_equal(pixels_of(data), gray[:side])
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
        PNG_SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 80, 8, 0, 0, 0, 0)) + chunk(b"IEND", b""),
        PNG_SIGNATURE + chunk(b"IDAT", bytes(30)) + chunk(b"IEND", b""),
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
    data = encoded(gray, "JPEG")
    for width, height in ((100, 0), (0, 80), (0, 0)):
        with pytest.raises(UnreadableImage, match="damaged"):
            read_radiograph(with_jpeg_size(data, width, height))


@pytest.mark.parametrize(("marker", "bits"), [(0xC0, 12), (0xC3, 8), (0xC3, 16)])
def test_jpeg_codings_of_dicom_are_named(gray, marker, bits):
    data = bytearray(encoded(gray, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    with pytest.raises(UnreadableImage, match=f"received {bits}-bit coding SOF{marker - 0xC0}: convert it to PNG"):
        read_radiograph(bytes(data))


# Bombs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_decoding(monkeypatch):
    def decode(*_: object) -> None:
        pytest.fail("decoded before its header was checked")

    monkeypatch.setattr(cv2, "imdecode", decode)


@pytest.mark.parametrize("size", [(20_000, 20_000), (50_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_a_png_bomb_is_refused_from_its_header(size, no_decoding):
    bomb = png_file(*size, bytes(10))
    assert len(bomb) < 100
    assert image_size(bomb) == size
    with pytest.raises(ImageTooLarge, match=f"at most 50 megapixels, the header announces {size[0]}x{size[1]}"):
        read_radiograph(bomb)


def test_a_jpeg_bomb_is_refused_from_its_header(gray, no_decoding):
    with pytest.raises(ImageTooLarge, match="the header announces 65500x65500"):
        read_radiograph(with_jpeg_size(encoded(gray, "JPEG"), 65_500, 65_500))


@pytest.mark.parametrize("marker", [0x00, 0x01, 0x02, 0xBF, *range(0xD0, 0xDA)])
def test_a_jpeg_cannot_hide_its_size_behind_a_marker_without_content(gray, marker, no_decoding):
    """Decoders skip such a marker and find the large frame; a reader that skips its "content" finds the small one."""
    data = encoded(gray, "JPEG")
    frame = data.index(b"\xff\xc0")
    small = data[frame : frame + 2 + struct.unpack(">H", data[frame + 2 : frame + 4])[0]]
    large = with_jpeg_size(small, 12_000, 12_000)
    hidden = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(large)) + large
    with pytest.raises(UnreadableImage, match="cut off or damaged"):
        read_radiograph(data[:frame] + hidden + small + data[frame + len(small) :])


def test_too_many_bytes_are_refused(no_decoding, monkeypatch, tmp_path, gray):
    monkeypatch.setattr(images, "MAX_BYTES", 1_000)
    data = encoded(gray, "PNG") + bytes(1_000)
    path = tmp_path / "large.png"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ImageTooLarge, match="expected a file of at most 0 MB, received more"):
            read_radiograph(source)


@pytest.mark.skipif(not pathlib.Path("/dev/zero").exists(), reason="needs a device file that never ends")
def test_an_endless_device_is_read_up_to_the_limit(monkeypatch, no_decoding):
    monkeypatch.setattr(images, "MAX_BYTES", 1_000_000)
    assert len(read_file("/dev/zero")) == 1_000_001
    with pytest.raises(ImageTooLarge, match="received more"):
        read_radiograph("/dev/zero")


def test_the_limits_hold_what_they_promise():
    """The largest radiographs pass: a 14x17 inch plate at 0.1 mm, 16 bit, without compression."""
    pixels = 3_560 * 4_320
    assert pixels < images.MAX_PIXELS
    assert images.MAX_PIXELS * 2 <= MAX_BYTES


# Other files -----------------------------------------------------------------------------------------------


def _foreign() -> dict[str, bytes]:
    image = Image.linear_gradient("L")
    return {
        "an empty file": b"",
        "a GIF": encoded(image, "GIF"),
        "a BMP": encoded(image, "BMP"),
        "a TIFF": encoded(image, "TIFF"),
        "a WebP": encoded(image, "WEBP"),
        "a JPEG 2000": encoded(image, "JPEG2000"),
        "a HEIF or AVIF": b"\0\0\0\x20ftypavif" + bytes(20),
        "a PDF": b"%PDF-1.7\n",
        "a zip archive": b"PK\3\4" + bytes(26),
        "a gzip archive": b"\x1f\x8b\x08" + bytes(10),
        "a web page": b"\n<!DOCTYPE html><html>",
        "something else": b"not an image at all",
    }


@pytest.mark.parametrize("name", _foreign())
def test_other_files_are_named(name, tmp_path):
    path = tmp_path / "radiograph.jpeg"
    path.write_bytes(_foreign()[name])
    with pytest.raises(UnreadableImage, match=f"^expected a JPEG, PNG or DICOM image, received {name}[:,]"):
        read_radiograph(path)


def test_a_big_endian_tiff_is_named_and_a_dicom_that_is_also_a_tiff_is_a_dicom():
    with pytest.raises(UnreadableImage, match="received a TIFF"):
        read_radiograph(b"MM\0*" + bytes(20))
    with pytest.raises(UnreadableImage, match="expected a whole DICOM file, received a damaged one"):
        read_radiograph(b"II*\0" + bytes(124) + b"DICM")


@pytest.mark.parametrize("data", [b"BMW is no bitmap", b"RIFF\0\0\0\0WAVEfmt "])
def test_a_chance_beginning_is_not_named_wrongly(data):
    with pytest.raises(UnreadableImage, match="received something else"):
        read_radiograph(data)


def test_an_animated_png_is_refused(gray):
    data = encoded(gray, "PNG", save_all=True, append_images=[Image.fromarray(255 - gray)])
    with pytest.raises(UnreadableImage, match="received an animated PNG: save one frame"):
        read_radiograph(data)


def test_names_that_lead_to_no_file(tmp_path):
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


def test_a_name_that_is_no_utf_8_is_read(tmp_path, gray):
    path = tmp_path / os.fsdecode(b"r\xf6ntgen.png")
    try:
        path.write_bytes(encoded(gray, "PNG"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    np.testing.assert_array_equal(pixels_of(path), gray)


def test_a_file_without_read_permission(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:  # chmod 000 would not stop root, who runs many test containers
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(UnreadableImage, match="permission denied"):
        read_radiograph(tmp_path / "secret.png")


@pytest.mark.parametrize("source", [None, 3, 1.5, ["a.png"], {"path": "a.png"}, object()])
def test_other_types_are_a_wrong_call(source):
    with pytest.raises(UsageError, match=f"expected a path, encoded bytes or an array.*{type(source).__name__}"):
        read_radiograph(source)


# Refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((80, 100), np.float32), "expected uint8 or uint16 pixels, received float32"),
        (np.full((80, 100), np.nan), "received float64"),
        (np.zeros((80, 100), bool), "received bool"),
        (np.zeros((80, 100), np.int16), "received int16"),
        (np.zeros((80, 100), np.uint32), "received uint32"),
        (np.full((80, 100), "a"), "received <U1"),
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
def test_arrays_that_are_no_image(array, message):
    with pytest.raises(UnreadableImage, match=message):
        read_radiograph(array)


@pytest.mark.parametrize("pixels", [np.zeros((80, 100, 3), np.uint8), np.zeros((80, 100)), [[1, 2]], None])
def test_a_radiograph_holds_gray_bytes_only(pixels):
    with pytest.raises(UnreadableImage, match="expected \\(H, W\\) uint8 pixels, received"):
        Radiograph(pixels)


def test_tiny_images_are_refused(gray):
    for image in (np.zeros((1, 1), np.uint8), gray[: MIN_SIDE - 1], gray[:, : MIN_SIDE - 1]):
        with pytest.raises(RefusedImage, match="expected at least 64 pixels a side"):
            read_radiograph(encoded(image, "PNG"))
    assert pixels_of(gray[:MIN_SIDE, :MIN_SIDE]).shape == (MIN_SIDE, MIN_SIDE)


def test_strips_are_refused(gray):
    strip = np.tile(gray[:64, :64], (1, 5))
    for image in (strip, strip.T):
        with pytest.raises(RefusedImage, match="not a strip of it"):
            read_radiograph(image)
    assert pixels_of(strip[:, :256]).shape == (64, 256)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_images_are_refused(value):
    with pytest.raises(RefusedImage, match=r"blank image \(contrast 0\.0 gray levels"):
        read_radiograph(np.full((100, 100), value, np.uint8))


def test_colour_photographs_are_refused():
    photograph = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    for source in (photograph, encoded(photograph, "PNG"), encoded(photograph, "JPEG"), photograph.astype("u2") << 8):
        with pytest.raises(RefusedImage, match="of this image is in colour"):
            read_radiograph(source)


# The real ones ---------------------------------------------------------------------------------------------


def test_every_bundled_radiograph_is_read(samples):
    for path in samples:
        assert min(read_radiograph(path).pixels.shape) >= 500


@pytest.mark.real
def test_every_real_header_is_understood(real_data):
    for path in sorted(real_data.rglob("*.jpeg")):
        data = path.read_bytes()
        assert min(image_size(data)) >= MIN_SIDE
        check_complete(data)
