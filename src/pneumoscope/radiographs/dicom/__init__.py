"""From the bytes of a DICOM file to the gray pixels that a workstation displays.

In: the bytes of a file. Out: (H, W) uint8, or an error that says why the file is refused.
Read first: ``reader.py``. It calls ``header.py`` (elements as plain values), ``kind.py`` (which files are refused) and
``pixels.py`` (gray levels).
"""

from pneumoscope.radiographs.dicom.reader import is_dicom, read_dataset, read_dicom, reference_of
from pneumoscope.radiographs.dicom.reference import InstanceReference

__all__ = ["InstanceReference", "is_dicom", "read_dataset", "read_dicom", "reference_of"]
