"""DICOM bytes -> gray pixels as a workstation shows them; single-frame CR, DX and secondary captures.

From the stored value to the gray that is shown: modality LUT or rescale, then VOI LUT or window, then the
polarity of the photometric interpretation (DICOM PS3.3, sections C.11.1, C.11.2 and C.7.6.3.1.2; PS3.4, annex
N.2). The steps run once over a table of all stored values, not over the pixels.

A message repeats modality, body part, view, colour, encoding and sizes as the header has them, and nothing else of it.
"""

import io
import struct
import warnings
import zlib

import numpy as np

from pneumoscope.errors import ImageTooLarge, RefusedImage, UnreadableImage

#: Modalities of projection radiographs; a secondary capture may also say OT or nothing (PS3.3, C.7.3.1.1.1).
MODALITIES = ("CR", "DX", "RG")
#: Body parts of a chest radiograph (PS3.16, annex L), or nothing said.
BODY_PARTS = ("", "CHEST", "THORAX", "LUNG", "RIBS", "CHESTABDOMEN", "CHEST_TO_ABDOMEN")
#: View positions that are no upright frontal view: lateral, lateral decubitus, oblique (PS3.3, C.8.4.1.1 and C.8.1.1).
OTHER_VIEWS = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "LAT")

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
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
        header = _Header(dataset)
    except Exception:  # a damaged file raises anything in pydicom, and its sentence may hold a patient's data
        raise UnreadableImage(_DAMAGED) from None
    _check_kind(header)
    _check_pixels(header, max_pixels)
    try:
        _check_codestream(dataset, header, max_pixels)
        stored = _stored(dataset, header)
    except (ImageTooLarge, UnreadableImage):
        raise
    except Exception:  # as above, and what the decoders raise
        raise UnreadableImage(
            f"expected pixels that can be decoded, the ones of this DICOM file ({header.syntax}) cannot: export it "
            "again, or as PNG"
        ) from None
    try:
        return _shown(dataset, header, stored)
    except Exception:  # as above
        raise UnreadableImage(
            "expected a window or table of gray levels that can be applied, the one of this DICOM file cannot: export "
            "it again, or as PNG"
        ) from None


class _Header:
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
        self.has_pixels = "PixelData" in dataset
        self.syntax = dataset.file_meta.TransferSyntaxUID.name
        self.compressed = dataset.file_meta.TransferSyntaxUID.is_compressed


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


def _check_kind(header: _Header) -> None:
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


def _check_pixels(header: _Header, max_pixels: int) -> None:
    if not header.has_pixels:
        raise UnreadableImage("expected pixels, this DICOM file has a header only: send the image itself")
    if header.frames > 1:
        raise RefusedImage(f"expected one frame, this DICOM file has {header.frames}: send one radiograph")
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise RefusedImage(
            f"expected a gray DICOM file (MONOCHROME1 or 2), this one is {header.photometric or 'of unknown colour'}: "
            "send the radiograph itself, not a capture in colour"
        )
    if header.rows * header.columns > max_pixels:
        raise ImageTooLarge(
            f"expected at most {max_pixels // 10**6} megapixels, the header announces {header.columns}x{header.rows}: "
            "export it smaller"
        )
    if header.allocated not in (8, 16) or not 1 <= header.bits <= header.allocated or not header.rows * header.columns:
        raise UnreadableImage(
            f"expected pixels of 8 or 16 bits, this DICOM file has {header.columns}x{header.rows} of "
            f"{header.allocated} bits, {header.bits} of them stored: export it again"
        )


def _check_codestream(dataset, header: _Header, max_pixels: int) -> None:
    """Refuse a compressed frame that says it is larger than the header: decoders believe the frame."""
    if not header.compressed:
        return
    from pydicom.encaps import generate_frames

    frame = next(generate_frames(dataset.PixelData, number_of_frames=1), b"")
    size = _frame_size(frame)
    if size and size[0] * size[1] > max_pixels:
        raise ImageTooLarge(
            f"expected at most {max_pixels // 10**6} megapixels, the compressed frame announces {size[0]}x{size[1]}: "
            "export it again"
        )


def _frame_size(frame: bytes) -> tuple[int, int] | None:
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


def _stored(dataset, header: _Header) -> np.ndarray:
    """(Rows, Columns) stored values as indices into a table of all of them, lowest first."""
    pixels = dataset.pixel_array  # (Rows, Columns) of 8 or 16 bits
    if pixels.shape != (header.rows, header.columns):
        raise UnreadableImage("expected pixels of the announced size, this DICOM file has others: export it again")
    span = 1 << header.bits
    if header.signed:
        return np.clip(pixels.astype(np.int32) + span // 2, 0, span - 1)
    return pixels & (span - 1)  # higher bits may hold an overlay (PS3.3, C.9.2, retired)


def _shown(dataset, header: _Header, stored: np.ndarray) -> np.ndarray:
    """Stored values -> (Rows, Columns) uint8 as shown."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    span = 1 << header.bits
    lowest = -span // 2 if header.signed else 0
    kind = (np.int8 if header.allocated == 8 else np.int16) if header.signed else np.uint16
    table = apply_modality_lut(np.arange(lowest, lowest + span).astype(kind), dataset)
    padding = _padding(dataset, lowest, span)
    if dataset.get("VOILUTSequence"):
        table = apply_voi_lut(table.astype(np.int64), dataset)
        ends = 0, (1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1
    elif dataset.get("WindowWidth") not in (None, "") and dataset.get("WindowCenter") not in (None, ""):
        with np.errstate(over="ignore"):  # a sigmoid far from its centre
            table = apply_voi_lut(table, dataset)
            ends = apply_voi_lut(np.array([-1e9, 1e9]), dataset)  # what lies outside any window
    elif header.bits == 8 and np.array_equal(table, np.arange(256)):
        ends = 0, 255
    else:
        seen = table[np.unique(stored[~padding[stored]])]
        ends = (seen.min(), seen.max()) if len(seen) else (0, 1)
    low, high = float(ends[0]), float(ends[1])
    gray = np.clip((table.astype(np.float64) - low) / (high - low or 1.0), 0, 1)
    if header.photometric == "MONOCHROME1":  # the lowest value is white
        gray = 1 - gray
    gray[padding] = 0  # nothing was exposed there; workstations show black
    return np.round(gray * 255).astype(np.uint8)[stored]


def _padding(dataset, lowest: int, span: int) -> np.ndarray:
    """(span,) bool, the stored values that stand for no image (PS3.3, C.7.5.1.1.2)."""
    marked = np.zeros(span, bool)
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return marked
    last = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((int(value), int(value if last is None else last)))
    marked[max(0, first - lowest) : max(0, last - lowest + 1)] = True
    return marked
