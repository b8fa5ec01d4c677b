"""DICOM: a truth table of the gray that is shown, the same pixels from every encoding, and what is refused."""

import struct
import subprocess
import sys
import threading

import cv2
import numpy as np
import pydicom
import pytest
from builders.dicom_files import SECRET, compressed, dataset_of, dicom, frame_of, written
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from pneumoscope import load
from pneumoscope.errors import ImageError, ImageTooLarge, RefusedImage, UnreadableImage
from pneumoscope.radiographs.dicom.kind import CHEST_CODES, MODALITIES, OTHER_VIEW_CODES, OTHER_VIEWS
from pneumoscope.radiographs.dicom.reader import is_dicom, read_dicom
from pneumoscope.radiographs.images import MAX_BYTES, MAX_PIXELS, read_radiograph


def shown(*arguments, **elements) -> np.ndarray:
    return read_dicom(dicom(*arguments, **elements), MAX_PIXELS, MAX_BYTES)


def lut(entries, first, bits, vr="US", count=None) -> Dataset:
    """A table; entries are numbers, or bytes of two a word."""
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries) % 65536 if count is None else count, first, bits])
    item.ModalityLUTType = "US"
    if isinstance(entries, bytes):
        item.add_new("LUTData", "OW", entries)
    else:
        item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


# The truth table: stored values -> gray. Rows of (name, stored values, bits, elements, expected gray). ------

EIGHT = np.array([[0, 1, 100, 254, 255]], np.uint8)
TWELVE = np.array([[0, 1, 1000, 2047, 2048, 4095]], np.uint16)
SIGNED = np.array([[-2048, -1, 0, 1, 2047]], np.int16)


