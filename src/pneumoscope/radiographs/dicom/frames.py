"""Decodes one compressed frame, and refuses it if the decoder can tell that it is damaged.

Decoders are made to show what they can of a damaged frame. A model would judge the rest. What each encoding reveals,
and how it is checked here:

- JPEG with 8 bits: simplejpeg stops at every warning of libjpeg-turbo, as for JPEG files.
- JPEG with 12 bits, and lossless JPEG: the code words are counted, see ``entropy.py``.
- JPEG-LS: CharLS stops if the code stream ends early, late or with an impossible code.
- JPEG 2000: the lengths of the tile-parts must lead to the end marker, and OpenJPEG compares the bytes of each code
  block with those that its decoder used. OpenJPEG does so only where the header promises a predictable termination
  (T.800, D.4.2), so the promise is added. Decoding does not change. Without it, a difference of a few bytes is normal.
- RLE: each segment must decode to one byte for each pixel.
"""

import functools
import logging
import re
import struct
import threading

import numpy as np

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.codestream import is_frame_marker, jp2_codestream_start, jpeg_segments
from pneumoscope.radiographs.dicom.entropy import has_whole_scan
from pneumoscope.radiographs.dicom.header import Header

#: Bytes that a JPEG 2000 decoder may use beyond the end of a code block. Whole files have needed up to 4.
MAX_BYTES_BEYOND = 6

_RLE = "1.2.840.10008.1.2.5"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("50", "51", "57", "70"))
_JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("80", "81"))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("90", "91"))
#: Transfer syntaxes that are read: implicit, explicit, deflated and big-endian data sets, and compressed pixels.
TRANSFER_SYNTAXES = (
    *(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2")),
    *(_RLE, *_JPEG, *_JPEG_LS, *_JPEG_2000),
)
_HIGH_THROUGHPUT, _BYPASS, _PREDICTABLE_TERMINATION = 0x40, 0x01, 0x10  # code block styles (T.800, table A.19)


class _NoEnd(ValueError):
    """The frame ends before its end marker."""


def check_encoding(header: Header) -> None:
    """Refuse a compressed encoding that nothing here decodes.

    Raises:
        UnreadableImage: with the name of the encoding.
    """
    if header.transfer_syntax not in TRANSFER_SYNTAXES:
        raise UnreadableImage(
            "expected an encoding that can be decoded, received a DICOM file with pixels in another one "
            f"({header.transfer_syntax_name}): export it again uncompressed, or as PNG",
            code="unsupported_format",
        )


def decode_frame(frame: bytes, header: Header) -> np.ndarray:
    """Decode a compressed frame.

    Args:
        frame: one frame, of the size in the header.
        header: of the data set, checked by :func:`check_encoding`.

    Returns:
        (Rows, Columns), or (Rows, Columns, 3) as RGB, of 8 or 16 bits. Of RLE, the cells.

    Raises:
        UnreadableImage: cut off or damaged.
    """
    syntax = header.transfer_syntax
    if syntax == _RLE:
        decode = _decode_rle
    elif syntax in _JPEG:
        decode = _decode_jpeg
    else:
        decode = _decode_jpeg_ls if syntax in _JPEG_LS else _decode_jpeg_2000
    damage = "damaged"
    try:
        return decode(frame, header)
    except _NoEnd:
        damage = "cut off"
    except (ValueError, RuntimeError):  # of the decoders; their messages may repeat bytes of the file
        pass
    raise UnreadableImage(
        f"expected a whole compressed picture, received a DICOM file whose picture ({header.transfer_syntax_name}) is "
        f"{damage}: send or export it again",
        code=damage.replace(" ", "_"),
    )


def _decode_jpeg(frame: bytes, header: Header) -> np.ndarray:
    """JPEG of 8 bits as files are decoded; other JPEG, which simplejpeg does not read, with the code words counted."""
    import simplejpeg

    _check_end_of_image(frame)
    marker, bits = _find_frame_header(frame)
    if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA) and bits == 8:
        pixels: np.ndarray = simplejpeg.decode_jpeg(frame, "RGB" if header.is_colour else "GRAY", strict=True)
        if header.photometric_interpretation == "RGB":  # decoders take three channels for YCbCr unless a marker says so
            pixels = _jpeg8(frame, "RGB")
        return pixels if header.is_colour else pixels[:, :, 0]
    if not has_whole_scan(frame):
        raise ValueError("code words are missing, left over or unknown")
    return _jpeg8(frame)


def _jpeg8(frame: bytes, colour_space: str | None = None) -> np.ndarray:
    import imagecodecs

    pixels: np.ndarray = imagecodecs.jpeg8_decode(frame, colorspace=colour_space, outcolorspace=colour_space)
    return pixels


