"""DICOM files as devices and archives write them: what is read, what is assumed, and what the record says."""

import io
import struct

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
from builders.dicom_files import dicom_file, dicom_with_frame, make_dataset, to_bytes
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from pneumoscope import load
from pneumoscope.errors import RefusedImage, UnreadableImage
from pneumoscope.radiographs.dicom.body_parts import bytes_name_chest, names_chest
from pneumoscope.radiographs.images import read_radiograph

CHEST = [
    "TÓRAX", "tórax", "Thorax p.a.", "BRUSTKORB", "Poumons", "Pulmão", "Torace", "Klatka piersiowa", "Płuca", "Göğüs",
    "Bröstkorg", "ΘΩΡΑΚΑΣ", "Грудная клетка", "ОГК", "胸部", "흉부", "ngực", "صدر", "חזה", "CHEST_AP", "RIBS",
]  # fmt: skip
OTHER = [
    "HAND", "Brustwirbelsäule", "胸椎", "Грудной отдел позвоночника", "cột sống ngực", "흉추", "Rachis", "Mão", "Тимус",
    "ABDOMEN", "КОЛЕНО", "膝", "Šíje",
]  # fmt: skip


@pytest.mark.parametrize(
    ("syntax", "name"),
    [(ImplicitVRLittleEndian, "Implicit VR Little Endian"), (ExplicitVRLittleEndian, "Explicit VR Little Endian"),
     (ExplicitVRBigEndian, "Explicit VR Big Endian")],
)  # fmt: skip
def test_a_data_set_alone_is_read(image, syntax, name):
    data = dicom_file(image, syntax=syntax)
    start = 144 + struct.unpack("<I", data[140:144])[0]
    radiograph = read_radiograph(data[start:])
    np.testing.assert_array_equal(radiograph.pixels, image)
    assert radiograph.notes == (
        "read without the preamble of a DICOM file",
        f"no transfer syntax in the file, {name} assumed",
    )


def test_meta_information_without_a_preamble_is_read(image):
    radiograph = read_radiograph(dicom_file(image)[132:])
    np.testing.assert_array_equal(radiograph.pixels, image)
    assert radiograph.notes == ("read without the preamble of a DICOM file",)


@pytest.mark.parametrize("data", [b"\x08\0" + bytes(200), b"\x08\0\x05\0CS\2\0AB" + bytes(200), b"\2\0\0\0" * 60])
def test_bytes_that_only_start_like_an_element_are_no_dicom(data):
    with pytest.raises(UnreadableImage, match="expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image"):
        read_radiograph(data)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("planar", [0, 1])
def test_gray_stored_in_colour_is_read(image, photometric, planar):
    data = _colour_file(cv2.merge([image] * 3), photometric, planar)
    radiograph = read_radiograph(data)
    np.testing.assert_allclose(radiograph.pixels.astype(int), image.astype(int), atol=1)
    assert "gray stored as" in radiograph.notes[0]


def test_compressed_gray_stored_in_colour_is_read(image):
    colour = cv2.merge([image] * 3)
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "SOPClassUID": SecondaryCaptureImageStorage}
    jpeg = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    raw_rgb = imagecodecs.jpeg8_encode(colour, colorspace="RGB", outcolorspace="RGB", level=95)
    stream = imagecodecs.jpeg2k_encode(colour, codecformat="J2K", reversible=True)
    for frame, syntax, photometric in (
        (jpeg, JPEGBaseline8Bit, "YBR_FULL_422"),
        (raw_rgb, JPEGBaseline8Bit, "RGB"),
        (stream, JPEG2000Lossless, "YBR_RCT"),
    ):
        dataset = make_dataset(image, PhotometricInterpretation=photometric, **elements)
        radiograph = read_radiograph(dicom_with_frame(frame, syntax, dataset))
        np.testing.assert_allclose(radiograph.pixels.astype(int), image.astype(int), atol=10, err_msg=photometric)
    dataset = pydicom.dcmread(io.BytesIO(_colour_file(colour, "RGB", 0)))
    dataset.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(read_radiograph(to_bytes(dataset)).pixels, image)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_that_carries_something_is_refused(image, photometric):
    colour = cv2.merge([image] * 3)
    colour[10:30, 10:60] = 200, 40, 40
    with pytest.raises(RefusedImage, match="received one with pixels in colour"):
        read_radiograph(_colour_file(colour, photometric, 0))