def window(values, centre, width):
    """Linear window (PS3.3, C.11.2.1.2.1), as a share."""
    return np.clip((np.asarray(values, float) - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


TRUTH = [
    ("eight bits", EIGHT, 8, {}, EIGHT / 255),
    ("eight bits, inverse", EIGHT, 8, {"PhotometricInterpretation": "MONOCHROME1"}, 1 - EIGHT / 255),
    ("eight bits, rescale of nothing", EIGHT, 8, {"RescaleSlope": 1, "RescaleIntercept": 0}, EIGHT / 255),
    ("six of eight bits", np.array([[8, 9, 40]], np.uint8), 6, {}, np.array([[0, 1, 32]]) / 32),
    ("twelve bits without a window", TWELVE, 12, {}, TWELVE / 4095),
    ("twelve bits in use in part", TWELVE[:, 1:5], 12, {}, (TWELVE[:, 1:5] - 1) / 2047),
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
    ("falling rescale", TWELVE, 12, {"RescaleSlope": -1, "RescaleIntercept": 4095}, 1 - TWELVE / 4095),
    ("signed", SIGNED, 12, {}, (SIGNED + 2048.0) / 4095),
    ("signed, window", SIGNED, 12, {"WindowCenter": 0, "WindowWidth": 1000}, window(SIGNED, 0, 1000)),
    ("sixteen bits", np.array([[0, 65535]], np.uint16), 16, {}, np.array([[0, 1]])),
    ("an overlay in the high bits", TWELVE | 0xF000, 12, {}, TWELVE / 4095),
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
        "a table of gray levels",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut([0, 255, 51, 102], 0, 8)], "WindowCenter": 2048, "WindowWidth": 4096},
        np.array([[0, 1, 0.2, 0.4]]),
    ),
    (
        "a table of twelve bits",
        np.array([[0, 10, 11, 12, 4000]], np.uint16),
        12,
        {"VOILUTSequence": [lut([0, 4095, 819], 10, 12)]},
        np.array([[0, 0, 1, 0.2, 0.2]]),
    ),
    (
        "a table of the modality",
        np.array([[0, 1, 2]], np.uint16),
        12,
        {"ModalityLUTSequence": [lut([500, 1000, 0], 0, 16)]},
        np.array([[0.5, 1, 0]]),
    ),
    (
        "a table of the modality for signed values, longer than they reach",
        np.array([[-2048, -1000, 0, 2047]], np.int16),
        12,
        {"ModalityLUTSequence": [lut(np.arange(60000, dtype="<u2").tobytes(), -2048, 16, "SS", count=60000)]},
        np.array([[0, 1048, 2048, 4095]]) / 4095,
    ),
    (
        "a table of the modality for signed bytes",
        np.array([[-128, -1, 0, 127]], np.int8),
        8,
        {"ModalityLUTSequence": [lut([*range(200, 456)], -128, 16, "SS")]},
        np.array([[0, 127, 128, 255]]) / 255,
    ),
    (
        "values before and beyond a table",
        np.array([[0, 99, 100, 101, 102, 103, 4095]], np.uint16),
        12,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": [lut([51, 102, 255], 0, 8, "SS")]},
        np.array([[0.2, 0.2, 0.2, 0.4, 1, 1, 1]]),
    ),
    (
        "a table of eight bits for values above 255",
        np.array([[0, 299, 300, 301, 302, 4000]], np.uint16),
        12,
        {"VOILUTSequence": [lut([0] * 300 + [51, 102, 255], 0, 8)]},
        np.array([[0, 0, 0.2, 0.4, 1, 1]]),
    ),
    (
        "a table that begins below nothing",
        np.array([[0, 98, 99, 100, 4095]], np.uint16),
        12,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": [lut([0, 51, 102, 255], -3, 8, "SS")]},
        np.array([[0, 0.2, 0.4, 1, 1]]),
    ),
    (
        "a first value that is signed and written as unsigned",
        np.array([[0, 98, 99, 100, 4095]], np.uint16),
        12,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": [lut([0, 51, 102, 255], 65533, 8)]},
        np.array([[0, 0.2, 0.4, 1, 1]]),
    ),
    (
        "a first value above 32767",
        np.array([[0, 39999, 40000, 40001, 65535]], np.uint16),
        16,
        {"VOILUTSequence": [lut([0, 51, 255], 39999, 8)]},
        np.array([[0, 0, 0.2, 1, 1]]),
    ),
    (
        "a table of 65536 entries",
        np.array([[0, 32768, 65535]], np.uint16),
        16,
        {"VOILUTSequence": [lut(np.arange(65536, dtype="<u2")[::-1].tobytes(), 0, 16, count=0)]},
        np.array([[1, 32767 / 65535, 0]]),
    ),
    (
        "a table in words",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut(np.array([0, 4095, 819], "<u2").tobytes(), 0, 12, count=3)]},
        np.array([[0, 1, 0.2, 0.2]]),
    ),
    (
        "a table of eight bits, a word each",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut(np.array([0, 255, 51, 102], "<u2").tobytes(), 0, 8, count=4)]},
        np.array([[0, 1, 0.2, 0.4]]),
    ),
    (
        "a table of eight bits, two a word",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut(bytes([0, 255, 51, 0]), 0, 8, count=3)]},
        np.array([[0, 1, 0.2, 0.2]]),
    ),
    (
        "a table of eight bits, two a number",
        np.array([[0, 1, 2, 3]], np.uint16),
        12,
        {"VOILUTSequence": [lut([0xFF00, 0x6633], 0, 8, count=4)]},
        np.array([[0, 1, 0.2, 0.4]]),
    ),
    (
        "a table of one entry",
        np.array([[0, 1]], np.uint16),
        12,
        {"VOILUTSequence": [lut([51], 0, 8)]},
        np.array([[0.2, 0.2]]),
    ),
    (
        "a window function of no name, a rescale of no numbers",
        TWELVE,
        12,
        {"RescaleSlope": "", "RescaleIntercept": "", "WindowCenter": 1024, "WindowWidth": 200, "VOILUTFunction": ""},
        window(TWELVE, 1024, 200),
    ),
    (
        "an intercept alone",
        TWELVE,
        12,
        {"RescaleIntercept": -24, "WindowCenter": 1000, "WindowWidth": 200},
        window(TWELVE, 1024, 200),
    ),
    ("a window of one value", TWELVE, 12, {"WindowCenter": 1000.5, "WindowWidth": 1}, (TWELVE > 1000) * 1.0),
    ("stored in the highest bits", TWELVE << 4 | 7, 12, {"HighBit": 15}, TWELVE / 4095),
    ("stored in the middle", TWELVE << 2 | 0x4001, 12, {"HighBit": 13}, TWELVE / 4095),
    ("signed, stored in the highest bits", SIGNED << 4 | 7, 12, {"HighBit": 15}, (SIGNED + 2048.0) / 4095),
    ("signed, without its sign above", SIGNED & 0xFFF, 12, {}, (SIGNED + 2048.0) / 4095),
]


