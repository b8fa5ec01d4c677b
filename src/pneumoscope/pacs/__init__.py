"""From predictions to DICOM objects that hospitals read, and the conversation with a PACS (extra ``pacs``).

In: a DICOM radiograph and its prediction. Out: a Structured Report, a Secondary Capture, a presentation state.
Read first: ``structured_report.py``. ``source_image.py`` reads what the objects copy from the radiograph, ``codes.py``
has the coded concepts, ``identifiers.py`` the new UIDs.
"""

import logging
import warnings

from pneumoscope.errors import MissingExtra

try:
    import highdicom  # noqa: F401
except ImportError as error:
    raise MissingExtra("writing DICOM", "pacs", error.name or "highdicom") from None

from pneumoscope.pacs.dicom_files import dicom_bytes, is_result_of, write_dicom
from pneumoscope.pacs.presentation_state import make_presentation_state
from pneumoscope.pacs.results import CAPTURE, REPORT, STATE, make_results
from pneumoscope.pacs.secondary_capture import make_secondary_capture
from pneumoscope.pacs.source_image import read_source_image
from pneumoscope.pacs.structured_report import make_structured_report

__all__ = [
    "CAPTURE",
    "REPORT",
    "STATE",
    "dicom_bytes",
    "is_result_of",
    "make_presentation_state",
    "make_results",
    "make_secondary_capture",
    "make_structured_report",
    "read_source_image",
    "write_dicom",
]

# Their warnings quote the names of patients.
warnings.filterwarnings("ignore", module="highdicom")
logging.getLogger("highdicom").setLevel(logging.CRITICAL)
