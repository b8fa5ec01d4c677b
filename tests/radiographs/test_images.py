"""Reading an image: every encoding gives the same pixels; arrays, colour, transparency and bit depth."""

import io

import cv2
import numpy as np
import pytest
from builders.image_files import GRAY_ALPHA, RGB, encode, png_file, unfiltered_rows
from PIL import Image, ImageOps

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.containers import image_size
from pneumoscope.radiographs.images import read_radiograph


def read_pixels(source: object) -> np.ndarray:
    return read_radiograph(source).pixels


def test_path_bytes_and_array_give_equal_pixels(samples, tmp_path):
    for path in samples[:3]:
        data = path.read_bytes()
        pixels = read_pixels(path)
        assert pixels.dtype == np.uint8
        assert (pixels.shape[1], pixels.shape[0]) == image_size(data)
        renamed = tmp_path / "another name.png"  # the content decides the format, not the name
        renamed.write_bytes(data)
        for source in (str(path), data, bytearray(data), memoryview(data), pixels, pixels[..., None], renamed):
            np.testing.assert_array_equal(read_pixels(source), pixels)


def test_a_radiograph_is_returned_unchanged_and_records_its_source(gray, samples):
    radiograph = read_radiograph(gray)
    assert read_radiograph(radiograph) is radiograph
    assert (radiograph.height, radiograph.width) == (80, 100)
    assert radiograph.source == "<array>"
    assert read_radiograph(samples[0].read_bytes()).source == "<bytes>"
    assert read_radiograph(samples[0]).source == str(samples[0])


def test_the_array_of_the_caller_is_not_changed(gray):
    before = gray.copy()
    read_radiograph(gray)
    read_radiograph(np.dstack([gray, gray, gray, gray]))
    np.testing.assert_array_equal(gray, before)


def test_lossless_encodings_of_one_image_give_its_pixels(gray):
    image, opaque = Image.fromarray(gray), Image.new("L", (100, 80), 255)
    sixteen = gray.astype(np.uint16) << 8 | gray
    encodings = {
        "gray": encode(image, "PNG"),
        "RGB": encode(image.convert("RGB"), "PNG"),
        "RGBA": encode(Image.merge("RGBA", [image, image, image, opaque]), "PNG"),
        "LA": encode(Image.merge("LA", [image, opaque]), "PNG"),
        "palette": encode(image.convert("P"), "PNG"),
        "16-bit": encode(sixteen, "PNG"),
        "12-bit in 16": encode(gray.astype(np.uint16) << 4 | gray >> 4, "PNG"),
        "8-bit in 16": encode(gray.astype(np.uint16), "PNG"),
        "16-bit LA": png_file(
            100, 80, unfiltered_rows(np.dstack([sixteen, np.full_like(sixteen, 65535)]).astype(">u2")), 16, GRAY_ALPHA
        ),
        "12-bit LA": png_file(  # alpha uses 16 bits, the gray values 12
            100,
            80,
            unfiltered_rows(np.dstack([sixteen >> 4, np.full_like(sixteen, 65535)]).astype(">u2")),
            16,
            GRAY_ALPHA,
        ),
        "16-bit RGB": png_file(100, 80, unfiltered_rows(np.dstack([sixteen] * 3).astype(">u2")), 16, RGB),
        "interlaced": png_file(100, 80, adam7(gray), interlace=1),
        "no compression": encode(image, "PNG", compress_level=0),
        "trailing bytes": encode(image, "PNG") + b"left over",
    }
    for name, data in encodings.items():
        np.testing.assert_array_equal(read_pixels(data), gray, err_msg=name)