@pytest.mark.parametrize(
    ("stored", "bits", "elements", "expected"), [row[1:] for row in TRUTH], ids=[r[0] for r in TRUTH]
)
def test_the_gray_that_is_shown(stored, bits, elements, expected):
    found = shown(stored, bits, **elements)
    assert (found.dtype, found.shape) == (np.uint8, stored.shape)
    np.testing.assert_allclose(found, np.asarray(expected) * 255, atol=0.51)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_tables_in_every_byte_order(syntax):
    """Words as pydicom leaves them: raw; two entries of eight bits in one begin with the lower byte."""
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    stored = np.array([[-3, -2, -1, 0]], np.int16)
    for words, bits in (([0, 819, 4095], 12), ([0x3300, 0x00FF], 8)):
        table = lut(np.array(words, order).tobytes(), -3, bits, "SS", count=3)
        found = shown(stored, 12, syntax, VOILUTSequence=[table])
        np.testing.assert_array_equal(found, [[0, 51, 255, 255]])


@pytest.mark.parametrize(("high", "syntax"), [(6, None), (8, None), (12, JPEG2000Lossless)])
def test_stored_bits_in_an_impossible_place_are_named(picture, high, syntax):
    dataset = dataset_of(picture) if syntax is None else dataset_of(picture.astype(np.uint16) << 4, 12)
    if syntax:
        dataset.compress(syntax)
    dataset.HighBit = high
    with pytest.raises(UnreadableImage, match=rf"stored bits to be bit \d+, received a DICOM file where it is bit {high}:"):
        read_radiograph(written(dataset))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_high_stored_bits_are_shifted_in_cells(picture, syntax):
    plain = shown(picture.astype(np.uint16) << 4, 12)
    dataset = dataset_of(picture.astype(np.uint16) << 8 | 5, 16)
    if syntax == RLELossless:
        dataset.compress(syntax)
    dataset.BitsStored = 12
    np.testing.assert_array_equal(read_dicom(written(dataset), MAX_PIXELS, MAX_BYTES), plain)


# The same picture from every encoding ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(samples) -> np.ndarray:
    return cv2.resize(read_radiograph(samples[0]).pixels, (160, 120), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_native_encodings(picture, syntax, dtype):
    window = {"WindowCenter": 128, "WindowWidth": 256} if dtype == np.uint16 else {}
    np.testing.assert_array_equal(shown(picture.astype(dtype), 8, syntax, **window), picture)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 12])
def test_lossless_compression(picture, syntax, bits):
    dataset = dataset_of(picture if bits == 8 else picture.astype(np.uint16) << 4, bits)
    plain = read_dicom(written(dataset), MAX_PIXELS, MAX_BYTES)
    dataset.compress(syntax)
    np.testing.assert_array_equal(read_dicom(written(dataset), MAX_PIXELS, MAX_BYTES), plain)


def test_jpeg(picture):
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    dataset = dataset_of(picture)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([coded])
    dataset["PixelData"].is_undefined_length = True
    found = read_dicom(written(dataset), MAX_PIXELS, MAX_BYTES)
    np.testing.assert_allclose(found, cv2.imdecode(np.frombuffer(coded, np.uint8), 0), atol=1)


def test_real_files_show_one_picture_from_every_encoding():
    """A chest of 15 bits, and a leg whose header is told to be a chest: WG-04 samples, through pydicom-data."""
    plain = read_dicom(file_bytes("RG1_UNCR.dcm"), MAX_PIXELS, MAX_BYTES)
    assert plain.shape == (1955, 1841)
    spine, lung = plain[500:700, 900:1000], plain[500:700, 500:600]
    assert spine.mean() > lung.mean() + 50  # bone is white
    np.testing.assert_array_equal(read_dicom(file_bytes("RG1_J2KR.dcm"), MAX_PIXELS, MAX_BYTES), plain)
    lossy = [read_dicom(file_bytes(f"RG1_{kind}.dcm"), MAX_PIXELS, MAX_BYTES) for kind in ("UNCI", "J2KI")]
    np.testing.assert_allclose(lossy[0], lossy[1], atol=1)  # the rounding of two decoders
    np.testing.assert_allclose(lossy[0], plain, atol=8)
    legs = [
        read_dicom(file_bytes(f"RG3_{kind}.dcm", BodyPartExamined="CHEST"), MAX_PIXELS, MAX_BYTES)
        for kind in ("UNCR", "J2KR")
    ]
    np.testing.assert_array_equal(legs[0], legs[1])