def _colour_file(rgb: np.ndarray, photometric: str, planar: int) -> bytes:
    pixels = rgb
    if photometric != "RGB":
        pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[:, :, [0, 2, 1]]
    data = np.moveaxis(pixels, 2, 0).tobytes() if planar else pixels.tobytes()
    if photometric == "YBR_FULL_422":
        pairs = pixels.reshape(len(pixels), -1, 6)
        data = pairs[:, :, [0, 3, 1, 2]].tobytes()
    return dicom_file(
        rgb[:, :, 0],
        PhotometricInterpretation=photometric, SamplesPerPixel=3, PlanarConfiguration=planar, PixelData=data,
        SOPClassUID=SecondaryCaptureImageStorage, Modality="OT",
    )  # fmt: skip


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_a_window_that_is_not_valid_is_left_out_and_the_record_says_so(image, width, tmp_path):
    data = dicom_file(image, WindowCenter=128, WindowWidth=width)
    radiograph = read_radiograph(data)
    np.testing.assert_array_equal(radiograph.pixels, read_radiograph(dicom_file(image)).pixels)
    note = f"window of width {width:g} left out, because it is not valid"
    assert radiograph.notes == (note,)
    assert load().predict(data).to_dict()["note"] == note


def test_a_window_that_leaves_nothing_of_the_pixels_is_named(image):
    pixels = image.astype(np.uint16) + 32_744
    with pytest.raises(RefusedImage) as caught:
        read_radiograph(dicom_file(pixels, 16, WindowCenter=2725, WindowWidth=5310))
    assert "whose window (centre 2725, width 5310) leaves nothing of its pixels (32744 to " in str(caught.value)


@pytest.mark.parametrize("text", CHEST)
def test_words_for_chest_in_the_languages_of_vendors(text):
    assert names_chest(text)


@pytest.mark.parametrize("text", OTHER)
def test_words_for_other_parts(text):
    assert not names_chest(text)


@pytest.mark.parametrize(
    ("text", "encoding", "charset"),
    [("TÓRAX", "latin-1", "ISO_IR 100"), ("TÓRAX", "utf-8", "ISO_IR 192"), ("TÓRAX", "utf-8", "ISO_IR 100"),
     ("TÓRAX", "latin-1", ""), ("Грудная клетка", "iso8859_5", "ISO_IR 144"), ("Грудная клетка", "cp1251", ""),
     ("胸部", "gb18030", "GB18030"), ("胸部", "iso2022_jp", "ISO 2022 IR 87"), ("胸部", "shift_jis", "ISO_IR 13"),
     ("흉부", "euc_kr", "ISO 2022 IR 149"), ("ΘΩΡΑΚΑΣ", "iso8859_7", "ISO_IR 126"),
     ("Göğüs", "iso8859_9", "ISO_IR 148")],
)  # fmt: skip
def test_a_body_part_in_the_character_sets_of_vendors(image, text, encoding, charset):
    value = text.encode(encoding)
    value += b" " * (len(value) % 2)
    element = b"\x18\x00\x15\x00CS" + struct.pack("<H", len(value)) + value
    data = dicom_file(image, BodyPartExamined=None, SpecificCharacterSet=charset)
    place = data.index(b"\x18\x00\x01\x51CS") if b"\x18\x00\x01\x51CS" in data else data.index(b"\x20\x00")
    assert bytes_name_chest(value, [charset])
    np.testing.assert_array_equal(read_radiograph(data[:place] + element + data[place:]).pixels, image)


def test_text_of_a_file_does_not_reach_a_message(image):
    part = b"\x1b]0;x\x07\nDoe"
    data = dicom_file(image).replace(b"CHEST ", part[:6])
    with pytest.raises(RefusedImage, match="body part unknown"):
        read_radiograph(data)


def test_a_cut_file_is_called_a_cut_file(image):
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
        data = dicom_file(image, syntax=syntax)
        for end in (140, 200, 300, 600, len(data) // 2, len(data) - 1):
            with pytest.raises(UnreadableImage, match="cut off"):
                read_radiograph(data[:end])


def test_zeros_after_the_last_element_are_allowed(image):
    np.testing.assert_array_equal(read_radiograph(dicom_file(image) + bytes(6)).pixels, image)
