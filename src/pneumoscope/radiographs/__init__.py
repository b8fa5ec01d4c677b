"""From bytes, a path or an address to a :class:`Radiograph`: one gray 8-bit image.

In: JPEG, PNG and DICOM files, folders, lists, addresses. Out: :class:`Radiograph`, or an error that says why not.
Read first: ``images.py``, which decides what is read and what is refused; then ``sources.py``, which finds the files.
``containers.py`` checks PNG and JPEG files before decoding, ``dicom/`` reads DICOM, ``remote.py`` opens addresses,
``memory.py`` takes what a Python program holds, ``contents.py`` says what any source is.
"""

from pneumoscope.radiographs.containers import image_size
from pneumoscope.radiographs.contents import is_one_image, read_content, source_name
from pneumoscope.radiographs.images import MAX_BYTES, ImageSource, Radiograph, read_file, read_radiograph
from pneumoscope.radiographs.remote import is_address, stamp_address
from pneumoscope.radiographs.sources import NothingFound, Source, expand

__all__ = [
    "MAX_BYTES",
    "ImageSource",
    "NothingFound",
    "Radiograph",
    "Source",
    "expand",
    "image_size",
    "is_address",
    "is_one_image",
    "read_content",
    "read_file",
    "read_radiograph",
    "source_name",
    "stamp_address",
]
