"""How the pixels of an image file are compressed, from its bytes, without decoding them."""

from typing import NamedTuple

import numpy as np

from pneumoscope.radiographs.codestream import is_frame_marker, jpeg_segments
from pneumoscope.radiographs.containers import is_jpeg, is_png

_TABLES, _PROGRESSIVE = 0xDB, 0xC2  # markers (ITU-T T.81, table B.1)


class Compression(NamedTuple):
    """What is seen of the compression.

    Attributes:
        kind: ``jpeg``, ``png`` or ``other``.
        quantisation: mean divisor of the coarsest table of a JPEG file: 1 to 255, or 0 if unknown.
        components: of a JPEG file: 1 for gray, 3 for colour; 0 if unknown.
        progressive: whether a JPEG file is progressive.
    """

    kind: str
    quantisation: float = 0.0
    components: int = 0
    progressive: bool = False


def describe_compression(data: bytes) -> Compression:
    """Describe an image file. Bytes that make no sense are no error.

    >>> describe_compression(b"text").kind
    'other'
    """
    if not is_jpeg(data):
        return Compression("png" if is_png(data) else "other")
    quantisation, components, progressive = 0.0, 0, False
    for marker, start, end in jpeg_segments(data):
        if marker == _TABLES and end - start > 1:  # for each table: a byte of number and precision, then the divisors
            quantisation = max(quantisation, float(np.frombuffer(data[start + 1 : end], np.uint8).mean()))
        elif is_frame_marker(marker) and end - start > 5:
            components, progressive = data[start + 5], marker == _PROGRESSIVE
    return Compression("jpeg", quantisation, components, progressive)
