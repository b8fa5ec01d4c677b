"""Results as text files, CSV and JSON lines: every row reaches the disk as soon as it is written."""

import contextlib
import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from pneumoscope.errors import UsageError
from pneumoscope.inference.prediction import FIELDS, Prediction
from pneumoscope.io.csv_text import csv_line
from pneumoscope.io.names import decode_name
from pneumoscope.output.results import ALL_FIELDS, ResultsFile, lock_or_refuse, prediction_from_row


class TextFile(ResultsFile):
    """Base class of the text formats. On resuming, a last row that is incomplete is cut off and written again."""

    def begin(self) -> None:
        """Cut off an incomplete last row, and write what precedes the first row."""
        if self.path.is_file():
            self._file.truncate(self._end)
        if not self._end:
            self._write_text(self._header())

    def _open(self, resume: bool) -> list[Prediction]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._lock = self.path.open("ab")
        lock_or_refuse(self._file, self.path)
        self._end = 0  # where the last complete row ends, in bytes
        if not resume or not self.path.is_file():  # a terminal or a pipe is not a file
            return []
        try:
            rows, self._end = self._read_complete_rows(self.path.read_bytes())
            return [prediction_from_row(row) for row in rows]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error):
            raise UsageError(
                f"expected results that pneumoscope wrote in {self.path}, to resume from them, received something "
                "else: name another file"
            ) from None

    def _header(self) -> str:
        return ""

    @abstractmethod
    def _read_complete_rows(self, data: bytes) -> tuple[list[dict[str, Any]], int]:
        """The complete rows, and where the last one ends; raises an error if pneumoscope did not write the file."""

    def _write_text(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()


class CsvFile(TextFile):
    """A table with a header line, one line for each row.

    A cell is written as :func:`pneumoscope.io.names.encode_cell` does, so that no spreadsheet runs it as a formula.
    A file from an earlier version is continued with the columns that it has.
    """

    _fields: tuple[str, ...] = FIELDS

    def _header(self) -> str:
        return csv_line(self._fields)

    def _append(self, row: dict[str, Any]) -> None:
        cells = row | {"path": decode_name(row["path"])}
        self._write_text(csv_line(cells[name] for name in self._fields))

    def _read_complete_rows(self, data: bytes) -> tuple[list[dict[str, Any]], int]:
        for fields in ALL_FIELDS:
            if data.startswith(csv_line(fields).encode()):
                self._fields = fields
        header = self._header().encode()
        if not data.startswith(header):
            if header.startswith(data):  # cut off in the header
                return [], 0
            raise ValueError
        position = end = 0  # in bytes: of the reader, and of the last complete row
        rows: list[dict[str, Any]] = []

        def lines() -> Iterator[str]:
            nonlocal position
            for line in io.BytesIO(data):
                position += len(line)
                yield line.decode("utf-8", "surrogateescape")

        try:
            for cells in csv.reader(lines(), strict=True):
                if data[position - 1 : position] != b"\n":  # the last row is cut off
                    break
                if len(cells) != len(self._fields):
                    raise ValueError
                # Not the path, which prediction_from_row decodes.
                texts = (cells[0], *map(decode_name, cells[1:]))
                rows.append(dict(zip(self._fields, texts, strict=True)))
                end = position
        except csv.Error:
            # An odd number of quotes at the end of the file: the last row is cut off inside a quoted cell.
            cut_off_in_quotes = position == len(data) and data.count(b'"', end) % 2 == 1
            if not cut_off_in_quotes:
                raise
        return rows[1:], end  # without the header


class JsonLinesFile(TextFile):
    """One JSON object per line."""

    def _append(self, row: dict[str, Any]) -> None:
        self._write_text(json.dumps(row) + "\n")

    def _read_complete_rows(self, data: bytes) -> tuple[list[dict[str, Any]], int]:
        end = data.rfind(b"\n") + 1
        last_line, start_of_row = data[end:], b'{"path": "'
        if not (start_of_row.startswith(last_line) or last_line.startswith(start_of_row)):
            raise ValueError
        with contextlib.suppress(json.JSONDecodeError):  # an incomplete row is no error
            if last_line:  # a complete object without its line end must be a row of ours
                prediction_from_row(json.loads(last_line))
        return [json.loads(line) for line in data[:end].splitlines()], end