def file_bytes(name, **elements) -> bytes:
    path = get_testdata_file(name)
    assert path, name
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return written(dataset)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("JPEGLSNearLossless_08.dcm", (8, 8)), ("JPEGLSNearLossless_16.dcm", (16, 16)), ("JPEG-LL.dcm", (16, 16)),
     ("JPGExtended.dcm", (16, 16)), ("JPEG2000.dcm", (16, 16))],
)  # fmt: skip
def test_other_compressions_are_decoded(name, sizes):
    """Pictures of other things in codings that no encoder here writes; told to be chests, they are decoded."""
    change = {"Modality": "CR", "BodyPartExamined": "CHEST", "NumberOfFrames": 1}
    dataset = pydicom.dcmread(get_testdata_file(name))
    assert dataset.BitsAllocated == sizes[0]
    found = read_dicom(file_bytes(name, **change), MAX_PIXELS, MAX_BYTES)
    assert found.shape == (dataset.Rows, dataset.Columns)
    assert found.std() > 5


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
def test_pixels_are_made_square(picture, elements, size):
    expected = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(shown(picture, **elements), expected)


@pytest.mark.parametrize(("spacing", "ratio"), [([0.6, 0.1], "6"), ([0.1, 0.6], "0.167")])
def test_pixels_far_from_square_are_refused(picture, spacing, ratio):
    with pytest.raises(RefusedImage, match=f"at most 5 times as long as wide, .* {ratio} times as high as wide"):
        shown(picture, PixelSpacing=spacing)


# Through the whole path -----------------------------------------------------------------------------------


def test_a_picture_as_png_and_as_dicom_gets_the_same_verdict(samples, tmp_path):
    for path in samples[::8]:
        pixels = read_radiograph(path).pixels
        files = [tmp_path / "a.png", tmp_path / "a.dcm", tmp_path / "inverse.dcm", tmp_path / "twelve.dcm"]
        cv2.imwrite(str(files[0]), pixels)
        files[1].write_bytes(dicom(pixels))
        files[2].write_bytes(dicom(255 - pixels, PhotometricInterpretation="MONOCHROME1"))
        files[3].write_bytes(
            dicom(
                pixels.astype(np.uint16) * 16, 12, WindowCenter=2040.5, WindowWidth=4081, SOPClassUID=DX, Modality="DX"
            )
        )
        found = list(load().predict_many(files))
        assert len({one.probability for one in found}) == 1
        assert found[0].status in ("ok", "uncertain")


DX = DigitalXRayImageStorageForPresentation


def test_a_name_without_ending_and_a_file_in_memory_are_read(picture, tmp_path):
    (tmp_path / "IM000001").write_bytes(dicom(picture))
    np.testing.assert_array_equal(read_radiograph(tmp_path / "IM000001").pixels, picture)
    np.testing.assert_array_equal(read_radiograph(dicom(picture)).pixels, picture)


def test_threads_do_not_disturb_each_other(picture):
    files = [dicom(np.roll(picture, n, axis=1)) for n in range(8)]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: read_radiograph(files[n]).pixels})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(8):
        np.testing.assert_array_equal(found[n], np.roll(picture, n, axis=1))


def coded(value, meaning) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return [item]


def silent(**elements) -> dict:
    """Elements of a header that says nothing else of body part and view."""
    return {"BodyPartExamined": None, "ViewPosition": None, **elements}


# What is refused ------------------------------------------------------------------------------------------


IN_THE_WILD = (
    *("", "CHEST", "THORAX", "TORAX", "LUNG", "LUNGS", "RIB", "RIBS", "CHESTABDOMEN", "CHEST_TO_ABDOMEN"),
    *(
        "CHESTABDPELVIS",
        "CHEST AP",
        "CHEST PA",
        "PORT CHEST",
        "PORTABLE CHEST",
        "CHEST 1 VIEW",
        "CHEST PA LAT",
        "chest",
    ),
)

