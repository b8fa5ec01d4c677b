"""Count the digits that depend on the batch, and measure what a forward pass for each image costs.

    python benchmarks/speed/batch_digits.py --images DIR

Each shipped model judges the same radiographs one by one, and in batches. The script counts the images whose
probability differs in any digit. It measures the seconds of processor time of an image (one thread) for reading and for
the network, in turns, so that other programs disturb all sides in the same way. The ratio is the processor time of an
image that is read and judged in a batch of four, over that of one that is judged alone: above 1, alone is faster.
It prints a table and writes ``benchmarks/results/batch_digits.json``.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pneumoscope import Predictor, load
from pneumoscope.inference.bundle import PROBABILITIES, shipped_models
from pneumoscope.inference.preprocess import to_input
from pneumoscope.labels import POSITIVE
from pneumoscope.radiographs.images import SUFFIXES

RESULT = Path(__file__).parents[1] / "results" / "batch_digits.json"
SIZES = (1, 2, 3, 4, 8)
TIMED = 16  # images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, type=Path, help="folder of radiographs")
    parser.add_argument("--count", type=int, default=200, help="radiographs, at equal distances in the sorted list")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = paths[:: max(1, len(paths) // arguments.count)][: arguments.count]
    content: dict[str, Any] = {"images": len(paths), "repeats": arguments.repeats, "models": {}}
    for name in shipped_models():
        predictor = load(name, threads=1)
        row = _count_differences(predictor, paths) | _measure(predictor, paths[:TIMED], arguments.repeats)
        content["models"][name] = row
        print(f"{name:20s} differ in batches of 2, 3, 4, 8: {row['differ']}, largest {row['largest']:.1e}")
        print(f"{'':20s} read {row['read_ms']}, alone {row['alone_ms']}, in four {row['four_ms']} ms: {row['ratio']}")
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


def _count_differences(predictor: Predictor, paths: list[Path]) -> dict[str, Any]:
    inputs = _inputs(predictor, paths)
    alone = _probabilities(predictor, inputs, 1)
    differences = [np.abs(_probabilities(predictor, inputs, size) - alone) for size in SIZES[1:]]
    return {
        "differ": [int((difference > 0).sum()) for difference in differences],
        "largest": float(max(difference.max() for difference in differences)),
    }


def _measure(predictor: Predictor, paths: list[Path], repeats: int) -> dict[str, float]:
    """Milliseconds of processor time of an image; the first repeat warms up."""
    inputs = _inputs(predictor, paths)
    read, alone, four = [], [], []
    for _ in range(repeats + 1):
        read.append(_seconds(lambda: [predictor.prepare(path) for path in paths]) / len(paths))
        alone.append(_seconds(lambda: _probabilities(predictor, inputs, 1)) / len(paths))
        four.append(_seconds(lambda: _probabilities(predictor, inputs, 4)) / len(paths))
    ratio = median((r + f) / (r + a) for r, a, f in zip(read[1:], alone[1:], four[1:], strict=True))
    named = {"read_ms": read, "alone_ms": alone, "four_ms": four}
    return {name: round(1000 * median(values[1:]), 2) for name, values in named.items()} | {"ratio": round(ratio, 2)}


def _inputs(predictor: Predictor, paths: list[Path]) -> np.ndarray:
    return to_input(np.stack([predictor.prepare(path).pixels for path in paths]), predictor.bundle.spec)


def _probabilities(predictor: Predictor, inputs: np.ndarray, size: int) -> np.ndarray:
    """(N, ...) inputs -> (N,) float32, in batches of a size."""
    parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
    return np.concatenate([predictor.bundle.run(part)[PROBABILITIES][:, POSITIVE] for part in parts])


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
