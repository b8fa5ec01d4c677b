"""What one prediction costs with each shipped model, as a ratio to the reference MobileNet.

    python benchmarks/models/model_cost.py --data DIR

Takes turns through the models, one image at a time: the network alone, and the whole prediction from the file (reading,
decoding, resizing, the network). DIR holds radiographs; their size matters for the whole prediction. Prints medians and
ratios, and writes ``benchmarks/results/model_cost.json``.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from pneumoscope import load
from pneumoscope.inference.bundle import shipped_models
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.radiographs.images import SUFFIXES

RESULT = Path(__file__).parent / "results" / "model_cost.json"
REFERENCE = "reference-mobilenet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.images]
    predictors = {name: load(name) for name in shipped_models()}
    inputs = {name: preprocess(paths[0], predictor.bundle.spec) for name, predictor in predictors.items()}
    alone, whole = ({name: [] for name in predictors} for _ in range(2))
    for repeat in range(arguments.repeats + 1):
        for path in paths:
            for name, predictor in predictors.items():
                alone[name].append(_seconds(lambda p=predictor, x=inputs[name]: p.bundle.run(x)))
                whole[name].append(_seconds(lambda p=predictor, f=path: p.predict(f)))
        if repeat == 0:  # warm-up
            alone, whole = ({name: [] for name in predictors} for _ in range(2))
    found = {"images": len(paths), "repeats": arguments.repeats, "median_pixels": _median_pixels(paths), "models": {}}
    for name in predictors:
        row = {"network_ms": 1000 * median(alone[name]), "whole_ms": 1000 * median(whole[name])}
        row["network_ratio"] = median(alone[name]) / median(alone[REFERENCE])
        row["whole_ratio"] = median(whole[name]) / median(whole[REFERENCE])
        found["models"][name] = {key: round(value, 3) for key, value in row.items()}
        for what in ("network", "whole"):
            times = f"{row[f'{what}_ratio']:.2f} times the reference"
            print(f"{name:22s} {what:8s} {row[f'{what}_ms']:7.2f} ms, {times}")
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


def _seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _median_pixels(paths: list[Path]) -> int:
    from pneumoscope.radiographs.images import image_size

    return int(np.median([np.prod(image_size(path.read_bytes())) for path in paths]))


if __name__ == "__main__":
    main()
