"""TIFF, BMP and WebP files before decoding: which size, whether the file is whole, and how the picture is turned.

Decoders fill what is missing with gray or black, and some say nothing of it. What cannot be checked is refused.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.codestream import exif_orientation_of_tiff

_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_TYPES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I")}  # TIFF 6.0, section 2: BYTE, SHORT, LONG
_NONE, _LZW, _DEFLATE, _PACKBITS = 1, 5, (8, 32946), 32773
_MAX_PAGES = 8
# The tags that are read, and how many values each may have; a hostile file could ask for gigabytes of them.
_READ_TAGS = {
    **dict.fromkeys((254, 256, 257, 258, 259, 262, 274, 277, 278, 284, 322, 323, 339), 8),
    **dict.fromkeys((273, 279, 324, 325), 200_000),  # places and lengths of strips and tiles
}

_Tags = dict[int, tuple[int, ...]]


def is_tiff(data: bytes) -> bool:
    """Whether bytes start like a TIFF file of either byte order."""
    return data[:4] in _TIFF_ORDERS


def is_bmp(data: bytes) -> bool:
    """Whether bytes start like a BMP file: ``BM``, a length, and four reserved bytes that are 0."""
    return data[:2] == b"BM" and data[6:10] == bytes(4)


def is_webp(data: bytes) -> bool:
    """Whether bytes start like a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


# TIFF (revision 6.0) -----------------------------------------------------------------------------------------


def tiff_size(data: bytes) -> tuple[int, int]:
    """Width and height of the only page of a TIFF.

    Raises:
        UnreadableImage: cut off, several pages, or a kind of pixels that is not read.
    """
    tags, following = _tiff_directory(data, struct.unpack(_order(data) + "I", _part(data, 4, 8))[0])
    for _ in range(_MAX_PAGES):
        if not following:
            break
        other, following = _tiff_directory(data, following)
        if not other.get(254, (0,))[0] & 1:  # NewSubfileType: not a small copy of another page
            raise UnreadableImage(
                "expected one image, received a TIFF of several pages: save one page of it", code="several_frames"
            )
    bits, samples = tags.get(258, (1,)), tags.get(277, (1,))[0]
    if set(bits) not in ({8}, {16}) or samples not in (1, 3, 4) or tags.get(339, (1,))[0] != 1:
        raise UnreadableImage(
            f"expected a TIFF with 8 or 16 bits in 1, 3 or 4 channels, received {max(bits)} bits in {samples}: "
            "convert it to PNG",
            code="unsupported_format",
        )
    width, height = _only(tags, 256), _only(tags, 257)
    if not width or not height:
        raise _damaged("TIFF")
    return width, height


def check_tiff(data: bytes) -> None:
    """Refuse a TIFF that is cut off or damaged, as far as its compression shows it.

    Raises:
        UnreadableImage: parts outside of the file, too short, or damaged; or a compression that cannot be checked.
    """
    tags, _ = _tiff_directory(data, struct.unpack(_order(data) + "I", data[4:8])[0])
    compression = tags.get(259, (_NONE,))[0]
    if compression not in (_NONE, _LZW, _PACKBITS, *_DEFLATE):
        raise UnreadableImage(
            "expected a TIFF without compression, or with deflate, LZW or PackBits, received another compression: "
            "convert it to PNG",
            code="unsupported_format",
        )
    offsets, counts = (tags.get(strip) or tags.get(tile, ()) for strip, tile in ((273, 324), (279, 325)))
    if not offsets or len(offsets) != len(counts):
        raise _cut_off("TIFF")
    for offset, count, (size, most) in zip(offsets, counts, _part_sizes(tags, len(offsets)), strict=True):
        if offset + count > len(data) or not count:
            raise _cut_off("TIFF")
        _check_part(data[offset : offset + count], size, most, compression)
    if compression == _LZW:
        _check_with_pillow(data)


def tiff_orientation(data: bytes) -> int:
    """Orientation of a TIFF, 1 to 8; 1 without one."""
    value = _tiff_directory(data, struct.unpack(_order(data) + "I", data[4:8])[0])[0].get(274, (1,))[0]
    return value if 1 <= value <= 8 else 1


def is_white_zero(data: bytes) -> bool:
    """Whether 0 means white in a gray TIFF."""
    tags, _ = _tiff_directory(data, struct.unpack(_order(data) + "I", data[4:8])[0])
    return tags.get(262, (1,))[0] == 0


def _order(data: bytes) -> str:
    return _TIFF_ORDERS[data[:4]]


