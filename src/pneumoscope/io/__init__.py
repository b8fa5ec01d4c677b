"""Writing files and running threads; independent of radiographs.

In: bytes, arrays, work items. Out: complete files, results in order.
Read first: ``atomic.py`` (files that are complete or absent), then ``prefetch.py`` (threads), ``cores.py`` (how many),
``names.py`` (file names in tables) and ``streams.py`` (standard error).
"""

from pneumoscope.io.atomic import write_atomic, write_npz
from pneumoscope.io.cores import available_cores
from pneumoscope.io.names import decode_name, encode_cell, encode_name, printable
from pneumoscope.io.own_files import may_replace
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.io.streams import occupy_standard_streams, quiet_libraries

__all__ = [
    "available_cores",
    "decode_name",
    "encode_cell",
    "encode_name",
    "may_replace",
    "occupy_standard_streams",
    "ordered_prefetch",
    "printable",
    "quiet_libraries",
    "write_atomic",
    "write_npz",
]
