"""From a :class:`~pneumoscope.inference.Prediction` to files on disk.

In: predictions and explanations. Out: CSV, JSON lines, Parquet, overlay pictures, an HTML contact sheet.
Read first: ``formats.py`` (the list of formats), then ``results.py`` (what they share).
Names are imported on first use, so that the command line can read the list of formats without NumPy.
"""

from typing import TYPE_CHECKING

from pneumoscope.lazy_exports import lazy_exports

if TYPE_CHECKING:  # the same names for type checkers and editors, which do not run __getattr__
    from pneumoscope.output.contact_sheet import write_contact_sheet
    from pneumoscope.output.formats import FORMATS, Format
    from pneumoscope.output.overlay import draw_overlay, encode_png, is_overlay_of, write_overlay
    from pneumoscope.output.parquet_files import (
        MANIFEST,
        ParquetParts,
        folder_not_empty,
        lock_folder,
        parquet_part,
        part_name,
    )
    from pneumoscope.output.results import ResultsFile, find_finished, row_of
    from pneumoscope.output.text_files import CsvFile, JsonLinesFile

# name -> module that defines it
_PUBLIC = {
    "FORMATS": "formats",
    "MANIFEST": "parquet_files",
    "CsvFile": "text_files",
    "Format": "formats",
    "JsonLinesFile": "text_files",
    "ParquetParts": "parquet_files",
    "ResultsFile": "results",
    "draw_overlay": "overlay",
    "encode_png": "overlay",
    "find_finished": "results",
    "folder_not_empty": "parquet_files",
    "is_overlay_of": "overlay",
    "lock_folder": "parquet_files",
    "parquet_part": "parquet_files",
    "part_name": "parquet_files",
    "row_of": "results",
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
    "folder_not_empty",
    "is_overlay_of",
    "lock_folder",
    "parquet_part",
    "part_name",
    "row_of",
    "write_contact_sheet",
    "write_overlay",
]

__getattr__ = lazy_exports(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
