"""Refuses DICOM files whose header says that the patient is not one that the models were trained for.

The models are trained on radiographs of children of one to five years. On adults they are known to be wrong.
"""

import datetime
import re

from pneumoscope.errors import RefusedImage
from pneumoscope.radiographs.dicom.header import Header

#: Age in whole years of the children in the training images (Kermany et al. 2018).
YOUNGEST, OLDEST = 1, 5
#: A date of birth up to this one is no date of birth, but stands for one that is not known.
PLACEHOLDER = datetime.date(1900, 1, 1)

#: Units of PatientAge in days (PS3.5, table 6.2-1, AS). Some files give a number alone: years.
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
_HUMAN_CODES = ("337915000", "L-85B00")  # SNOMED CT and SNOMED RT (PS3.16, CID 7454)


def check_patient(header: Header, any_age: bool) -> None:
    """Refuse an animal, and a patient whose age is known and outside the range.

    Args:
        header: of the file.
        any_age: judge patients of any age.

    Raises:
        RefusedImage: with the reason.
    """
    species, (code, meaning) = header.patient_species
    names = [name for name in (species, meaning) if name]
    is_human = code in _HUMAN_CODES or any(name.startswith(("HOMO SAPIENS", "HUMAN")) for name in names)
    if not is_human and (names or code or header.patient_breed):
        raise RefusedImage(
            "expected a radiograph of a child, received a DICOM file that gives an animal as the patient: send one of "
            "a child",
            code="not_human",
        )
    outside = [age for age in ages_in_years(header) if not YOUNGEST <= age <= OLDEST]
    if outside and not any_age:
        age = outside[0]
        raise RefusedImage(
            f"expected a patient of {YOUNGEST} to {OLDEST} years, as in the training images, received a DICOM file of "
            f"a patient of {age} years: the result would not be reliable; judge it anyway with --any-age "
            "(in Python any_age=True)",
            code="age",
        )


def ages_in_years(header: Header) -> list[int]:
    """Whole years by PatientAge, and by the dates of birth and of the image; without what the header does not say.

    Where they contradict each other, nobody knows which is right.
    """
    ages = []
    if match := re.fullmatch(r"(\d{1,3})([DWMY]?)", header.patient_age):
        ages.append(int(int(match[1]) * _DAYS[match[2] or "Y"] / 365.25 + 1e-6))
    born, taken = _date(header.patient_birth_date), _date(header.image_date)
    if born is not None and taken is not None and PLACEHOLDER < born <= taken:
        ages.append(taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day)))
    return ages


def _date(text: str) -> datetime.date | None:
    """A date of the form YYYYMMDD, or YYYY.MM.DD as in older files."""
    digits = text.replace(".", "")
    try:
        return datetime.datetime.strptime(digits, "%Y%m%d").date() if len(digits) == 8 else None
    except ValueError:
        return None
