"""What all result files share: opening, writing, and resuming after an interruption.

A file holds the results of one model at one operating point. The image's name and SHA-256 identify a row.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from pneumoscope.errors import ImageError, UsageError
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.prediction import ERROR, FIELDS, Prediction
from pneumoscope.io.locks import lock_file
from pneumoscope.io.names import decode_name, encode_name
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.radiographs.files import read_file
from pneumoscope.radiographs.sources import Source

#: The fields of a prediction that are numbers; the others are text.
NUMERIC_FIELDS = ("probability", "threshold", "bacterial", "prevalence")
#: The fields of the first files of results, which had no ``code`` and no ``note``.
FIRST_FIELDS = FIELDS[: FIELDS.index("code")]
#: The fields of every version's files, the newest first.
ALL_FIELDS = (FIELDS, FIELDS[: FIELDS.index("study_instance_uid")], FIRST_FIELDS)


class ResultsFile(ABC):
    """Base class of all formats.

    Opening reads, locks and checks the file but does not change its content. Call :meth:`begin` once every file of a
    run is open: if one of them is refused, the others are still as they were.

    Args:
        path: of the file, or of the folder of Parquet parts.
        predictor: the model whose results go into the file.
        resume: keep the rows in the file and add to them, instead of starting anew.

    Attributes:
        predictions: the predictions that the file held when it was opened.

    Raises:
        UsageError: the file cannot be written, another process is writing it, it is not a file of results, or it
            holds the results of another model, operating point or prevalence.
    """

    def __init__(self, path: Path, predictor: Predictor, resume: bool) -> None:
        self.path = path
        self._lock: BinaryIO | None = None
        try:
            self.predictions = self._open(resume)
            self._check_model(predictor)
        except OSError as error:
            self.release()
            raise cannot_write(path, error) from None
        except UsageError:
            self.release()
            raise
        # Rows of the earlier run that this run has not met yet; the same image may have several.
        self._already_written = Counter(self._key(prediction) for prediction in self.predictions)

    @abstractmethod
    def begin(self) -> None:
        """Make the file ready for new rows."""

    def write(self, prediction: Prediction) -> None:
        """Add a row, unless the file holds it from an earlier run."""
        key = self._key(prediction)
        if self._already_written[key]:
            self._already_written[key] -= 1
        else:
            self._append(row_of(prediction))

    def close(self) -> None:
        """Write what is still in memory and release the file."""
        self.release()

    def release(self) -> None:
        """Unlock and close the file without writing anything."""
        if self._lock:
            self._lock.close()

    @abstractmethod
    def _open(self, resume: bool) -> list[Prediction]:
        """Lock the file and return the predictions in it."""

    @abstractmethod
    def _append(self, row: dict[str, Any]) -> None:
        """Write one row."""

    def _check_model(self, predictor: Predictor) -> None:
        expected = predictor.bundle.sha256, predictor.threshold, predictor.prevalence
        for row in self.predictions:
            if (row.model_sha256, row.threshold, row.prevalence) != expected:
                raise UsageError(
                    f"expected results of {predictor.bundle.name} at this operating point and prevalence in "
                    f"{self.path}, received others: name another file"
                )

    def _key(self, prediction: Prediction) -> tuple[str, ...]:
        """What identifies a row. The reason of an error is part of it: the same file may fail in another way later."""
        return prediction.path, prediction.image_sha256, prediction.reason if prediction.status == ERROR else ""


def find_finished(files: Sequence[ResultsFile], sources: Sequence[Source]) -> list[Prediction | None]:
    """Find which sources need no new prediction, because a resumed file holds one of the same content.

    Unreadable images are judged again although a file holds them: that takes little time, and they may be readable now.

    Args:
        files: open result files; the one with the most rows counts.
        sources: as for :meth:`pneumoscope.inference.predict.Predictor.predict_many`.

    Returns:
        For each source its prediction, or None if it has to be judged.
    """
    known: dict[tuple[str, str], deque[Prediction]] = defaultdict(deque)
    for prediction in max((file.predictions for file in files), key=len, default=[]):
        if prediction.status != ERROR:
            known[prediction.path, prediction.image_sha256].append(prediction)
    if not known:
        return [None] * len(sources)
    finished: list[Prediction | None] = []
    for key in _find_keys(sources, known_paths={path for path, _ in known}):
        same_image = known.get(key)
        finished.append(same_image.popleft() if same_image else None)
    return finished


def cannot_write(path: Path, error: OSError) -> UsageError:
    """The error for a place where results cannot be written."""
    return UsageError(f"expected to write results to {path}: {error.strerror}")


def lock_or_refuse(file: BinaryIO, path: Path) -> None:
    """Lock an open file until it is closed.

    Raises:
        UsageError: another process has the lock, and so writes the same results.
        OSError: the file cannot be locked for another reason.
    """
    try:
        lock_file(file, path)
    except BlockingIOError:
        raise UsageError(
            f"expected {path} to be free, another pneumoscope process is writing to it: name another file"
        ) from None


def prediction_from_row(row: dict[str, Any]) -> Prediction:
    """Turn a row back into the prediction it was written from; only the Grad-CAM maps are lost."""
    values = {name: row[name] for name in FIRST_FIELDS} | {"path": decode_name(row["path"])}
    values |= {name: row.get(name) or "" for name in FIELDS if name not in FIRST_FIELDS}
    for name in NUMERIC_FIELDS:
        values[name] = None if values[name] in ("", None) else float(values[name])
    return Prediction(**{**values, "label": values["label"] or None})


def row_of(prediction: Prediction) -> dict[str, Any]:
    """The fields of a prediction for JSON and Parquet, with a path that is valid UTF-8."""
    return prediction.to_dict() | {"path": encode_name(prediction.path)}


def _find_keys(sources: Sequence[Source], known_paths: set[str]) -> list[tuple[str, str]]:
    """Path and SHA-256 of each source. New images are not read here: they are read when they are judged."""

    def find_hash(source: Source) -> str:
        return _sha256(source) if str(source) in known_paths else ""

    with ThreadPoolExecutor(max_workers=2) as pool:
        hashes = list(ordered_prefetch(pool, find_hash, sources, max_pending=64))
    return [(str(source), digest) for source, digest in zip(sources, hashes, strict=True)]


def _sha256(source: Source) -> str:
    """SHA-256 of the content as in a prediction: empty if it cannot be read."""
    if isinstance(source, ImageError):
        return ""
    try:
        return hashlib.sha256(read_file(source)).hexdigest()
    except ImageError:
        return ""
