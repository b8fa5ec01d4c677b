"""Time a folder of full-size radiographs beside Keras, PyTorch and TorchXRayVision, on the same two cores.

    python benchmarks/speed/folder_speed.py --images DIR --peers ENV_DIR        # or: make bench IMAGES=DIR

Every side is a process that reads the same files in the same order. The sides take turns within every repeat; only one
works at a time. The first repeat warms up and is not counted. The peers need an environment of their own (about 8 GB),
which this script makes from ``benchmarks/peers/requirements.txt``. The TensorFlow of this project is used once, to
write the network.

All sides run one network with random weights: MobileNet v1 (alpha 1.0) at the input size of the default model. A second
row runs it in int8, as the default model is. The default model predicts each radiograph and its mirror image, which is
twice the work, and has a row of its own. TorchXRayVision runs its own DenseNet121 at 224 pixels.

Our limits are our reading alone and our network alone, each with the best number of threads tried. Both need the same
cores, so both together cannot be faster than 1 / (1 / a + 1 / b); the table shows this beside the slower one's limit.
Cold starts are whole processes, from their start to the heatmap on disk. The script prints tables and writes
``benchmarks/results/folder_speed.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from datetime import UTC, datetime
from pathlib import Path

from pneumoscope.inference.bundle import open_bundle

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
sys.path[:0] = [str(PEERS), str(ROOT / "tools")]
from folder_tables import EIGHT_BITS, ONE_BY_ONE, OURS, tables
from sides import Side, cpu, pin

RESULT = ROOT / "benchmarks" / "results" / "folder_speed.json"  # a list: each run adds an entry, the last two stay
CORES, BATCH = 2, 16
# Row -> side, and the name of the work that is sent to it.
ROWS = {
    OURS["same"]: ("own", "same"),
    EIGHT_BITS: ("own", "eight"),
    OURS["shipped"]: ("own", "shipped"),
    ONE_BY_ONE: ("keras", "one by one"),
    "Keras predict on tf.data": ("keras", "tf.data"),
    "PyTorch, DataLoader": ("torch", "DataLoader"),
    "TorchXRayVision, its loader and DenseNet121": ("torch", "TorchXRayVision"),
    "ours without maps": ("own", "no maps"),
    "ours with Grad-CAM maps": ("own", "maps"),
    "pytorch-grad-cam": ("torch", "grad-cam"),
    "Keras, gradient tape": ("keras", "tape"),
} | {
    f"{which}: {half}": ("own", f"{which}: {half}")
    for which in ("same", "shipped")
    for half in ("decode, 2 threads", "decode, 4 threads", "infer, 1 x 16", "infer, 2 x 16", "infer, 2 x 4")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, type=Path, help="folder of full-size JPEGs")
    parser.add_argument("--peers", required=True, type=Path, help="environment of the peers; made if missing")
    parser.add_argument("--count", type=int, default=160, help="images a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, default=100_000, help="images of the memory row; 0 leaves it out")
    arguments = parser.parse_args()
    files = sorted(map(str, arguments.images.rglob("*.jp*g")))
    if len(files) < arguments.count:
        parser.error(f"expected {arguments.count} JPEGs under {arguments.images}, found {len(files)}: lower --count")
    load = os.getloadavg()[0]
    pin(CORES)
    peer = peers_python(arguments.peers)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(PEERS / "network.py"), folder], check=True)
        chosen = settings(folder, files[:: len(files) // arguments.count][: arguments.count])
        content = {
            "date": datetime.now(UTC).isoformat(" ", "minutes")[:16],
            "machine": {"cpu": cpu(), "cores": os.cpu_count(), "used": CORES, "load_before": round(load, 2)},
            "images": {"count": arguments.count, "mean_kb": mean_kb(chosen["files"]), "input": chosen["size"]},
            "repeats": arguments.repeats,
            "cold": cold_starts(peer, folder, chosen["files"], arguments.repeats),
            **in_turns(commands(peer, folder), arguments.repeats),
            "memory": memory(folder, arguments.memory),
        }
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else []
    RESULT.write_text(json.dumps([*before[-1:], content], indent=1) + "\n", encoding="utf-8")
    print(tables(content))
    print(f"\nwritten to {RESULT}")


def peers_python(folder: Path) -> str:
    """Interpreter of the peers' environment. pip does nothing if the pinned packages are installed."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = str(PEERS / "requirements.txt")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    return str(python)


def settings(folder: str, files: list[str]) -> dict:
    """What every side needs to know. It is written to a file, because the list is too long for a command line."""
    size = open_bundle().spec.height
    content = {"files": files, "size": size, "threads": CORES, "batch": BATCH, "folder": folder}
    Path(folder, "settings.json").write_text(json.dumps(content), encoding="utf-8")
    return content


def commands(peer: str, folder: str) -> dict[str, list[str]]:
    """Command that starts each side."""
    pythons = {"own": sys.executable, "keras": peer, "torch": peer}
    return {
        name: [python, str(PEERS / f"{name}_folder.py"), f"{folder}/settings.json"] for name, python in pythons.items()
    }


def cold_starts(peer: str, folder: str, files: list[str], repeats: int) -> dict:
    """Seconds from the start of a command to verdict and heatmap, on the file of median size."""
    image = sorted(files, key=os.path.getsize)[len(files) // 2]
    commands = {
        "ours": [sys.executable, "-m", "pneumoscope", "predict", image, "--heatmaps", f"{folder}/maps"],
        "notebook": [peer, str(PEERS / "keras_gradcam.py"), f"{folder}/network.keras", image, f"{folder}/map.png"],
    }
    seconds = {name: [] for name in commands}
    for _ in range(repeats + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - began)
    return {"image_kb": os.path.getsize(image) // 1000} | {
        name: spread(values[1:], digits=3) for name, values in seconds.items()
    }


def in_turns(started: dict[str, list[str]], repeats: int) -> dict:
    """Versions of the sides, and images a second of every row."""
    sides = {name: Side(name, command) for name, command in started.items()}
    rates = {row: [] for row in ROWS}
    for repeat in range(repeats + 1):
        for row, (side, work) in ROWS.items():
            rates[row].append(sides[side].ask(work))
        print(f"repeat {repeat} of {repeats}{'' if repeat else ' (warm-up)'}", file=sys.stderr, flush=True)
    for side in sides.values():
        side.end()
    return {
        "versions": {name: side.about for name, side in sides.items()},
        "images_per_second": {row: spread(values[1:]) for row, values in rates.items()},
    }


def memory(folder: str, images: int) -> dict:
    """Peak MB of an empty process, and of ours after a tenth of the images and after all."""
    if not images:
        return {}
    measure = "print(next(int(line.split()[1]) // 1000 for line in open('/proc/self/status') if 'VmHWM' in line))"
    own = [str(PEERS / "own_folder.py"), f"{folder}/settings.json", str(images)]
    outputs = [
        subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True).stdout
        for command in (["-c", measure], own)
    ]
    empty, tenth, end = map(int, " ".join(outputs).split())
    return {"images": images, "empty_mb": empty, "tenth_mb": tenth, "end_mb": end}


def mean_kb(files: list[str]) -> int:
    return round(statistics.mean(map(os.path.getsize, files)) / 1000)


def spread(values: list[float], digits: int = 1) -> dict:
    """Median, minimum, maximum, and every repeat."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in figures.items()} | {
        "repeats": [round(value, digits) for value in values]
    }


if __name__ == "__main__":
    main()
