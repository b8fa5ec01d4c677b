"""DICOM results as files."""

import io
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import UID

from pneumoscope.errors import PneumoscopeError
from pneumoscope.inference.prediction import Prediction
from pneumoscope.io.atomic import write_atomic
from pneumoscope.pacs.identifiers import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MANUFACTURER,
    result_instance_uid,
)

_MANUFACTURER_TAG = Tag("Manufacturer")


def dicom_bytes(dataset: Dataset) -> bytes:
    """The file of a result, whose file meta information says that this program wrote it."""
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return encode_file(dataset)


def encode_file(dataset: Dataset) -> bytes:
    """The file of a data set with its file meta information as it is (PS3.10)."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def refer_to(instance: Dataset) -> Dataset:
    """A reference to an instance: SOP Instance Reference Macro (PS3.3, table 10-11)."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.SOPClassUID
    reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return reference


def write_dicom(dataset: Dataset, path: Path) -> None:
    """Write a result; a reader sees the whole file or none.

    Raises:
        PneumoscopeError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, dicom_bytes(dataset))
    except OSError as error:
        raise PneumoscopeError(f"expected to write the DICOM result {path}: {error.strerror}") from None


def is_own_result(dataset: Dataset) -> bool:
    """Whether this program made a DICOM object, by its Manufacturer.

    The file meta information would not do: an archive replaces it, and images that this program has de-identified have
    the same.
    """
    return bool(dataset.get("Manufacturer") == MANUFACTURER)


def is_own_result_file(file: BinaryIO) -> bool:
    """The same of an open file, of which only the beginning is read."""
    try:
        return is_own_result(read_partial(file, stop_when=lambda tag, vr, length: tag > _MANUFACTURER_TAG))
    except Exception:  # no DICOM file, or a damaged one: pydicom raises any type
        return False


def is_result_of(path: Path, kind: str, prediction: Prediction) -> bool:
    """Whether a file is the result of this kind for this prediction, by its SOPInstanceUID.

    Args:
        path: of the file, which may not exist.
        kind: see :data:`pneumoscope.pacs.identifiers.SERIES`.
        prediction: of a DICOM image.
    """
    expected = result_instance_uid(kind, prediction.sop_instance_uid, prediction).encode()
    try:
        with path.open("rb") as file:
            return expected in file.read(1024)  # MediaStorageSOPInstanceUID, in the file meta information
    except OSError:
        return False
