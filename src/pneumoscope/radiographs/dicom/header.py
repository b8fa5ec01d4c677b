"""What the header of a DICOM file says, in plain values, and which pixels it may announce.

A message repeats modality, body part, view and colour if they look like code strings, encodings by the name of the
standard, and sizes; nothing else of the header.
"""

import contextlib
import math
import re
from collections.abc import MutableSequence

from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.codestream import check_size

#: Pixels at most so many times as high as wide, or as wide as high, are made square.
MAX_PIXEL_RATIO = 5.0

_RLE = "1.2.840.10008.1.2.5"


def printable_code(text: str, empty: str = "none") -> str:
    """Text of a header for a message: a code string as it stands, or that it is none."""
    return text if re.fullmatch("[A-Z0-9 _]{1,16}", text) else "unknown" if text else empty


def _text(dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().upper()


def _code(dataset, keyword: str) -> tuple[str, str]:
    """Code and meaning of the first item of a sequence of codes."""
    item = next(iter(dataset.get(keyword) or ()), None)
    return (_text(item, "CodeValue"), _text(item, "CodeMeaning")) if item is not None else ("", "")


def _values(dataset, keyword: str) -> list:
    """The values of an element, none if it holds a single one."""
    value = dataset.get(keyword)
    return list(value) if isinstance(value, MutableSequence) else []


def _pixel_ratio(dataset) -> float:
    """Height over width of a pixel: spacing in the patient, at the detector or in a film, or a bare ratio; else 1."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            height, width = (float(value) for value in _values(dataset, keyword))
            if 0 < height < math.inf and 0 < width < math.inf:
                return height / width
    return 1.0


class Header:
    """The elements that decide whether and how an image is read, in plain values."""

    def __init__(self, dataset) -> None:
        def text(keyword: str) -> str:
            return _text(dataset, keyword)

        def number(keyword: str, default: int = 0) -> int:
            value = dataset.get(keyword)
            return default if value in (None, "") else int(value)

        syntax = dataset.file_meta.TransferSyntaxUID
        self.sop_class = text("SOPClassUID")
        self.modality = text("Modality")
        self.body_part, self.region = text("BodyPartExamined"), _code(dataset, "AnatomicRegionSequence")
        self.view, self.view_code = text("ViewPosition"), _code(dataset, "ViewCodeSequence")
        self.orientation = [str(value).strip().upper() for value in _values(dataset, "PatientOrientation")]
        self.intent = text("PresentationIntentType")
        self.photometric = text("PhotometricInterpretation")
        self.rows, self.columns = number("Rows"), number("Columns")
        self.frames, self.samples = number("NumberOfFrames", 1), number("SamplesPerPixel", 1)
        self.allocated, self.signed = number("BitsAllocated"), number("PixelRepresentation") == 1
        self.bits = number("BitsStored", self.allocated)
        self.high_bit = number("HighBit", self.bits - 1)
        self.pixel_ratio = _pixel_ratio(dataset)
        self.has_pixels = "PixelData" in dataset
        self.syntax = "unknown" if syntax.name == syntax else syntax.name  # a name of the standard, or the value itself
        self.compressed = syntax.is_compressed
        #: A JPEG of any kind decodes to values; other encodings to cells of which the stored bits are a part.
        self.valued = self.compressed and syntax != _RLE


def check_pixels(header: Header, max_pixels: int) -> None:
    """Refuse what is not one gray image of a size and depth that is read."""
    if not header.has_pixels:
        raise UnreadableImage("expected pixels, this DICOM file has a header only: send the image itself")
    if header.frames > 1:
        raise RefusedImage(f"expected one frame, this DICOM file has {header.frames}: send one radiograph")
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise RefusedImage(
            "expected a gray DICOM file (MONOCHROME1 or 2), this one is "
            f"{printable_code(header.photometric, 'of no known colour')}: send the radiograph itself, not a capture in colour"
        )
    check_size(header.columns, header.rows, max_pixels)
    if header.allocated not in (8, 16) or not 1 <= header.bits <= header.allocated or not header.rows * header.columns:
        raise UnreadableImage(
            f"expected pixels of 8 or 16 bits, this DICOM file has {header.columns}x{header.rows} of "
            f"{header.allocated} bits, {header.bits} of them stored: export it again"
        )
    low_bit = header.high_bit + 1 - header.bits
    if low_bit < 0 or header.high_bit >= header.allocated or (low_bit and header.valued):
        raise UnreadableImage(
            f"expected the highest of {header.bits} stored bits to be bit {header.bits - 1}, this DICOM file says bit "
            f"{header.high_bit}: export it again"
        )
    if not 1 / MAX_PIXEL_RATIO <= header.pixel_ratio <= MAX_PIXEL_RATIO:
        raise RefusedImage(
            f"expected pixels at most {MAX_PIXEL_RATIO:.0f} times as long as wide, the ones of this DICOM file are "
            f"{header.pixel_ratio:.3g} times as high as wide: export it again"
        )
