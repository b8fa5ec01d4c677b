"""How long a user waits for the first answer: ``--help``, and one full-size radiograph to verdict and heatmap.

    python benchmarks/speed/cold_start.py --python PYTHON_OF_A_CORE_INSTALLATION

Each figure is a whole process, from its start to its end, files read from the system's cache. Prints the median of
several runs with minimum and maximum, and says whether TensorFlow is installed there.
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
    arguments = parser.parse_args()
    largest = max(sample_paths(), key=lambda path: path.stat().st_size)
    probe = "import importlib.util as u; print(u.find_spec('tensorflow') is not None)"
    installed = subprocess.run([arguments.python, "-c", probe], capture_output=True, text=True, check=True).stdout
    print(f"TensorFlow installed: {installed.strip()}; image: {largest.name}, {largest.stat().st_size / 1000:.0f} kB")
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "empty interpreter": ["-c", "pass"],
            "--help": ["-m", "pneumoscope", "--help"],
            "verdict": ["-m", "pneumoscope", "predict", str(largest)],
            "verdict and heatmap": ["-m", "pneumoscope", "predict", str(largest), "--heatmaps", folder],
            "verdict and heatmap, LSTM": [
                "-m", "pneumoscope", "predict", str(largest), "--heatmaps", folder, "--model", "reference-lstm",
            ],
        }  # fmt: skip
        seconds = {name: [] for name in commands}
        for _ in range(RUNS + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run([arguments.python, *command], stdout=subprocess.DEVNULL, check=True)
                seconds[name].append(time.perf_counter() - began)
    print(f"{'seconds, median of ' + str(RUNS):<28} {'median':>7} {'min':>7} {'max':>7}")
    for name, values in seconds.items():
        counted = values[1:]  # the first run fills the caches
        print(f"{name:<28} {statistics.median(counted):>7.3f} {min(counted):>7.3f} {max(counted):>7.3f}")


if __name__ == "__main__":
    main()
