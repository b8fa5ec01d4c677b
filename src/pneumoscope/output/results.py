"""Predictions on disk: CSV, JSON lines or Parquet, written as they come; an interrupted file goes on where it ended.

A row is known by its image's name and SHA-256. A file of results holds one model at one operating point.
"""

import contextlib
import csv
import hashlib
import io
import json
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pneumoscope.errors import ImageError, MissingExtra, UsageError
from pneumoscope.inference.predict import BATCH, ERROR, FIELDS, Prediction, Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.radiographs.images import read_file

#: Rows of a Parquet part, and the seconds after which a part that is not full is written: what a ``kill -9`` can cost.
#: A part is whole batches, so that one that is judged alone has the digits of one that was judged among others.
PART_ROWS, PART_SECONDS = 256 * BATCH, 10.0

#: Written beside the parts by :mod:`pneumoscope.cluster.cluster_run`, which alone goes on with them.
MANIFEST = "manifest.json"

_NUMBERS = ("probability", "threshold", "bacterial", "prevalence")


class ResultsFile(ABC):
    """What all kinds have in common; ``predictions`` are those that were there when it was opened.

    Opening reads and refuses, and changes nothing; :meth:`begin` is called once every file of a call has been opened.

    Args:
        path: of the file, or the folder of Parquet parts.
        predictor: whose results these are.
        resume: go on with the file instead of beginning anew.

    Raises:
        UsageError: it cannot be written, another process writes it, it is no file of results, or of others.
    """

    def __init__(self, path: Path, predictor: Predictor, resume: bool) -> None:
        self.path = path
        self._lock: BinaryIO | None = None
        try:
            self.predictions = self._open(resume)
            ours = predictor.bundle.sha256, predictor.threshold, predictor.prevalence
            if any((held.model_sha256, held.threshold, held.prevalence) != ours for held in self.predictions):
                raise UsageError(
                    f"expected results of {predictor.bundle.name} at this operating point and prevalence in {path}, it "
                    "holds others: name another file"
                )
        except OSError as error:
            self.release()
            raise _no_place(path, error) from None
        except UsageError:
            self.release()
            raise
        self._held = Counter(self._key(prediction) for prediction in self.predictions)

    @abstractmethod
    def begin(self) -> None:
        """Make the file ready for rows."""

    def write(self, prediction: Prediction) -> None:
        """Add a row, unless the file has it from before."""
        key = self._key(prediction)
        if self._held[key]:
            self._held[key] -= 1
        else:
            self._append(prediction.to_dict())

    def close(self) -> None:
        """Write what is left, and let the file go."""
        self.release()

    def release(self) -> None:
        """Let the file go as it is."""
        if self._lock:
            self._lock.close()

    @abstractmethod
    def _open(self, resume: bool) -> list[Prediction]:
        """Lock and read it, and return what it holds."""

    @abstractmethod
    def _append(self, row: dict) -> None:
        """Write one row."""

    def _key(self, prediction: Prediction) -> tuple[str, ...]:
        return prediction.path, prediction.image_sha256, prediction.reason if prediction.status == ERROR else ""


class _Lines(ResultsFile):
    """Rows that reach the disk as they come; a last row that did not arrive whole is cut off."""

    def _open(self, resume: bool) -> list[Prediction]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self._lock = self.path.open("ab")
        _take(self.file, self.path)
        self.end = 0
        if not resume or not self.path.is_file():  # not a file: a terminal or a pipe
            return []
        try:
            rows, self.end = self._whole_rows(self.path.read_bytes())
            return [_prediction(row) for row in rows]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error):
            raise UsageError(
                f"expected results that pneumoscope wrote in {self.path}, to go on with them, received others: name "
                "another file"
            ) from None

    def begin(self) -> None:
        """Cut off what did not arrive whole, and write what stands before the first row."""
        if self.path.is_file():
            self.file.truncate(self.end)
        if not self.end:
            self._put(self._head())

    def _head(self) -> str:
        return ""

    @abstractmethod
    def _whole_rows(self, data: bytes) -> tuple[list[dict], int]:
        """Rows, and where the last whole one ends; raises for a file of others."""

    def _put(self, text: str) -> None:
        # surrogateescape: a file name that is not UTF-8 is written back byte for byte
        self.file.write(text.encode("utf-8", "surrogateescape"))
        self.file.flush()


