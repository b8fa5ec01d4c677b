"""Sizes are checked before decoding: in the header, in a compressed frame, in a deflated data set."""

import struct

import cv2
import numpy as np
import pytest
from builders.dicom_files import (
    compress_frame,
    dicom_file,
    dicom_with_frame,
    jp2_file,
    make_dataset,
    to_bytes,
    with_frame_size,
)
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from pneumoscope.errors import ImageTooLarge, RefusedImage, UnreadableImage
from pneumoscope.radiographs.dicom.reader import read_dicom
from pneumoscope.radiographs.images import MAX_PIXELS, read_radiograph

ENCODINGS = (JPEG2000Lossless, JPEGBaseline8Bit)


def test_too_many_pixels_in_the_header_are_refused(image):
    with pytest.raises(ImageTooLarge, match="the header announces 60000x60000"):
        read_radiograph(dicom_file(image, Rows=60000, Columns=60000))


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_a_frame_larger_than_its_header_is_refused_before_decoding(image, syntax):
    frame = with_frame_size(compress_frame(image, syntax), 60000, 60000)
    with pytest.raises(ImageTooLarge, match=r"the compressed frame announces 60000x60000 \(3600 megapixels\)"):
        read_radiograph(dicom_with_frame(frame, syntax, make_dataset(image)))


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize(("width", "height"), [(160, 121), (80, 240), (160, 0)])
def test_a_frame_whose_size_differs_from_the_header_is_refused(image, syntax, width, height):
    """Height 0 in a JPEG means that the height follows the scan (T.81, B.2.5)."""
    frame = with_frame_size(compress_frame(image, syntax), width, height)
    sentence = (
        f"expected a gray frame of 160x120 as in the header, received a compressed one of {width}x{height} with 1 ch"
    )
    with pytest.raises(UnreadableImage, match=sentence):
        read_radiograph(dicom_with_frame(frame, syntax, make_dataset(image)))


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_a_frame_in_colour_under_a_gray_header_is_refused(image, syntax):
    if syntax == JPEGBaseline8Bit:
        frame = compress_frame(cv2.merge([image] * 3), syntax)
    else:
        frame = bytearray(compress_frame(image, syntax))
        start = frame.find(b"\xff\x4f\xff\x51")
        frame[start + 40 : start + 42] = struct.pack(">H", 16384)
    with pytest.raises(UnreadableImage, match=r"with (3|16384) channels"):
        read_radiograph(dicom_with_frame(bytes(frame), syntax, make_dataset(image)))


def test_the_size_that_the_decoder_uses_is_checked(image):
    """The size of the header is in a comment. The size that decoders use is another one."""
    jpeg, stream = compress_frame(image, JPEGBaseline8Bit), compress_frame(image, JPEG2000Lossless)
    decoy = stream[:60]
    assert decoy.startswith(b"\xff\x4f\xff\x51")
    large = with_frame_size(jpeg, 60000, 60000)
    frames = {
        JPEGBaseline8Bit: large[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(decoy)) + decoy + large[2:],
        JPEG2000Lossless: jp2_file(with_frame_size(stream, 60000, 60000), (b"xml ", decoy)),
    }
    for syntax, frame in frames.items():
        with pytest.raises(ImageTooLarge, match="the compressed frame announces 60000x60000"):
            read_radiograph(dicom_with_frame(frame, syntax, make_dataset(image)))


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("change", [
    lambda frame: b"\0" + frame,
    lambda frame: frame[:2] + b"\0" + frame[2:],
    lambda frame: frame[:2] + b"\xff\xde" + struct.pack(">HBHHB", 8, 8, 60000, 60000, 1) + frame[2:],
    lambda frame: frame[:20],
    lambda frame: b"\0\0\0\x01jp2c" + frame[:30],
    lambda frame: bytes(100),
])  # fmt: skip
def test_a_frame_without_a_readable_size_is_refused(image, syntax, change, monkeypatch):
    monkeypatch.setattr("pneumoscope.radiographs.dicom.pixels.decode_frame", lambda *_: pytest.fail("decoded"))
    frame = change(compress_frame(image, syntax))
    with pytest.raises(UnreadableImage, match="whose picture has no readable size"):
        read_radiograph(dicom_with_frame(frame, syntax, make_dataset(image)))


def test_the_checked_frame_is_the_decoded_frame(image):
    """An extended offset table that points at the second of two frames."""
    frame = compress_frame(image, JPEG2000Lossless)
    frame += b"\0" * (len(frame) % 2)
    large = with_frame_size(frame, 60000, 60000)
    dataset = make_dataset(image)
    for first, second, error in ((frame, large, ImageTooLarge), (large, frame, None)):
        data = dicom_with_frame(frame, JPEG2000Lossless, dataset)
        dataset.PixelData = encapsulate([first, second], has_bot=False)
        dataset.ExtendedOffsetTable = struct.pack("<Q", len(first) + 8)
        dataset.ExtendedOffsetTableLengths = struct.pack("<Q", len(second))
        data = to_bytes(dataset)
        if error:
            with pytest.raises(error, match="the compressed frame announces 60000x60000"):
                read_radiograph(data)
        else:
            np.testing.assert_array_equal(read_radiograph(data).pixels, image)


def test_more_frames_than_the_header_says_are_refused(image):
    frame = compress_frame(image, JPEG2000Lossless)
    dataset = make_dataset(image)
    dicom_with_frame(frame, JPEG2000Lossless, dataset)
    dataset.PixelData = encapsulate([frame, frame])
    with pytest.raises(RefusedImage, match="more frames than its header says"):
        read_radiograph(to_bytes(dataset))


def test_a_deflate_bomb_is_refused(image):
    data = dicom_file(np.zeros((2000, 2000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    assert len(data) < 20_000
    with pytest.raises(ImageTooLarge, match="a DICOM data set of at most 1 MB"):
        read_dicom(data, MAX_PIXELS, 1_000_000)


@pytest.mark.parametrize("change", [
    lambda data: data[:140] + struct.pack("<I", 10) + data[144:],  # another group length
    lambda data: data[:132] + data[144:],  # no group length
    lambda data: data[:132] + b"\2\0\0\0UL\4\0" + struct.pack("<I", 2**32 - 1) + data[144:],
    lambda data: data[:132] + b"\2\0\x02\1OB\0\0" + struct.pack("<I", 5000) + bytes(5000) + data[132:],
])  # fmt: skip
def test_a_deflate_bomb_is_refused_whatever_the_meta_information_says(change):
    data = dicom_file(np.zeros((2000, 2000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(ImageTooLarge, match="a DICOM data set of at most 1 MB"):
        read_dicom(change(data), MAX_PIXELS, 1_000_000)
