"""What a JPEG, JPEG-LS or JPEG 2000 code stream announces, read without decoding, and the limit that holds for it."""

import struct
from collections.abc import Iterator

from pneumoscope.errors import ImageTooLarge

_SOC_SIZ = b"\xff\x4f\xff\x51"


def check_size(width: int, height: int, limit: int, where: str = "header") -> None:
    """Refuse more pixels than ``limit``, announced by ``where``."""
    if width * height > limit:
        raise ImageTooLarge(
            f"expected at most {limit // 10**6} megapixels, the {where} announces {width}x{height} "
            f"({width * height / 1e6:.0f} megapixels): save it smaller"
        )


def frame_size(frame: bytes) -> tuple[int, int, int] | None:
    """Width, height and components in a JPEG, JPEG-LS or JPEG 2000 code stream or JP2 file; None where not found."""
    if not frame.startswith(b"\xff\xd8"):
        return _jpeg_2000_size(frame)
    for marker, start, end in jpeg_segments(frame):
        if marker in (0xDE, 0xDF):  # frames of several sizes (T.81, annex J)
            return None
        if (is_frame(marker) or marker == 0xF7) and end - start >= 6:
            _, height, width, components = struct.unpack(">BHHB", frame[start : start + 6])  # T.81, B.2.2; T.87
            return width, height, components
    return None


def is_frame(marker: int) -> bool:
    """Whether a marker of a JPEG begins a frame, and no table (T.81, table B.1)."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _jpeg_2000_size(data: bytes) -> tuple[int, int, int] | None:
    """From SIZ, which follows the start of the code stream (T.800, A.5.1)."""
    start = 0 if data.startswith(_SOC_SIZ) else _jp2_content(data)
    stream = data[start : start + 42]
    if len(stream) < 42 or not stream.startswith(_SOC_SIZ):
        return None
    right, bottom, left, top = struct.unpack(">IIII", stream[8:24])
    return right - left, bottom - top, struct.unpack(">H", stream[40:])[0]


def _jp2_content(data: bytes) -> int:
    """Where the code stream begins in the boxes of a JP2 file (T.800, I.4); the end without one."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"jp2c":
            return position + (16 if length == 1 else 8)
        if length < 8:
            break
        position += length
    return len(data)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's content, up to the first scan (ITU-T T.81, B.1.1.4).

    Stops at anything out of order. Decoders skip that and search for the next marker, so going on would let a
    file show one size here and another one to them.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        end = position + 2 + length
        # Below 0xC0 nothing is defined but stuffing; 0xD0 to 0xD9 have no content (restarts, start and end).
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or length < 2 or end > len(data):
            return
        yield marker, position + 4, end
        if marker == 0xDA:  # start of scan: compressed pixels follow
            return
        position = end


def exif_orientation(data: bytes) -> int:
    """How the EXIF of a JPEG wants it turned (TIFF tag 274): 1 is upright, as without EXIF; 0 where EXIF is not plain.

    Plain is one segment whose first directory lies inside it and names the orientation once at most (Exif 2.32, 4.6).
    """
    segments = [data[start:end] for marker, start, end in jpeg_segments(data) if marker == 0xE1]
    found = [segment[6:] for segment in segments if segment.startswith(b"Exif\0")]
    if not found:
        return 1
    tiff = found[0]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if len(found) > 1 or order is None or len(tiff) < 8:
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
    kind, values, orientation = orientations[0]
    return orientation if len(orientations) == 1 and (kind, values) == (3, 1) and orientation <= 8 else 0