class CsvFile(_Lines):
    """A table with a header line."""

    def _head(self) -> str:
        return _csv_line(FIELDS)

    def _append(self, row: dict) -> None:
        self._put(_csv_line(row.values()))

    def _whole_rows(self, data: bytes) -> tuple[list[dict], int]:
        head = self._head().encode()
        if not data.startswith(head):
            if head.startswith(data):  # cut off in the header
                return [], 0
            raise ValueError
        read, end, rows = 0, 0, []

        def lines() -> Iterator[str]:
            nonlocal read
            for line in io.BytesIO(data):
                read += len(line)
                yield line.decode("utf-8", "surrogateescape")

        try:
            for cells in csv.reader(lines(), strict=True):
                if data[read - 1 : read] != b"\n":  # the last line, cut off
                    break
                if len(cells) != len(FIELDS):
                    raise ValueError
                rows.append(dict(zip(FIELDS, cells, strict=True)))
                end = read
        except csv.Error:
            if read < len(data) or data.count(b'"', end) % 2 == 0:  # not a last row cut off within its quotes
                raise
        return rows[1:], end


class JsonLinesFile(_Lines):
    """An object a line."""

    def _append(self, row: dict) -> None:
        self._put(json.dumps(row) + "\n")

    def _whole_rows(self, data: bytes) -> tuple[list[dict], int]:
        end = data.rfind(b"\n") + 1
        tail, begins = data[end:], b'{"path": "'
        if not (begins.startswith(tail) or tail.startswith(begins)):
            raise ValueError
        with contextlib.suppress(json.JSONDecodeError):
            if tail:  # whole but for its line's end: ours, or of others
                _prediction(json.loads(tail))
        return [json.loads(line) for line in data[:end].splitlines()], end


class ParquetParts(ResultsFile):
    """A folder of Parquet files of :data:`PART_ROWS` rows, each written whole; the last one may be shorter.

    A file name that is not UTF-8 is written with replacement characters, as Parquet holds none.

    Raises:
        MissingExtra: pyarrow is not installed.
    """

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
                f"expected a folder of the local engine at {self.path}, --engine ray wrote its {MANIFEST}: go on with "
                "--engine ray, or name another folder"
            )
        try:
            if [part.name for part in parts] != [part_name(number) for number in range(len(parts))]:
                raise ValueError
            tables = [pyarrow.parquet.read_table(part).to_pylist() for part in parts]
            predictions = [_prediction(row) for table in tables for row in table]
        except (pyarrow.ArrowException, ValueError, TypeError, KeyError):
            raise UsageError(
                f"expected every part that pneumoscope wrote in {self.path}, from {part_name(0)} on, to go on with "
                "them, received others: name another folder"
            ) from None
        self.rows = tables.pop() if tables and len(tables[-1]) < PART_ROWS else []
        self.done, self.written = len(tables), time.monotonic()
        return predictions

    def begin(self) -> None:
        """Nothing: parts are written when they are full."""

    def close(self) -> None:
        """Write the part that is not full."""
        if self.rows:
            self._write_part()
        super().close()

    def _append(self, row: dict) -> None:
        self.rows.append(row)
        if len(self.rows) == PART_ROWS or time.monotonic() > self.written + PART_SECONDS:
            self._write_part()
        if len(self.rows) == PART_ROWS:
            self.done, self.rows = self.done + 1, []

    def _key(self, prediction: Prediction) -> tuple[str, ...]:
        return _valid(prediction.path), *super()._key(prediction)[1:]

    def _write_part(self) -> None:
        write_atomic(self.path / part_name(self.done), parquet_part(self.rows))
        self.written = time.monotonic()


