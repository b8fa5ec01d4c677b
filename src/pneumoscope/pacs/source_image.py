"""The header of a radiograph, as far as results copy it: patient, study, and what the image is."""

import io

import pydicom
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.dicom.reader import is_dicom

# Elements that must be present in every object, but may be empty (type 2). Where the source has none, the result has an
# empty one: nothing is invented.
_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def read_source_image(data: bytes) -> Dataset:
    """Read the header of a DICOM file, without its pixels.

    Args:
        data: the whole file.

    Returns:
        The data set, with an empty value for each element of type 2 that it lacks.

    Raises:
        UnreadableImage: not a DICOM file, damaged, or without the UIDs that a result must refer to.
    """
    if not is_dicom(data):
        raise UnreadableImage(
            "expected a DICOM file, to which a DICOM result can refer, received another image: send the DICOM file",
            code="unsupported_format",
        )
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
        for element in dataset:  # converts every value
            del element
        missing = [keyword for keyword in _NEEDED if not dataset.get(keyword)]
    except Exception:  # pydicom raises any type for a damaged value, and its message may contain patient data
        raise UnreadableImage(
            "expected valid values in the header, received a DICOM file where one cannot be read: export it again",
            code="damaged",
        ) from None
    if missing:
        raise UnreadableImage(
            f"expected {' and '.join(missing)} in the header, to which a DICOM result must refer, the file has none: "
            "export it again",
            code="damaged",
        )
    return _with_valid_values(dataset)


def _with_valid_values(dataset: Dataset) -> Dataset:
    """The data set without values that its own VRs do not allow, such as a hash in place of a date."""
    valid = Dataset()
    for element in dataset:
        if _is_valid(element):
            valid.add(element)
    valid.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, which has the letters of every name
    for keyword in _TYPE_2:
        if keyword not in valid:
            setattr(valid, keyword, "")
    return valid


def _is_valid(element: DataElement) -> bool:
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            validate_value(element.VR, value, RAISE)
    except ValueError:
        return False
    return element.keyword != "PatientSex" or element.value in ("", "M", "F", "O")
