"""Time how long a user waits for the first answer: ``--help``, and one full-size radiograph to verdict and heatmap.

    python benchmarks/speed/cold_start.py --python PYTHON_OF_A_CORE_INSTALLATION        # or: make bench-cold

Each figure is a whole process, from its start to its end. The files are in the system's cache. The script prints the
median of several runs with minimum and maximum, and says whether TensorFlow is installed there. Its last output is kept
by hand in ``benchmarks/results/cold_start.txt``.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from pneumoscope.samples import sample_paths

RUNS = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the installation to time")
    python = parser.parse_args().python
    largest = max(sample_paths(), key=lambda path: path.stat().st_size)
    probe = "import importlib.util as u; print(u.find_spec('tensorflow') is not None)"
    installed = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True).stdout
    print(f"TensorFlow installed: {installed.strip()}; image: {largest.name}, {largest.stat().st_size / 1000:.0f} kB")
    with tempfile.TemporaryDirectory() as folder:
        seconds = _time(python, _commands(str(largest), folder))
    print(f"{'seconds, median of ' + str(RUNS):<28} {'median':>7} {'min':>7} {'max':>7}")
    for name, values in seconds.items():
        print(f"{name:<28} {statistics.median(values):>7.3f} {min(values):>7.3f} {max(values):>7.3f}")


def _commands(image: str, folder: str) -> dict[str, list[str]]:
    predict = ["-m", "pneumoscope", "predict", image]
    return {
        "empty interpreter": ["-c", "pass"],
        "--help": ["-m", "pneumoscope", "--help"],
        "verdict": predict,
        "verdict and heatmap": [*predict, "--heatmaps", folder],
        "verdict and heatmap, LSTM": [*predict, "--heatmaps", folder, "--model", "reference-lstm"],
    }


def _time(python: str, commands: dict[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of every run of each command; the commands take turns, and the first run fills the caches."""
    seconds = {name: [] for name in commands}
    for _ in range(RUNS + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run([python, *command], stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - began)
    return {name: values[1:] for name, values in seconds.items()}


if __name__ == "__main__":
    main()
