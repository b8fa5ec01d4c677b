"""The elements of a DICOM header as plain values, and checks on the pixels that the header describes.

Error messages repeat little of a header, because any text in it may be patient data: modality, body part, view and
colour only if they look like code strings, encodings by their name in the standard, and numbers.
"""

import contextlib
import math
import re
from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING, Any

from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.codestream import check_size
from pneumoscope.radiographs.dicom.reference import read_reference

if TYPE_CHECKING:  # pydicom is an optional package
    from pydicom.dataset import Dataset, FileDataset

#: Pixels that are not square are resampled if their longer side is at most this many times the shorter one.
MAX_PIXEL_RATIO = 5.0

#: Longest value in bytes of the elements that are converted, by tag; -1 for sequences. Longer ones take seconds.
VALUE_LIMITS: Mapping[int, int] = {
    **dict.fromkeys(
        (
            *(0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080022, 0x00080023, 0x00080060, 0x00080068),
            *(0x00080050, 0x0020000D, 0x0020000E),
            *(0x00100030, 0x00101010, 0x00102201, 0x00102292, 0x00180015, 0x00185101, 0x00200020, 0x00281056),
            *(0x00181164, 0x00182010, 0x00280030, 0x00280034, 0x00280002, 0x00280004, 0x00280006, 0x00280008),
            *(0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120, 0x00280121),
            *(0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00283002, 0x00080100, 0x00080104, 0x00080102),
        ),
        16_384,
    ),
    0x00283006: 262_144,  # LUTData
    0x7FE00001: 65_536,  # ExtendedOffsetTable
    0x7FE00002: 65_536,
    **dict.fromkeys((0x00082218, 0x00540220, 0x00283000, 0x00283010, 0x00102202), -1),
}

_RLE = "1.2.840.10008.1.2.5"
_JPEG, _JPEG_LS = "1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.4.8"
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")


class Header:
    """The elements that decide whether and how an image is read. Attributes are named after the element keywords."""

    def __init__(self, dataset: "FileDataset") -> None:
        def text(keyword: str) -> str:
            return _text(dataset, keyword)

        def number(keyword: str, default: int = 0) -> int:
            value = dataset.get(keyword)
            return default if value in (None, "") else int(value)

        syntax = dataset.file_meta.TransferSyntaxUID
        self.reference = read_reference(dataset)
        self.sop_class_uid = text("SOPClassUID")
        self.modality = text("Modality")
        self.body_part_bytes = _raw(dataset, "BodyPartExamined")
        self.body_part_examined = text("BodyPartExamined")
        self.character_sets = [str(value) for value in _all_values(dataset, "SpecificCharacterSet")]
        self.patient_age, self.patient_birth_date = text("PatientAge"), text("PatientBirthDate")
        self.image_date = text("AcquisitionDate") or text("ContentDate") or text("StudyDate")
        self.patient_species = text("PatientSpeciesDescription"), _first_code(dataset, "PatientSpeciesCodeSequence")
        self.patient_breed = text("PatientBreedDescription")
        self.anatomic_region = _first_code(dataset, "AnatomicRegionSequence")
        self.view_position = text("ViewPosition")
        self.view_code = _first_code(dataset, "ViewCodeSequence")
        self.patient_orientation = [str(value).strip().upper() for value in _values(dataset, "PatientOrientation")]
        self.presentation_intent_type = text("PresentationIntentType")
        self.photometric_interpretation = text("PhotometricInterpretation")
        self.rows, self.columns = number("Rows"), number("Columns")
        self.number_of_frames, self.samples_per_pixel = number("NumberOfFrames", 1), number("SamplesPerPixel", 1)
        self.bits_allocated = number("BitsAllocated")
        self.is_signed = number("PixelRepresentation") == 1
        self.bits_stored = number("BitsStored", self.bits_allocated)
        self.high_bit = number("HighBit", self.bits_stored - 1)
        self.pixel_ratio = _pixel_ratio(dataset)
        self.planar_configuration = number("PlanarConfiguration")
        self.is_colour = self.samples_per_pixel == 3 and self.photometric_interpretation in _COLOUR
        self.has_pixel_data = "PixelData" in dataset
        self.transfer_syntax = str(syntax)
        #: Whether decoding turns YBR into RGB: JPEG and JPEG 2000.
        self.is_converted_by_decoder = self.transfer_syntax.startswith(_JPEG) and not self.transfer_syntax.startswith(
            _JPEG_LS
        )
        #: The name in the standard. A UID without a name may be any text.
        self.transfer_syntax_name = "unknown" if syntax.name == syntax else syntax.name
        self.is_compressed = syntax.is_compressed
        #: Whether decoding yields the stored values, as in every kind of JPEG. Other encodings yield cells of
        #: BitsAllocated bits; the stored value is a part of each.
        self.decodes_to_values = self.is_compressed and syntax != _RLE