def adam7(pixels: np.ndarray) -> bytes:
    """The seven passes of an interlaced PNG (PNG specification, section 8.2)."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(unfiltered_rows(pixels[y::down, x::across]) for x, y, across, down in steps)


def test_pngs_of_few_bits_range_from_black_to_white(gray):
    bilevel = Image.fromarray(gray).point(lambda value: 255 * (value > 128))
    np.testing.assert_array_equal(read_pixels(encode(bilevel.convert("1"), "PNG")), np.asarray(bilevel))
    two = gray >> 6
    packed = two[:, 0::4] << 6 | two[:, 1::4] << 4 | two[:, 2::4] << 2 | two[:, 3::4]
    np.testing.assert_array_equal(read_pixels(png_file(100, 80, unfiltered_rows(packed), depth=2)), two * 85)


def test_transparent_pixels_are_black(gray):
    image = Image.fromarray(gray)
    mask = np.full_like(gray, 255)
    mask[:, :50] = 0
    expected = np.where(mask, gray, 0)
    alpha = Image.fromarray(mask)
    np.testing.assert_array_equal(read_pixels(encode(Image.merge("RGBA", [image] * 3 + [alpha]), "PNG")), expected)
    np.testing.assert_array_equal(read_pixels(encode(Image.merge("LA", [image, alpha]), "PNG")), expected)
    np.testing.assert_array_equal(read_pixels(np.dstack([gray, gray, gray, mask])), expected)
    np.testing.assert_array_equal(
        read_pixels(encode(image.convert("P"), "PNG", transparency=200)), np.where(gray == 200, 0, gray)
    )
    half = np.dstack([gray, gray, gray, np.full_like(gray, 128)])
    np.testing.assert_allclose(read_pixels(half), gray * (128 / 255), atol=0.51)


def test_lossy_encodings_of_one_image_give_similar_pixels(gray):
    image = Image.fromarray(gray)
    ink, none = Image.fromarray(255 - gray), Image.new("L", (100, 80), 0)
    black_ink = encode(Image.merge("CMYK", [none, none, none, ink]), "JPEG", quality=98)
    adobe = black_ink.index(b"\xff\xee")  # this segment has 16 bytes; the inks are inverted with and without it
    assert black_ink[adobe + 4 : adobe + 9] == b"Adobe"
    encodings = {
        "gray": encode(image, "JPEG", quality=98),
        "RGB": encode(image.convert("RGB"), "JPEG", quality=98, subsampling=2),
        "progressive": encode(image, "JPEG", quality=98, progressive=True),
        "restart markers": encode(image, "JPEG", quality=98, restart_marker_rows=1),
        "CMYK, Adobe": black_ink,
        "CMYK, not Adobe": black_ink[:adobe] + black_ink[adobe + 16 :],
        "CMYK, three inks": encode(Image.merge("CMYK", [ink, ink, ink, none]), "JPEG", quality=98),
        "trailing bytes": encode(image, "JPEG", quality=98) + b"left over",
    }
    for name, data in encodings.items():
        assert np.abs(read_pixels(data).astype(int) - gray).max() <= 8, name


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "restart_marker_blocks": 4}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_pixels_equal_those_of_opencv(gray, mode, options):
    tinted = np.dstack([gray, gray, np.maximum(gray, 20) - 20])
    data = encode(gray if mode == "L" else tinted, "JPEG", **options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if mode == "RGB" else cv2.IMREAD_GRAYSCALE)
    if mode == "RGB":
        expected = cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(read_pixels(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_exif_orientation_of_a_jpeg_is_applied(gray, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(gray[:, :-7]).convert(mode), "JPEG", quality=98, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L"))
    np.testing.assert_allclose(read_pixels(data), expected, atol=1 if mode == "L" else 3)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_min_side_decodes_a_jpeg_at_a_smaller_scale(mode):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8), (1200, 900))
    data = encode(Image.fromarray(smooth).convert(mode), "JPEG", quality=95)
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


def test_min_side_scales_only_jpegs_and_before_exif_orientation(gray):
    large = cv2.resize(gray, (1200, 900))
    for data in (encode(large, "PNG"), large):
        np.testing.assert_array_equal(read_radiograph(data, 320).pixels, large)
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated, upright = (encode(large, "JPEG", quality=98, exif=tags) for tags in (exif, Image.Exif()))
    expected = np.rot90(read_radiograph(upright, 320).pixels, -1)
    np.testing.assert_array_equal(read_radiograph(rotated, 320).pixels, expected)


def test_gray_content_in_colour_files_is_accepted(gray):
    tinted = np.dstack([gray, gray, np.maximum(gray, 20) - 20])  # a tinted scan
    assert read_pixels(tinted).shape == gray.shape
    marked = np.dstack([gray, gray, gray])
    marked[:10, :30] = (255, 0, 0)  # a red marker on under 5 % of the pixels
    assert read_pixels(marked).shape == gray.shape


@pytest.mark.parametrize(
    ("maximum", "shift"), [(255, 0), (256, 1), (1023, 2), (4095, 4), (4096, 5), (16383, 6), (65535, 8)]
)
def test_16_bit_values_are_scaled_by_the_bits_in_use(gray, maximum, shift):
    values = (gray.astype(np.uint32) * maximum // 255).astype(np.uint16)
    np.testing.assert_array_equal(read_pixels(values), values >> shift)
    np.testing.assert_array_equal(read_pixels(values.astype(">u2")), values >> shift)


def test_every_bundled_radiograph_is_read(samples):
    for path in samples:
        assert min(read_radiograph(path).pixels.shape) >= 500