REFUSED = [
    ({"Modality": "CT"}, "modality CT: send the radiograph"),
    ({"Modality": "MR", "SOPClassUID": SecondaryCaptureImageStorage}, "modality MR"),
    ({"Modality": None}, "modality none"),
    ({"BodyPartExamined": "HAND"}, "body part HAND"),
    ({"ViewPosition": "LL"}, "of view LL"),
    ({"ViewPosition": "", "PatientOrientation": ["A", "F"]}, "of view LATERAL"),
    ({"ViewPosition": None, "PatientOrientation": ["P", "F"]}, "of view LATERAL"),
    ({"ViewPosition": None, "PatientOrientation": ["PL", "F"]}, "of view LATERAL"),
    ({"ViewPosition": None, "PatientOrientation": ["AR", "FA"]}, "of view LATERAL"),
    ({"ViewPosition": "LEFT LATERAL"}, "of view LATERAL"),
    ({"BodyPartExamined": "CHEST LAT"}, "of view LAT:"),
    ({"BodyPartExamined": "CHEST LATERAL", "ViewPosition": None}, "of view LATERAL:"),
    ({"BodyPartExamined": "CHEST AP DECUB"}, "of view DECUB:"),
    ({"BodyPartExamined": "RIBS OBLIQUE"}, "of view OBLIQUE:"),
    ({"BodyPartExamined": "TSPINE"}, "body part TSPINE: send one of the chest"),
    ({"BodyPartExamined": "ABDOMEN LAT"}, "body part ABDOMEN LAT"),
    ({"BodyPartExamined": "DRIBBLE"}, "body part DRIBBLE"),
    (silent(AnatomicRegionSequence=coded("85562004", "Hand")), "body part HAND"),
    (silent(AnatomicRegionSequence=coded("122495006", "Thoracic spine")), "body part THORACIC SPINE"),
    (silent(AnatomicRegionSequence=coded("85562004", "")), "body part 85562004"),
    (silent(ViewCodeSequence=coded("399198007", "rechts")), "of view RIGHT LATERAL"),
    (silent(ViewCodeSequence=coded("R-10236", "")), "of view LEFT LATERAL"),
    (silent(ViewCodeSequence=coded("X1", "right posterior-oblique")), "of view RIGHT POSTERIOR OBLIQUE"),
    ({"PresentationIntentType": "FOR PROCESSING"}, "raw"),
    ({"SOPClassUID": DigitalXRayImageStorageForProcessing, "Modality": "DX"}, "raw"),
    ({"Modality": "", "SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.77.1.1")}, "modality none"),
    ({"NumberOfFrames": 2}, "expected one frame, received a DICOM file with 2"),
    ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "received RGB"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "received PALETTE COLOR"),
]


@pytest.mark.parametrize(("elements", "sentence"), REFUSED)
def test_what_is_no_frontal_chest_radiograph_is_refused(picture, elements, sentence):
    with pytest.raises(RefusedImage, match=sentence) as caught:
        read_radiograph(dicom(picture, **elements))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "elements",
    [
        *({"Modality": modality} for modality in MODALITIES),
        *({"BodyPartExamined": part} for part in IN_THE_WILD),
        *(silent(AnatomicRegionSequence=coded(code, "Region")) for code in CHEST_CODES),
        silent(AnatomicRegionSequence=coded("X1", "Chest and heart")),
        silent(AnatomicRegionSequence=coded("", "")),
        {"AnatomicRegionSequence": coded("85562004", "Hand")},  # CHEST, says the body part
        silent(ViewCodeSequence=coded("272479007", "postero-anterior")),
        silent(ViewCodeSequence=coded("R-10206", "antero-posterior")),
        {"ViewCodeSequence": coded("399067008", "lateral")},  # AP, says the view position
        silent(PatientOrientation="AP"),
        silent(PatientOrientation="A"),
        silent(PatientOrientation=["LA", "F"]),
        {"Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage},
        {"Modality": None, "SOPClassUID": SecondaryCaptureImageStorage},
        {"ViewPosition": "PA", "PatientOrientation": ["L", "F"]},
        {"ViewPosition": None, "BodyPartExamined": None},
        {"PresentationIntentType": "FOR PRESENTATION"},
    ],
)
def test_chest_radiographs_are_read(picture, elements):
    np.testing.assert_array_equal(read_radiograph(dicom(picture, **elements)).pixels, picture)


