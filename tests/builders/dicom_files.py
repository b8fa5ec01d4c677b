"""DICOM files made from pixels, in every encoding that pydicom can write."""

import io

import cv2
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)

#: The name of a patient; no message, log or result may hold it.
SECRET = "Doe^Jane^1957"


def dataset_of(pixels, bits=8, syntax=ExplicitVRLittleEndian, **elements) -> Dataset:
    """A computed radiograph that holds these stored values."""
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


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom(pixels, bits=8, syntax=ExplicitVRLittleEndian, **elements) -> bytes:
    return written(dataset_of(pixels, bits, syntax, **elements))


def compressed(frame: bytes, syntax, like: Dataset) -> bytes:
    """A file of one compressed frame, whatever it says, under the header of another."""
    like.file_meta.TransferSyntaxUID = syntax
    like.PixelData = encapsulate([frame])
    like["PixelData"].is_undefined_length = True
    return written(like)


def frame_of(picture, syntax) -> bytes:
    if syntax == JPEGBaseline8Bit:
        return cv2.imencode(".jpg", picture)[1].tobytes()
    dataset = dataset_of(picture)
    dataset.compress(syntax)
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