def _check_end_of_image(frame: bytes) -> None:
    if frame.rfind(b"\xff\xd9") < 0:
        raise _NoEnd


def _find_frame_header(frame: bytes) -> tuple[int, int]:
    """Marker and bits of a sample."""
    for marker, start, _ in jpeg_segments(frame):
        if is_frame_marker(marker):
            return marker, frame[start]
    raise ValueError("no frame header")


def _decode_jpeg_ls(frame: bytes, header: Header) -> np.ndarray:
    import imagecodecs

    _check_end_of_image(frame)
    pixels: np.ndarray = imagecodecs.jpegls_decode(frame)
    return pixels


def _decode_rle(frame: bytes, header: Header) -> np.ndarray:
    import imagecodecs

    size, cell = header.rows * header.columns * header.samples_per_pixel, header.bits_allocated // 8
    cells = imagecodecs.dicomrle_decode(frame, np.dtype(f"<u{cell}"))
    if len(cells) != size * cell:
        raise ValueError("a segment is too short or too long")
    pixels = np.frombuffer(cells, f"<u{cell}")
    if header.samples_per_pixel == 1:
        return pixels.reshape(header.rows, header.columns)
    return pixels.reshape(header.samples_per_pixel, header.rows, header.columns).transpose(1, 2, 0)


def _decode_jpeg_2000(frame: bytes, header: Header) -> np.ndarray:
    import imagecodecs

    stream = frame if frame.startswith(b"\xff\x4f") else frame[jp2_codestream_start(frame) :]
    checked = _promise_termination(stream)
    warnings = _collect_warnings().start()
    # 2: OpenJPEG's warnings reach the logger. One thread: the warnings come in the thread that calls.
    pixels: np.ndarray = imagecodecs.jpeg2k_decode(checked, verbose=2, numthreads=1)
    if any(_means_damage(message) for message in warnings):
        raise ValueError("OpenJPEG warns")
    return pixels


def _promise_termination(stream: bytes) -> bytes:
    """Set the code block style of the main header after following the code stream to its end (T.800, A.4 and A.6.1).

    Raises:
        ValueError: the markers or the lengths of the tile-parts do not lead to the end of the code stream.
    """
    changed = bytearray(stream)
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", stream.ljust(position + 4, b"\0"), position)
        if marker == 0xFF90:  # start of a tile-part
            break
        if marker < 0xFF00 or length < 2:
            raise ValueError("the main header cannot be followed")
        if marker in (0xFF52, 0xFF53):  # coding style, by default and of one component (up to 256 components)
            style = position + (12 if marker == 0xFF52 else 9)
            if style < len(stream) and not changed[style] & (_HIGH_THROUGHPUT | _BYPASS):
                changed[style] |= _PREDICTABLE_TERMINATION
        position += 2 + length
    while stream[position : position + 2] == b"\xff\x90":
        length = struct.unpack_from(">I", stream.ljust(position + 10, b"\0"), position + 6)[0]
        end = position + length if length else max(position, stream.rfind(b"\xff\xd9"))  # 0: up to the end marker
        if 0 < length < 14 or end > len(stream):
            raise _NoEnd
        position = end
    if stream[position : position + 2] != b"\xff\xd9":
        raise _NoEnd if position >= len(stream) else ValueError("no end marker after the last tile-part")
    return bytes(changed)


def _means_damage(message: str) -> bool:
    """Whether a warning of OpenJPEG means that data are missing, left over or cannot be decoded."""
    if beyond := re.search(r"(\d+) synthesized", message):
        return int(beyond[1]) > MAX_BYTES_BEYOND
    return "TPsot==TNsot" not in message  # a common encoder numbers tile-parts so


class _Warnings:
    """The warnings of the decoders, for each thread. None is passed on: they may repeat bytes of the file."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def start(self) -> list[str]:
        """A list that collects the warnings of this thread from now on."""
        messages: list[str] = []
        self._thread.messages = messages
        return messages

    def collect(self, message: object, *values: object, **options: object) -> None:
        """Stands in for ``Logger.warning``."""
        text = str(message) % values if values else str(message)
        getattr(self._thread, "messages", []).append(text)


@functools.cache
def _collect_warnings() -> _Warnings:
    """Put the collector in the place of the logger's method.

    A handler would receive nothing while logging is disabled, and then damage would pass.
    """
    warnings = _Warnings()
    logger = logging.getLogger("imagecodecs")
    logger.warning = logger.error = warnings.collect  # type: ignore[method-assign, assignment]
    return warnings