@pytest.mark.parametrize(("name", "codes"), OTHER_VIEW_CODES.items())
def test_codes_of_other_views_are_refused(picture, name, codes):
    for code in codes:
        with pytest.raises(RefusedImage, match=f"of view {name}: send the frontal one"):
            read_radiograph(dicom(picture, **silent(ViewCodeSequence=coded(code, "view"))))


@pytest.mark.parametrize(
    "value", ["Doe^Jane^1957", "Doe-Jane HAND", "A VERY LONG NAME OF A PATIENT", "J\u00e4ne L\u00f6w"]
)
def test_only_code_strings_are_repeated(picture, value):
    """A name in the wrong place does not get into a message."""
    for keyword in ("Modality", "BodyPartExamined", "PhotometricInterpretation", "AnatomicRegionSequence"):
        dataset = dataset_of(picture, SpecificCharacterSet="ISO_IR 192")
        if keyword == "AnatomicRegionSequence":
            dataset = dataset_of(picture, **silent(AnatomicRegionSequence=coded("X1", value)))
        else:
            dataset.add_new(keyword, "LO", value)
        with pytest.raises(RefusedImage, match=r"(?i)^(?!.*(doe|j.ne|patient)).* unknown"):
            read_radiograph(written(dataset))


def test_a_view_is_repeated_by_its_own_word_only(picture):
    with pytest.raises(RefusedImage, match="of view LAT: send"):
        read_radiograph(dicom(picture, ViewPosition="DOE JANE LAT"))


@pytest.mark.parametrize("view", OTHER_VIEWS)
def test_other_views_are_refused(picture, view):
    with pytest.raises(RefusedImage, match=f"of view {view}: send the frontal one"):
        read_radiograph(dicom(picture, ViewPosition=view))


def test_a_header_alone_is_no_image(picture):
    with pytest.raises(UnreadableImage, match="received a header only"):
        read_radiograph(dicom(picture, PixelData=None))


@pytest.mark.parametrize(("allocated", "stored"), [(32, 32), (8, 9), (16, 0), (1, 1)])
def test_other_depths_are_named(picture, allocated, stored):
    data = dicom(picture, BitsAllocated=allocated, BitsStored=stored)
    with pytest.raises(UnreadableImage, match=f"of {allocated} bits, {stored} of them stored"):
        read_radiograph(data)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 128, "WindowWidth": 0},
        {"WindowCenter": 128, "WindowWidth": 256, "VOILUTFunction": "CUBIC"},
        {"ModalityLUTSequence": [lut([500, 1000, 0], 0, 20)]},  # bits of an entry
        {"VOILUTSequence": [lut([0, 255], 0, 8, count=5)]},
        {"VOILUTSequence": [lut(np.array([0, 4095], "<u2").tobytes(), 0, 12, count=4)]},
        {"RescaleSlope": "1e999"},
    ],
)
def test_a_window_or_table_of_no_use_is_said(picture, elements):
    with pytest.raises(UnreadableImage, match="expected a window or lookup table that can be applied"):
        read_radiograph(dicom(picture, **elements))


def test_too_many_pixels_are_refused_from_the_header(picture):
    with pytest.raises(ImageTooLarge, match="the header announces 60000x60000"):
        read_radiograph(dicom(picture, Rows=60000, Columns=60000))


def announcing(frame: bytes, width: int, height: int) -> bytes:
    """The frame, with another size in its header."""
    at = frame.find(b"\xff\x4f\xff\x51")
    if at >= 0:
        return frame[: at + 8] + struct.pack(">II", width, height) + frame[at + 16 :]
    at = frame.find(b"\xff\xc0")
    return frame[: at + 5] + struct.pack(">HH", height, width) + frame[at + 9 :]


def jp2(codestream: bytes, *boxes: tuple[bytes, bytes]) -> bytes:
    """A JP2 file, cut down to a signature, these boxes and the code stream."""
    boxes = ((b"jP  ", b"\r\n\x87\n"), *boxes, (b"jp2c", codestream))
    return b"".join(struct.pack(">I4s", 8 + len(content), kind) + content for kind, content in boxes)


CODINGS = (JPEG2000Lossless, JPEGBaseline8Bit)


