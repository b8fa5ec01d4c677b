"""From bytes, a path or an address to a :class:`Radiograph`: one gray 8-bit image.

In: JPEG, PNG and DICOM files, folders, lists, addresses. Out: :class:`Radiograph`, or an error that says why not.
Read first: ``images.py``, which decides what is read and what is refused; then ``sources.py``, which finds the files.
``containers.py`` checks PNG and JPEG files before decoding, ``dicom/`` reads DICOM, ``remote.py`` opens addresses,
``memory.py`` takes what a Python program holds, ``contents.py`` says what any source is.
"""

from pneumoscope.radiographs.compression import describe_compression
from pneumoscope.radiographs.containers import image_size, is_jpeg
from pneumoscope.radiographs.contents import content_reference, is_one_image, read_content, source_name
from pneumoscope.radiographs.dicom.frames import TRANSFER_SYNTAXES
from pneumoscope.radiographs.dicom.header import VALUE_LIMITS
from pneumoscope.radiographs.dicom.reader import is_dicom, read_dataset
from pneumoscope.radiographs.dicom.reference import NO_REFERENCE, InstanceReference, is_uid, read_reference
from pneumoscope.radiographs.files import MAX_BYTES, read_file
from pneumoscope.radiographs.folders import find_images, in_order, is_litter, join_counts
from pneumoscope.radiographs.images import ImageSource, Radiograph, read_radiograph
from pneumoscope.radiographs.remote import is_address, stamp_address
from pneumoscope.radiographs.sources import NothingFound, Source, expand, stem_of
from pneumoscope.radiographs.tables import PATH_COLUMNS, Table, describe_columns, find_column, read_table, simplify
from pneumoscope.radiographs.zip_files import (
    DAMAGE,
    MAX_TOTAL,
    is_member_address,
    member_problem,
    open_zip,
    read_member,
    split_address,
)

__all__ = [
    "DAMAGE",
    "MAX_BYTES",
    "MAX_TOTAL",
    "NO_REFERENCE",
    "PATH_COLUMNS",
    "TRANSFER_SYNTAXES",
    "VALUE_LIMITS",
    "ImageSource",
    "InstanceReference",
    "NothingFound",
    "Radiograph",
    "Source",
    "Table",
    "content_reference",
    "describe_columns",
    "describe_compression",
    "expand",
    "find_column",
    "find_images",
    "image_size",
    "in_order",
    "is_address",
    "is_dicom",
    "is_jpeg",
    "is_litter",
    "is_member_address",
    "is_one_image",
    "is_uid",
    "join_counts",
    "member_problem",
    "open_zip",
    "read_content",
    "read_dataset",
    "read_file",
    "read_member",
    "read_radiograph",
    "read_reference",
    "read_table",
    "simplify",
    "source_name",
    "split_address",
    "stamp_address",
    "stem_of",
]
