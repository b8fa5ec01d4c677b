"""The pixels of a DICOM file: stored values, and the gray level that a workstation displays for each.

Modality LUT or rescale, then VOI LUT or window, then the polarity of PhotometricInterpretation (DICOM PS3.3, sections
C.11.1, C.11.2 and C.7.6.3.1.2; PS3.4, annex N.2). The steps run once on a table of all possible stored values, not on
each pixel.
"""

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pneumoscope.errors import ImageError, RefusedImage, UnreadableImage
from pneumoscope.radiographs.codestream import check_size, frame_size
from pneumoscope.radiographs.dicom.frames import check_encoding, decode_frame
from pneumoscope.radiographs.dicom.header import Header

if TYPE_CHECKING:  # pydicom is an optional package
    from pydicom.dataset import Dataset, FileDataset


#: Rows at once where NumPy needs more memory for a step than for its result.
_ROWS_PER_STEP = 256
#: Pixels of a compressed frame. A detector of 43 cm with pixels of 0.08 mm has 29 million.
MAX_FRAME_PIXELS = 30_000_000
#: Radiographs are compressed to 1/50 at most. A frame with more pixels for each byte is blank, and made to cost time.
MAX_PIXELS_PER_BYTE, SMALL_FRAME_PIXELS = 200, 4_000_000
#: Levels between the channels of a gray image in colour; converting to YBR and compressing it changes a few.
MAX_SPREAD = 8
#: A window that leaves fewer gray levels than this shows nothing.
MIN_LEVELS = 5


class Display(NamedTuple):
    """An image as displayed.

    Attributes:
        gray: (Rows, Columns) uint8.
        notes: sentences about what the header does not say, or says wrongly, and what was assumed instead.
    """

    gray: np.ndarray
    notes: tuple[str, ...] = ()


def stored_values(dataset: "FileDataset", header: Header, max_pixels: int) -> np.ndarray:
    """Decode the pixels.

    Args:
        dataset: of the file.
        header: of the same data set.
        max_pixels: that a compressed frame may have.

    Returns:
        (Rows, Columns) unsigned integers, 0 for the lowest value that BitsStored and PixelRepresentation allow; or
        (Rows, Columns, 3) uint8 as RGB.
    """
    if header.is_compressed:
        check_encoding(header)
        pixels = decode_frame(_only_frame(dataset, header, max_pixels), header)
    else:
        pixels = _uncompressed(dataset, header)
    expected = (header.rows, header.columns, 3)[: 3 if header.is_colour else 2]
    if pixels.shape != expected:
        raise UnreadableImage(
            "expected pixels of the size in the header, received a DICOM file with another size: export it again",
            code="damaged",
        )
    if header.is_colour:
        return _to_rgb(pixels, header)
    largest, half = (1 << header.bits_stored) - 1, (1 << header.bits_stored) // 2 if header.is_signed else 0
    values = np.empty(pixels.shape, np.uint8 if header.bits_stored <= 8 else np.uint16)
    for row in range(0, len(pixels), _ROWS_PER_STEP):
        part = pixels[row : row + _ROWS_PER_STEP].astype(np.int32)
        if header.decodes_to_values and pixels.dtype.kind == ("i" if half else "u"):
            part = np.clip(part + half, 0, largest)
        else:
            # The mask removes the other bits, which may contain an overlay (PS3.5, section 8.1.1). In two's complement
            # the negative half comes last; flipping the sign bit puts it first.
            part = (
                (part >> (0 if header.decodes_to_values else header.high_bit + 1 - header.bits_stored)) & largest
            ) ^ half
        values[row : row + _ROWS_PER_STEP] = part
    return values


