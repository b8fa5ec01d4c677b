"""What the file names of the Kermany and NIH ChestX-ray14 collections say: the patient and the kind of pneumonia."""

import re
from pathlib import Path

from pneumoscope.labels import BACTERIAL, VIRAL

_PATIENT = re.compile(r"^(?P<patient>person\d+|(?:NORMAL2-)?IM-\d+|000\d{5}(?=_\d{3}\.))[_-]")
_SUBLABEL = re.compile(r"^person\d+_(?P<sublabel>bacteria|virus)_")


def patient_of(name: str) -> str:
    """Patient of a Kermany or NIH ChestX-ray14 file name. A file with another name counts as a patient of its own.

    >>> patient_of("person447_virus_921_1.jpeg"), patient_of("NORMAL2-IM-0793-0001.jpeg")
    ('person447', 'NORMAL2-IM-0793')
    >>> patient_of("00001299_000.png")  # patient and follow-up number
    '00001299'
    """
    return known_patient(name) or Path(name).stem


def known_patient(name: str) -> str | None:
    """Patient of a Kermany or NIH ChestX-ray14 file name; None for another name.

    >>> known_patient("IM-0115-0001.jpeg"), known_patient("1.jpeg")
    ('IM-0115', None)
    """
    match = _PATIENT.match(name)
    return match["patient"] if match else None


def sublabel_of(name: str) -> str:
    """Bacterial or viral, from a Kermany file name; ``""`` if the name does not say.

    >>> sublabel_of("person447_virus_921_1.jpeg")
    'viral'
    """
    match = _SUBLABEL.match(name)
    return {"bacteria": BACTERIAL, "virus": VIRAL}[match["sublabel"]] if match else ""
