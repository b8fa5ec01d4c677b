"""DICOM results as files."""

import io
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from pneumoscope.errors import PneumoscopeError
from pneumoscope.inference.prediction import Prediction
from pneumoscope.io.atomic import write_atomic
from pneumoscope.pacs.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, result_instance_uid


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
