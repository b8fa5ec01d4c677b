"""The tables of the page about a PACS, from the tables of the code: SOP classes, transfer syntaxes, codes, states."""

from pydicom.uid import UID

from pneumoscope.pacs import codes
from pneumoscope.pacs.destinations import RESULT_CLASSES, RESULT_SYNTAXES
from pneumoscope.pacs.identifiers import SERIES
from pneumoscope.pacs.receiver import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    STORAGE_CLASSES,
    SUCCESS,
)
from pneumoscope.radiographs.dicom.frames import TRANSFER_SYNTAXES

_STATUSES = (
    (
        SUCCESS,
        "the image is in the queue, on disk; or it was before; or it is a result of pneumoscope, which is not kept",
    ),
    (OUT_OF_RESOURCES, "the quota or the disk is full: send it again later"),
    (DOES_NOT_MATCH, "StudyInstanceUID or SeriesInstanceUID is missing, or SOPInstanceUID is not that of the request"),
    (CANNOT_UNDERSTAND, "the data set cannot be read"),
)


def services() -> list[str]:
    """SOP classes by role, with their transfer syntaxes."""
    lines = ["| SOP class | UID | role | transfer syntaxes |", "|---|---|---|---|"]
    rows = [("1.2.840.10008.1.1", "SCP", "implicit VR little-endian")]
    rows += [(uid, "SCP", "all of the next table") for uid in STORAGE_CLASSES]
    rows += [(str(uid), "SCU", ", ".join(UID(syntax).name for syntax in RESULT_SYNTAXES)) for uid in RESULT_CLASSES]
    lines += [f"| {UID(uid).name} | {uid} | {role} | {syntaxes} |" for uid, role, syntaxes in rows]
    lines += ["", "| transfer syntax of received images | UID |", "|---|---|"]
    return lines + [f"| {UID(uid).name} | {uid} |" for uid in TRANSFER_SYNTAXES]


def statuses() -> list[str]:
    """The answers to a C-STORE."""
    return ["| status | when |", "|---|---|", *(f"| {status:04X}H | {when} |" for status, when in _STATUSES)]


def concepts() -> list[str]:
    """The coded concepts of the reports."""
    found = [concept for name, concept in vars(codes).items() if name.isupper()]
    lines = [f"| {concept.meaning} | {concept.value} | {concept.scheme_designator} |" for concept in found]
    return ["| concept | code | scheme |", "|---|---|---|", *lines]


def series() -> list[str]:
    """The series of the results."""
    lines = [f"| {kind} | {number} | {description} |" for kind, (number, description) in SERIES.items()]
    return ["| modality | SeriesNumber | SeriesDescription |", "|---|---|---|", *lines]