def _part(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise _cut_off("TIFF")
    return data[start:end]


def _tiff_directory(data: bytes, start: int) -> tuple[_Tags, int]:
    """The tags with whole numbers of one page, and where the next page's directory is; 0 if there is none."""
    order = _order(data)
    (count,) = struct.unpack(order + "H", _part(data, start, start + 2))
    end = start + 2 + 12 * count
    tags: _Tags = {}
    for entry in struct.iter_unpack(order + "HHI4s", _part(data, start + 2, end)):
        tag, kind, number, value = entry
        if kind not in _TIFF_TYPES or tag in tags or not 0 < number <= _READ_TAGS.get(tag, 0):
            continue
        size, code = _TIFF_TYPES[kind]
        if size * number > 4:
            (place,) = struct.unpack(order + "I", value)
            value = _part(data, place, place + size * number)
        tags[tag] = struct.unpack(f"{order}{number}{code}", value[: size * number])
    return tags, struct.unpack(order + "I", _part(data, end, end + 4))[0]


def _only(tags: _Tags, tag: int) -> int:
    if tag not in tags:
        raise _cut_off("TIFF")
    return tags[tag][0]


def _part_sizes(tags: _Tags, number: int) -> Iterator[tuple[int, int]]:
    """Least and most inflated bytes of each strip or tile; some writers fill up the last strip."""
    width, height = _only(tags, 256), _only(tags, 257)
    samples = tags.get(277, (1,))[0]
    planes = 1 if tags.get(284, (1,))[0] == 1 else samples
    pixel = tags.get(258, (1,))[0] // 8 * (samples if planes == 1 else 1)
    if 322 in tags and 323 in tags:
        across, down = tags[322][0], tags[323][0]
        if not 0 < across <= max(4096, 2 * width) or not 0 < down <= max(4096, 2 * height):
            raise _damaged("TIFF")
        if number != -(-width // across) * -(-height // down) * planes:
            raise _damaged("TIFF")
        for _ in range(number):
            yield across * down * pixel, across * down * pixel
        return
    rows = min(tags.get(278, (height,))[0] or height, height)
    per_plane = -(-height // rows)
    if number != per_plane * planes:
        raise _damaged("TIFF")
    for place in range(number):
        yield width * pixel * min(rows, height - rows * (place % per_plane)), width * pixel * rows


def _check_part(part: bytes, size: int, most: int, compression: int) -> None:
    if compression == _NONE and len(part) < size:
        raise _cut_off("TIFF")
    if compression == _PACKBITS and _packbits_length(part) < size:
        raise _damaged("TIFF")
    if compression in _DEFLATE:
        inflater = zlib.decompressobj()
        try:
            inflated = len(inflater.decompress(part, most + 1))
        except zlib.error:
            raise _damaged("TIFF") from None
        # Some writers leave out the checksum at the end; then only the length is known.
        if not size <= inflated <= most:
            raise _damaged("TIFF")


def _packbits_length(part: bytes) -> int:
    """Inflated bytes of a strip (TIFF 6.0, section 9)."""
    position = length = 0
    while position < len(part):
        head = part[position]
        if head < 128:
            position += head + 2
            length += head + 1 if position <= len(part) else 0
        else:
            position += 1 if head == 128 else 2
            length += 0 if head == 128 else 257 - head
    return length


def _check_with_pillow(data: bytes) -> None:
    """Decode once with a decoder that raises an error on damage; OpenCV does not for LZW of 8 bits."""
    try:
        from PIL import Image
    except ImportError:
        raise UnreadableImage(
            "expected Pillow to check a TIFF with LZW compression, it is not installed: run  pip install "
            "'pneumoscope[tiff]'  or convert the file to PNG",
            code="missing_extra",
        ) from None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            image.load()
    except Exception:  # Pillow raises any type for a damaged file
        raise _damaged("TIFF") from None


# BMP ---------------------------------------------------------------------------------------------------------


def bmp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a BMP; refuses one that is cut off, or whose pixels are compressed.

    Raises:
        UnreadableImage: cut off, or a kind of BMP that is not read.
    """
    if len(data) < 54:
        raise _cut_off("BMP")
    (start,) = struct.unpack("<I", data[10:14])
    header, width, height, _, bits, compression = struct.unpack("<IiiHHI", data[14:34])
    if header < 40 or bits not in (8, 24, 32) or compression not in (0, 3):
        raise UnreadableImage(
            "expected a BMP without compression, received another kind: convert it to PNG", code="unsupported_format"
        )
    if width <= 0 or height == 0:
        raise _damaged("BMP")
    stride = (width * bits + 31) // 32 * 4
    if start + stride * abs(height) > len(data):
        raise _cut_off("BMP")
    return width, abs(height)


# WebP (RFC 9649) ---------------------------------------------------------------------------------------------


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP; refuses one that is cut off or animated.

    Raises:
        UnreadableImage: cut off, damaged or animated.
    """
    if len(data) < 30 or struct.unpack("<I", data[4:8])[0] + 8 > len(data):
        raise _cut_off("WebP")
    for kind, content in _webp_chunks(data):
        if kind == b"VP8X" and len(content) >= 10:
            if content[0] & 2:
                raise UnreadableImage(
                    "expected one image, received an animated WebP: save one frame of it", code="several_frames"
                )
            return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
        if kind == b"VP8L" and len(content) >= 5 and content[0] == 0x2F:
            packed = int.from_bytes(content[1:5], "little")
            return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
        if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
            width, height = struct.unpack("<HH", content[6:10])
            return width & 0x3FFF, height & 0x3FFF
    raise _damaged("WebP")


def webp_orientation(data: bytes) -> int:
    """Orientation from the EXIF of a WebP: 1 to 8; 1 without EXIF, 0 if it is unclear."""
    contents = [content for kind, content in _webp_chunks(data) if kind == b"EXIF"]
    if not contents:
        return 1
    return exif_orientation_of_tiff(contents[0].removeprefix(b"Exif\0\0")) if len(contents) == 1 else 0


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[position : position + 8])
        yield kind, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def _cut_off(name: str) -> UnreadableImage:
    return UnreadableImage(
        f"expected a whole {name} image, received one that is cut off: export it again", code="cut_off"
    )


def _damaged(name: str) -> UnreadableImage:
    return UnreadableImage(f"expected a whole {name} image, received a damaged one: export it again", code="damaged")
