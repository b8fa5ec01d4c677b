"""Results as a folder of Parquet files, called parts (extra ``parquet``)."""

import time
from pathlib import Path
from typing import Any, BinaryIO

from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.inference.prediction import FIELDS, Prediction
from pneumoscope.io.atomic import write_atomic
from pneumoscope.output.results import (
    NUMERIC_FIELDS,
    ResultsFile,
    cannot_write,
    lock_or_refuse,
    prediction_from_row,
)

#: Rows in a part.
PART_ROWS = 1024
#: A part that is not full is written after this many seconds; so much work can be lost if the process is killed.
PART_SECONDS = 10.0

#: File that :mod:`pneumoscope.cluster.cluster_run` writes beside its parts. Only the cluster can resume such a folder.
MANIFEST = "manifest.json"


class ParquetParts(ResultsFile):
    """A folder of Parquet files with :data:`PART_ROWS` rows each; the last one may have fewer.

    Each part is written as a whole.

    Raises:
        MissingExtra: pyarrow is not installed.
    """

    def begin(self) -> None:
        """Do nothing: the first part is written when it is full."""

    def close(self) -> None:
        """Write the part that is not full, and release the folder."""
        if self._rows:
            self._write_part()
        super().close()

    def _open(self, resume: bool) -> list[Prediction]:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtra("--parquet", "parquet", error.name or "pyarrow") from None
        self._lock = lock_folder(self.path)
        parts = sorted(self.path.glob("part-*.parquet"))
        if parts and not resume:
            raise folder_not_empty(self.path, len(parts))
        if (self.path / MANIFEST).exists():
            raise UsageError(
                f"expected a folder of the local engine at {self.path}, --engine ray wrote its {MANIFEST}: resume "
                "with --engine ray, or name another folder"
            )
        try:
            if [part.name for part in parts] != [part_name(number) for number in range(len(parts))]:
                raise ValueError
            tables = [pyarrow.parquet.read_table(part).to_pylist() for part in parts]
            predictions = [prediction_from_row(row) for table in tables for row in table]
        except (pyarrow.ArrowException, ValueError, TypeError, KeyError):
            raise UsageError(
                f"expected every part that pneumoscope wrote in {self.path}, from {part_name(0)} on, to resume from "
                "them, received others: name another folder"
            ) from None
        last_is_full = not tables or len(tables[-1]) >= PART_ROWS
        self._rows: list[dict[str, Any]] = [] if last_is_full else tables.pop()  # of the part that is not full
        self._full_parts, self._last_write = len(tables), time.monotonic()
        return predictions

    def _append(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == PART_ROWS or time.monotonic() > self._last_write + PART_SECONDS:
            self._write_part()
        if len(self._rows) == PART_ROWS:
            self._full_parts, self._rows = self._full_parts + 1, []

    def _write_part(self) -> None:
        write_atomic(self.path / part_name(self._full_parts), parquet_part(self._rows))
        self._last_write = time.monotonic()


def parquet_part(rows: list[dict[str, Any]]) -> bytes:
    """Rows -> content of a Parquet part. The same rows always give the same bytes.

    Args:
        rows: from :func:`pneumoscope.output.results.row_of`.
    """
    import pyarrow
    import pyarrow.parquet

    types = {name: pyarrow.float64() if name in NUMERIC_FIELDS else pyarrow.string() for name in FIELDS}
    content = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(types.items()))
    pyarrow.parquet.write_table(table, content)
    part: bytes = content.getvalue().to_pybytes()
    return part


def part_name(number: int) -> str:
    """File name of a part. Sorted by name, parts are in order.

    >>> part_name(12)
    'part-00012.parquet'
    """
    return f"part-{number:05d}.parquet"


def lock_folder(folder: Path) -> BinaryIO:
    """Create a folder of parts if needed, and lock it until the returned file is closed.

    Raises:
        UsageError: the folder cannot be created or written, or another process is writing to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")  # readers of Parquet folders ignore hidden files
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        lock_or_refuse(lock, folder)
    except BaseException:
        lock.close()
        raise
    return lock


def folder_not_empty(folder: Path, parts: int) -> UsageError:
    """The error for a folder that holds parts, where a new run was asked for."""
    return UsageError(
        f"expected a folder without results at {folder}, it has {parts} parts: resume from them with --resume, or "
        "name another folder"
    )
