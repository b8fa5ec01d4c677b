"""The file formats of results. Each entry of :data:`FORMATS` is an option of ``pneumoscope predict``.

To add a format, write a subclass of :class:`pneumoscope.output.results.ResultsFile` and add one entry here.

``--help`` imports this module, so it must stay light: an entry names its class, and :meth:`Format.open` imports it.
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
    """One file format.

    Attributes:
        option: name of the command-line option, without the dashes.
        metavar: what the option takes: ``"FILE"`` or ``"DIR"``.
        help: its sentence on the help page.
        module: module of this package that defines the class.
        class_name: subclass of :class:`pneumoscope.output.results.ResultsFile`.
    """

    option: str
    metavar: str
    help: str
    module: str
    class_name: str

    def open(self, path: Path, predictor: "Predictor", resume: bool) -> "ResultsFile":
        """Open a file of this format.

        Args:
            path, predictor, resume: see :class:`pneumoscope.output.results.ResultsFile`.

        Raises:
            UsageError: the file cannot be used, see there.
        """
        results_class = getattr(import_module(f"pneumoscope.output.{self.module}"), self.class_name)
        results_file: ResultsFile = results_class(path, predictor, resume)
        return results_file


#: All formats, in the order of the help page.
FORMATS = (
    Format("csv", "FILE", "Also write the results to this CSV file.", "text_files", "CsvFile"),
    Format("jsonl", "FILE", "Also write them to this file of JSON lines.", "text_files", "JsonLinesFile"),
    Format("parquet", "DIR", "Also write them to this folder, as Parquet parts.", "parquet_files", "ParquetParts"),
)
