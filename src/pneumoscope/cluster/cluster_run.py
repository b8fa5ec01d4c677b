"""Predictions on a Ray cluster (extra ``ray``): sources -> the same Parquet parts that one machine would write.

The unit of work is a part: consecutive sources in complete batches, so that every worker gives it the same digits.
Workers read the images, judge them and encode the part. This process writes each part, complete or not at all, and
``manifest.json``, which describes the run. If a worker dies, only its current part is judged again. If this process
dies, a resumed run judges only the parts that are missing.
"""

import json
import logging
import math
import os
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumoscope import __version__
from pneumoscope.cluster.connection import connected, require_ray
from pneumoscope.cluster.source_lists import decode_sources, encode_sources, has_relative_names, hash_sources
from pneumoscope.errors import RunError, UsageError
from pneumoscope.inference.bundle import read_bundle
from pneumoscope.inference.predict import Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.streams import quiet_libraries
from pneumoscope.output import parquet_files
from pneumoscope.output.parquet_files import MANIFEST, parquet_part, part_name
from pneumoscope.output.results import row_of
from pneumoscope.radiographs.sources import Source

if TYPE_CHECKING:
    from ray.data import Dataset

#: Keys of the manifest that a resumed run must have in common, with their names in the error.
_FIXED_KEYS = {
    "model": "the model", "model_sha256": "the model file", "threshold": "the threshold",
    "prevalence": "the prevalence", "part_rows": "the rows of a part", "sources": "the number of images",
    "sources_sha256": "the list of images, each of the same size and date,",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part that is written.

    Attributes:
        number: from 0, in the order of the sources.
        statuses: number of images by status.
        worker: host and process that judged it.
        seconds: time that the worker needed.
    """

    number: int
    statuses: dict[str, int]
    worker: str
    seconds: float

    @property
    def name(self) -> str:
        """Name of the file."""
        return part_name(self.number)


class ClusterRun:
    """Judges radiographs on Ray and writes Parquet parts. Use it as a context: it keeps the folder locked.

    Args:
        predictor: the model at its operating point.
        sources: paths, addresses, and errors in their place. Every worker must be able to read them.
        folder: for the parts.
        resume: keep the parts that are in the folder. A run that ended before its first part can also be begun again.

    Attributes:
        parts: number of parts of the whole run.
        missing: numbers of the parts that are not judged yet.
        statuses: number of images by status, in the parts that are written.

    Raises:
        UsageError: the folder has parts and ``resume`` is False; or its parts belong to another model, operating point
            or list of images; or another process is writing to it.
        MissingExtra: Ray is not installed.
    """

    def __init__(self, predictor: Predictor, sources: Sequence[Source], folder: Path, resume: bool = False) -> None:
        require_ray()
        self.predictor, self.sources, self.folder = predictor, sources, folder
        self.part_rows = parquet_files.PART_ROWS
        self.parts = math.ceil(len(sources) / self.part_rows)
        self.statuses: Counter[str] = Counter()
        self._lock = parquet_files.lock_folder(folder)
        try:
            self._manifest = self._describe()
            self.missing = self._find_missing(resume)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "ClusterRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def score(self, address: str | None = None, cpus: int | None = None) -> Iterator[Part]:
        """Judge the missing parts, in any order.

        Args:
            address: of a Ray cluster; ``"auto"`` for the one that runs on this machine; None to start Ray here.
            cpus: cores to start Ray with; None for all.

        Yields:
            Each part when it is on disk.

        Raises:
            UsageError: there is no cluster at this address.
            RunError: the workers cannot work, for example because pneumoscope is not installed on their machines.
        """
        if self.missing:
            with connected(address, cpus):
                self._write_manifest(finished=False)
                yield from self._score_missing()
        self._write_manifest(finished=True)

    def _score_missing(self) -> Iterator[Part]:
        import ray

        try:
            for row in self._score_in_workers().iter_rows():
                write_atomic(self.folder / part_name(row["number"]), row["content"])
                part = Part(row["number"], json.loads(row["statuses"]), row["worker"], row["seconds"])
                self.statuses.update(part.statuses)
                yield part
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RunError(f"expected workers that judge, Ray says {lines[-1]}: correct it, then --resume") from None

    def _score_in_workers(self) -> "Dataset":
        """Send the parts to workers, each of which keeps the model loaded. Ray replaces a worker that dies."""
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        units = [{"number": number, "sources": encode_sources(self._sources_of(number))} for number in self.missing]
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray annotates only some functions
        workers = max(1, int(resources.get("CPU", 1)))
        bundle = self.predictor.bundle
        with warnings.catch_warnings():  # Ray warns of its own deprecated settings
            warnings.simplefilter("ignore")
            context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        return ray.data.from_items(units, override_num_blocks=len(units)).map(
            Worker,  # type: ignore[arg-type]  # a class too, whose objects are called; Ray declares functions only
            fn_constructor_args=(
                bundle.path.read_bytes(), str(bundle.path), self.predictor.threshold, self.predictor.prevalence,
                self.predictor.any_age, os.getcwd() if has_relative_names(self.sources) else None,
                self.predictor.accession_numbers,
            ),
            num_cpus=1,
            # One part a worker at a time, so that no part waits for a busy worker while another one is free.
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(units)), max_tasks_in_flight_per_actor=1),
        )  # fmt: skip

    def _sources_of(self, number: int) -> Sequence[Source]:
        return self.sources[number * self.part_rows : (number + 1) * self.part_rows]

    def _describe(self) -> dict[str, Any]:
        """The content of the manifest that is known before the run."""
        bundle = self.predictor.bundle
        return {
            "pneumoscope": __version__,
            "model": bundle.name,
            "model_sha256": bundle.sha256,
            "threshold": self.predictor.threshold,
            "prevalence": self.predictor.prevalence,
            "sources": len(self.sources),
            "sources_sha256": hash_sources(self.sources),
            "part_rows": self.part_rows,
            "parts": self.parts,
        }

    def _find_missing(self, resume: bool) -> list[int]:
        """Numbers of the parts that are missing or damaged; refuses a folder that cannot be resumed."""
        path = self.folder / MANIFEST
        parts = len(list(self.folder.glob("part-*.parquet")))
        if not resume and (parts or _is_finished(path)):
            raise parquet_files.folder_not_empty(self.folder, parts)
        if resume and path.exists():  # otherwise it is of a run that ended before its first part
            self._check_manifest(path)
        elif parts:
            raise UsageError(
                f"expected the {MANIFEST} of --engine ray in {self.folder}, its {parts} parts have none: continue "
                "them with --engine local, or name another folder"
            )
        return [number for number in range(self.parts) if not self._count_part(number)]

    def _check_manifest(self, path: Path) -> None:
        try:
            earlier = json.loads(path.read_bytes())
            changed = next((key for key in _FIXED_KEYS if earlier[key] != self._manifest[key]), None)
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f"expected a manifest that pneumoscope wrote at {path}, received another: name a new folder"
            ) from None
        if changed:
            raise UsageError(
                f"expected {_FIXED_KEYS[changed]} of the earlier run in {self.folder}, {_shorten(earlier[changed])}, "
                f"received {_shorten(self._manifest[changed])}: give the same again, or name another folder"
            )

    def _count_part(self, number: int) -> bool:
        """Count the images of a part; False if the part is missing or damaged."""
        import pyarrow
        import pyarrow.parquet

        try:
            column = pyarrow.parquet.read_table(self.folder / part_name(number), columns=["status"]).column(0)
        except (OSError, pyarrow.ArrowException):  # missing, or damaged
            return False
        if len(column) != len(self._sources_of(number)):
            return False
        self.statuses.update(column.to_pylist())
        return True

    def _write_manifest(self, finished: bool) -> None:
        counts = {"statuses": dict(sorted(self.statuses.items()))} if finished else {}
        content = {**self._manifest, "finished": finished, **counts}
        write_atomic(self.folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


class Worker:
    """A process of the cluster: it loads the model once, and judges one part after the other.

    The model arrives as bytes, so the other machines need the package but not the model file.

    Args:
        model: content of the model file.
        path: of the model file, for messages.
        threshold, prevalence, any_age, accession_numbers: of the predictor.
        folder: that relative names of sources are relative to; None if there are none.

    Raises:
        RunError: this machine has no such folder.
    """

    def __init__(
        self,
        model: bytes,
        path: str,
        threshold: float,
        prevalence: float | None,
        any_age: bool,
        folder: str | None = None,
        accession_numbers: bool = False,
    ) -> None:
        if folder is not None:
            try:
                os.chdir(folder)  # this process works for one run only
            except OSError as error:
                raise RunError(
                    f"expected the folder {folder} of the relative names on every machine, {socket.gethostname()} says "
                    f"{error.strerror}: give absolute names"
                ) from None
        bundle = read_bundle(model, Path(path), threads=1)  # a worker gets one core
        self.predictor = Predictor(bundle, threshold, prevalence, any_age, accession_numbers)

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Judge the sources of a part.

        Args:
            unit: ``number`` of the part, and its ``sources`` as text.

        Returns:
            ``number``, ``content`` of the Parquet file, and the rest of :class:`Part`.
        """
        start = time.perf_counter()
        with quiet_libraries():
            rows = [row_of(prediction) for prediction in self.predictor.predict_many(decode_sources(unit["sources"]))]
        return {
            "number": unit["number"],
            "content": parquet_part(rows),
            "statuses": json.dumps(Counter(row["status"] for row in rows)),
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "seconds": time.perf_counter() - start,
        }


def _is_finished(manifest: Path) -> bool:
    """Whether a manifest is that of a finished run, or no manifest of ours at all; False if there is none."""
    try:
        content = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return not isinstance(content, dict) or bool(content.get("finished", True))


def _shorten(value: object) -> object:
    """The first digits of a SHA-256; any other value as it is."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else value
