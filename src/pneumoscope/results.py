"""Predictions on disk: CSV, JSON lines or Parquet, written as they come; an interrupted file goes on where it ended.

A row is known by its image's name and SHA-256. A file of results holds one model at one operating point.
"""

import csv
import hashlib
import io
import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pneumoscope.ahead import in_order
from pneumoscope.atomic import write_whole
from pneumoscope.errors import ImageError, MissingExtra, UsageError
from pneumoscope.images import read_file
from pneumoscope.predict import FIELDS, Prediction, Predictor

#: Rows of a Parquet part: what a ``kill -9`` can cost.
PART_ROWS = 1000

_NUMBERS = ("probability", "threshold", "bacterial", "prevalence")


class ResultsFile:
    """What all kinds have in common; ``predictions`` are those that were there when it was opened.

    Args:
        path: of the file, or the folder of Parquet parts.
        predictor: whose results these are.
        resume: go on with the file instead of beginning anew.

    Raises:
        UsageError: it cannot be written, another process writes it, it is no file of results, or of others.
    """

    def __init__(self, path: Path, predictor: Predictor, resume: bool) -> None:
        self.path = path
        try:
            self.predictions = self._open(resume)
        except OSError as error:
            raise UsageError(f"expected a place for results at {path}: {error.strerror}") from None
        ours = predictor.bundle.sha256, predictor.threshold, predictor.prevalence
        if any((held.model_sha256, held.threshold, held.prevalence) != ours for held in self.predictions):
            self.close()
            raise UsageError(
                f"expected results of {predictor.bundle.name} at this operating point and prevalence in {path}, it "
                "holds others: name another file"
            )
        self._held = Counter(self._key(prediction) for prediction in self.predictions)

    def write(self, prediction: Prediction) -> None:
        """Add a row, unless the file has it from before."""
        key = self._key(prediction)
        if self._held[key]:
            self._held[key] -= 1
        else:
            self._append(prediction.to_dict())

    def close(self) -> None:
        """Write what is left, and let the file go."""
        raise NotImplementedError

    def _open(self, resume: bool) -> list[Prediction]:
        raise NotImplementedError

    def _append(self, row: dict) -> None:
        raise NotImplementedError

    def _key(self, prediction: Prediction) -> tuple[str, str]:
        return prediction.path, prediction.image_sha256


class _Lines(ResultsFile):
    """Rows that reach the disk as they come; a last row that did not arrive whole is cut off."""

    def _open(self, resume: bool) -> list[Prediction]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file: BinaryIO = self.path.open("ab")
        _lock(self.file, self.path)
        if not self.path.is_file():  # a terminal or a pipe
            self._begin()
            return []
        data = self.path.read_bytes() if resume else b""
        try:
            rows, end = self._whole_rows(data)
            predictions = [_prediction(row) for row in rows]
        except (ValueError, TypeError, KeyError):
            self.close()
            raise UsageError(
                f"expected results that pneumoscope wrote in {self.path}, to go on with them, received others: name "
                "another file"
            ) from None
        self.file.truncate(end)
        if not end:
            self._begin()
        return predictions

    def _begin(self) -> None:
        """What stands before the first row."""

    def _whole_rows(self, data: bytes) -> tuple[list[dict], int]:
        """Rows, and where the last whole one ends."""
        raise NotImplementedError

    def _put(self, text: str) -> None:
        # surrogateescape: a file name that is not UTF-8 is written back byte for byte
        self.file.write(text.encode("utf-8", "surrogateescape"))
        self.file.flush()

    def close(self) -> None:
        """Let the file go."""
        self.file.close()


class CsvFile(_Lines):
    """A table with a header line."""

    def _begin(self) -> None:
        self._put(_csv_line(FIELDS))

    def _append(self, row: dict) -> None:
        self._put(_csv_line(row.values()))

    def _whole_rows(self, data: bytes) -> tuple[list[dict], int]:
        read, end, rows = 0, 0, []

        def lines() -> Iterator[str]:
            nonlocal read
            for line in io.BytesIO(data):
                read += len(line)
                yield line.decode("utf-8", "surrogateescape")

        for cells in csv.reader(lines()):
            if len(cells) != len(FIELDS) or data[read - 1 : read] != b"\n":
                break
            rows.append(dict(zip(FIELDS, cells, strict=True)))
            end = read
        whole_header = bool(rows) and tuple(rows[0].values()) == FIELDS
        if read < len(data) or not (whole_header or _csv_line(FIELDS).startswith(data.decode("utf-8", "replace"))):
            raise ValueError
        return rows[1:], end


