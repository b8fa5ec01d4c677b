"""Measure full-size radiographs a second: the local engine, and the Ray engine on one and on two cores.

    python benchmarks/speed/scaling.py --full DIR [--images 2048] [--runs 3]

The files of DIR are repeated until there are ``--images`` of them. The Ray engine, driver included, runs on as many
cores as it is said to have. Its rate covers the time from the start of the first part to the end of the last one: the
start of Ray, which takes seconds once, has a figure of its own. The script also times the work of the driver alone:
looking up sizes and dates, and writing a part. It prints a table, checks that all engines wrote the same bytes, and
writes ``benchmarks/results/scaling.json``, from which docs/scaling.md is calculated.
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
from pneumoscope.cluster.cluster_run import ClusterRun
from pneumoscope.cluster.source_lists import hash_sources
from pneumoscope.inference.predict import Predictor
from pneumoscope.io.atomic import write_atomic
from pneumoscope.output import parquet_files
from pneumoscope.radiographs.sources import expand

RESULT = Path(__file__).parents[1] / "results" / "scaling.json"
PART_ROWS = parquet_files.PART_ROWS
SHORT_PART = 128  # rows: fewer than in use, so that a short run has many parts for both workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", required=True, help="folder of full-size radiographs")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    parquet_files.PART_ROWS = SHORT_PART
    load_before = os.getloadavg()[0]
    files = list(expand([arguments.full]))
    sources = [files[number % len(files)] for number in range(arguments.images)]
    predictor = load()
    with tempfile.TemporaryDirectory() as folder:
        rates, starts = _measure(predictor, sources, arguments.runs, Path(folder))
        driver = _driver(predictor, sources, files, Path(folder))
    content = {
        "images": arguments.images,
        "runs": arguments.runs,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 1),  # of other processes; above 0.3 the rates are lower than the cores allow
        "mean_kilobytes": round(statistics.mean(path.stat().st_size for path in files) / 1000, 1),
        "images_a_second": {name: round(statistics.median(values), 2) for name, values in rates.items()},
        "all_runs": {name: [round(rate, 2) for rate in values] for name, values in rates.items()},
        "seconds_to_start": round(statistics.median(starts), 1),
        **driver,
    }
    print(f"{'engine':<14} {'images/s':>9} {'min':>8} {'max':>8}")
    for name, values in rates.items():
        print(f"{name:<14} {statistics.median(values):>9.1f} {min(values):>8.1f} {max(values):>8.1f}")
    arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _measure(
    predictor: Predictor, sources: list, runs: int, folder: Path
) -> tuple[dict[str, list[float]], list[float]]:
    """Images a second of every engine and run, and the seconds that Ray needed to start."""
    rates, starts = {"local": [], "ray, 1 core": [], "ray, 2 cores": []}, []
    for run in range(runs):
        out = folder / str(run)
        rates["local"].append(_local(predictor, sources, out / "local"))
        for cores, name in ((1, "ray, 1 core"), (2, "ray, 2 cores")):
            rate, start = _ray(predictor, sources, out / name, cores)
            rates[name].append(rate)
            starts.append(start)
        contents = [[part.read_bytes() for part in sorted(engine.glob("part-*"))] for engine in out.iterdir()]
        if any(content != contents[0] for content in contents):
            raise SystemExit("expected the same bytes from every engine, received different ones")
        shutil.rmtree(out)
    return rates, starts


def _local(predictor: Predictor, sources: list, folder: Path) -> float:
    """Images a second of the local engine on all cores."""
    began = time.perf_counter()
    file = parquet_files.ParquetParts(folder, predictor, False)
    file.begin()
    for prediction in predictor.predict_many(sources):
        file.write(prediction)
    file.close()
    return len(sources) / (time.perf_counter() - began)


def _ray(predictor: Predictor, sources: list, folder: Path, cores: int) -> tuple[float, float]:
    """Images a second of the Ray engine while its workers run, and the seconds before they start."""
    called, all_cores = time.perf_counter(), os.sched_getaffinity(0)
    begins, ends = [], []
    os.sched_setaffinity(0, sorted(all_cores)[:cores])  # Ray's processes inherit it
    try:
        with ClusterRun(predictor, sources, folder) as run:
            for part in run.score(cpus=cores):
                ends.append(time.perf_counter())
                begins.append(ends[-1] - part.seconds)
    finally:
        os.sched_setaffinity(0, all_cores)
    return len(sources) / (max(ends) - min(begins)), min(begins) - called


def _driver(predictor: Predictor, sources: list, files: list, folder: Path) -> dict:
    """Seconds of the work that one process does for all workers."""
    began = time.perf_counter()
    hash_sources(sources * 10)
    seconds_an_image = (time.perf_counter() - began) / (10 * len(sources))
    rows = [prediction.to_dict() for prediction in predictor.predict_many(files)]
    full = [
        {**rows[number % len(rows)], "image_sha256": hashlib.sha256(bytes([number % 256, number // 256])).hexdigest()}
        for number in range(PART_ROWS)
    ]
    for number, row in enumerate(full):  # every image is different; Parquet stores equal values once
        row["path"] = f"{number:04d}-{row['path']}"
    content = parquet_files.parquet_part(full)
    began = time.perf_counter()
    for number in range(20):
        write_atomic(folder / parquet_files.part_name(number), content)
    return {
        "driver_microseconds_an_image": round(seconds_an_image * 1e6, 1),
        "driver_milliseconds_a_part": round((time.perf_counter() - began) / 20 * 1000, 2),
        "part_rows": PART_ROWS,
        "bytes_a_row": round(len(content) / len(full), 1),
    }


if __name__ == "__main__":
    main()
