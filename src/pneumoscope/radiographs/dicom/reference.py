"""Which study, series and instance a DICOM file is, so that a result can be put beside its image."""

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # pydicom is an optional package
    from pydicom.dataset import Dataset

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class InstanceReference(NamedTuple):
    """The identifiers of one DICOM instance; each is empty where the file does not give it. None names a patient.

    Attributes:
        study_instance_uid: StudyInstanceUID.
        series_instance_uid: SeriesInstanceUID.
        sop_instance_uid: SOPInstanceUID.
        accession_number: AccessionNumber, the order's number in the hospital's information system.
    """

    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    accession_number: str = ""


#: Of an image that is no DICOM file.
NO_REFERENCE = InstanceReference()


def read_reference(dataset: "Dataset") -> InstanceReference:
    """The identifiers in a data set. A value that is no UID (PS3.5, chapter 9) may be any text, and is left out."""
    number = _text(dataset, "AccessionNumber")
    return InstanceReference(
        _uid(dataset, "StudyInstanceUID"),
        _uid(dataset, "SeriesInstanceUID"),
        _uid(dataset, "SOPInstanceUID"),
        number if len(number) <= 16 and number.isprintable() else "",  # SH (PS3.5, table 6.2-1)
    )


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5, chapter 9).

    >>> is_uid("1.2.840.10008"), is_uid("CHEST")
    (True, False)
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def _uid(dataset: "Dataset", keyword: str) -> str:
    text = _text(dataset, keyword)
    return text if is_uid(text) else ""


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    return value.strip("\0 ") if isinstance(value, str) else ""  # a list where a file gives several values