@pytest.mark.parametrize("syntax", CODINGS)
def test_a_frame_larger_than_its_header_is_refused_before_decoding(picture, syntax):
    frame = announcing(frame_of(picture, syntax), 60000, 60000)
    with pytest.raises(ImageTooLarge, match=r"the compressed frame announces 60000x60000 \(3600 megapixels\)"):
        read_radiograph(compressed(frame, syntax, dataset_of(picture)))


@pytest.mark.parametrize("syntax", CODINGS)
@pytest.mark.parametrize(("width", "height"), [(160, 121), (80, 240), (160, 0)])
def test_a_frame_of_another_size_than_its_header_is_refused(picture, syntax, width, height):
    """Height 0 in a JPEG means that it comes later (T.81, B.2.5)."""
    frame = announcing(frame_of(picture, syntax), width, height)
    sentence = f"expected a gray frame of 160x120 as in the header, received a compressed one of {width}x{height} with 1 ch"
    with pytest.raises(UnreadableImage, match=sentence):
        read_radiograph(compressed(frame, syntax, dataset_of(picture)))


@pytest.mark.parametrize("syntax", CODINGS)
def test_a_frame_in_colour_under_a_gray_header_is_refused(picture, syntax):
    if syntax == JPEGBaseline8Bit:
        frame = frame_of(cv2.merge([picture] * 3), syntax)
    else:
        frame = bytearray(frame_of(picture, syntax))
        at = frame.find(b"\xff\x4f\xff\x51")
        frame[at + 40 : at + 42] = struct.pack(">H", 16384)
    with pytest.raises(UnreadableImage, match=r"with (3|16384) channels"):
        read_radiograph(compressed(bytes(frame), syntax, dataset_of(picture)))


def test_no_size_but_that_of_the_decoder_counts(picture):
    """The size that fits in a comment, the other one where decoders look."""
    jpeg, stream = frame_of(picture, JPEGBaseline8Bit), frame_of(picture, JPEG2000Lossless)
    decoy = stream[:60]
    assert decoy.startswith(b"\xff\x4f\xff\x51")
    large = announcing(jpeg, 60000, 60000)
    frames = {
        JPEGBaseline8Bit: large[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(decoy)) + decoy + large[2:],
        JPEG2000Lossless: jp2(announcing(stream, 60000, 60000), (b"xml ", decoy)),
    }
    for syntax, frame in frames.items():
        with pytest.raises(ImageTooLarge, match="the compressed frame announces 60000x60000"):
            read_radiograph(compressed(frame, syntax, dataset_of(picture)))


@pytest.mark.parametrize("syntax", CODINGS)
@pytest.mark.parametrize("change", [
    lambda frame: b"\0" + frame,
    lambda frame: frame[:2] + b"\0" + frame[2:],
    lambda frame: frame[:2] + b"\xff\xde" + struct.pack(">HBHHB", 8, 8, 60000, 60000, 1) + frame[2:],
    lambda frame: frame[:20],
    lambda frame: b"\0\0\0\x01jp2c" + frame[:30],
    lambda frame: bytes(100),
])  # fmt: skip
def test_a_frame_whose_size_is_not_found_is_refused(picture, syntax, change, monkeypatch):
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("decoded")))
    frame = change(frame_of(picture, syntax))
    with pytest.raises(UnreadableImage, match="expected pixels that can be decoded"):
        read_radiograph(compressed(frame, syntax, dataset_of(picture)))


def test_the_frame_that_is_measured_is_the_one_that_is_decoded(picture):
    """An extended offset table points at another frame than the first one."""
    frame = frame_of(picture, JPEG2000Lossless)
    frame += b"\0" * (len(frame) % 2)
    large = announcing(frame, 60000, 60000)
    dataset = dataset_of(picture)
    for first, second, error in ((frame, large, ImageTooLarge), (large, frame, None)):
        data = compressed(frame, JPEG2000Lossless, dataset)
        dataset.PixelData = encapsulate([first, second], has_bot=False)
        dataset.ExtendedOffsetTable = struct.pack("<Q", len(first) + 8)
        dataset.ExtendedOffsetTableLengths = struct.pack("<Q", len(second))
        data = written(dataset)
        if error:
            with pytest.raises(error, match="the compressed frame announces 60000x60000"):
                read_radiograph(data)
        else:
            np.testing.assert_array_equal(read_radiograph(data).pixels, picture)


