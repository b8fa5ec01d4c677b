"""The pixels of a DICOM file: stored values, and the gray that a workstation shows for each.

From the stored value to the gray that is shown: modality LUT or rescale, then VOI LUT or window, then the
polarity of the photometric interpretation (DICOM PS3.3, sections C.11.1, C.11.2 and C.7.6.3.1.2; PS3.4, annex
N.2). The steps run once over a table of all stored values, not over the pixels.
"""

from collections.abc import MutableSequence

import numpy as np

from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.codestream import check_size, frame_size
from pneumoscope.radiographs.dicom.header import Header


def stored_values(dataset, header: Header, max_pixels: int) -> np.ndarray:
    """(Rows, Columns) stored values as indices into a table of all of them, lowest first."""
    if header.compressed:
        _keep_one_frame(dataset, header, max_pixels)
    if not header.valued:
        dataset.BitsStored = header.allocated  # or pydicom cuts off the highest bits, stored there or not
    pixels = dataset.pixel_array  # (Rows, Columns) of 8 or 16 bits
    if pixels.shape != (header.rows, header.columns):
        raise UnreadableImage("expected pixels of the announced size, this DICOM file has others: export it again")
    largest, half = (1 << header.bits) - 1, (1 << header.bits) // 2 if header.signed else 0
    if header.valued:
        return np.clip(pixels.astype(np.int32) + half, 0, largest)
    cells = pixels.view(f"{pixels.dtype.byteorder}u{pixels.itemsize}")
    # Bits beside the stored ones may hold an overlay (PS3.5, section 8.1.1); two's complement has its halves swapped.
    return ((cells >> (header.high_bit + 1 - header.bits)) & largest) ^ half


def _keep_one_frame(dataset, header: Header, max_pixels: int) -> None:
    """Leave the one frame that was measured to the decoders, for they believe the frame and not the header."""
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.pixels.utils import as_pixel_options

    offsets = as_pixel_options(dataset).get("extended_offsets")
    frames = generate_frames(dataset.PixelData, number_of_frames=1, extended_offsets=offsets)
    frame = next(frames)
    if next(frames, None) is not None:
        raise RefusedImage("expected one frame, this DICOM file has more than its header says: send one radiograph")
    if header.valued:
        _check_frame(frame, header, max_pixels)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PixelData = encapsulate([frame])


def _check_frame(frame: bytes, header: Header, max_pixels: int) -> None:
    """Refuse a frame of any kind of JPEG that announces anything but the gray picture of the header."""
    size = frame_size(frame)
    if size is None:
        raise ValueError("no size")
    width, height, components = size
    check_size(width, height, max_pixels, "compressed frame")
    if size != (header.columns, header.rows, 1):
        raise UnreadableImage(
            f"expected a gray frame of {header.columns}x{header.rows} as in the header, the compressed one is "
            f"{width}x{height} with {components} channels: export it again"
        )


def to_display(dataset, header: Header, stored: np.ndarray) -> np.ndarray:
    """Stored values -> (Rows, Columns) uint8 as shown."""
    span = 1 << header.bits
    lowest = -span // 2 if header.signed else 0
    padding = _padding(dataset, lowest, span)
    table = _modality(np.arange(lowest, lowest + span), dataset)
    gray = _windowed(table, dataset)
    if gray is None:
        seen = table[np.unique(stored[~padding[stored]])]
        low, high = (seen.min(), seen.max()) if len(seen) else (0, 1)
        if header.bits == 8 and np.array_equal(table, np.arange(256)):
            low, high = 0, 255
        gray = np.clip((table - low) / (high - low or 1), 0, 1)
    if header.photometric == "MONOCHROME1":  # the lowest value is white
        gray = 1 - gray
    gray[padding] = 0  # nothing was exposed there; workstations show black
    return np.round(gray * 255).astype(np.uint8)[stored]


def to_square_pixels(gray: np.ndarray, header: Header) -> np.ndarray:
    """The picture in square pixels: the denser direction is shrunk where pixels are over 1 % higher or wider."""
    ratio = header.pixel_ratio
    if abs(ratio - 1) <= 0.01:
        return gray
    import cv2

    rows, columns = gray.shape
    size = max(1, round(columns / max(ratio, 1))), max(1, round(rows * min(ratio, 1)))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def _modality(values: np.ndarray, dataset) -> np.ndarray:
    """Stored values -> values of the modality, by its table or its line (PS3.3, C.11.1)."""
    item = _lut(dataset, "ModalityLUTSequence")
    if item is not None:
        return _looked_up(values, item, dataset)
    return values * _number(dataset, "RescaleSlope", 1.0) + _number(dataset, "RescaleIntercept", 0.0)


def _windowed(values: np.ndarray, dataset) -> np.ndarray | None:
    """Values of the modality -> shares of white, by the VOI LUT or the first window (PS3.3, C.11.2); None without."""
    item = _lut(dataset, "VOILUTSequence")
    if item is not None:
        return np.clip(_looked_up(values, item, dataset) / ((1 << int(item.LUTDescriptor[2])) - 1), 0, 1)
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "").strip().upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ValueError(function)
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(width)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # far from the centre
            return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _number(dataset, keyword: str, default: float | None = None) -> float | None:
    """The first value of an element, or the default where it is empty or not there."""
    value = dataset.get(keyword)
    if isinstance(value, MutableSequence):
        value = value[0] if value else None
    if value in (None, ""):
        return default
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(keyword)
    return number


def _lut(dataset, keyword: str):
    """The first item of a sequence of tables, if it is one."""
    item = next(iter(dataset.get(keyword) or ()), None)
    return item if item is not None and item.get("LUTDescriptor") and item.get("LUTData") is not None else None


def _looked_up(values: np.ndarray, item, dataset) -> np.ndarray:
    """Values through a table (PS3.3, C.11.1.1 and C.11.2.1.1); before its first entry the first, beyond the last that.

    The first value mapped is signed where the values may be, or where its value representation says so.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    if not 8 <= bits <= 16:
        raise ValueError(bits)
    first &= 0xFFFF
    if first > 0x7FFF and (values.min() < 0 or item["LUTDescriptor"].VR == "SS"):
        first -= 0x10000
    count = count & 0xFFFF or 0x10000
    entries = _entries(item.LUTData, count, bits, dataset.file_meta.TransferSyntaxUID.is_little_endian)
    return entries[np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)]


def _entries(data, count: int, bits: int, little_endian: bool) -> np.ndarray:
    """(count,) entries of a table; as numbers, or in words of 16 bits that hold one each, or two of 8."""
    if isinstance(data, bytes):
        words = np.frombuffer(data, "<u2" if little_endian else ">u2")
    else:
        words = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if len(words) < count and bits == 8:
        words = words.astype("<u2").view(np.uint8)
    if len(words) < count:
        raise ValueError(len(words))
    return words[:count].astype(np.int64)


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
