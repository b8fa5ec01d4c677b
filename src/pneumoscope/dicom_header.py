"""What the header of a DICOM file says: the elements that decide whether and how an image is read, and the refusals.

A message repeats modality, body part, view, colour, encoding and sizes as the header has them, and nothing else of it.
"""

from pneumoscope.codestream import check_size
from pneumoscope.errors import RefusedImage, UnreadableImage

#: Modalities of projection radiographs; a secondary capture may also say OT or nothing (PS3.3, C.7.3.1.1.1).
MODALITIES = ("CR", "DX", "RG")
#: Body parts of a chest radiograph (PS3.16, annex L), or nothing said.
BODY_PARTS = ("", "CHEST", "THORAX", "LUNG", "RIBS", "CHESTABDOMEN", "CHEST_TO_ABDOMEN")
#: View positions that are no upright frontal view: lateral, lateral decubitus, oblique (PS3.3, C.8.4.1.1 and C.8.1.1).
OTHER_VIEWS = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "LAT")

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_RLE = "1.2.840.10008.1.2.5"


class Header:
    """The elements that decide whether and how an image is read, in plain values."""

    def __init__(self, dataset) -> None:
        def text(keyword: str) -> str:
            value = dataset.get(keyword) or ""
            return str(value).strip().upper()

        def number(keyword: str, default: int = 0) -> int:
            value = dataset.get(keyword)
            return default if value in (None, "") else int(value)

        self.sop_class = text("SOPClassUID")
        self.modality = text("Modality")
        self.body_part = text("BodyPartExamined")
        self.view = text("ViewPosition")
        self.orientation = [str(value).strip().upper() for value in dataset.get("PatientOrientation") or ()]
        self.intent = text("PresentationIntentType")
        self.photometric = text("PhotometricInterpretation")
        self.rows, self.columns = number("Rows"), number("Columns")
        self.frames, self.samples = number("NumberOfFrames", 1), number("SamplesPerPixel", 1)
        self.allocated, self.signed = number("BitsAllocated"), number("PixelRepresentation") == 1
        self.bits = number("BitsStored", self.allocated)
        self.high_bit = number("HighBit", self.bits - 1)
        self.has_pixels = "PixelData" in dataset
        self.syntax = dataset.file_meta.TransferSyntaxUID.name
        self.compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
        #: A JPEG of any kind decodes to values; other encodings to cells of which the stored bits are a part.
        self.valued = self.compressed and dataset.file_meta.TransferSyntaxUID != _RLE


def check_kind(header: Header) -> None:
    """Refuse what is no frontal chest radiograph, as far as the header says."""
    capture = header.sop_class.startswith(_SECONDARY_CAPTURE)
    known = header.modality in MODALITIES or (capture and header.modality in ("", "OT"))
    if not known:
        raise RefusedImage(
            f"expected a radiograph (modality {', '.join(MODALITIES)}, or a secondary capture of one), this DICOM file "
            f"has modality {header.modality or 'none'}: send the radiograph"
        )
    if header.body_part.replace(" ", "") not in BODY_PARTS:
        raise RefusedImage(f"expected a radiograph of the chest, this DICOM file is of body part {header.body_part}")
    lateral = header.orientation[:1] in (["A"], ["P"])  # the rows run along front and back
    if header.view in OTHER_VIEWS or lateral:
        raise RefusedImage(
            f"expected a frontal view (AP or PA), this DICOM file has view {'lateral' if lateral else header.view}: "
            "send the frontal one"
        )
    if header.intent == "FOR PROCESSING":
        raise RefusedImage(
            "expected an image for presentation, this DICOM file is raw (FOR PROCESSING): send the processed one"
        )


def check_pixels(header: Header, max_pixels: int) -> None:
    """Refuse what is not one gray image of a size and depth that is read."""
    if not header.has_pixels:
        raise UnreadableImage("expected pixels, this DICOM file has a header only: send the image itself")
    if header.frames > 1:
        raise RefusedImage(f"expected one frame, this DICOM file has {header.frames}: send one radiograph")
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise RefusedImage(
            f"expected a gray DICOM file (MONOCHROME1 or 2), this one is {header.photometric or 'of unknown colour'}: "
            "send the radiograph itself, not a capture in colour"
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
