"""From a :class:`~pneumoscope.inference.Prediction` to files on disk.

In: predictions, in order. Out: CSV, JSON lines, Parquet, an HTML contact sheet.
Read first: ``results.py``.
"""

from pneumoscope.output.contact_sheet import write_contact_sheet
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

__all__ = [
    "MANIFEST",
    "CsvFile",
    "JsonLinesFile",
    "ParquetParts",
    "ResultsFile",
    "find_finished",
    "parquet_part",
    "part_name",
    "write_contact_sheet",
]
