"""From bytes, a path or an address to a :class:`Radiograph`: one gray 8-bit image, or an error that says why not.

In: JPEG, PNG and DICOM files, folders, lists, addresses. Out: :class:`Radiograph`.
Read first: ``images.py``, which decides what is read and what is refused; then ``sources.py``, which finds the files.
DICOM has its own package, ``dicom/``.
"""

from pneumoscope.radiographs.images import MAX_BYTES, Radiograph, image_size, read_file, read_radiograph
from pneumoscope.radiographs.remote import is_address, stamp_address
from pneumoscope.radiographs.sources import NothingFound, expand

__all__ = [
    "MAX_BYTES",
    "NothingFound",
    "Radiograph",
    "expand",
    "image_size",
    "is_address",
    "read_file",
    "read_radiograph",
    "stamp_address",
]
