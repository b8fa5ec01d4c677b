"""What a JPEG, JPEG-LS or JPEG 2000 code stream announces, read without decoding, and the limit that holds for it."""

import struct
from collections.abc import Iterator

from pneumoscope.errors import ImageTooLarge


def check_size(width: int, height: int, limit: int, where: str = "header") -> None:
    """Refuse more pixels than ``limit``, announced by ``where``."""
    if width * height > limit:
        raise ImageTooLarge(
            f"expected at most {limit // 10**6} megapixels, the {where} announces {width}x{height} "
            f"({width * height / 1e6:.0f} megapixels): save it smaller"
        )


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height in a JPEG, JPEG-LS or JPEG 2000 code stream; None for others."""
    at = frame.find(b"\xff\x4f\xff\x51")  # SOC and SIZ (T.800, A.5.1), also within a JP2 file
    if at >= 0:
        right, bottom, left, top = struct.unpack(">IIII", frame[at + 8 : at + 24])
        return right - left, bottom - top
    position = 2
    while frame.startswith(b"\xff\xd8") and position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:  # T.81, B.2.2; T.87
            height, width = struct.unpack(">HH", frame[position + 5 : position + 9])
            return width, height
        position += 1 if marker == 0xFF else 2 + struct.unpack(">H", frame[position + 2 : position + 4])[0]
    return None


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
