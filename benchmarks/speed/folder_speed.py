"""A folder of full-size radiographs: this project beside Keras, PyTorch and TorchXRayVision, on the same two cores.

    python benchmarks/speed/folder_speed.py --images DIR --peers ENV_DIR        # or: make bench IMAGES=DIR

Every side is a process with the same files in the same order; they take turns within every repeat, and none works while
another does. The first repeat warms up and is not counted. The peers live in an environment of their own, which this
makes from ``benchmarks/peers/requirements.txt`` (about 8 GB); TensorFlow of ours is used once, to write the network.

All run one network, MobileNet v1 (alpha 1.0) at the default model's input size, with random weights. It has a second
row in eight bits, as the default model is. The default itself looks at each radiograph and at its mirror image, twice
the work, and has a row of its own; TorchXRayVision runs its own DenseNet121 at 224 pixels. The limits are our own
reading alone and our own network alone, each with the best tried number of threads. Both need the same cores, so both
together cannot go faster than 1 / (1 / a + 1 / b), which stands beside the slower one's limit. Cold starts are whole
processes, from their start to the heatmap on disk. Prints tables and writes ``benchmarks/results/folder_speed.json``.
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

from folder_tables import EIGHT_BITS, ONE_BY_ONE, OURS, tables
from sides import Side, cpu, pin

HERE = Path(__file__).parent
PEERS = HERE / "peers"
RESULT = HERE / "results" / "folder_speed.json"  # a list: each run of this adds itself, and the last two stay
CORES, BATCH = 2, 16
# Row -> side and the name it is asked by.
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
    parser.add_argument("--peers", required=True, type=Path, help="environment of the peers; made if it is not there")
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
        given = settings(folder, files[:: len(files) // arguments.count][: arguments.count])
        content = {
            "date": datetime.now(UTC).isoformat(" ", "minutes")[:16],
            "machine": {"cpu": cpu(), "cores": os.cpu_count(), "used": CORES, "load_before": round(load, 2)},
            "images": {"count": arguments.count, "mean_kb": mean_kb(given["files"]), "input": given["size"]},
            "repeats": arguments.repeats,
            "cold": cold_starts(peer, folder, given["files"], arguments.repeats),
            **in_turns(commands(peer, folder), arguments.repeats),
            "memory": memory(folder, arguments.memory),
        }
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else []
    RESULT.write_text(json.dumps([*before[-1:], content], indent=1) + "\n", encoding="utf-8")
    print(tables(content))
    print(f"\nwritten to {RESULT}")


def peers_python(folder: Path) -> str:
    """Interpreter of the peers' environment, with what is pinned; pip does nothing where all is there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = str(PEERS / "requirements.txt")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    return str(python)


def settings(folder: str, files: list[str]) -> dict:
    """What every side is told; written to a file, for a list of names outgrows a command line."""
    from pneumoscope.inference.bundle import open_bundle

    size = open_bundle().spec.height
    given = {"files": files, "size": size, "threads": CORES, "batch": BATCH, "folder": folder}
    Path(folder, "settings.json").write_text(json.dumps(given), encoding="utf-8")
    return given


def commands(peer: str, folder: str) -> dict[str, list[str]]:
    """How each side is started."""
    pythons = {"own": sys.executable, "keras": peer, "torch": peer}
    return {
        name: [python, str(PEERS / f"{name}_folder.py"), f"{folder}/settings.json"] for name, python in pythons.items()
    }


def cold_starts(peer: str, folder: str, files: list[str], repeats: int) -> dict:
    """Seconds from the start of a command to verdict and heatmap, on the file of median size."""
    image = sorted(files, key=os.path.getsize)[len(files) // 2]
    ways = {
        "ours": [sys.executable, "-m", "pneumoscope", "predict", image, "--heatmaps", f"{folder}/maps"],
        "notebook": [peer, str(PEERS / "keras_gradcam.py"), f"{folder}/network.keras", image, f"{folder}/map.png"],
    }
    seconds = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, command in ways.items():
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
        for row, (side, what) in ROWS.items():
            rates[row].append(sides[side].ask(what))
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
    said = [
        subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True).stdout
        for command in (["-c", measure], own)
    ]
    empty, tenth, end = map(int, " ".join(said).split())
    return {"images": images, "empty_mb": empty, "tenth_mb": tenth, "end_mb": end}


def mean_kb(files: list[str]) -> int:
    return round(statistics.mean(map(os.path.getsize, files)) / 1000)


def spread(values: list[float], digits: int = 1) -> dict:
    """Median, least and most, and every repeat."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()} | {
        "repeats": [round(value, digits) for value in values]
    }


if __name__ == "__main__":
    main()
