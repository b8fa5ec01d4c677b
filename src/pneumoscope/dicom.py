"""DICOM bytes -> gray pixels as a workstation shows them; single-frame CR, DX and secondary captures.

The header decides whether a file is read (dicom_header), the pixels are decoded and shown after it (dicom_pixels).
"""

import io
import struct
import warnings
import zlib

import numpy as np

from pneumoscope.dicom_header import Header, check_kind, check_pixels
from pneumoscope.dicom_pixels import shown, stored_values
from pneumoscope.errors import ImageError, ImageTooLarge, UnreadableImage

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_DAMAGED = "expected a whole DICOM file, received a damaged one: export it again"


def is_dicom(data: bytes) -> bool:
    """Whether bytes begin as a DICOM file: a preamble of 128 bytes, then ``DICM`` (PS3.10, section 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, max_pixels: int, max_bytes: int) -> np.ndarray:
    """Pixels of a chest radiograph as they are shown.

    Args:
        data: the whole file.
        max_pixels: of the image, checked before decoding.
        max_bytes: of the data set once inflated.

    Returns:
        (Rows, Columns) uint8, bone white.

    Raises:
        UnreadableImage: no DICOM, damaged, without pixels, or pydicom or a decoder is not installed.
        ImageTooLarge: more pixels or bytes than allowed.
        RefusedImage: another modality or body part, a lateral view, colour, several frames.
    """
    try:
        import pydicom
    except ImportError:
        raise UnreadableImage(
            "expected pydicom to read a DICOM file, it is not installed: run  pip install 'pneumoscope[dicom]'"
        ) from None
    # Headers break the standard often and in ways that do not touch the pixels; pydicom warns of each.
    warnings.filterwarnings("ignore", module="pydicom")
    _check_inflated(data, max_bytes)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        header = Header(dataset)
    except Exception:  # a damaged file raises anything in pydicom, and its sentence may hold a patient's data
        raise UnreadableImage(_DAMAGED) from None
    check_kind(header)
    check_pixels(header, max_pixels)
    try:
        stored = stored_values(dataset, header, max_pixels)
    except ImageError:
        raise
    except Exception:  # as above, and what the decoders raise
        raise UnreadableImage(
            f"expected pixels that can be decoded, the ones of this DICOM file ({header.syntax}) cannot: export it "
            "again, or as PNG"
        ) from None
    try:
        return shown(dataset, header, stored)
    except Exception:  # as above
        raise UnreadableImage(
            "expected a window or table of gray levels that can be applied, the one of this DICOM file cannot: export "
            "it again, or as PNG"
        ) from None


def _check_inflated(data: bytes, max_bytes: int) -> None:
    """Refuse a deflated data set that grows beyond the limit, before pydicom inflates it whole."""
    if len(data) < 144 or _DEFLATED not in data[132:4096]:
        return
    tag, representation, length = struct.unpack("<I2sH", data[132:140])
    if (tag, representation, length) != (0x00000002, b"UL", 4):
        raise UnreadableImage(_DAMAGED)
    start = 144 + struct.unpack("<I", data[140:144])[0]
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], max_bytes + 1)
    except zlib.error:
        raise UnreadableImage(_DAMAGED) from None
    if len(inflated) > max_bytes:
        raise ImageTooLarge(
            f"expected a DICOM data set of at most {max_bytes // 10**6} MB, received more: export it smaller"
        )
