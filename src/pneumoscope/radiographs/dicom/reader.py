"""DICOM bytes -> gray pixels as a workstation displays them; single-frame CR, DX and secondary captures.

``header.py`` reads the elements, ``kind.py`` decides what is refused, ``pixels.py`` computes the gray levels.
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


def is_dicom(data: bytes) -> bool:
    """Whether bytes start like a DICOM file: a preamble of 128 bytes, then ``DICM`` (PS3.10, section 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, max_pixels: int, max_bytes: int) -> np.ndarray:
    """Read the pixels of a chest radiograph as they are displayed.

    Args:
        data: the whole file.
        max_pixels: of the image, checked before decoding.
        max_bytes: of the data set after decompression.

    Returns:
        (H, W) uint8, bone white. H and W are Rows and Columns of the header if its pixels are square.

    Raises:
        UnreadableImage: not DICOM, damaged, without pixels, or pydicom or a decoder is not installed.
        ImageTooLarge: more pixels or bytes than allowed.
        RefusedImage: another modality or body part, a lateral view, raw, in colour, or of several frames.
    """
    try:
        import pydicom
    except ImportError:
        raise UnreadableImage(
            "expected pydicom to read a DICOM file, it is not installed: run  pip install 'pneumoscope[dicom]'"
        ) from None
    _silence_pydicom()
    try:
        dataset = pydicom.dcmread(_LimitedFile(data, max_bytes))
        header = Header(dataset)
    except ImageTooLarge:
        raise
    except Exception:  # pydicom raises any type for a damaged file, and its message may contain patient data
        raise UnreadableImage("expected a whole DICOM file, received a damaged one: export it again") from None
    check_kind(header)
    check_pixels(header, max_pixels)
    try:
        stored = stored_values(dataset, header, max_pixels)
    except ImageError:
        raise
    except Exception:  # as above; the decoders raise any type as well
        raise UnreadableImage(
            "expected pixels that can be decoded, received a DICOM file whose pixels cannot be decoded "
            f"({header.transfer_syntax_name}): export it again, or as PNG"
        ) from None
    try:
        return to_square_pixels(to_display(dataset, header, stored), header)
    except Exception:  # as above
        raise UnreadableImage(
            "expected a window or lookup table that can be applied, received a DICOM file with an invalid one: export "
            "it again, or as PNG"
        ) from None


class _LimitedFile(io.BytesIO):
    """A file in memory whose content must stay under a limit after decompression.

    pydicom reads to the end of the file in one call only if it is going to inflate what it has read. So the limit is
    checked there. This holds wherever the file meta information ends.
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
def _silence_pydicom() -> None:
    """Keep the warnings of pydicom about broken headers out of terminals and logs. They may contain patient data.

    Both filters belong to the whole process, and changing them while threads run is not safe. So they are set once,
    after the import.
    """
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
