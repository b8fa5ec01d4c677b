"""What a caller gives as an image -> its name in results, and its content: encoded bytes, or pixels."""

import os
from typing import Any

import numpy as np

from pneumoscope.errors import ImageError
from pneumoscope.radiographs.dicom.reader import is_dicom, reference_of
from pneumoscope.radiographs.dicom.reference import NO_REFERENCE, InstanceReference
from pneumoscope.radiographs.files import MAX_BYTES, read_file
from pneumoscope.radiographs.images import ImageSource, Radiograph, array_name
from pneumoscope.radiographs.memory import file_object_name, is_file_object, is_pillow_image, read_file_object


def source_name(source: object, value_range: tuple[float, float] | None = None) -> str:
    """The path of a source as it was given; what it is, in angle brackets, if it came from memory."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    if isinstance(source, Radiograph):  # its pixels may differ from those that the file of this name is judged by
        return source.source if source.source.startswith("<") else f"<pixels of {source.source}>"
    if isinstance(source, np.ndarray):
        return array_name(value_range)
    if is_file_object(source):
        return file_object_name(source)
    return "<image>" if is_pillow_image(source) else f"<{type(source).__name__}>"


def read_content(source: ImageSource | ImageError) -> ImageSource:
    """The bytes of a path, an address or a file object; another source stays as it is.

    Raises:
        ImageError: the file cannot be read, or the source is itself an error.
    """
    if isinstance(source, ImageError):
        raise source
    if isinstance(source, (str, os.PathLike)):
        return read_file(source)
    if is_file_object(source):
        return read_file_object(source, MAX_BYTES + 1)
    return bytes(source) if isinstance(source, (bytearray, memoryview)) else source


def is_one_image(sources: Any) -> bool:
    """Whether the sources are one image, which could also be iterated: letter by letter, or row by row."""
    if isinstance(sources, np.ndarray):
        return sources.ndim < 3 or (sources.ndim == 3 and sources.shape[2] in (1, 3, 4))
    one = (str, bytes, bytearray, memoryview, os.PathLike, Radiograph)
    return isinstance(sources, one) or is_file_object(sources) or is_pillow_image(sources)


def content_reference(content: ImageSource) -> InstanceReference:
    """Study, series and instance of DICOM bytes, also of an image that is refused; empty for everything else."""
    if isinstance(content, bytes) and len(content) <= MAX_BYTES and is_dicom(content):
        return reference_of(content, MAX_BYTES)
    return NO_REFERENCE
