"""Writing files and running threads; independent of radiographs.

In: bytes, arrays, work items. Out: complete files, results in order.
Read first: ``atomic.py`` (files that are complete or absent), then ``prefetch.py`` (threads), ``names.py`` (file
names in tables) and ``streams.py`` (standard error).
"""

from pneumoscope.io.atomic import write_atomic, write_npz
from pneumoscope.io.names import decode_name, encode_name, printable
from pneumoscope.io.own_files import may_replace
from pneumoscope.io.prefetch import ordered_prefetch

__all__ = [
    "decode_name",
    "encode_name",
    "may_replace",
    "ordered_prefetch",
    "printable",
    "write_atomic",
    "write_npz",
]
