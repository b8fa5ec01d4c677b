"""Kill runs of ``predict`` at random moments, several at once on one folder, and on a full disk: is every file whole?

    python benchmarks/damage/killed_runs.py [--kills 200] [--seed 0]

Eight processes judge the bundled radiographs again and again. All write overlays and sheets into one folder, and each
writes a CSV file of its own with ``--resume``. At random moments a random one is killed with SIGKILL and started again.
After each kill, every overlay, sheet and CSV file is read: a file that is not whole is counted. At the end each CSV
file is resumed to its last row and compared with that of an undisturbed run, byte for byte.

The second part fills a tmpfs of 1 MB (for root only) with results, resumes on one with room, and compares in the same
way. The script prints all counts. Its exit code is 1 if any of them is wrong.
"""

import argparse
import contextlib
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from pneumoscope.samples import SAMPLES

WRITERS = 8
PREDICT = [sys.executable, "-m", "pneumoscope", "predict", str(SAMPLES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*PREDICT, "--csv", str(folder / "whole.csv")], check=True, stdout=subprocess.DEVNULL)
        whole = (folder / "whole.csv").read_bytes()
        right = _kill_writers(folder, arguments.kills, random.Random(arguments.seed), whole)
        right = _fill_disk(folder, whole) and right
    sys.exit(0 if right else 1)


def _kill_writers(folder: Path, kills: int, chance: random.Random, whole: bytes) -> bool:
    """The first part; returns whether all is right."""
    shared = folder / "shared"

    def start(number: int) -> subprocess.Popen:
        outputs = [
            *("--csv", str(folder / f"{number}.csv")),
            *("--heatmaps", str(shared)),
            *("--html", str(shared / "index.html")),
        ]
        return subprocess.Popen([*PREDICT, *outputs, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    writers = {number: start(number) for number in range(WRITERS)}
    broken, read, ended = [], 0, 0
    for kill in range(kills):
        time.sleep(chance.uniform(0.1, 2.0))
        for number, process in writers.items():
            if process.poll() is not None:  # it was done: begin anew, with or without what it wrote
                ended += 1
                if chance.random() < 0.5:
                    (folder / f"{number}.csv").unlink(missing_ok=True)
                writers[number] = start(number)
        number = chance.randrange(WRITERS)
        writers[number].kill()
        writers[number].wait()
        writers[number] = start(number)
        for path in [*folder.glob("?.csv"), *(shared.iterdir() if shared.is_dir() else ())]:
            read += not path.name.startswith(".")
            if not _is_whole(path, whole):
                broken.append(f"{path.name} after kill {kill + 1}")
    for process in writers.values():
        process.kill()
        process.wait()
    for number in range(WRITERS):
        start(number).wait()
    equal = [(folder / f"{number}.csv").read_bytes() == whole for number in range(WRITERS)]
    print(
        f"{WRITERS} writers, {kills} kills, {ended} runs that ended: {read} files read, {len(broken)} not whole "
        f"{broken[:3]}"
    )
    print(f"resumed to the end: {sum(equal)} of {WRITERS} CSV files equal an undisturbed run, byte for byte")
    return not broken and all(equal)


def _is_whole(path: Path, whole: bytes) -> bool:
    """Whether a reader can use the file at this moment. A CSV file grows row by row; its last line may be half."""
    if path.name.startswith("."):  # of a writer that is at work or was killed
        return True
    if path.suffix == ".csv":
        return whole.startswith(path.read_bytes())
    if path.suffix == ".png":
        return cv2.imread(str(path)) is not None
    return path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def _fill_disk(folder: Path, whole: bytes) -> bool:
    """The second part; True if it is right, or cannot be tried here."""
    if os.geteuid() != 0:
        print("full disk: not tried, as a tmpfs needs root")
        return True
    with _small_disk(folder / "small") as disk:
        outputs = ["--csv", str(disk / "r.csv"), "--heatmaps", str(disk / "h"), "--resume"]
        full = subprocess.run([*PREDICT, *outputs], capture_output=True, text=True, check=False)
        pictures = list((disk / "h").iterdir())
        whole_pictures = sum(cv2.imread(str(path)) is not None for path in pictures)
        with (disk / "r.csv").open(newline="", encoding="utf-8") as file:
            rows = sum(1 for _ in csv.DictReader(file))
        is_start = whole.startswith((disk / "r.csv").read_bytes())
        shutil.copytree(disk, folder / "roomy")
    print(
        f"full disk: exit code {full.returncode}, {rows} rows, {whole_pictures} of {len(pictures)} overlays whole, "
        f"rows in order: {is_start}"
    )
    outputs = ["--csv", str(folder / "roomy" / "r.csv"), "--heatmaps", str(folder / "roomy" / "h"), "--resume"]
    resumed = subprocess.run([*PREDICT, *outputs], capture_output=True, check=False)
    equal = (folder / "roomy" / "r.csv").read_bytes() == whole
    print(f"resumed with room: exit code {resumed.returncode}, CSV equal to an undisturbed run: {equal}")
    return bool(full.returncode) and whole_pictures == len(pictures) and is_start and equal and not resumed.returncode


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


if __name__ == "__main__":
    main()
