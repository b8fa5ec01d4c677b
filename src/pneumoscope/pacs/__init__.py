"""From predictions to DICOM objects that hospitals read, and the conversation with a PACS (extra ``pacs``).

In: a DICOM radiograph and its prediction, or associations of a PACS. Out: Structured Reports, Secondary Captures,
presentation states, as files or sent back.
Read first: ``structured_report.py`` for what is written, ``node.py`` for the conversation. ``source_image.py`` reads
what results copy from a radiograph, ``codes.py`` has the coded concepts, ``identifiers.py`` the new UIDs. A node is
``receiver.py`` (listens), ``queue.py`` (on disk), ``judging.py`` and ``sender.py``; ``notes.py`` is about what they
say.
"""

import importlib.util
from typing import TYPE_CHECKING

from pneumoscope.errors import MissingExtra
from pneumoscope.io.streams import silence_library
from pneumoscope.lazy_exports import lazy_exports

if TYPE_CHECKING:  # the same names for type checkers and editors, which do not run __getattr__
    from pneumoscope.pacs.burned_in_text import find_text_lines
    from pneumoscope.pacs.deidentification import Pseudonyms, deidentify
    from pneumoscope.pacs.destinations import check_web_address, parse_destination
    from pneumoscope.pacs.dicom_files import dicom_bytes, is_own_result_file, is_result_of, write_dicom
    from pneumoscope.pacs.node import DEFAULT_KINDS, Node
    from pneumoscope.pacs.presentation_state import make_presentation_state
    from pneumoscope.pacs.queue import STATES, Queue
    from pneumoscope.pacs.receiver import Limits, Peer
    from pneumoscope.pacs.results import CAPTURE, REPORT, STATE, make_results
    from pneumoscope.pacs.secondary_capture import make_secondary_capture
    from pneumoscope.pacs.source_image import read_source_image
    from pneumoscope.pacs.status import serve_status
    from pneumoscope.pacs.structured_report import make_structured_report
    from pneumoscope.pacs.tls import read_tls

for _package in ("pydicom", "highdicom", "pynetdicom", "dicomanonymizer"):
    if importlib.util.find_spec(_package) is None:
        raise MissingExtra("the connection to a PACS", "pacs", _package)

for _package in ("highdicom", "pydicom", "pynetdicom"):
    silence_library(_package)

# name -> module that defines it
_PUBLIC = {
    "CAPTURE": "results",
    "DEFAULT_KINDS": "node",
    "Limits": "receiver",
    "Node": "node",
    "Peer": "receiver",
    "Pseudonyms": "deidentification",
    "Queue": "queue",
    "REPORT": "results",
    "STATE": "results",
    "STATES": "queue",
    "check_web_address": "destinations",
    "deidentify": "deidentification",
    "dicom_bytes": "dicom_files",
    "find_text_lines": "burned_in_text",
    "is_own_result_file": "dicom_files",
    "is_result_of": "dicom_files",
    "make_presentation_state": "presentation_state",
    "make_results": "results",
    "make_secondary_capture": "secondary_capture",
    "make_structured_report": "structured_report",
    "parse_destination": "destinations",
    "read_source_image": "source_image",
    "read_tls": "tls",
    "serve_status": "status",
    "write_dicom": "dicom_files",
}

__all__ = [
    "CAPTURE",
    "DEFAULT_KINDS",
    "REPORT",
    "STATE",
    "STATES",
    "Limits",
    "Node",
    "Peer",
    "Pseudonyms",
    "Queue",
    "check_web_address",
    "deidentify",
    "dicom_bytes",
    "find_text_lines",
    "is_own_result_file",
    "is_result_of",
    "make_presentation_state",
    "make_results",
    "make_secondary_capture",
    "make_structured_report",
    "parse_destination",
    "read_source_image",
    "read_tls",
    "serve_status",
    "write_dicom",
]

__getattr__ = lazy_exports(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
