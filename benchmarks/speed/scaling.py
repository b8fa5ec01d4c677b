"""How many full-size radiographs a second: the local engine, and the Ray engine on one and on two cores.

    python benchmarks/speed/scaling.py --full DIR [--images 2048] [--runs 3]

Files of DIR are judged over and over until there are ``--images`` of them. The Ray engine, driver and all, is held to
as many cores as it is said to have. Its rate is of the time from the first part's beginning to the last one's end, so
that starting Ray, which takes seconds once, is a figure of its own. Also timed is what the driver does alone: looking
up sizes and dates, and writing a part. Prints a table, checks that all engines wrote the same bytes, and writes
``benchmarks/results/scaling.json``, from which the documents do their arithmetic.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from pneumoscope import load
from pneumoscope.cluster.cluster_run import ClusterRun, _hash_of
from pneumoscope.inference.predict import Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.output import results
from pneumoscope.radiographs.sources import expand

RESULT = Path(__file__).parent / "results" / "scaling.json"
PART_ROWS = results.PART_ROWS
SHORT_PART = 128  # rows: smaller than in use, so that a short run has many parts for both workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", required=True, help="folder of full-size radiographs")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    results.PART_ROWS = SHORT_PART
    files = list(expand([arguments.full]))
    sources = [files[number % len(files)] for number in range(arguments.images)]
    predictor, measured = load(), {"local": [], "ray, 1 core": [], "ray, 2 cores": []}
    starts, load_before = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for run in range(arguments.runs):
            here = Path(folder) / str(run)
            measured["local"].append(_local(predictor, sources, here / "local"))
            for cores, name in ((1, "ray, 1 core"), (2, "ray, 2 cores")):
                rate, start = _ray(predictor, sources, here / name, cores)
                measured[name].append(rate)
                starts.append(start)
            contents = [[part.read_bytes() for part in sorted(one.glob("part-*"))] for one in here.iterdir()]
            assert all(content == contents[0] for content in contents), "the engines differ"
            shutil.rmtree(here)
        driver = _driver(predictor, sources, files, Path(folder))
    found = {
        "images": arguments.images,
        "runs": arguments.runs,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 1),  # what else ran: above 0.3 the rates are not those of the cores
        "mean_kilobytes": round(statistics.mean(path.stat().st_size for path in files) / 1000, 1),
        "images_a_second": {name: round(statistics.median(rates), 2) for name, rates in measured.items()},
        "all_runs": {name: [round(rate, 2) for rate in rates] for name, rates in measured.items()},
        "seconds_to_start": round(statistics.median(starts), 1),
        **driver,
    }
    print(f"{'engine':<14} {'images/s':>9} {'min':>8} {'max':>8}")
    for name, rates in measured.items():
        print(f"{name:<14} {statistics.median(rates):>9.1f} {min(rates):>8.1f} {max(rates):>8.1f}")
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _local(predictor: Predictor, sources: list, folder: Path) -> float:
    """Images a second of the local engine, with every core."""
    began = time.perf_counter()
    file = results.ParquetParts(folder, predictor, False)
    file.begin()
    for prediction in predictor.predict_many(sources):
        file.write(prediction)
    file.close()
    return len(sources) / (time.perf_counter() - began)


def _ray(predictor: Predictor, sources: list, folder: Path, cores: int) -> tuple[float, float]:
    """Images a second of the Ray engine while its workers judge, and the seconds before."""
    called, every = time.perf_counter(), os.sched_getaffinity(0)
    begins, ends = [], []
    os.sched_setaffinity(0, sorted(every)[:cores])  # Ray's processes inherit it
    try:
        with ClusterRun(predictor, sources, folder) as run:
            for part in run.score(cpus=cores):
                ends.append(time.perf_counter())
                begins.append(ends[-1] - part.seconds)
    finally:
        os.sched_setaffinity(0, every)
    return len(sources) / (max(ends) - min(begins)), min(begins) - called


def _driver(predictor: Predictor, sources: list, files: list, folder: Path) -> dict:
    """What one process does for all workers."""
    began = time.perf_counter()
    _hash_of(sources * 10)
    look = (time.perf_counter() - began) / (10 * len(sources))
    rows = [prediction.to_dict() for prediction in predictor.predict_many(files)]
    full = [
        {**rows[number % len(rows)], "image_sha256": hashlib.sha256(bytes([number % 256, number // 256])).hexdigest()}
        for number in range(PART_ROWS)
    ]
    for number, row in enumerate(full):  # no image twice, or Parquet holds it once
        row["path"] = f"{number:04d}-{row['path']}"
    content = results.parquet_part(full)
    began = time.perf_counter()
    for number in range(20):
        write_atomic(folder / results.part_name(number), content)
    return {
        "driver_microseconds_an_image": round(look * 1e6, 1),
        "driver_milliseconds_a_part": round((time.perf_counter() - began) / 20 * 1000, 2),
        "part_rows": PART_ROWS,
        "bytes_a_row": round(len(content) / len(full), 1),
    }


if __name__ == "__main__":
    main()
