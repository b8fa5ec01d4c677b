"""The gray levels that a DICOM file is displayed with: LUTs, windows, padding, polarity, bit positions, pixel shape."""

import cv2
import numpy as np
import pytest
from builders.dicom_files import dicom_file, display, lut_item, make_dataset, to_bytes
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.images import read_radiograph

# Stored values -> gray level. Rows of TRUTH: (name, stored values, BitsStored, elements, expected gray from 0 to 1).

EIGHT = np.array([[0, 1, 100, 254, 255]], np.uint8)
TWELVE = np.array([[0, 1, 1000, 2047, 2048, 4095]], np.uint16)
SIGNED = np.array([[-2048, -1, 0, 1, 2047]], np.int16)


def window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Linear window (PS3.3, C.11.2.1.2.1), from 0 to 1."""
    return np.clip((np.asarray(values, float) - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


TRUTH = [
    ("eight bits", EIGHT, 8, {}, EIGHT / 255),
    ("eight bits, inverse", EIGHT, 8, {"PhotometricInterpretation": "MONOCHROME1"}, 1 - EIGHT / 255),
    ("eight bits, rescale without effect", EIGHT, 8, {"RescaleSlope": 1, "RescaleIntercept": 0}, EIGHT / 255),
    ("six of eight bits", np.array([[8, 9, 40]], np.uint8), 6, {}, np.array([[0, 1, 32]]) / 32),
    ("twelve bits without a window", TWELVE, 12, {}, TWELVE / 4095),
    ("twelve bits, part of the range in use", TWELVE[:, 1:5], 12, {}, (TWELVE[:, 1:5] - 1) / 2047),
    ("window", TWELVE, 12, {"WindowCenter": 2048, "WindowWidth": 4096}, window(TWELVE, 2048, 4096)),
    ("narrow window", TWELVE, 12, {"WindowCenter": 1024, "WindowWidth": 200}, window(TWELVE, 1024, 200)),
    (
        "window, inverse",
        TWELVE,
        12,
        {"WindowCenter": 1024, "WindowWidth": 2000, "PhotometricInterpretation": "MONOCHROME1"},
        1 - window(TWELVE, 1024, 2000),
    ),
    (
        "the first of two windows",
        TWELVE,
        12,
        {"WindowCenter": [1000, 3000], "WindowWidth": [2000, 100]},
        window(TWELVE, 1000, 2000),
    ),
    (
        "exact window",
        TWELVE,
        12,
        {"WindowCenter": 1000, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"},
        np.clip((TWELVE - 1000.0) / 2000 + 0.5, 0, 1),
    ),
    (
        "sigmoid",
        TWELVE,
        12,
        {"WindowCenter": 1000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
        1 / (1 + np.exp(-4 * (TWELVE - 1000.0) / 1000)),
    ),
    (
        "window of rescaled values",
        TWELVE,
        12,
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 3000},
        window(TWELVE * 2.0 - 1000, 1000, 3000),
    ),
    ("rescale with a negative slope", TWELVE, 12, {"RescaleSlope": -1, "RescaleIntercept": 4095}, 1 - TWELVE / 4095),
    ("signed", SIGNED, 12, {}, (SIGNED + 2048.0) / 4095),
    ("signed, window", SIGNED, 12, {"WindowCenter": 0, "WindowWidth": 1000}, window(SIGNED, 0, 1000)),
    ("sixteen bits", np.array([[0, 65535]], np.uint16), 16, {}, np.array([[0, 1]])),
    ("overlay in the unused bits", TWELVE | 0xF000, 12, {}, TWELVE / 4095),
    (
        "padding",
        np.array([[0, 100, 150, 200]], np.uint16),
        12,
        {"PixelPaddingValue": 0},
        np.array([[0, 0, 0.5, 1]]),
    ),
    (
        "padding, inverse",
        np.array([[4095, 4094, 100, 150, 200]], np.uint16),
        12,
        {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4094, "PhotometricInterpretation": "MONOCHROME1"},
        np.array([[0, 0, 1, 0.5, 0]]),
    ),
    (
        "VOI LUT",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item([0, 255, 51, 102], 0, 8)], "WindowCenter": 2048, "WindowWidth": 4096},
        np.array([[0, 1, 0.2, 0.4]]),
    ),
    (
        "VOI LUT of twelve bits",
        np.array([[0, 10, 11, 12, 4000]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item([0, 4095, 819], 10, 12)]},
        np.array([[0, 0, 1, 0.2, 0.2]]),
    ),
    (
        "Modality LUT",
        np.array([[0, 1, 2]], np.uint16),
        12,
        {"ModalityLUTSequence": [lut_item([500, 1000, 0], 0, 16)]},
        np.array([[0.5, 1, 0]]),
    ),
    (
        "Modality LUT for signed values, with more entries than values",
        np.array([[-2048, -1000, 0, 2047]], np.int16),
        12,
        {"ModalityLUTSequence": [lut_item(np.arange(60000, dtype="<u2").tobytes(), -2048, 16, "SS", count=60000)]},
        np.array([[0, 1048, 2048, 4095]]) / 4095,
    ),
    (
        "Modality LUT for signed bytes",
        np.array([[-128, -1, 0, 127]], np.int8),
        8,
        {"ModalityLUTSequence": [lut_item([*range(200, 456)], -128, 16, "SS")]},
        np.array([[0, 127, 128, 255]]) / 255,
    ),
    (
        "values before the first entry and after the last",
        np.array([[0, 99, 100, 101, 102, 103, 4095]], np.uint16),
        12,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": [lut_item([51, 102, 255], 0, 8, "SS")]},
        np.array([[0.2, 0.2, 0.2, 0.4, 1, 1, 1]]),
    ),
    (
        "VOI LUT of eight bits for values above 255",
        np.array([[0, 299, 300, 301, 302, 4000]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item([0] * 300 + [51, 102, 255], 0, 8)]},
        np.array([[0, 0, 0.2, 0.4, 1, 1]]),
    ),
    (
        "VOI LUT whose first value is negative",
        np.array([[0, 98, 99, 100, 4095]], np.uint16),
        12,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": [lut_item([0, 51, 102, 255], -3, 8, "SS")]},
        np.array([[0, 0.2, 0.4, 1, 1]]),
    ),
    (
        "VOI LUT whose negative first value is written as unsigned",
        np.array([[0, 98, 99, 100, 4095]], np.uint16),
        12,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": [lut_item([0, 51, 102, 255], 65533, 8)]},
        np.array([[0, 0.2, 0.4, 1, 1]]),
    ),
    (
        "VOI LUT whose first value is above 32767",
        np.array([[0, 39999, 40000, 40001, 65535]], np.uint16),
        16,
        {"VOILUTSequence": [lut_item([0, 51, 255], 39999, 8)]},
        np.array([[0, 0, 0.2, 1, 1]]),
    ),
    (
        "VOI LUT of 65536 entries",
        np.array([[0, 32768, 65535]], np.uint16),
        16,
        {"VOILUTSequence": [lut_item(np.arange(65536, dtype="<u2")[::-1].tobytes(), 0, 16, count=0)]},
        np.array([[1, 32767 / 65535, 0]]),
    ),
    (
        "VOI LUT in words",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item(np.array([0, 4095, 819], "<u2").tobytes(), 0, 12, count=3)]},
        np.array([[0, 1, 0.2, 0.2]]),
    ),
    (
        "VOI LUT of eight bits, one entry in a word",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item(np.array([0, 255, 51, 102], "<u2").tobytes(), 0, 8, count=4)]},
        np.array([[0, 1, 0.2, 0.4]]),
    ),
    (
        "VOI LUT of eight bits, two entries in a word",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item(bytes([0, 255, 51, 0]), 0, 8, count=3)]},
        np.array([[0, 1, 0.2, 0.2]]),
    ),
    (
        "VOI LUT of eight bits, two entries in a number",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item([0xFF00, 0x6633], 0, 8, count=4)]},
        np.array([[0, 1, 0.2, 0.4]]),
    ),
    (
        "VOI LUT of one entry",
        np.array([[1, 1]], np.uint16),
        12,
        {"VOILUTSequence": [lut_item([51], 0, 8)]},
        np.array([[0.2, 0.2]]),
    ),
    (
        "empty VOILUTFunction, RescaleSlope and RescaleIntercept",
        TWELVE,
        12,
        {"RescaleSlope": "", "RescaleIntercept": "", "WindowCenter": 1024, "WindowWidth": 200, "VOILUTFunction": ""},
        window(TWELVE, 1024, 200),
    ),
    (
        "RescaleIntercept without RescaleSlope",
        TWELVE,
        12,
        {"RescaleIntercept": -24, "WindowCenter": 1000, "WindowWidth": 200},
        window(TWELVE, 1024, 200),
    ),
    ("window of width 1", TWELVE, 12, {"WindowCenter": 1000.5, "WindowWidth": 1}, (TWELVE > 1000) * 1.0),
    ("stored in the highest bits", TWELVE << 4 | 7, 12, {"HighBit": 15}, TWELVE / 4095),
    ("stored in the middle", TWELVE << 2 | 0x4001, 12, {"HighBit": 13}, TWELVE / 4095),
    ("signed, stored in the highest bits", SIGNED << 4 | 7, 12, {"HighBit": 15}, (SIGNED + 2048.0) / 4095),
    ("signed, sign bit not extended to the unused bits", SIGNED & 0xFFF, 12, {}, (SIGNED + 2048.0) / 4095),
]


@pytest.mark.parametrize(
    ("stored", "bits", "elements", "expected"), [row[1:] for row in TRUTH], ids=[row[0] for row in TRUTH]
)
def test_displayed_gray_levels(stored, bits, elements, expected):
    gray = display(dicom_file(stored, bits, **elements))
    assert (gray.dtype, gray.shape) == (np.uint8, stored.shape)
    np.testing.assert_allclose(gray, np.asarray(expected) * 255, atol=0.51)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_lookup_tables_in_every_byte_order(syntax):
    """pydicom returns the words as raw bytes. Of two 8-bit entries in a word, the lower byte is the first."""
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    stored = np.array([[-3, -2, -1, 0]], np.int16)
    for words, bits in (([0, 819, 4095], 12), ([0x3300, 0x00FF], 8)):
        item = lut_item(np.array(words, order).tobytes(), -3, bits, "SS", count=3)
        gray = display(dicom_file(stored, 12, syntax, VOILUTSequence=[item]))
        np.testing.assert_array_equal(gray, [[0, 51, 255, 255]])


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 128, "WindowWidth": 256, "VOILUTFunction": "CUBIC"},
        {"ModalityLUTSequence": [lut_item([500, 1000, 0], 0, 20)]},  # 20 bits an entry
        {"VOILUTSequence": [lut_item([0, 255], 0, 8, count=5)]},
        {"VOILUTSequence": [lut_item(np.array([0, 4095], "<u2").tobytes(), 0, 12, count=4)]},
        {"RescaleSlope": "1e999"},
    ],
)
def test_an_invalid_window_or_lookup_table_is_refused(image, elements):
    with pytest.raises(UnreadableImage, match="expected a window or lookup table that can be applied"):
        read_radiograph(dicom_file(image, **elements))


@pytest.mark.parametrize(("high_bit", "syntax"), [(6, None), (8, None), (12, JPEG2000Lossless)])
def test_an_impossible_high_bit_is_refused(image, high_bit, syntax):
    dataset = make_dataset(image) if syntax is None else make_dataset(image.astype(np.uint16) << 4, 12)
    if syntax:
        dataset.compress(syntax)
    dataset.HighBit = high_bit
    sentence = rf"stored bits to be bit \d+, received a DICOM file where it is bit {high_bit}:"
    with pytest.raises(UnreadableImage, match=sentence):
        read_radiograph(to_bytes(dataset))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_stored_bits_at_the_top_of_a_cell_are_shifted_down(image, syntax):
    expected = display(dicom_file(image.astype(np.uint16) << 4, 12))
    dataset = make_dataset(image.astype(np.uint16) << 8 | 5, 16)
    if syntax == RLELossless:
        dataset.compress(syntax)
    dataset.BitsStored = 12
    np.testing.assert_array_equal(display(to_bytes(dataset)), expected)


@pytest.mark.parametrize(("allocated", "stored"), [(32, 32), (8, 9), (16, 0), (1, 1)])
def test_unsupported_bit_depths_are_refused(image, allocated, stored):
    data = dicom_file(image, BitsAllocated=allocated, BitsStored=stored)
    with pytest.raises(UnreadableImage, match=f"of {allocated} bits, {stored} of them stored"):
        read_radiograph(data)


@pytest.mark.parametrize(("elements", "size"), [
    ({"PixelSpacing": [0.2, 0.1]}, (80, 120)),
    ({"PixelSpacing": [0.1, 0.2]}, (160, 60)),
    ({"ImagerPixelSpacing": [0.3, 0.24]}, (128, 120)),
    ({"NominalScannedPixelSpacing": [5, 1]}, (32, 120)),
    ({"PixelAspectRatio": [3, 4]}, (160, 90)),
    ({"PixelSpacing": [0.2, 0.2], "PixelAspectRatio": [3, 4]}, (160, 120)),
    ({"PixelSpacing": [0.1435, 0.143]}, (160, 120)),  # under 1 %
    ({"PixelSpacing": [0, 0], "PixelAspectRatio": [1, 2]}, (160, 60)),
    ({"PixelSpacing": "0.2", "ImagerPixelSpacing": [0.1, -0.1]}, (160, 120)),
])  # fmt: skip
def test_pixels_are_made_square(image, elements, size):
    expected = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(display(dicom_file(image, **elements)), expected)


@pytest.mark.parametrize(("spacing", "ratio"), [([0.6, 0.1], "6"), ([0.1, 0.6], "0.167")])
def test_pixels_far_from_square_are_refused(image, spacing, ratio):
    with pytest.raises(RefusedImage, match=f"at most 5 times as long as wide, .* {ratio} times as high as wide"):
        display(dicom_file(image, PixelSpacing=spacing))
