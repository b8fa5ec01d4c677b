"""From a :class:`~pneumoscope.inference.Prediction` to files on disk.

In: predictions, in order. Out: CSV, JSON lines, Parquet, an HTML contact sheet.
Read first: ``formats.py`` (which formats exist), then ``results.py`` (what they share).
Importing this package is cheap: the names below are loaded on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers and editors, which do not run __getattr__
    from pneumoscope.output.contact_sheet import write_contact_sheet
    from pneumoscope.output.formats import FORMATS, Format
    from pneumoscope.output.overlay import draw_overlay, encode_png, is_overlay_of, write_overlay
    from pneumoscope.output.results import (
        MANIFEST,
        CsvFile,
        JsonLinesFile,
        ParquetParts,
        ResultsFile,
        find_finished,
        parquet_part,
        part_name,
    )

# name -> module that defines it
_MODULES = {
    "CsvFile": "results",
    "FORMATS": "formats",
    "Format": "formats",
    "JsonLinesFile": "results",
    "MANIFEST": "results",
    "ParquetParts": "results",
    "ResultsFile": "results",
    "draw_overlay": "overlay",
    "encode_png": "overlay",
    "find_finished": "results",
    "is_overlay_of": "overlay",
    "parquet_part": "results",
    "part_name": "results",
    "write_contact_sheet": "contact_sheet",
    "write_overlay": "overlay",
}

__all__ = [
    "FORMATS",
    "MANIFEST",
    "CsvFile",
    "Format",
    "JsonLinesFile",
    "ParquetParts",
    "ResultsFile",
    "draw_overlay",
    "encode_png",
    "find_finished",
    "is_overlay_of",
    "parquet_part",
    "part_name",
    "write_contact_sheet",
    "write_overlay",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'pneumoscope.output' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"pneumoscope.output.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
