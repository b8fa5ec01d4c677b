"""DICOM files made from pixels, in every transfer syntax that pydicom can write.

``make_dataset`` -> (change it) -> ``to_bytes``; ``dicom_file`` does both. ``display`` reads bytes back.
"""

import io
import struct
from collections.abc import Sequence

import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)

from pneumoscope.radiographs.dicom import read_dicom
from pneumoscope.radiographs.files import MAX_BYTES
from pneumoscope.radiographs.images import MAX_PIXELS

#: Stands for the name of a patient. No message, log or result may contain it.
SECRET = "Doe^Jane^1957"

#: What the radiographs of a hospital have beside the elements of :func:`make_dataset`.
ELEMENTS_OF_STUDY = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1", "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.2",
    "StudyDate": "20240131", "StudyTime": "101500", "StudyID": "S1", "AccessionNumber": "A-77",
    "PatientBirthDate": "20210101", "PatientSex": "F", "ReferringPhysicianName": "Grey^Ann",
    "PatientOrientation": ["L", "F"],
}  # fmt: skip


def make_dataset(
    pixels: np.ndarray, bits: int = 8, syntax: UID = ExplicitVRLittleEndian, **elements: object
) -> Dataset:
    """A computed radiograph.

    Args:
        pixels: (Rows, Columns) stored values.
        bits: BitsStored.
        syntax: transfer syntax.
        elements: values by keyword; None removes the element.
    """
    signed = pixels.dtype.kind == "i"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", ComputedRadiographyImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = SECRET, SECRET
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "AP"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    """The file of a data set."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom_file(pixels: np.ndarray, bits: int = 8, syntax: UID = ExplicitVRLittleEndian, **elements: object) -> bytes:
    """The file of :func:`make_dataset`."""
    return to_bytes(make_dataset(pixels, bits, syntax, **elements))


def dicom_with_frame(frame: bytes, syntax: UID, dataset: Dataset) -> bytes:
    """A file of one compressed frame and the header of ``dataset``, whether they agree or not."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return to_bytes(dataset)


def compress_frame(image: np.ndarray, syntax: UID) -> bytes:
    """The compressed frame of an image: (H, W) uint8, or (H, W, 3) for JPEG."""
    if syntax == JPEGBaseline8Bit:
        return cv2.imencode(".jpg", image)[1].tobytes()
    dataset = make_dataset(image)
    dataset.compress(syntax)
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


def with_frame_size(frame: bytes, width: int, height: int) -> bytes:
    """A JPEG or JPEG 2000 frame with another size in its header."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start >= 0:
        return frame[: start + 8] + struct.pack(">II", width, height) + frame[start + 16 :]
    start = frame.find(b"\xff\xc0")
    return frame[: start + 5] + struct.pack(">HH", height, width) + frame[start + 9 :]


def jp2_file(codestream: bytes, *boxes: tuple[bytes, bytes]) -> bytes:
    """A minimal JP2 file: a signature, these boxes as (type, content), and the code stream."""
    boxes = ((b"jP  ", b"\r\n\x87\n"), *boxes, (b"jp2c", codestream))
    return b"".join(struct.pack(">I4s", 8 + len(content), kind) + content for kind, content in boxes)


def lut_item(
    entries: Sequence[int] | bytes, first: int, bits: int, vr: str = "US", count: int | None = None
) -> Dataset:
    """An item of ModalityLUTSequence or VOILUTSequence.

    Args:
        entries: numbers, or the bytes of 16-bit words.
        first: first stored value mapped.
        bits: of an entry.
        vr: value representation of LUTDescriptor: US or SS.
        count: entries according to LUTDescriptor; their true number by default.
    """
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries) % 65536 if count is None else count, first, bits])
    item.ModalityLUTType = "US"
    if isinstance(entries, bytes):
        item.add_new("LUTData", "OW", entries)
    else:
        item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def code_sequence(value: str, meaning: str) -> list[Dataset]:
    """A sequence of one SNOMED CT code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return [item]


def without_part_and_view(**elements: object) -> dict[str, object]:
    """Elements of a header whose body part and view are given by these elements only."""
    return {"BodyPartExamined": None, "ViewPosition": None, **elements}


def display(data: bytes) -> np.ndarray:
    """(H, W) uint8 as displayed, without the checks on size and contrast that ``read_radiograph`` adds."""
    return read_dicom(data, MAX_PIXELS, MAX_BYTES, any_age=True).pixels
