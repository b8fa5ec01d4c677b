"""DICOM bytes -> gray pixels as a workstation displays them; single-frame CR, DX and secondary captures.

``elements.py`` counts the elements before pydicom reads them, ``header.py`` reads them, ``kind.py`` and ``patient.py``
decide what is refused, ``frames.py`` decodes, ``pixels.py`` computes the gray levels.
"""

import io
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pneumoscope.errors import ImageError, RefusedImage, UnreadableImage
from pneumoscope.io.streams import silence_library
from pneumoscope.radiographs.dicom.elements import Layout, inflate, is_dicom, read_layout
from pneumoscope.radiographs.dicom.header import VALUE_LIMITS, Header, check_pixels
from pneumoscope.radiographs.dicom.kind import check_kind
from pneumoscope.radiographs.dicom.patient import check_patient
from pneumoscope.radiographs.dicom.pixels import (
    Display,
    gray_of_colour,
    stored_values,
    to_display,
    to_square_pixels,
)
from pneumoscope.radiographs.dicom.reference import NO_REFERENCE, InstanceReference, read_reference

if TYPE_CHECKING:  # pydicom is an optional package
    from pydicom.dataset import FileDataset

__all__ = ["DicomImage", "is_dicom", "read_dataset", "read_dicom", "reference_of"]

#: Images with more pixels than this are decoded one at a time. A JPEG 2000 decoder needs 10 to 20 bytes for a pixel.
LARGE_PIXELS = 12_000_000
_one_large_image = threading.Lock()


def _renew_lock() -> None:
    global _one_large_image
    _one_large_image = threading.Lock()


if hasattr(os, "register_at_fork"):  # a thread that does not exist in the child may hold the lock
    os.register_at_fork(after_in_child=_renew_lock)


class DicomImage(NamedTuple):
    """What a DICOM file shows.

    Attributes:
        pixels: (H, W) uint8, bone white.
        notes: sentences that say what was assumed where the file is not as the standard asks.
        reference: which instance it is.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]
    reference: InstanceReference


def read_dicom(data: bytes, max_pixels: int, max_bytes: int, any_age: bool = False) -> DicomImage:
    """Read the pixels of a chest radiograph as they are displayed.

    Args:
        data: the whole file.
        max_pixels: of the image, checked before decoding.
        max_bytes: of the data set after decompression.
        any_age: read the image of a patient of any age.

    Returns:
        The image. H and W are Rows and Columns of the header if its pixels are square.

    Raises:
        UnreadableImage: not DICOM, cut off, damaged, over the budget for headers, without pixels, or pydicom or the
            decoders are not installed.
        ImageTooLarge: more pixels or bytes than allowed.
        RefusedImage: another modality, body part or age, an animal, a lateral view, raw, in colour, or of several
            frames.
    """
    dataset = read_dataset(data, max_bytes)
    try:
        header = Header(dataset)
    except Exception:  # pydicom raises any type for a damaged value, and its message may contain patient data
        raise UnreadableImage(
            "expected valid values in the header, received a DICOM file where one cannot be read: export it again",
            code="damaged",
        ) from None
    check_kind(header)
    check_pixels(header, max_pixels)
    check_patient(header, any_age)
    if header.rows * header.columns <= LARGE_PIXELS:
        display = _decode(dataset, header, max_pixels)
    else:
        with _one_large_image:
            display = _decode(dataset, header, max_pixels)
    notes = (*_describe_layout(read_layout(data)), *display.notes)
    return DicomImage(to_square_pixels(display.gray, header), notes, header.reference)


def reference_of(data: bytes, max_bytes: int) -> InstanceReference:
    """Which instance a file is, also one whose image is refused; without identifiers if its header cannot be read.

    Args:
        data: the whole file.
        max_bytes: of the data set after decompression.
    """
    try:
        return read_reference(read_dataset(data, max_bytes))
    except Exception:  # as below; the reason was given when the image was read
        return NO_REFERENCE


def read_dataset(data: bytes, max_bytes: int) -> "FileDataset":
    """All elements of a file, as pydicom reads them, once they are within the budget for headers.

    Values are converted when they are used; only those of :data:`~pneumoscope.radiographs.dicom.header.VALUE_LIMITS`
    are known to be short.

    Args:
        data: the whole file.
        max_bytes: of the data set after decompression.

    Raises:
        UnreadableImage: not DICOM, cut off, damaged, over the budget, or pydicom is not installed.
        ImageTooLarge: more bytes than allowed.
    """
    _check_installed()
    layout = read_layout(data)
    return _read_elements(inflate(data, layout, max_bytes, VALUE_LIMITS), layout)


def _decode(dataset: "FileDataset", header: Header, max_pixels: int) -> Display:
    try:
        stored = stored_values(dataset, header, max_pixels)
    except ImageError:
        raise
    except Exception:  # the decoders raise any type
        raise UnreadableImage(
            "expected pixels that can be decoded, received a DICOM file whose pixels cannot be decoded "
            f"({header.transfer_syntax_name}): export it again, or as PNG",
            code="damaged",
        ) from None
    if header.is_colour:
        note = f"gray stored as {header.photometric_interpretation}; the window, if any, does not apply to it"
        return Display(gray_of_colour(stored), (note,))
    try:
        return to_display(dataset, header, stored)
    except RefusedImage:
        raise
    except Exception:  # as above
        raise UnreadableImage(
            "expected a window or lookup table that can be applied, received a DICOM file with an invalid one: export "
            "it again, or as PNG",
            code="damaged",
        ) from None


def _read_elements(data: bytes, layout: Layout) -> "FileDataset":
    """The data set of a file whose elements were counted. ``data`` is the file, or its inflated data set."""
    from pydicom import filereader
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

    syntax = UID(layout.syntax.decode("ascii", "replace"))
    is_inflated = syntax == DeflatedExplicitVRLittleEndian
    file = io.BytesIO(data)
    file.seek(0 if is_inflated else layout.start)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    try:
        elements = filereader.read_dataset(file, syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
        return FileDataset(file, elements, preamble=None, file_meta=meta)
    except Exception:  # pydicom raises any type for a damaged file, and its message may contain patient data
        raise UnreadableImage(
            "expected elements that follow one another, received a DICOM file with a damaged header: export it again",
            code="damaged",
        ) from None


def _describe_layout(layout: Layout) -> tuple[str, ...]:
    """What was assumed about a file that does not start as the standard asks."""
    from pydicom.uid import UID

    notes = () if layout.has_prefix else ("read without the preamble of a DICOM file",)
    if layout.is_guessed:
        notes = (*notes, f"no transfer syntax in the file, {UID(layout.syntax.decode()).name} assumed")
    return notes


def _check_installed() -> None:
    try:
        import imagecodecs  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UnreadableImage(
            f"expected {error.name or 'pydicom'} to read a DICOM file, it is not installed: run  pip install "
            "'pneumoscope[dicom]'",
            code="missing_extra",
        ) from None
    silence_library("pydicom")
