"""Writing files and running threads; independent of radiographs.

In: bytes, arrays, work items. Out: complete files, results in order.
Read first: ``atomic.py`` (files that are complete or absent), then ``prefetch.py`` (threads), ``cores.py`` (how many),
``names.py`` and ``csv_text.py`` (file names in tables), ``locks.py`` (one writer) and ``streams.py`` (standard error).
Names are imported on first use: the command line needs few of them to start.
"""

from typing import TYPE_CHECKING

from pneumoscope.lazy_exports import lazy_exports

if TYPE_CHECKING:  # the same names for type checkers and editors, which do not run __getattr__
    from pneumoscope.io.atomic import read_npz, write_atomic, write_npz
    from pneumoscope.io.cores import available_cores
    from pneumoscope.io.csv_text import csv_bytes, csv_line
    from pneumoscope.io.hosts import is_loopback
    from pneumoscope.io.locks import lock_file
    from pneumoscope.io.names import decode_name, encode_cell, encode_name, printable
    from pneumoscope.io.own_files import may_replace
    from pneumoscope.io.prefetch import ordered_prefetch
    from pneumoscope.io.streams import occupy_standard_streams, quiet_libraries, silence_library

# name -> module that defines it
_PUBLIC = {
    "available_cores": "cores",
    "csv_bytes": "csv_text",
    "csv_line": "csv_text",
    "decode_name": "names",
    "encode_cell": "names",
    "encode_name": "names",
    "is_loopback": "hosts",
    "lock_file": "locks",
    "may_replace": "own_files",
    "occupy_standard_streams": "streams",
    "ordered_prefetch": "prefetch",
    "printable": "names",
    "quiet_libraries": "streams",
    "silence_library": "streams",
    "read_npz": "atomic",
    "write_atomic": "atomic",
    "write_npz": "atomic",
}

__all__ = [
    "available_cores",
    "csv_bytes",
    "csv_line",
    "decode_name",
    "encode_cell",
    "encode_name",
    "is_loopback",
    "lock_file",
    "may_replace",
    "occupy_standard_streams",
    "ordered_prefetch",
    "printable",
    "quiet_libraries",
    "read_npz",
    "silence_library",
    "write_atomic",
    "write_npz",
]

__getattr__ = lazy_exports(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