def gray_of_colour(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint8, if the channels are the same.

    Raises:
        RefusedImage: the image is in colour.
    """
    import cv2

    red, green, blue = cv2.split(rgb)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    if int(spread.max()) > MAX_SPREAD:
        raise RefusedImage(
            "expected a gray DICOM file, received one with pixels in colour: send the radiograph itself, not a "
            "screenshot in colour",
            code="colour",
        )
    gray: np.ndarray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return gray


def _uncompressed(dataset: "FileDataset", header: Header) -> np.ndarray:
    """Cells of the pixel data (PS3.5, section 8.1.1, and annex A)."""
    data, cell = dataset.PixelData, header.bits_allocated // 8
    is_subsampled = header.photometric_interpretation == "YBR_FULL_422"
    count = header.rows * header.columns * (2 if is_subsampled else header.samples_per_pixel)
    if len(data) < count * cell:
        raise UnreadableImage(
            f"expected {count * cell} bytes of pixels as the header says, received a DICOM file with {len(data)}: it "
            "is cut off; send or export it again",
            code="cut_off",
        )
    is_big = not dataset.file_meta.TransferSyntaxUID.is_little_endian
    if is_big and cell == 1 and dataset["PixelData"].VR == "OW":  # bytes in words of the other order
        data = np.frombuffer(data, ">u2", len(data) // 2).astype("<u2").tobytes()
    cells = np.frombuffer(data, f"{'>' if is_big else '<'}u{cell}", count)
    if not header.is_colour:
        return cells.reshape(header.rows, header.columns)
    if is_subsampled:
        return _full_chroma(cells.reshape(header.rows, header.columns // 2, 4))
    if header.planar_configuration == 1:
        return cells.reshape(3, header.rows, header.columns).transpose(1, 2, 0)
    return cells.reshape(header.rows, header.columns, 3)


def _full_chroma(cells: np.ndarray) -> np.ndarray:
    """(H, W / 2, 4) Y, Y, Cb, Cr of two pixels each -> (H, W, 3)."""
    pairs = cells[:, :, [0, 2, 3, 1, 2, 3]]
    return pairs.reshape(len(cells), -1, 3)


def _to_rgb(pixels: np.ndarray, header: Header) -> np.ndarray:
    """RGB, from YBR where decoding has not converted it: uncompressed, RLE and JPEG-LS."""
    import cv2

    is_ybr = header.photometric_interpretation in ("YBR_FULL", "YBR_FULL_422")
    if not is_ybr or header.is_converted_by_decoder:
        return np.ascontiguousarray(pixels)
    rgb: np.ndarray = cv2.cvtColor(np.ascontiguousarray(pixels[:, :, [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)
    return rgb


def _only_frame(dataset: "FileDataset", header: Header, max_pixels: int) -> bytes:
    """The one frame. Decoders trust the size in the frame, not the one in the header."""
    from pydicom.encaps import generate_frames

    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    try:
        frames = generate_frames(dataset.PixelData, number_of_frames=1, extended_offsets=offsets)
        frame = next(frames)
        has_more = next(frames, None) is not None
    except ImageError:
        raise
    except Exception:  # pydicom raises any type for damaged fragments
        raise UnreadableImage(
            "expected the fragments of a compressed picture, received a DICOM file where they cannot be followed: "
            "export it again",
            code="damaged",
        ) from None
    if has_more:
        raise RefusedImage(
            "expected one frame, received a DICOM file with more frames than its header says: send one radiograph",
            code="several_frames",
        )
    if header.decodes_to_values:
        _check_frame(frame, header, max_pixels)
    return frame


def _check_frame(frame: bytes, header: Header, max_pixels: int) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 frame that is not gray or not of the size in the header."""
    size = frame_size(frame)
    if size is None:
        raise UnreadableImage(
            "expected a compressed picture that gives its size, received a DICOM file whose picture has no readable "
            f"size ({header.transfer_syntax_name}): export it again",
            code="damaged",
        )
    width, height, components = size
    check_size(width, height, min(max_pixels, MAX_FRAME_PIXELS), "compressed frame")
    if width * height > max(SMALL_FRAME_PIXELS, MAX_PIXELS_PER_BYTE * len(frame)):
        raise RefusedImage(
            f"expected a radiograph, received a DICOM file whose compressed picture of {width}x{height} pixels has "
            f"only {len(frame)} bytes, as a blank one has: check the export",
            code="blank",
        )
    if size != (header.columns, header.rows, header.samples_per_pixel):
        raise UnreadableImage(
            f"expected a {'colour' if header.is_colour else 'gray'} frame of {header.columns}x{header.rows} as in the "
            f"header, received a compressed one of {width}x{height} with {components} channels: export it again",
            code="damaged",
        )


def to_display(dataset: "FileDataset", header: Header, stored: np.ndarray) -> Display:
    """Stored values -> (Rows, Columns) uint8 as displayed.

    Without a VOI LUT or window, the lowest value in the image becomes black and the highest white. 8-bit values that
    need no change are kept. A window that cannot be applied is left out, and a note says so.

    Raises:
        RefusedImage: the window or table leaves nothing of the pixels.
    """
    count = 1 << header.bits_stored
    lowest = -count // 2 if header.is_signed else 0
    is_padding = _padding_mask(dataset, lowest, count)
    table = _apply_modality(np.arange(lowest, lowest + count), dataset)  # (count,): one entry per stored value
    gray, notes = _apply_voi(table, dataset)
    is_used = (_histogram(stored, count) > 0) & ~is_padding
    used = table[is_used]
    if gray is None:
        low, high = (used.min(), used.max()) if len(used) else (0, 1)
        if header.bits_stored == 8 and np.array_equal(table, np.arange(256)):
            low, high = 0, 255
        gray = np.clip((table - low) / (high - low or 1), 0, 1)
    else:
        _check_window(gray[is_used], used, dataset)
    if header.photometric_interpretation == "MONOCHROME1":  # the lowest value is white
        gray = 1 - gray
    gray[is_padding] = 0  # no image there; workstations display black
    levels = np.round(gray * 255).astype(np.uint8)
    display = np.empty(stored.shape, np.uint8)
    for row in range(0, len(stored), _ROWS_PER_STEP):  # NumPy makes 64-bit indices
        display[row : row + _ROWS_PER_STEP] = levels[stored[row : row + _ROWS_PER_STEP]]
    return Display(display, notes)


def _histogram(stored: np.ndarray, count: int) -> np.ndarray:
    """(count,) how often each stored value occurs."""
    histogram = np.zeros(count, np.int64)
    for row in range(0, len(stored), _ROWS_PER_STEP):
        histogram += np.bincount(stored[row : row + _ROWS_PER_STEP].ravel(), minlength=count)
    return histogram


def _check_window(gray: np.ndarray, used: np.ndarray, dataset: "Dataset") -> None:
    """Refuse a window or VOI LUT outside the values of the image, which would show it all black or white.

    Args:
        gray: 0 to 1, for each value in the image.
        used: the same values.
        dataset: of the file.
    """
    if len(used) < 2 or np.ptp(gray) * 255 >= MIN_LEVELS:
        return
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    is_table = _first_lut(dataset, "VOILUTSequence") is not None or center is None or width is None
    name = "lookup table (VOI LUT)" if is_table else f"window (centre {center:g}, width {width:g})"
    raise RefusedImage(
        f"expected a window that shows the pixels, received a DICOM file whose {name} leaves nothing of its pixels "
        f"({used.min():g} to {used.max():g}): export it again with another window, or as PNG",
        code="window",
    )


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


def _apply_voi(values: np.ndarray, dataset: "FileDataset") -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Modality values -> 0 (black) to 1 (white), by the VOI LUT or the first window (PS3.3, C.11.2), and notes.

    None without one, and with a window that the standard does not allow.
    """
    lut = _first_lut(dataset, "VOILUTSequence")
    if lut is not None:
        return np.clip(_apply_lut(values, lut, dataset) / ((1 << int(lut.LUTDescriptor[2])) - 1), 0, 1), ()
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None:
        return None, ()
    function = str(dataset.get("VOILUTFunction") or "").strip().upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ValueError(function)
    if width <= 0 or (function == "LINEAR" and width < 1):
        return None, (f"window of width {width:g} left out, because it is not valid",)
    return _apply_window(values, center, width, function), ()


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
