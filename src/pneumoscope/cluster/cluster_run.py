"""The same scoring on a Ray cluster (extra ``ray``): sources -> the Parquet parts that one machine would write.

The unit of work is a part: consecutive sources, whole batches of them, so that it has the same digits wherever it is
judged. Workers read, judge and encode; this process writes each part whole, and beside them ``manifest.json``, which
says what the parts are of. So a worker that dies costs the part it was at, and a run that dies goes on at the parts
that are not there.
"""

import hashlib
import json
import logging
import math
import os
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pneumoscope import __version__
from pneumoscope.cluster.connection import connected, require_ray
from pneumoscope.errors import ImageError, RunError, UsageError
from pneumoscope.inference.bundle import read_bundle
from pneumoscope.inference.predict import Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.output import results
from pneumoscope.output.results import MANIFEST, parquet_part, part_name
from pneumoscope.radiographs.remote import is_address, stamp_address
from pneumoscope.radiographs.sources import NothingFound

_LOOKS = 32  # sources whose size and date are looked up at a time: over a network this is waiting

#: What has to be the same to go on, and how it is called.
_SAME = {
    "model": "the model", "model_sha256": "the model file", "threshold": "the threshold",
    "prevalence": "the prevalence", "part_rows": "the rows of a part", "sources": "the number of images",
    "sources_sha256": "the list of images, each of the same size and date,",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part that was written.

    Attributes:
        number: from 0; its place in the order of the sources.
        statuses: images by status.
        worker: host and process that judged it.
        seconds: that it took there.
    """

    number: int
    statuses: dict[str, int]
    worker: str
    seconds: float

    @property
    def name(self) -> str:
        """Of the file."""
        return part_name(self.number)


class ClusterRun:
    """Radiographs judged on Ray into a folder of Parquet parts; a context that holds the folder.

    Args:
        predictor: the model at its operating point.
        sources: paths, addresses and :class:`~pneumoscope.radiographs.sources.NothingFound`; every worker has to reach them.
        folder: of the parts; only this process writes there.
        resume: go on with the parts that are there.

    Attributes:
        parts: how many there will be.
        missing: numbers of those still to be judged.
        statuses: images by status, of the parts that are there.

    Raises:
        UsageError: the folder has parts and ``resume`` is not given, or they are of another model, operating point or
            list of images; or another process writes it.
        MissingExtra: Ray is not installed.
    """

    def __init__(self, predictor: Predictor, sources: Sequence[object], folder: Path, resume: bool = False) -> None:
        require_ray()
        self.predictor, self.sources, self.folder, self.part_rows = predictor, sources, folder, results.PART_ROWS
        self.parts = math.ceil(len(sources) / self.part_rows)
        self.statuses: Counter[str] = Counter()
        self._lock = results.lock_folder(folder)
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
        """Judge what is missing, in any order.

        Args:
            address: of a Ray cluster, ``"auto"`` for the one of this machine; None starts Ray on this machine alone.
            cpus: cores to start it with; None for all.

        Yields:
            Each part when it is on the disk.

        Raises:
            UsageError: no cluster at this address.
            RunError: the workers cannot judge at all, such as without pneumoscope on their machines.
        """
        self._write_manifest(finished=False)
        if self.missing:
            with connected(address, cpus):
                yield from self._score_missing()
        self._write_manifest(finished=True)

    def _score_missing(self) -> Iterator[Part]:
        import ray

        try:
            for row in self._dataset().iter_rows():
                write_atomic(self.folder / part_name(row["number"]), row["content"])
                part = Part(row["number"], json.loads(row["statuses"]), row["worker"], row["seconds"])
                self.statuses.update(part.statuses)
                yield part
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise RunError(f"expected workers that judge, Ray says {said[-1]}: mend it, then --resume") from None

    def _dataset(self):
        """Part by part through workers that each hold the model; a lost one is replaced and its part judged again."""
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        units = [{"number": number, "sources": _packed(self._sources_of(number))} for number in self.missing]
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        bundle = self.predictor.bundle
        with warnings.catch_warnings():  # its own deprecated settings
            warnings.simplefilter("ignore")
            context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        return ray.data.from_items(units, override_num_blocks=len(units)).map(
            Worker,
            fn_constructor_args=(
                bundle.path.read_bytes(), str(bundle.path), self.predictor.threshold, self.predictor.prevalence
            ),
            num_cpus=1,
            # One part at a time: no part waits behind another one while a worker is free.
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(units)), max_tasks_in_flight_per_actor=1),
        )  # fmt: skip

    def _sources_of(self, number: int) -> Sequence[object]:
        return self.sources[number * self.part_rows : (number + 1) * self.part_rows]

    def _describe(self) -> dict:
        """What the parts are of."""
        bundle = self.predictor.bundle
        return {
            "pneumoscope": __version__,
            "model": bundle.name,
            "model_sha256": bundle.sha256,
            "threshold": self.predictor.threshold,
            "prevalence": self.predictor.prevalence,
            "sources": len(self.sources),
            "sources_sha256": _hash_of(self.sources),
            "part_rows": self.part_rows,
            "parts": self.parts,
        }

    def _find_missing(self, resume: bool) -> list[int]:
        """Numbers of the parts that are not there whole; refuses a folder that cannot be gone on with."""
        path = self.folder / MANIFEST
        there = len(list(self.folder.glob("part-*.parquet")))
        if (there or path.exists()) and not resume:
            raise results.folder_not_empty(self.folder, there)
        if path.exists():
            self._check_manifest(path)
        elif there:
            raise UsageError(
                f"expected the {MANIFEST} of --engine ray in {self.folder}, its {there} parts have none: go on with "
                "--engine local, or name another folder"
            )
        return [number for number in range(self.parts) if not self._is_whole(number)]

    def _check_manifest(self, path: Path) -> None:
        try:
            held = json.loads(path.read_bytes())
            changed = next((key for key in _SAME if held[key] != self._manifest[key]), None)
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f"expected a manifest that pneumoscope wrote at {path}, received another: name a new folder"
            ) from None
        if changed:
            raise UsageError(
                f"expected {_SAME[changed]} of before in {self.folder}, {_short(held[changed])}, received "
                f"{_short(self._manifest[changed])}: give the same again, or name another folder"
            )

    def _is_whole(self, number: int) -> bool:
        """Whether a part is there with all its rows, which are then counted."""
        import pyarrow
        import pyarrow.parquet

        try:
            column = pyarrow.parquet.read_table(self.folder / part_name(number), columns=["status"]).column(0)
        except (OSError, pyarrow.ArrowException):  # not there, or damaged
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
    """A process of the cluster: the model, loaded once, and one part after the other.

    The model comes as bytes and each machine needs only the package, not the file.
    """

    def __init__(self, model: bytes, path: str, threshold: float, prevalence: float | None) -> None:
        bundle = read_bundle(model, Path(path), threads=1)  # a worker is given one core
        self.predictor = Predictor(bundle, threshold, prevalence)

    def __call__(self, unit: dict) -> dict:
        """Judge the sources of a part -> its content, and what is said of it."""
        began = time.perf_counter()
        rows = [prediction.to_dict() for prediction in self.predictor.predict_many(_unpacked(unit["sources"]))]
        return {
            "number": unit["number"],
            "content": parquet_part(rows),
            "statuses": json.dumps(Counter(row["status"] for row in rows)),
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "seconds": time.perf_counter() - began,
        }


def _packed(sources: Sequence[object]) -> str:
    """Sources as text; JSON also takes the names that are not UTF-8."""
    return json.dumps([_name_and_reason(source) for source in sources])


def _unpacked(text: str) -> list[object]:
    return [NothingFound(name, reason) if reason else name for name, reason in json.loads(text)]


def _name_and_reason(source: object) -> tuple[str, str]:
    return (source.path, str(source)) if isinstance(source, NothingFound) else (str(source), "")


def _hash_of(sources: Sequence[object]) -> str:
    """SHA-256 over every source in order, with size and date, so that a file that changed is noticed."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=_LOOKS) as pool:
        stamps = ordered_prefetch(pool, _stamp, sources, ahead=8 * _LOOKS)
        for source, stamp in zip(sources, stamps, strict=True):
            digest.update(json.dumps([*_name_and_reason(source), stamp]).encode() + b"\n")
    return digest.hexdigest()


def _stamp(source: object) -> str:
    if isinstance(source, ImageError):
        return ""
    if is_address(source):
        return stamp_address(source)
    try:
        found = os.stat(source)
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _short(value: object) -> object:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else value