def printable_code(text: str, empty: str = "none") -> str:
    """Text of a header for a message: a code string unchanged, ``empty`` for no text, "unknown" for any other text."""
    return text if re.fullmatch("[A-Z0-9 _]{1,16}", text) else "unknown" if text else empty


def check_pixels(header: Header, max_pixels: int) -> None:
    """Refuse a header that does not describe one gray image of a supported size and depth.

    Raises:
        UnreadableImage: no pixels, or a depth or bit position that cannot be right.
        ImageTooLarge: more than ``max_pixels``.
        RefusedImage: several frames, colour, or pixels far from square.
    """
    if not header.has_pixel_data:
        raise UnreadableImage(
            "expected a DICOM file with pixels, received a header only: send the image itself", code="no_pixels"
        )
    if header.number_of_frames > 1:
        raise RefusedImage(
            f"expected one frame, received a DICOM file with {header.number_of_frames}: send one radiograph",
            code="several_frames",
        )
    is_gray = header.samples_per_pixel == 1 and header.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
    if not is_gray and not (header.is_colour and header.bits_allocated == header.bits_stored == 8):
        raise RefusedImage(
            "expected a gray DICOM file (MONOCHROME1 or 2, or RGB and YBR of 8 bits with gray content), received "
            f"{printable_code(header.photometric_interpretation, 'one without a colour space')}: send the radiograph "
            "itself, not a screenshot in colour",
            code="colour",
        )
    check_size(header.columns, header.rows, max_pixels)
    _check_bits(header)
    if not 1 / MAX_PIXEL_RATIO <= header.pixel_ratio <= MAX_PIXEL_RATIO:
        raise RefusedImage(
            f"expected pixels at most {MAX_PIXEL_RATIO:.0f} times as long as wide, received a DICOM file with pixels "
            f"{header.pixel_ratio:.3g} times as high as wide: export it again"
        )


def _check_bits(header: Header) -> None:
    if (
        header.bits_allocated not in (8, 16)
        or not 1 <= header.bits_stored <= header.bits_allocated
        or not header.rows * header.columns
    ):
        raise UnreadableImage(
            f"expected pixels of 8 or 16 bits, received a DICOM file with {header.columns}x{header.rows} pixels of "
            f"{header.bits_allocated} bits, {header.bits_stored} of them stored: export it again",
            code="unsupported_format",
        )
    low_bit = header.high_bit + 1 - header.bits_stored
    if low_bit < 0 or header.high_bit >= header.bits_allocated or (low_bit and header.decodes_to_values):
        raise UnreadableImage(
            f"expected the highest of {header.bits_stored} stored bits to be bit {header.bits_stored - 1}, received a "
            f"DICOM file where it is bit {header.high_bit}: export it again",
            code="damaged",
        )


def _text(dataset: "Dataset", keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().upper()


def _first_code(dataset: "Dataset", keyword: str) -> tuple[str, str]:
    """CodeValue and CodeMeaning of the first item of a sequence."""
    item = next(iter(dataset.get(keyword) or ()), None)
    return (_text(item, "CodeValue"), _text(item, "CodeMeaning")) if item is not None else ("", "")


def _raw(dataset: "Dataset", keyword: str) -> bytes:
    """The bytes of a value, before any character set is applied. Call it before the element is read in another way."""
    if keyword not in dataset:
        return b""
    value = dataset.get_item(keyword).value
    return value if isinstance(value, bytes) else str(value or "").encode("utf-8", "surrogateescape")


def _all_values(dataset: "Dataset", keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    return list(value) if isinstance(value, MutableSequence) else [value] if value else []


def _values(dataset: "Dataset", keyword: str) -> list[Any]:
    """The values of an element with several values; empty if it has a single one."""
    value = dataset.get(keyword)
    return list(value) if isinstance(value, MutableSequence) else []


def _pixel_ratio(dataset: "Dataset") -> float:
    """Height over width of a pixel, from its spacing in the patient, at the detector or on film, or its ratio; else 1.

    All four elements have the vertical value first.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            height, width = (float(value) for value in _values(dataset, keyword))
            if 0 < height < math.inf and 0 < width < math.inf:
                return height / width
    return 1.0
