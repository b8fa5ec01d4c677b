"""The pixels of a DICOM file: stored values, and the gray level that a workstation displays for each.

Modality LUT or rescale, then VOI LUT or window, then the polarity of PhotometricInterpretation (DICOM PS3.3, sections
C.11.1, C.11.2 and C.7.6.3.1.2; PS3.4, annex N.2). The steps run once on a table of all possible stored values, not on
each pixel.
"""

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.codestream import check_size, frame_size
from pneumoscope.radiographs.dicom.header import Header

if TYPE_CHECKING:  # pydicom is an optional package
    from pydicom.dataset import Dataset, FileDataset


def stored_values(dataset: "FileDataset", header: Header, max_pixels: int) -> np.ndarray:
    """Decode the pixels.

    Args:
        dataset: of the file; its PixelData and BitsStored may change.
        header: of the same data set.
        max_pixels: that a compressed frame may have.

    Returns:
        (Rows, Columns) integers, 0 for the lowest value that BitsStored and PixelRepresentation allow.
    """
    if header.is_compressed:
        _keep_one_frame(dataset, header, max_pixels)
    if not header.decodes_to_values:
        dataset.BitsStored = (
            header.bits_allocated
        )  # otherwise pydicom clears the highest bits, even if HighBit is there
    pixels = dataset.pixel_array  # (Rows, Columns) of 8 or 16 bits
    if pixels.shape != (header.rows, header.columns):
        raise UnreadableImage(
            "expected pixels of the size in the header, received a DICOM file with another size: export it again"
        )
    largest, half = (1 << header.bits_stored) - 1, (1 << header.bits_stored) // 2 if header.is_signed else 0
    indices: np.ndarray
    if header.decodes_to_values:
        indices = np.clip(pixels.astype(np.int32) + half, 0, largest)
    else:
        cells = pixels.view(f"{pixels.dtype.byteorder}u{pixels.itemsize}")
        low_bit = header.high_bit + 1 - header.bits_stored
        # The mask removes the other bits, which may contain an overlay (PS3.5, section 8.1.1). In two's complement
        # the negative half comes last; flipping the sign bit puts it first.
        indices = ((cells >> low_bit) & largest) ^ half
    return indices


def _keep_one_frame(dataset: "FileDataset", header: Header, max_pixels: int) -> None:
    """Leave only the frame that was checked. Decoders trust the size in the frame, not the one in the header."""
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.pixels.utils import as_pixel_options

    offsets = as_pixel_options(dataset).get("extended_offsets")
    frames = generate_frames(dataset.PixelData, number_of_frames=1, extended_offsets=offsets)
    frame = next(frames)
    if next(frames, None) is not None:
        raise RefusedImage(
            "expected one frame, received a DICOM file with more frames than its header says: send one radiograph"
        )
    if header.decodes_to_values:
        _check_frame(frame, header, max_pixels)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PixelData = encapsulate([frame])


