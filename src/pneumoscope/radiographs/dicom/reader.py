"""DICOM bytes -> gray pixels as a workstation shows them; single-frame CR, DX and secondary captures.

The header (dicom_header) decides whether a file is read (dicom_kind) and how its pixels are shown (dicom_pixels).
"""

import functools
import io
import logging
import warnings
import zlib

import numpy as np

from pneumoscope.errors import ImageError, ImageTooLarge, UnreadableImage
from pneumoscope.radiographs.dicom.header import Header, check_pixels
from pneumoscope.radiographs.dicom.kind import check_kind
from pneumoscope.radiographs.dicom.pixels import stored_values, to_display, to_square_pixels

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
        (H, W) uint8, bone white; Rows and Columns of the header if its pixels are square.

    Raises:
        UnreadableImage: no DICOM, damaged, without pixels, or pydicom or a decoder is not installed.
        ImageTooLarge: more pixels or bytes than allowed.
        RefusedImage: another modality or body part, a lateral view, raw, in colour, of several frames.
    """
    try:
        import pydicom
    except ImportError:
        raise UnreadableImage(
            "expected pydicom to read a DICOM file, it is not installed: run  pip install 'pneumoscope[dicom]'"
        ) from None
    _silence()
    try:
        dataset = pydicom.dcmread(_InflateLimit(data, max_bytes))
        header = Header(dataset)
    except ImageTooLarge:
        raise
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
        return to_square_pixels(to_display(dataset, header, stored), header)
    except Exception:  # as above
        raise UnreadableImage(
            "expected a window or table of gray levels that can be applied, the one of this DICOM file cannot: export "
            "it again, or as PNG"
        ) from None


class _InflateLimit(io.BytesIO):
    """A file that refuses to be inflated beyond a limit.

    pydicom reads to the end at once only to inflate what it has read, wherever it found the file's meta information to
    end.
    """

    def __init__(self, data: bytes, max_bytes: int) -> None:
        super().__init__(data)
        self.max_bytes = max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is None or size < 0:
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.max_bytes + 1)
            if len(inflated) > self.max_bytes:
                raise ImageTooLarge(
                    f"expected a DICOM data set of at most {self.max_bytes // 10**6} MB, received more: save it smaller"
                )
        return data


@functools.cache
def _silence() -> None:
    """Keep what pydicom says of broken headers, values of patients included, out of terminals and logs.

    Both filters are those of the process, and changing them is not safe while threads warn: so once, after the import.
    """
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
