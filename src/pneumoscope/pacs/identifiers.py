"""What identifies a result: its UIDs, its series, and the program and model that made it.

The same image, model and settings always give the same UIDs, so no result exists twice.
"""

import uuid
from typing import TYPE_CHECKING, Any

from pneumoscope import __version__
from pneumoscope.inference.prediction import Prediction

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MANUFACTURER = "pneumoscope project"

#: Kind of result -> SeriesNumber and SeriesDescription. Numbers of series need not be unique; high ones come after the
#: images.
SERIES = {
    "SR": (9801, "pneumoscope findings, research use only"),
    "SC": (9802, "pneumoscope evidence map, research use only"),
    "PR": (9803, "pneumoscope outlines, research use only"),
}

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pneumoscope.invalid/dicom-results")

# What this program calls itself in the file meta information (PS3.10, section 7.1).
IMPLEMENTATION_VERSION_NAME = f"PNEUMOSCOPE_{__version__}"[:16]


def make_uid(*parts: object) -> str:
    """A UID from what identifies a thing: 2.25 and a name-based UUID (PS3.5, section B.2; RFC 9562, version 5).

    >>> make_uid("report", "1.2.3") == make_uid("report", "1.2.3")
    True
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(map(str, parts))).int}"


IMPLEMENTATION_CLASS_UID = make_uid("implementation class")


def identify_result(kind: str, source: "Dataset", prediction: Prediction) -> dict[str, Any]:
    """The arguments by which highdicom's classes take the UIDs, the series and the equipment of a result.

    The UIDs depend on the radiograph, the model, its operating point and prevalence, and this version.

    Args:
        kind: of the result, a key of :data:`SERIES`. All results of one kind in a study are one series.
        source: header of the radiograph.
        prediction: what the result says.
    """
    number, description = SERIES[kind]
    return {
        "series_instance_uid": make_uid("series", source.StudyInstanceUID, *_made_by(kind, prediction)),
        "sop_instance_uid": result_instance_uid(kind, source.SOPInstanceUID, prediction),
        "series_number": number,
        "series_description": description,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": prediction.model,
        "software_versions": __version__,
        "device_serial_number": prediction.model_sha256,
    }


def result_instance_uid(kind: str, sop_instance_uid: str, prediction: Prediction) -> str:
    """SOPInstanceUID of a result.

    Args:
        kind: of the result, a key of :data:`SERIES`.
        sop_instance_uid: of the radiograph.
        prediction: what the result says.
    """
    return make_uid("instance", sop_instance_uid, *_made_by(kind, prediction))


def _made_by(kind: str, prediction: Prediction) -> tuple[object, ...]:
    return kind, prediction.model_sha256, prediction.threshold, prediction.prevalence, __version__
