"""The file formats of results. Each entry of :data:`FORMATS` becomes an option of the command line.

To add a format, write a subclass of :class:`pneumoscope.output.results.ResultsFile` and add one entry here. This module
is imported for every ``--help``, so it imports nothing heavy: a format's class is named, and loaded by :meth:`Format.open`.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor
    from pneumoscope.output.results import ResultsFile


@dataclass(frozen=True)
class Format:
    """One format of results.

    Attributes:
        option: name of the command-line option, without the dashes.
        metavar: what the option takes: ``"FILE"`` or ``"DIR"``.
        help: sentence in the help page.
        class_name: module of this package and class, joined by a dot.
    """

    option: str
    metavar: str
    help: str
    class_name: str

    def open(self, path: Path, predictor: "Predictor", resume: bool) -> "ResultsFile":
        """Open a file of this format; arguments and errors are those of its class."""
        module, name = self.class_name.split(".")
        results_file: ResultsFile = getattr(import_module(f"pneumoscope.output.{module}"), name)(
            path, predictor, resume
        )
        return results_file


#: In the order of the help page.
FORMATS = (
    Format("csv", "FILE", "Also write the results to this CSV file.", "results.CsvFile"),
    Format("jsonl", "FILE", "Also write them to this file of JSON lines.", "results.JsonLinesFile"),
    Format("parquet", "DIR", "Also write them to this folder, as Parquet parts.", "results.ParquetParts"),
)
