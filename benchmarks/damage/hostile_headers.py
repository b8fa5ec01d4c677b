"""What hostile DICOM files cost a reader: seconds and megabytes over those of the empty process, file by file.

    python benchmarks/damage/hostile_headers.py --files 2000

Each file is read in a process of its own, forked from one that has imported everything. The memory of a process is its
peak, looked at every millisecond, minus what it had before; other processes lengthen the seconds, not the
CPU seconds. The file itself is in memory before.
The files come from tests/builders/hostile_dicom.py.
"""

import argparse
import collections
import json
import os
import pickle
import platform
import select
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import cv2
import numpy as np
from builders.dicom_files import compress_frame, dicom_file, dicom_with_frame, make_dataset
from builders.hostile_dicom import hostile_files
from pydicom.uid import JPEG2000Lossless


def made_elsewhere(files: Iterator[tuple[str, bytes]], count: int) -> Iterator[tuple[str, bytes]]:
    """The files, made in another process: memory that making them has freed would hide what reading them needs."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        with os.fdopen(sender, "wb") as pipe:
            for file in files:
                pickle.dump(file, pipe)
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        for _ in range(count):
            yield pickle.load(pipe)
    os.waitpid(child, 0)


def measure(data: bytes | list[bytes]) -> dict[str, object]:
    """Seconds, megabytes and outcome of reading one file."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        with os.fdopen(sender, "w") as file:
            print(_resident_bytes("self"), file=file, flush=True)
            json.dump(_read(data), file)
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as file:
        before = most = int(file.readline())
        while not select.select([file], [], [], 0.001)[0]:  # the peak that the kernel keeps is not available everywhere
            most = max(most, _resident_bytes(child))
        text = file.read()
    os.waitpid(child, 0)
    if not text:
        return {"outcome": "the process died", "seconds": 0.0, "cpu_seconds": 0.0, "megabytes": 0.0}
    return {**json.loads(text), "megabytes": (most - before) / 1e6}


def measure_large(counts: Sequence[int] = (1, 4, 8)) -> dict[str, float]:
    """Megabytes that a process needs for n files of 24 megapixels in JPEG 2000 at once, each in a thread of its own.

    The results, 24 MB each, are kept.
    """
    ((_, data),) = made_elsewhere(_large_file(), 1)
    return {str(count): round(measure([data] * count)["megabytes"]) for count in counts}


def _large_file() -> Iterator[tuple[str, bytes]]:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200)).astype(np.uint8)
    frame = compress_frame(cv2.resize(pixels, (4000, 6000), interpolation=cv2.INTER_CUBIC), JPEG2000Lossless)
    dataset = make_dataset(np.zeros((2, 2), np.uint8))
    dataset.Rows, dataset.Columns = 6000, 4000
    yield "large", dicom_with_frame(frame, JPEG2000Lossless, dataset)


def _read(data: bytes | list[bytes]) -> dict[str, object]:
    from pneumoscope import read_radiograph
    from pneumoscope.errors import ImageError

    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        if isinstance(data, list):
            with ThreadPoolExecutor(len(data)) as pool:
                list(pool.map(read_radiograph, data))
        else:
            read_radiograph(data)
        outcome = "read"
    except ImageError as error:
        outcome = type(error).__name__
    except Exception as error:
        outcome = f"not one of our errors: {type(error).__name__}"
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return {"outcome": outcome, "seconds": seconds, "cpu_seconds": cpu_seconds}


def _resident_bytes(process: int | str) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/hostile_headers.json")
    arguments = parser.parse_args()

    from pneumoscope import read_radiograph

    read_radiograph(dicom_file(np.tile(np.arange(64, dtype=np.uint8), (64, 1))))  # imports everything
    rows = []
    for name, data in made_elsewhere(hostile_files(arguments.files, arguments.seed), arguments.files):
        rows.append((name, measure(data)))
        if len(rows) % 100 == 0:
            print(f"{len(rows)} files", file=sys.stderr, flush=True)
    kinds: dict[str, dict[str, object]] = {}
    for name in dict.fromkeys(name for name, _ in rows):
        own = [row for kind, row in rows if kind == name]
        kinds[name] = {
            "files": len(own),
            "most_seconds": round(max(row["seconds"] for row in own), 3),
            "most_cpu_seconds": round(max(row["cpu_seconds"] for row in own), 3),
            "most_megabytes": round(max(row["megabytes"] for row in own), 1),
            "outcomes": dict(collections.Counter(row["outcome"] for row in own)),
        }
        print(
            f"{name:24}{kinds[name]['most_seconds']:8} s{kinds[name]['most_megabytes']:9} MB  {kinds[name]['outcomes']}"
        )
    result = {
        "files": len(rows),
        "seed": arguments.seed,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "most_seconds": max(kind["most_seconds"] for kind in kinds.values()),
        "most_cpu_seconds": max(kind["most_cpu_seconds"] for kind in kinds.values()),
        "load": os.getloadavg()[1],
        "most_megabytes": max(kind["most_megabytes"] for kind in kinds.values()),
        "megabytes_of_large_images_at_once": measure_large(),
        "kinds": kinds,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['files']} files: at most {result['most_seconds']} s and {result['most_megabytes']} MB")


if __name__ == "__main__":
    main()