def _check_frame(frame: bytes, header: Header, max_pixels: int) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 frame that is not gray or not of the size in the header."""
    size = frame_size(frame)
    if size is None:
        raise ValueError("no size")
    width, height, components = size
    check_size(width, height, max_pixels, "compressed frame")
    if size != (header.columns, header.rows, 1):
        raise UnreadableImage(
            f"expected a gray frame of {header.columns}x{header.rows} as in the header, received a compressed one of "
            f"{width}x{height} with {components} channels: export it again"
        )


def to_display(dataset: "FileDataset", header: Header, stored: np.ndarray) -> np.ndarray:
    """Stored values -> (Rows, Columns) uint8 as displayed.

    Without a VOI LUT or window, the lowest value in the image becomes black and the highest white. 8-bit values that
    need no change are kept.
    """
    count = 1 << header.bits_stored
    lowest = -count // 2 if header.is_signed else 0
    is_padding = _padding_mask(dataset, lowest, count)
    table = _apply_modality(np.arange(lowest, lowest + count), dataset)  # (count,): one entry per stored value
    gray = _apply_voi(table, dataset)
    if gray is None:
        used = table[np.unique(stored[~is_padding[stored]])]
        low, high = (used.min(), used.max()) if len(used) else (0, 1)
        if header.bits_stored == 8 and np.array_equal(table, np.arange(256)):
            low, high = 0, 255
        gray = np.clip((table - low) / (high - low or 1), 0, 1)
    if header.photometric_interpretation == "MONOCHROME1":  # the lowest value is white
        gray = 1 - gray
    gray[is_padding] = 0  # no image there; workstations display black
    display: np.ndarray = np.round(gray * 255).astype(np.uint8)[stored]
    return display


def to_square_pixels(gray: np.ndarray, header: Header) -> np.ndarray:
    """Resample an image whose pixels differ from squares by over 1 %; the direction with more pixels is shrunk."""
    ratio = header.pixel_ratio
    if abs(ratio - 1) <= 0.01:
        return gray
    import cv2

    rows, columns = gray.shape
    size = max(1, round(columns / max(ratio, 1))), max(1, round(rows * min(ratio, 1)))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def _padding_mask(dataset: "Dataset", lowest: int, count: int) -> np.ndarray:
    """(count,) bool: which stored values mark pixels outside the image (PS3.3, C.7.5.1.1.2)."""
    is_padding = np.zeros(count, bool)
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return is_padding
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((int(value), int(value if limit is None else limit)))
    is_padding[max(0, first - lowest) : max(0, last - lowest + 1)] = True
    return is_padding


def _apply_modality(values: np.ndarray, dataset: "FileDataset") -> np.ndarray:
    """Stored values -> modality values, by the Modality LUT or the rescale slope and intercept (PS3.3, C.11.1)."""
    lut = _first_lut(dataset, "ModalityLUTSequence")
    if lut is not None:
        return _apply_lut(values, lut, dataset)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    return values * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)


def _apply_voi(values: np.ndarray, dataset: "FileDataset") -> np.ndarray | None:
    """Modality values -> 0 (black) to 1 (white), by the VOI LUT or the first window (PS3.3, C.11.2); None without."""
    lut = _first_lut(dataset, "VOILUTSequence")
    if lut is not None:
        return np.clip(_apply_lut(values, lut, dataset) / ((1 << int(lut.LUTDescriptor[2])) - 1), 0, 1)
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "").strip().upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ValueError(function)
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(width)
    return _apply_window(values, center, width, function)


def _apply_window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """The three functions of PS3.3, C.11.2.1.2.1 and C.11.2.1.3, from 0 to 1."""
    gray: np.ndarray
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # far from the centre the result is 0 or 1
            gray = 1 / (1 + np.exp(-4 * (values - center) / width))
        return gray
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    gray = np.clip((values - center) / width + 0.5, 0, 1)
    return gray


def _number(dataset: "Dataset", keyword: str) -> float | None:
    """The first value of an element; None if it is empty or missing.

    Raises:
        ValueError: not a finite number.
    """
    value = dataset.get(keyword)
    if isinstance(value, MutableSequence):
        value = value[0] if value else None
    if value in (None, ""):
        return None
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(keyword)
    return number


def _first_lut(dataset: "Dataset", keyword: str) -> "Dataset | None":
    """The first item of a sequence of lookup tables; None if there is none, or if it lacks a part."""
    item: Dataset | None = next(iter(dataset.get(keyword) or ()), None)
    return item if item is not None and item.get("LUTDescriptor") and item.get("LUTData") is not None else None


def _apply_lut(values: np.ndarray, lut: "Dataset", dataset: "FileDataset") -> np.ndarray:
    """Map values through a lookup table (PS3.3, C.11.1.1 and C.11.2.1.1).

    Values before the first entry map to the first entry, values after the last entry to the last.
    """
    count, first, bits = (int(number) for number in lut.LUTDescriptor)
    if not 8 <= bits <= 16:
        raise ValueError(bits)
    first &= 0xFFFF
    # The first mapped value is signed if the input values can be, or if its value representation says so.
    if first > 0x7FFF and (values.min() < 0 or lut["LUTDescriptor"].VR == "SS"):
        first -= 0x10000
    count = count & 0xFFFF or 0x10000  # 0 means 65536
    entries = _lut_entries(lut.LUTData, count, bits, dataset.file_meta.TransferSyntaxUID.is_little_endian)
    mapped: np.ndarray = entries[np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)]
    return mapped


def _lut_entries(data: Any, count: int, bits: int, is_little_endian: bool) -> np.ndarray:
    """LUTData -> (count,) int64.

    pydicom returns numbers or bytes. Either way they are 16-bit words with one entry each, or with two 8-bit entries.
    """
    if isinstance(data, bytes):
        words = np.frombuffer(data, "<u2" if is_little_endian else ">u2")
    else:
        words = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if len(words) < count and bits == 8:
        words = words.astype("<u2").view(np.uint8)
    if len(words) < count:
        raise ValueError(len(words))
    return words[:count].astype(np.int64)
