"""JPEG, JPEG-LS and JPEG 2000 code streams before decoding: size, segments, orientation, and the limit on pixels."""

import struct
from collections.abc import Iterator

from pneumoscope.errors import ImageTooLarge

_SOC_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 code stream, then the marker of its sizes


def check_size(width: int, height: int, limit: int, where: str = "header") -> None:
    """Refuse an image with more pixels than ``limit``.

    Args:
        width: in pixels.
        height: in pixels.
        limit: number of pixels.
        where: the part of the file that the size comes from, for the message.

    Raises:
        ImageTooLarge: more pixels than that.
    """
    if width * height > limit:
        raise ImageTooLarge(
            f"expected at most {limit // 10**6} megapixels, the {where} announces {width}x{height} "
            f"({width * height / 1e6:.0f} megapixels): save it smaller"
        )


def frame_size(frame: bytes) -> tuple[int, int, int] | None:
    """Width, height and components of a JPEG, JPEG-LS or JPEG 2000 code stream or a JP2 file; None if not found."""
    if not frame.startswith(b"\xff\xd8"):
        return _jpeg_2000_size(frame)
    for marker, start, end in jpeg_segments(frame):
        if marker in (0xDE, 0xDF):  # frames of several sizes (T.81, annex J)
            return None
        if (is_frame_marker(marker) or marker == 0xF7) and end - start >= 6:  # 0xF7: JPEG-LS (T.87)
            _, height, width, components = struct.unpack(">BHHB", frame[start : start + 6])  # T.81, B.2.2
            return width, height, components
    return None


def is_frame_marker(marker: int) -> bool:
    """Whether a JPEG marker starts a frame; some markers of the same range start tables (T.81, table B.1)."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the content of each segment, up to the first scan (ITU-T T.81, B.1.1.4).

    Stops at the first irregular byte. Decoders skip such bytes and search for the next marker. If this function did
    the same, a file could show one size here and another one to the decoder.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        end = position + 2 + length
        # Markers below 0xC0 are reserved. 0xD0 to 0xD9 have no content (restarts, start and end of image).
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or length < 2 or end > len(data):
            return
        yield marker, position + 4, end
        if marker == 0xDA:  # start of scan: compressed pixels follow
            return
        position = end


def exif_orientation(data: bytes) -> int:
    """Orientation from the EXIF of a JPEG (TIFF tag 274): 1 to 8, where 1 is upright; 0 if the EXIF is unclear.

    Without EXIF the orientation is 1. EXIF is clear if it is one segment, its first directory lies inside the segment,
    and the directory contains the orientation at most once (Exif 2.32, 4.6).
    """
    contents = [data[start:end] for marker, start, end in jpeg_segments(data) if marker == 0xE1]
    exif_contents = [content[6:] for content in contents if content.startswith(b"Exif\0")]
    if not exif_contents:
        return 1
    return exif_orientation_of_tiff(exif_contents[0]) if len(exif_contents) == 1 else 0


def exif_orientation_of_tiff(tiff: bytes) -> int:
    """Orientation from the content of EXIF, which is a TIFF, as :func:`exif_orientation` returns it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 0
    (directory,) = struct.unpack(order + "I", tiff[4:8])
    if not 8 <= directory <= len(tiff) - 2:
        return 0
    (count,) = struct.unpack(order + "H", tiff[directory : directory + 2])
    if directory + 2 + 12 * count > len(tiff):
        return 0
    entries = struct.iter_unpack(order + "HHIHH", tiff[directory + 2 : directory + 2 + 12 * count])
    orientations = [entry[1:4] for entry in entries if entry[0] == 0x0112]
    if not orientations:
        return 1
    field_type, values, orientation = orientations[0]  # type 3: 16-bit numbers, here a single one
    return orientation if len(orientations) == 1 and (field_type, values) == (3, 1) and orientation <= 8 else 0


def _jpeg_2000_size(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and components from SIZ, the segment after the start of the code stream (T.800, A.5.1)."""
    start = 0 if data.startswith(_SOC_SIZ) else jp2_codestream_start(data)
    stream = data[start : start + 42]
    if len(stream) < 42 or not stream.startswith(_SOC_SIZ):
        return None
    right, bottom, left, top = struct.unpack(">IIII", stream[8:24])
    return right - left, bottom - top, struct.unpack(">H", stream[40:])[0]


def jp2_codestream_start(data: bytes) -> int:
    """Position of the code stream in the boxes of a JP2 file (T.800, I.4); the end of the data if there is none."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"jp2c":
            return position + (16 if length == 1 else 8)  # 1: a 64-bit length follows
        if length < 8:
            break
        position += length
    return len(data)