class JsonLinesFile(_Lines):
    """An object a line."""

    def _append(self, row: dict) -> None:
        self._put(json.dumps(row) + "\n")

    def _whole_rows(self, data: bytes) -> tuple[list[dict], int]:
        end = data.rfind(b"\n") + 1
        if data[end : end + 1] not in (b"", b"{"):
            raise ValueError
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
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock: BinaryIO = (self.path / ".lock").open("ab")  # readers of a folder pass over hidden files
        _lock(self.lock, self.path)
        parts = sorted(self.path.glob("part-*.parquet"))
        if parts and not resume:
            self.lock.close()
            raise UsageError(
                f"expected a folder without results at {self.path}, it has {len(parts)} parts: go on with them by "
                "--resume, or name another folder"
            )
        try:
            tables = [pyarrow.parquet.read_table(part).to_pylist() for part in parts]
            predictions = [_prediction(row) for table in tables for row in table]
        except (pyarrow.ArrowException, ValueError, TypeError, KeyError):
            self.lock.close()
            raise UsageError(
                f"expected parts that pneumoscope wrote in {self.path}, received others: name another folder"
            ) from None
        self.done = sum(len(table) == PART_ROWS for table in tables)
        self.rows = [row for table in tables[self.done :] for row in table]
        return predictions

    def _append(self, row: dict) -> None:
        self.rows.append({**row, "path": _valid(row["path"])})
        if len(self.rows) == PART_ROWS:
            self._write_part()
            self.done, self.rows = self.done + 1, []

    def _key(self, prediction: Prediction) -> tuple[str, str]:
        return _valid(prediction.path), prediction.image_sha256

    def _write_part(self) -> None:
        import pyarrow
        import pyarrow.parquet

        kinds = {name: pyarrow.float64() if name in _NUMBERS else pyarrow.string() for name in FIELDS}
        content = pyarrow.BufferOutputStream()
        table = pyarrow.Table.from_pylist(self.rows, schema=pyarrow.schema(kinds.items()))
        pyarrow.parquet.write_table(table, content)
        write_whole(self.path / f"part-{self.done:05d}.parquet", content.getvalue())

    def close(self) -> None:
        """Write the part that is not full."""
        if self.rows:
            self._write_part()
        self.lock.close()


def judged_before(files: Sequence[ResultsFile], sources: Sequence[object]) -> list[Prediction | None]:
    """What a resumed file holds of each source as it is now; None where it has to be judged.

    Args:
        files: that were opened; of several, the one that holds most.
        sources: as for :meth:`pneumoscope.predict.Predictor.predict_many`.
    """
    held: dict[tuple[str, str], deque[Prediction]] = defaultdict(deque)
    for prediction in max((file.predictions for file in files), key=len, default=[]):
        held[prediction.path, prediction.image_sha256].append(prediction)
    paths = {path for path, _ in held}

    def find_hash(source: object) -> str | None:
        return _sha256(source) if str(source) in paths else None  # a new one is read when it is judged

    with ThreadPoolExecutor(max_workers=2) as pool:
        hashes = list(in_order(pool, find_hash, sources, ahead=64))
    found = [held.get((str(source), digest)) for source, digest in zip(sources, hashes, strict=True)]
    return [same.popleft() if same else None for same in found]


def _sha256(source: object) -> str:
    """As in a prediction: empty where nothing can be read."""
    try:
        return "" if isinstance(source, ImageError) else hashlib.sha256(read_file(source)).hexdigest()
    except ImageError:
        return ""


def _lock(file: BinaryIO, path: Path) -> None:
    """Refuse results that another process is writing."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no such lock
        pass
    except BlockingIOError:
        file.close()
        raise UsageError(f"expected to write {path} alone, another pneumoscope does: name another file") from None


def _csv_line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _prediction(row: dict) -> Prediction:
    """A row as it was written -> what was written."""
    values = {name: row[name] for name in FIELDS}
    for name in _NUMBERS:
        values[name] = None if values[name] in ("", None) else float(values[name])
    return Prediction(**{**values, "label": values["label"] or None})


def _valid(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
