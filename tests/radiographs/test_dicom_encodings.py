"""The same pixels from every transfer syntax."""

import cv2
import numpy as np
import pydicom
import pytest
from builders.dicom_files import dicom_file, dicom_with_frame, display, make_dataset, to_bytes
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.images import read_radiograph


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_uncompressed_encodings(image, syntax, dtype):
    window = {"WindowCenter": 128, "WindowWidth": 256} if dtype == np.uint16 else {}
    np.testing.assert_array_equal(display(dicom_file(image.astype(dtype), 8, syntax, **window)), image)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 12])
def test_lossless_compression(image, syntax, bits):
    dataset = make_dataset(image if bits == 8 else image.astype(np.uint16) << 4, bits)
    expected = display(to_bytes(dataset))
    dataset.compress(syntax)
    np.testing.assert_array_equal(display(to_bytes(dataset)), expected)


def test_jpeg_compression(image):
    frame = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    gray = display(dicom_with_frame(frame, JPEGBaseline8Bit, make_dataset(image)))
    np.testing.assert_allclose(gray, cv2.imdecode(np.frombuffer(frame, np.uint8), 0), atol=1)


def test_real_files_look_the_same_in_every_encoding():
    """WG-04 samples from pydicom-data: a chest of 15 bits, and a leg whose header is changed to CHEST."""
    plain = display(file_bytes("RG1_UNCR.dcm"))
    assert plain.shape == (1955, 1841)
    spine, lung = plain[500:700, 900:1000], plain[500:700, 500:600]
    assert spine.mean() > lung.mean() + 50  # bone is white
    np.testing.assert_array_equal(display(file_bytes("RG1_J2KR.dcm")), plain)
    lossy = [display(file_bytes(f"RG1_{kind}.dcm")) for kind in ("UNCI", "J2KI")]
    np.testing.assert_allclose(lossy[0], lossy[1], atol=1)  # two decoders round differently
    np.testing.assert_allclose(lossy[0], plain, atol=8)
    legs = [display(file_bytes(f"RG3_{kind}.dcm", BodyPartExamined="CHEST")) for kind in ("UNCR", "J2KR")]
    np.testing.assert_array_equal(legs[0], legs[1])


@pytest.mark.parametrize(
    ("name", "bits"),
    [("JPEGLSNearLossless_08.dcm", 8), ("JPEGLSNearLossless_16.dcm", 16), ("JPEG-LL.dcm", 16),
     ("JPGExtended.dcm", 16), ("JPEG2000.dcm", 16)],
)  # fmt: skip
def test_other_compressions_are_decoded(name, bits):
    """Real files in encodings that no encoder here writes. Their headers are changed to chest radiographs."""
    change = {"Modality": "CR", "BodyPartExamined": "CHEST", "NumberOfFrames": 1}
    dataset = pydicom.dcmread(get_testdata_file(name))
    assert dataset.BitsAllocated == bits
    gray = display(file_bytes(name, **change))
    assert gray.shape == (dataset.Rows, dataset.Columns)
    assert gray.std() > 5


def file_bytes(name: str, **elements: object) -> bytes:
    """A file of pydicom-data with other values in its header."""
    path = get_testdata_file(name)
    assert path, name
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return to_bytes(dataset)


def test_an_unsupported_encoding_is_named(image):
    dataset = make_dataset(image)
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # MPEG2
    dataset.PixelData = encapsulate([bytes(100)])
    with pytest.raises(UnreadableImage, match=r"expected an encoding that can be decoded, .* \(MPEG2 "):
        read_radiograph(to_bytes(dataset))
