"""DICOM file -> the same image without what names the patient, for research.

The Basic Application Level Confidentiality Profile of the standard (PS3.15, annex E), from the table in
`dicom-anonymizer <https://github.com/KitwareMedical/dicom-anonymizer>`_. Its rules are applied inside sequences, too.
Patients and UIDs get pseudonyms made with a secret key: the same key gives the same ones, so that the images of a
patient stay together, and nobody without the key can compute them. The pixels are not changed.
"""

import copy
import hmac
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, replace
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from pneumoscope.errors import UnreadableImage, UsageError
from pneumoscope.io.names import printable
from pneumoscope.radiographs.dicom.reader import is_dicom, read_dataset
from pneumoscope.radiographs.files import MAX_BYTES

#: Edition of PS3.15 whose table is used.
EDITION = "2026c"
#: Shortest key, in characters.
MIN_KEY = 16
#: What the Retain Patient Characteristics Option keeps (PS3.15, table E.1-1), as far as radiographs have it.
CHARACTERISTICS = ("PatientAge", "PatientSex", "PatientSize", "PatientWeight")

#: What stands where a date must have a value, such as SeriesDate. The library writes the year 1, which is valid by the
#: letter of the standard, but validators report it as an error and calendars of other programs do not have it. Nobody
#: takes an image of 1900 for a real one, and no age follows from it: PatientBirthDate is empty.
DUMMY_DATE = "19000101"

_LIBRARY_DATE = "00010101"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_Action = Callable[[Dataset, tuple[int, int]], None]


@dataclass(frozen=True)
class Pseudonyms:
    """Names in place of those in the files.

    Attributes:
        key: the secret; a new one, which nobody keeps, by default.

    Raises:
        UsageError: a key that is too short.
    """

    key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < MIN_KEY:
            raise UsageError(f"expected a key of at least {MIN_KEY} characters, received {len(self.key)}")

    def patient(self, patient_id: str, patient_name: str) -> str:
        """A pseudonym of 16 characters, from PatientID, or from PatientName where there is no ID."""
        return f"P{self._digest('patient', patient_id or patient_name)[:15].upper()}"

    def uid(self, uid: str) -> str:
        """A UID in place of another one (PS3.5, section B.2)."""
        return f"2.25.{uuid.UUID(hex=self._digest('uid', uid)[:32]).int}"

    def _digest(self, kind: str, value: str) -> str:
        return hmac.new(self.key.encode(), f"{kind}\0{value.strip()}".encode(), "sha256").hexdigest()


def deidentify(data: bytes, pseudonyms: Pseudonyms, keep_characteristics: bool = False) -> Dataset:
    """Remove what names the patient, by the Basic Profile.

    Args:
        data: the whole file.
        pseudonyms: with the key of the project.
        keep_characteristics: keep age, sex, size and weight (Retain Patient Characteristics Option).

    Returns:
        The data set, ready to be written, with PatientIdentityRemoved and the codes of the method.

    Raises:
        UnreadableImage: not a DICOM file, a damaged one, or one without pixels, such as a report: free text cannot be
            cleaned, and in a report the coded content says what it is about.
    """
    if not is_dicom(data):
        raise UnreadableImage(
            "expected a DICOM file, received another one: nothing is known of what it may contain",
            code="unsupported_format",
        )
    dataset = read_dataset(data, MAX_BYTES)
    _check_content(dataset)
    try:
        name = pseudonyms.patient(str(dataset.get("PatientID", "")), str(dataset.get("PatientName", "")))
        names = CHARACTERISTICS if keep_characteristics else ()
        kept = [copy.copy(dataset[keyword]) for keyword in names if keyword in dataset]
        _apply_rules(dataset, _make_rules(pseudonyms))
        _replace_dummy_dates(dataset)
        for element in kept:
            dataset.add(element)
        dataset.PatientID = dataset.PatientName = name
        _describe_method(dataset, keep_characteristics)
        dataset.file_meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    except Exception:  # pydicom raises any type for a damaged value, and its message may contain patient data
        raise UnreadableImage(
            "expected valid values in the header, received a DICOM file where one cannot be read: export it again",
            code="damaged",
        ) from None
    return dataset


def _check_content(dataset: Dataset) -> None:
    missing = [keyword for keyword in ("SOPClassUID", "SOPInstanceUID") if not str(dataset.get(keyword) or "").strip()]
    if missing:
        raise UnreadableImage(
            f"expected {' and '.join(missing)} in the header, without which a DICOM file is not valid, found none: "
            "export it again",
            code="damaged",
        )
    if not any(keyword in dataset for keyword in _PIXELS):
        raise UnreadableImage(
            "expected an image, received a DICOM file without pixels "
            f"({printable(UID(dataset.SOPClassUID).name)}), such as a report, whose texts cannot be cleaned",
            code="no_pixels",
        )


def _replace_dummy_dates(dataset: Dataset) -> None:
    """The same dummies everywhere, in place of those of the library: see :data:`DUMMY_DATE`."""
    for element in dataset.iterall():
        if element.VR in ("DA", "DT") and isinstance(element.value, str) and element.value.startswith(_LIBRARY_DATE):
            element.value = DUMMY_DATE if element.VR == "DA" else f"{DUMMY_DATE}000000"


def _apply_rules(dataset: Dataset, rules: dict[tuple[int, ...], _Action]) -> None:
    anonymize_dataset(dataset, base_rules_gen=lambda: rules)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _apply_rules(item, rules)


def _make_rules(pseudonyms: Pseudonyms) -> dict[tuple[int, ...], _Action]:
    """What is done with each tag of the table: X remove, Z empty, U another UID, D another value.

    Sequences of references (X/Z/U*) are removed: the images that they refer to may not be part of the project.
    """

    def replace_uid(dataset: Dataset, tag: tuple[int, int]) -> None:
        if tag in dataset:
            value = dataset[tag].value
            several = [pseudonyms.uid(str(each)) for each in value] if isinstance(value, list) else None
            dataset[tag].value = several or (pseudonyms.uid(str(value)) if value else "")

    table = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    actions: dict[str, _Action] = {
        "X_TAGS": _remove, "X_Z_TAGS": _empty, "Z_TAGS": _empty, "U_TAGS": replace_uid, "X_Z_U_STAR_TAGS": _remove,
        "D_TAGS": replace, "Z_D_TAGS": replace, "X_D_TAGS": replace, "X_Z_D_TAGS": replace,
    }  # fmt: skip
    return {tag: action for name, action in actions.items() for tag in table[name]}


def _remove(dataset: Dataset, tag: tuple[int, int]) -> None:
    if tag in dataset:
        del dataset[tag]


def _empty(dataset: Dataset, tag: tuple[int, int]) -> None:
    if tag in dataset:
        dataset[tag].value = [] if dataset[tag].VR == "SQ" else None


def _describe_method(dataset: Dataset, keep_characteristics: bool) -> None:
    """What was done, as the profile asks (PS3.15, section E.1.1)."""
    used = [codes.DCM.BasicApplicationConfidentialityProfile]
    if keep_characteristics:
        used.append(codes.DCM.RetainPatientCharacteristicsOption)
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.DeidentificationMethod = [f"pneumoscope, PS3.15 {EDITION}"]
    dataset.DeidentificationMethodCodeSequence = [CodedConcept.from_code(code) for code in used]
