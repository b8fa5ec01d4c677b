"""Where the time of a full-size radiograph goes, step by step, and what a smaller JPEG decoding would change.

    python benchmarks/speed/profile_folder.py --images DIR [--model NAME]

Processor time, the least of three goes, in milliseconds an image: other work on the machine changes it little, unlike
elapsed time. The whole is measured on ``predict_many``, with the processor time of all its threads.
Below it: the decoding that the model does not ask for, at full size or as small as will do (``area-224``,
``scaled-224``), and how the probabilities differ. Prints, and writes
``benchmarks/results/profile_folder.json``.
"""

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from pneumoscope import load
from pneumoscope.inference.bundle import PROBABILITIES
from pneumoscope.inference.predict import BATCH, Predictor
from pneumoscope.inference.preprocess import LEAST_SIDE, SCALED_224, VIA_224, resize, to_input
from pneumoscope.labels import POSITIVE
from pneumoscope.radiographs.images import image_size, read_file

RESULT = Path(__file__).parent / "results" / "profile_folder.json"
DECODE, CHECKS = "decode the JPEG", "checks, gray, contrast"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, type=Path, help="folder of full-size JPEGs")
    parser.add_argument("--model", default="mobilenet")
    arguments = parser.parse_args()
    files = sorted(arguments.images.rglob("*.jp*g"))
    predictor = load(arguments.model, threads=1)
    cv2.setNumThreads(1)
    steps: dict[str, list[float]] = {}
    inputs = np.concatenate([_steps(path, predictor, steps) for path in files])  # (N, height, width, channels)
    network = [
        _least(lambda batch=batch: predictor.bundle.run(batch), time.process_time)[0] for batch in _parts(inputs)
    ]
    means = {name: statistics.mean(values) for name, values in steps.items()}
    means["network, all its threads"] = sum(network) / len(inputs)
    content = {
        "model": predictor.bundle.name,
        "images": len(files),
        "mean_kb": round(statistics.mean(path.stat().st_size for path in files) / 1000),
        "mean_megapixels": round(statistics.mean(np.prod(image_size(read_file(path))) for path in files) / 1e6, 2),
        "steps_ms": {name: round(each, 3) for name, each in means.items()},
        "whole_ms": round(_whole(predictor, files), 3),
        "reduced": _compare_reduced(predictor, files, inputs),
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def _steps(path: Path, predictor: Predictor, steps: dict[str, list[float]]) -> np.ndarray:
    """Time each step of one image; returns the model's input (1, ...)."""

    def timed(name: str, work: Callable) -> object:
        seconds, result = _least(work)
        steps.setdefault(name, []).append(seconds)
        return result

    spec = predictor.bundle.spec
    data = timed("read the file", lambda: read_file(path))
    timed("SHA-256", lambda: hashlib.sha256(data).hexdigest())
    least = LEAST_SIDE if spec.resize == SCALED_224 else 0
    timed(DECODE, lambda: simplejpeg.decode_jpeg(data, "GRAY", min_height=least, min_width=least, strict=True))
    radiograph = timed(CHECKS, lambda: spec.read(data))
    steps[CHECKS][-1] -= steps[DECODE][-1]
    small = timed("resize", lambda: resize(radiograph, spec))
    return timed("float, three channels", lambda: to_input(small[None], spec))


def _least(work: Callable, clock: Callable[[], float] = time.thread_time) -> tuple[float, object]:
    """Milliseconds by a clock, this thread's own by default, the least of three goes, and the result."""
    least = float("inf")
    for _ in range(3):
        began = clock()
        result = work()
        least = min(least, (clock() - began) * 1000)
    return least, result


def _parts(inputs: np.ndarray) -> list[np.ndarray]:
    return [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]


def _whole(predictor: Predictor, files: list[Path]) -> float:
    """Processor milliseconds an image of the real thing, the least of three goes."""
    return _least(lambda: list(predictor.predict_many(files)), time.process_time)[0] / len(files)


def _compare_reduced(predictor: Predictor, files: list[Path], inputs: np.ndarray) -> dict:
    """Time and probabilities with the contract's other decoding: at the full size, or as small as will do."""
    spec = predictor.bundle.spec
    other = replace(spec, resize=VIA_224 if spec.resize == SCALED_224 else SCALED_224)
    seconds, small = [], []
    for path in files:
        data = read_file(path)
        each, pixels = _least(lambda data=data: resize(other.read(data), other))
        seconds.append(each)
        small.append(to_input(pixels[None], spec))
    one, two = (_probabilities(predictor, each) for each in (inputs, np.concatenate(small)))
    difference = np.abs(one - two)
    return {
        "resize": other.resize,
        "decode_and_resize_ms": round(statistics.mean(seconds), 3),
        "mean_difference": round(float(difference.mean()), 4),
        "largest_difference": round(float(difference.max()), 4),
        "other_verdicts": int(((one >= predictor.threshold) != (two >= predictor.threshold)).sum()),
    }


def _probabilities(predictor: Predictor, inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([predictor.bundle.run(batch)[PROBABILITIES][:, POSITIVE] for batch in _parts(inputs)])


if __name__ == "__main__":
    main()
