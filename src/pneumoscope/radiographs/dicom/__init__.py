"""From the bytes of a DICOM file to the gray pixels that a workstation shows.

In: the bytes of a file. Out: (H, W) uint8.
Read first: ``reader.py``; it calls ``header.py`` (values), ``kind.py`` (what is refused) and ``pixels.py`` (gray levels).
"""

from pneumoscope.radiographs.dicom.reader import is_dicom, read_dicom

__all__ = ["is_dicom", "read_dicom"]
