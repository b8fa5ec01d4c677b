"""The header of a radiograph, as far as results copy it: patient, study, and what the image is."""

from pydicom.config import RAISE
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.dicom.header import VALUE_LIMITS
from pneumoscope.radiographs.dicom.reader import is_dicom, read_dataset
from pneumoscope.radiographs.files import MAX_BYTES

#: Groups of elements that are read: identification, patient, clinical trial, relations, image, study, procedure.
_GROUPS = (0x0008, 0x0010, 0x0012, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040)
#: Longest value in bytes, where :data:`~pneumoscope.radiographs.dicom.header.VALUE_LIMITS` gives none.
_MAX_VALUE = 16_384

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
        The data set, with an empty value for each element of type 2 that it lacks or whose value is not valid. Texts
        are UTF-8.

    Raises:
        UnreadableImage: not a DICOM file, damaged, or without the UIDs that a result must refer to.
    """
    if not is_dicom(data):
        raise UnreadableImage(
            "expected a DICOM file, to which a DICOM result can refer, received another image: send the DICOM file",
            code="unsupported_format",
        )
    source = _copy_valid(read_dataset(data, MAX_BYTES))
    missing = [keyword for keyword in _NEEDED if not source.get(keyword)]
    if missing:
        raise UnreadableImage(
            f"expected {' and '.join(missing)} in the header, to which a DICOM result must refer, the file has none "
            "that is valid: export it again",
            code="damaged",
        )
    for keyword in _TYPE_2:
        if keyword not in source:
            setattr(source, keyword, "")
    source.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, which has the letters of every name
    return source


def is_image(instance: Dataset) -> bool:
    """Whether an instance is an image, to which a report can refer: no report, presentation state or document.

    Args:
        instance: its header.
    """
    name = UID(instance.SOPClassUID).name
    if name == instance.SOPClassUID:  # a class that pydicom does not know, such as a private one
        return "Rows" in instance
    return "Image Storage" in name


def _copy_valid(dataset: Dataset) -> Dataset:
    """The elements that are read, without values that their own VRs do not allow, such as a hash in place of a date."""
    valid = Dataset()
    for tag in dataset.keys():  # noqa: SIM118  # a data set iterates over its values
        if tag.group in _GROUPS and not _is_long(dataset.get_item(tag)):
            try:
                element = dataset[tag]
                if _is_valid(element):
                    valid.add(element)
            except Exception:  # pydicom raises any type for a damaged value
                continue
    return valid


def _is_long(element: DataElement | RawDataElement | None) -> bool:
    value = element.value if isinstance(element, RawDataElement) else None
    return element is not None and value is not None and len(value) > VALUE_LIMITS.get(element.tag, _MAX_VALUE) >= 0


def _is_valid(element: DataElement) -> bool:
    if element.VR == "SQ":
        element.value = [_copy_valid(item) for item in element.value]
        return True
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            validate_value(element.VR, value, RAISE)
    except ValueError:
        return False
    return element.keyword != "PatientSex" or element.value in ("", "M", "F", "O")