def parquet_part(rows: list[dict]) -> bytes:
    """Rows as the content of a Parquet part; the same rows are the same bytes."""
    import pyarrow
    import pyarrow.parquet

    kinds = {name: pyarrow.float64() if name in _NUMBERS else pyarrow.string() for name in FIELDS}
    content = pyarrow.BufferOutputStream()
    valid = [{**row, "path": _valid(row["path"])} for row in rows]
    table = pyarrow.Table.from_pylist(valid, schema=pyarrow.schema(kinds.items()))
    pyarrow.parquet.write_table(table, content)
    return content.getvalue().to_pybytes()


def part_name(number: int) -> str:
    """File name of a Parquet part; sorted by name they are in order.

    >>> part_name(12)
    'part-00012.parquet'
    """
    return f"part-{number:05d}.parquet"


def lock_folder(folder: Path) -> BinaryIO:
    """Make a folder of parts this process's own, until the file that is returned is closed.

    Raises:
        UsageError: it cannot be made or written, or another process writes it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")  # readers of a folder pass over hidden files
    except OSError as error:
        raise _no_place(folder, error) from None
    try:
        _take(lock, folder)
    except BaseException:
        lock.close()
        raise
    return lock


def folder_not_empty(folder: Path, parts: int) -> UsageError:
    """The refusal of a folder whose results are not to be gone on with."""
    return UsageError(
        f"expected a folder without results at {folder}, it has {parts} parts: go on with them by --resume, or name "
        "another folder"
    )


def _no_place(path: Path, error: OSError) -> UsageError:
    return UsageError(f"expected a place for results at {path}: {error.strerror}")


def find_finished(files: Sequence[ResultsFile], sources: Sequence[object]) -> list[Prediction | None]:
    """What a resumed file holds of each source as it is now; None where it has to be judged.

    Judged again are unreadable images, which cost little and may be readable now, and the neighbours of what is new
    in its batch: the last digit of a probability depends on the size of the batch, and the whole is to be what an
    uninterrupted run writes.

    Args:
        files: that were opened; of several, the one that holds most.
        sources: as for :meth:`pneumoscope.inference.predict.Predictor.predict_many`.
    """
    held: dict[tuple[str, str], deque[Prediction]] = defaultdict(deque)
    for prediction in max((file.predictions for file in files), key=len, default=[]):
        if prediction.status != ERROR:
            held[prediction.path, prediction.image_sha256].append(prediction)
    if not held:
        return [None] * len(sources)
    paths = {path for path, _ in held}

    def find_hash(source: object) -> str | None:
        return _sha256(source) if str(source) in paths else None  # a new one is read when it is judged

    with ThreadPoolExecutor(max_workers=2) as pool:
        hashes = list(ordered_prefetch(pool, find_hash, sources, max_pending=64))
    kept = [held.get((str(source), digest)) for source, digest in zip(sources, hashes, strict=True)]
    found = [same.popleft() if same else None for same in kept]
    for start in range(0, len(found), BATCH):
        if None in found[start : start + BATCH]:
            found[start : start + BATCH] = [None] * len(found[start : start + BATCH])
    return found


def _sha256(source: object) -> str:
    """As in a prediction: empty where nothing can be read."""
    try:
        return "" if isinstance(source, ImageError) else hashlib.sha256(read_file(source)).hexdigest()
    except ImageError:
        return ""


def _take(file: BinaryIO, path: Path) -> None:
    """Refuse results that another process is writing."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no such lock
        pass
    except BlockingIOError:
        raise UsageError(f"expected to write {path} alone, another pneumoscope does: name another file") from None


def _csv_line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)  # its own line end makes it quote both of \r and \n
    return line.getvalue().removesuffix("\r\n") + "\n"


def _prediction(row: dict) -> Prediction:
    """A row as it was written -> what was written."""
    values = {name: row[name] for name in FIELDS}
    for name in _NUMBERS:
        values[name] = None if values[name] in ("", None) else float(values[name])
    return Prediction(**{**values, "label": values["label"] or None})


def _valid(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
