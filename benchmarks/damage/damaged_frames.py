"""How many damaged DICOM files still get a verdict, by encoding and damage, and the table in docs/reference.md.

    python benchmarks/damage/damaged_frames.py
    python benchmarks/damage/damaged_frames.py --before OTHER/src    also with another version of the package
    python benchmarks/damage/damaged_frames.py --table               print the table of the last results

The files come from tests/builders/damage.py: the bundled radiographs in every encoding at hand, cut, closed, with a
piece missing or zero, and with one changed byte. A file that is read counts as judged.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results/damaged_frames.json"
sys.path += [str(ROOT / "tests"), str(ROOT / "tools")]

from dicom_damage import DAMAGES, damage_table

#: Reads each file that it is given, and prints whether it could; runs with any version of the package.
_READ = """
import sys
from pathlib import Path
try:
    from pneumoscope import read_radiograph
except ImportError:  # the first release
    from pneumoscope.images import read_radiograph
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_radiograph(path)
        print(path.name, 1, flush=True)
    except BaseException:  # one of the older decoders panics
        print(path.name, 0, flush=True)
"""

Counts = dict[str, dict[str, list[int]]]


def measure(folder: Path, source: Path) -> Counts:
    """Encoding -> damage -> files judged, and files.

    Args:
        folder: of the files, whose names start with encoding and damage.
        source: folder that contains the package.
    """
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, "-W", "ignore", "-c", _READ, str(folder)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    counts: Counts = collections.defaultdict(lambda: {damage: [0, 0] for damage in DAMAGES})
    for line in output.splitlines():
        name, _, judged = line.rpartition(" ")
        encoding, damage, _ = name.split("@")
        counts[encoding][damage][0] += int(judged)
        counts[encoding][damage][1] += 1
    return dict(counts)


def main() -> None:
    """Measure, print the table, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--before", type=Path, help="folder src of another version")
    parser.add_argument("--changes", type=int, default=100, help="files of each encoding with one changed byte")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table:
        import cv2
        from builders.damage import damaged_files

        from pneumoscope import read_radiograph, sample_paths

        image = cv2.resize(read_radiograph(sample_paths()[0]).pixels, (480, 384), interpolation=cv2.INTER_AREA)
        with tempfile.TemporaryDirectory() as folder:
            for number, (encoding, damage, data) in enumerate(damaged_files(image, arguments.changes)):
                kind = damage if not damage.startswith("cut") else "cut and closed" if "closed" in damage else "cut"
                Path(folder, f"{encoding}@{kind}@{number:05}.dcm").write_bytes(data)
            results = {"now": measure(Path(folder), ROOT / "src")}
            if arguments.before:
                results["before"] = measure(Path(folder), arguments.before)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(damage_table(json.loads(RESULTS.read_text()))))


if __name__ == "__main__":
    main()
