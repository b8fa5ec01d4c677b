"""Measure what one prediction costs with each shipped model, as a ratio to the reference MobileNet.

    python benchmarks/models/model_cost.py --data DIR [MODEL...]

The models take turns, one image at a time. Two times are measured: the network alone, and the whole prediction from
the file (reading, decoding, resizing, the network). DIR contains radiographs; their size matters for the whole
prediction. The script prints medians and ratios and writes ``benchmarks/results/model_cost.json``. With further models
(files or run folders) it measures those, too, and writes nothing.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from pneumoscope import Predictor, load
from pneumoscope.inference.bundle import shipped_models
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.radiographs.containers import image_size
from pneumoscope.radiographs.images import SUFFIXES

RESULT = Path(__file__).parents[1] / "results" / "model_cost.json"
REFERENCE = "reference-mobilenet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="beside the shipped ones; nothing is written then")
    parser.add_argument("--data", required=True, type=Path, help="folder of radiographs")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.images]
    names = [*shipped_models(), *arguments.models]
    seconds = _measure({name: load(name) for name in names}, paths, arguments.repeats)
    content = {
        "images": len(paths),
        "repeats": arguments.repeats,
        "median_pixels": int(median(np.prod(image_size(path.read_bytes())) for path in paths)),
        "models": {name: _row(name, seconds) for name in seconds["network"]},
    }
    for name, row in content["models"].items():
        for part in seconds:
            print(f"{name:22s} {part:8s} {row[f'{part}_ms']:7.2f} ms, {row[f'{part}_ratio']:.2f} times the reference")
    if not arguments.models:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"written to {RESULT}")


def _measure(predictors: dict[str, Predictor], paths: list[Path], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of the network alone and of the whole prediction, by model. The first repeat warms up."""
    inputs = {name: preprocess(paths[0], predictor.bundle.spec) for name, predictor in predictors.items()}
    for repeat in range(repeats + 1):
        if repeat in (0, 1):
            network, whole = ({name: [] for name in predictors} for _ in range(2))
        for path in paths:
            for name, predictor in predictors.items():
                network[name].append(_seconds(lambda p=predictor, x=inputs[name]: p.bundle.run(x)))
                whole[name].append(_seconds(lambda p=predictor, f=path: p.predict(f)))
    return {"network": network, "whole": whole}


def _row(name: str, seconds: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    row = {f"{part}_ms": 1000 * median(by_model[name]) for part, by_model in seconds.items()}
    row |= {f"{part}_ratio": median(by_model[name]) / median(by_model[REFERENCE]) for part, by_model in seconds.items()}
    return {key: round(value, 3) for key, value in row.items()}


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
