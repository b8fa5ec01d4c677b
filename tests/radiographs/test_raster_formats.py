"""TIFF, BMP and WebP: read as PNG is, upright, with the same limits; what is cut off or damaged is refused."""

import contextlib
import io
import struct

import numpy as np
import pytest
from builders.image_files import PNG_SIGNATURE, encode, png_chunk
from PIL import Image

from pneumoscope.errors import ImageError, ImageTooLarge, UnreadableImage
from pneumoscope.radiographs.images import _EXIF_ORIENTATIONS, read_radiograph

COMPRESSIONS = ("raw", "tiff_adobe_deflate", "tiff_deflate", "tiff_lzw", "packbits")


@pytest.fixture
def noisy(gray) -> np.ndarray:
    """(80, 100) uint8 that no compression makes very small."""
    noise = np.random.default_rng(0).integers(0, 20, gray.shape)
    return np.clip(gray.astype(int) // 2 + noise + 30, 0, 255).astype(np.uint8)


def tiff(pixels: np.ndarray, compression: str = "raw") -> bytes:
    return encode(pixels, "TIFF", compression=compression)


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value of a tag of one SHORT or LONG."""
    (start,) = struct.unpack("<I", data[4:8])
    for place in range(start + 2, start + 2 + 12 * struct.unpack("<H", data[start : start + 2])[0], 12):
        if struct.unpack("<H", data[place : place + 2])[0] == tag:
            kind = struct.unpack("<H", data[place + 2 : place + 4])[0]
            new = struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value)
            return data[: place + 8] + new + data[place + 12 :]
    raise AssertionError(f"no tag {tag}")


# Whole files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_gray_tiff_is_read(noisy, compression):
    assert (read_radiograph(tiff(noisy, compression)).pixels == noisy).all()
    sixteen = noisy.astype(np.uint16) << 4  # 12 bits in use
    assert (read_radiograph(tiff(sixteen, compression)).pixels == noisy).all()


def test_a_gray_picture_saved_in_colour_is_read(noisy):
    colour = np.dstack([noisy] * 3)
    for data in (tiff(colour), encode(colour, "BMP"), encode(noisy, "BMP"), encode(colour, "WEBP", lossless=True)):
        assert (read_radiograph(data).pixels == noisy).all()
    bgra = np.dstack([noisy, noisy, noisy, np.zeros_like(noisy)])  # a BMP of 32 bits leaves the fourth channel empty
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + bgra.size, 0, 0, 54, 40, 100, -80, 1, 32, 0, 0, 0, 0, 0, 0)
    assert (read_radiograph(header + bgra.tobytes()).pixels == noisy).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_white_may_be_zero(noisy, bits):
    pixels = noisy if bits == 8 else noisy.astype(np.uint16) << 8
    assert (read_radiograph(with_tag(tiff(pixels), 262, 0)).pixels == 255 - noisy).all()


def test_a_tiff_of_the_other_byte_order(noisy):
    entries = [(256, 3, 100), (257, 3, 80), (258, 3, 8), (262, 3, 1), (273, 4, 200), (277, 3, 1), (279, 4, 8000)]
    tags = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    data = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + tags + bytes(4)
    assert (read_radiograph(data.ljust(200, b"\0") + noisy.tobytes()).pixels == noisy).all()


# Orientation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", range(1, 9))
def test_each_format_is_turned_upright(noisy, mark):
    upright = _EXIF_ORIENTATIONS[mark](noisy)
    exif = Image.Exif()
    exif[0x0112] = mark
    files = {
        "PNG": encode(noisy, "PNG", exif=exif),
        "TIFF": encode(noisy, "TIFF", tiffinfo={274: mark}),
        "WebP": encode(np.dstack([noisy] * 3), "WEBP", lossless=True, exif=exif),
    }
    for name, data in files.items():
        assert (read_radiograph(data).pixels == upright).all(), name


def test_an_unclear_mark_in_a_png_turns_nothing(noisy):
    data = encode(noisy, "PNG")
    start = len(PNG_SIGNATURE) + 25
    for content in (b"", b"nonsense", b"II*\0" + bytes(100)):
        changed = data[:start] + png_chunk(b"eXIf", content) + data[start:]
        assert (read_radiograph(changed).pixels == noisy).all()


# Damage ------------------------------------------------------------------------------------------------------


def _files(noisy: np.ndarray) -> dict[str, bytes]:
    colour = np.dstack([noisy] * 3)
    return {
        **{f"TIFF {compression}": tiff(noisy, compression) for compression in COMPRESSIONS},
        "BMP": encode(noisy, "BMP"),
        "WebP lossless": encode(colour, "WEBP", lossless=True),
        "WebP": encode(colour, "WEBP", quality=80),
    }


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_never_judged(noisy, share):
    for name, data in _files(noisy).items():
        with pytest.raises(UnreadableImage, match=r"cut off|damaged"):
            pytest.fail(f"{name}: {read_radiograph(data[: int(share * len(data))])}")


def test_a_missing_or_changed_piece_is_never_judged_where_there_are_checksums(noisy):
    rng = np.random.default_rng(0)
    for compression in ("tiff_adobe_deflate", "tiff_deflate"):
        data = tiff(noisy, compression)
        tags = Image.open(io.BytesIO(data)).tag_v2
        (strip,), (length,) = tags[273], tags[279]
        for _ in range(40):
            place = int(rng.integers(strip, strip + length - 30))
            changed = bytearray(data)
            changed[place] ^= int(rng.integers(1, 256))
            for damaged in (bytes(changed), data[:place] + bytes(30) + data[place + 30 :]):
                with contextlib.suppress(ImageError):
                    assert (read_radiograph(damaged).pixels == noisy).all()


@pytest.mark.parametrize("name", ["WebP lossless", "WebP", "TIFF tiff_lzw"])
def test_a_missing_piece_moves_what_follows(noisy, name):
    data = _files(noisy)[name]
    middle = len(data) // 2
    with pytest.raises(UnreadableImage):
        read_radiograph(data[:middle] + data[middle + 40 :])


# Limits and other kinds --------------------------------------------------------------------------------------


def test_a_size_over_the_limit_is_refused_before_decoding(noisy):
    bmp = bytearray(encode(noisy, "BMP"))
    webp = encode(np.dstack([noisy] * 3), "WEBP", lossless=True)
    vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\0" * 2
    large = with_tag(with_tag(tiff(noisy), 256, 60000), 257, 60000)
    with pytest.raises(ImageTooLarge, match="60000x60000"):
        read_radiograph(large)
    with pytest.raises(ImageTooLarge, match="65536x65536"):
        read_radiograph(webp[:4] + struct.pack("<I", len(webp) + 10) + webp[8:12] + vp8x + webp[12:])
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    with pytest.raises(UnreadableImage, match="cut off"):  # its pixels are not there
        read_radiograph(bytes(bmp))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: encode(p, "TIFF", save_all=True, append_images=[Image.fromarray(p)]), "a TIFF of several pages"),
        (lambda p: encode(Image.fromarray(p).convert("1"), "TIFF"), "with 8 or 16 bits .* received 1 bits in 1"),
        (lambda p: encode(Image.fromarray(p.astype(np.float32)), "TIFF"), "received 32 bits in 1"),
        (lambda p: tiff(p, "jpeg"), "received another compression"),
        (lambda p: encode(p, "WEBP", save_all=True, append_images=[Image.fromarray(255 - p)]), "an animated WebP"),
        (lambda p: with_tag(tiff(p), 257, 0), "damaged"),
        (lambda p: b"BM" + bytes(60), "expected a BMP without compression"),
        (lambda p: b"RIFF" + struct.pack("<I", 30) + b"WEBPJUNK" + bytes(30), "expected a whole WebP image"),
    ],
)
def test_other_kinds_are_refused_with_a_reason(noisy, make, sentence):
    with pytest.raises(UnreadableImage, match=sentence):
        read_radiograph(make(noisy))


def test_a_hostile_list_of_strips_costs_nothing(noisy):
    """Thousands of strips that all point at the same bytes, and tags that claim millions of values."""
    data = tiff(noisy, "tiff_adobe_deflate")
    for tag in (273, 279, 258):
        (start,) = struct.unpack("<I", data[4:8])
        entries = struct.unpack("<H", data[start : start + 2])[0]
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            if struct.unpack("<H", data[place : place + 2])[0] == tag:
                with pytest.raises(UnreadableImage):
                    read_radiograph(data[: place + 4] + struct.pack("<I", 4_000_000_000) + data[place + 8 :])


def test_bytes_of_no_format_never_raise_another_error():
    rng = np.random.default_rng(0)
    for start in (b"II*\0", b"MM\0*", b"BM\0\0\0\0\0\0\0\0", b"RIFF\x40\0\0\0WEBPVP8 "):
        for length in (0, 4, 20, 60, 400):
            for _ in range(20):
                with pytest.raises(ImageError):
                    read_radiograph(start + rng.bytes(length))