def test_more_frames_than_the_header_says_are_refused(picture):
    frame = frame_of(picture, JPEG2000Lossless)
    dataset = dataset_of(picture)
    compressed(frame, JPEG2000Lossless, dataset)
    dataset.PixelData = encapsulate([frame, frame])
    with pytest.raises(RefusedImage, match="more frames than its header says"):
        read_radiograph(written(dataset))


def test_a_deflate_bomb_is_refused(picture):
    data = dicom(np.zeros((2000, 2000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    assert len(data) < 20_000
    with pytest.raises(ImageTooLarge, match="a DICOM data set of at most 1 MB"):
        read_dicom(data, MAX_PIXELS, 1_000_000)


@pytest.mark.parametrize("change", [
    lambda data: data[:140] + struct.pack("<I", 10) + data[144:],  # a group length of its own
    lambda data: data[:132] + data[144:],  # none at all
    lambda data: data[:132] + b"\2\0\0\0UL\4\0" + struct.pack("<I", 2**32 - 1) + data[144:],
    lambda data: data[:132] + b"\2\0\x02\1OB\0\0" + struct.pack("<I", 5000) + bytes(5000) + data[132:],
])  # fmt: skip
def test_a_deflate_bomb_is_refused_whatever_the_meta_information_says(change):
    data = dicom(np.zeros((2000, 2000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(ImageTooLarge, match="a DICOM data set of at most 1 MB"):
        read_dicom(change(data), MAX_PIXELS, 1_000_000)


def test_pydicom_says_nothing_and_the_logs_of_others_stay(picture, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(picture, NumberOfFrames=0))  # pydicom warns of it, and logs that
    code = (
        "import logging, sys, warnings, pydicom; logging.basicConfig(level=logging.INFO);"
        "from pathlib import Path; from pneumoscope.radiographs.dicom.reader import read_dicom; data = Path(sys.argv[1]).read_bytes();"
        "read_dicom(data, 10**8, 10**8); before = list(warnings.filters); read_dicom(data, 10**8, 10**8);"
        "print(warnings.filters == before, logging.getLogger().level); logging.getLogger('mine').info('heard')"
    )
    command = [sys.executable, "-W", "always", "-c", code, str(path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "True 20\n", "INFO:mine:heard\n")


def test_pydicom_missing_is_one_sentence(picture, monkeypatch, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(picture))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (found,) = load().predict_many([path])
    assert found.status == "error"
    assert found.reason == (
        "expected pydicom to read a DICOM file, it is not installed: run  pip install 'pneumoscope[dicom]'"
    )


def test_an_unknown_encoding_is_named(picture):
    dataset = dataset_of(picture)
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # MPEG2
    dataset.PixelData = encapsulate([bytes(100)])
    with pytest.raises(UnreadableImage, match=r"expected pixels that can be decoded, .* \(MPEG2 "):
        read_radiograph(written(dataset))


def test_damaged_files_never_get_out_as_anything_else(picture):
    """Flipped bytes, cut ends and inserted ones, over four encodings: a picture, or one of our sentences."""
    small = cv2.resize(picture, (80, 72))
    files = [
        dicom(small),
        dicom(small, syntax=ImplicitVRLittleEndian),
        dicom(small, syntax=DeflatedExplicitVRLittleEndian),
    ]
    for syntax in (RLELossless, JPEG2000Lossless):
        dataset = dataset_of(small)
        dataset.compress(syntax)
        files.append(written(dataset))
    rng = np.random.default_rng(0)
    outcomes, sentences = set(), []
    for number in range(400):
        data = bytearray(files[number % len(files)])
        header = len(data) if number % 3 == 0 else 900
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(132, min(header, len(data))))] = int(rng.integers(256))
        if number % 4 == 1:
            del data[int(rng.integers(132, len(data))) :]
        elif number % 4 == 2:
            at = int(rng.integers(132, len(data)))
            data[at:at] = rng.bytes(7)
        try:
            outcomes.add(read_radiograph(bytes(data)).pixels.dtype)
        except ImageError as error:
            outcomes.add(type(error))
            sentences.append(str(error))
    assert not any(SECRET in sentence or "\n" in sentence for sentence in sentences)
    assert {np.dtype(np.uint8), UnreadableImage, RefusedImage} <= outcomes


def test_dicom_is_known_by_its_prefix(picture):
    assert is_dicom(dicom(picture))
    assert not is_dicom(b"DICM")
    assert not is_dicom(bytes(200))
