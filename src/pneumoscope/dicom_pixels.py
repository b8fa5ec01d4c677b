"""The pixels of a DICOM file: stored values, and the gray that a workstation shows for each.

From the stored value to the gray that is shown: modality LUT or rescale, then VOI LUT or window, then the
polarity of the photometric interpretation (DICOM PS3.3, sections C.11.1, C.11.2 and C.7.6.3.1.2; PS3.4, annex
N.2). The steps run once over a table of all stored values, not over the pixels.
"""

import numpy as np

from pneumoscope.codestream import check_size, frame_size
from pneumoscope.dicom_header import Header
from pneumoscope.errors import UnreadableImage


def check_codestream(dataset, header: Header, max_pixels: int) -> None:
    """Refuse a compressed frame that says it is larger than the header: decoders believe the frame."""
    if not header.compressed:
        return
    from pydicom.encaps import generate_frames

    frame = next(generate_frames(dataset.PixelData, number_of_frames=1), b"")
    size = frame_size(frame)
    if size:
        check_size(*size, max_pixels, "compressed frame")


def stored_values(dataset, header: Header) -> np.ndarray:
    """(Rows, Columns) stored values as indices into a table of all of them, lowest first."""
    pixels = dataset.pixel_array  # (Rows, Columns) of 8 or 16 bits
    if pixels.shape != (header.rows, header.columns):
        raise UnreadableImage("expected pixels of the announced size, this DICOM file has others: export it again")
    span = 1 << header.bits
    if header.signed:
        return np.clip(pixels.astype(np.int32) + span // 2, 0, span - 1)
    return pixels & (span - 1)  # higher bits may hold an overlay (PS3.3, C.9.2, retired)


def shown(dataset, header: Header, stored: np.ndarray) -> np.ndarray:
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
