"""From bytes, a path or an address to a :class:`Radiograph`: one gray 8-bit image.

In: JPEG, PNG and DICOM files, folders, lists, addresses. Out: :class:`Radiograph`, or an error that says why not.
Read first: ``images.py``, which decides what is read and what is refused; then ``sources.py``, which finds the files.
``containers.py`` checks PNG and JPEG files before decoding, ``dicom/`` reads DICOM, ``remote.py`` opens addresses.
"""

from pneumoscope.radiographs.containers import image_size
from pneumoscope.radiographs.images import MAX_BYTES, Radiograph, read_file, read_radiograph
from pneumoscope.radiographs.remote import is_address, stamp_address
from pneumoscope.radiographs.sources import NothingFound, Source, expand

__all__ = [
    "MAX_BYTES",
    "NothingFound",
    "Radiograph",
    "Source",
    "expand",
    "image_size",
    "is_address",
    "read_file",
    "read_radiograph",
    "stamp_address",
]
