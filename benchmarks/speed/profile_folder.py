"""Show where the time of a full-size radiograph goes, step by step, and what smaller JPEG decoding would change.

    python benchmarks/speed/profile_folder.py --images DIR [--model NAME]

Times are milliseconds of processor time an image, the minimum of three runs: unlike elapsed time, other work on the
machine changes them little. The total is measured on ``predict_many``, with the processor time of all its threads. The
script also times the decoding that the model does not ask for, at full size or as small as is enough (``area-224``,
``scaled-224``), and compares the probabilities. It prints the figures and writes
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
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.preprocess import MIN_DECODED_SIDE, SCALED_224, VIA_224, resize, to_input
from pneumoscope.labels import POSITIVE
from pneumoscope.radiographs.containers import image_size
from pneumoscope.radiographs.files import read_file

RESULT = Path(__file__).parents[1] / "results" / "profile_folder.json"
BATCH = 4  # images in one forward pass; the package judges one at a time
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
        _fastest(lambda batch=batch: predictor.bundle.run(batch), time.process_time)[0] for batch in _batches(inputs)
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
    """Time each step of one image. Return the model's input (1, height, width, channels)."""

    def timed(name: str, work: Callable) -> object:
        seconds, result = _fastest(work)
        steps.setdefault(name, []).append(seconds)
        return result

    spec = predictor.bundle.spec
    data = timed("read the file", lambda: read_file(path))
    timed("SHA-256", lambda: hashlib.sha256(data).hexdigest())
    least = MIN_DECODED_SIDE if spec.resize == SCALED_224 else 0
    timed(DECODE, lambda: simplejpeg.decode_jpeg(data, "GRAY", min_height=least, min_width=least, strict=True))
    radiograph = timed(CHECKS, lambda: spec.read(data))
    steps[CHECKS][-1] -= steps[DECODE][-1]
    small = timed("resize", lambda: resize(radiograph, spec))
    return timed("float, three channels", lambda: to_input(small[None], spec))


def _fastest(work: Callable, clock: Callable[[], float] = time.thread_time) -> tuple[float, object]:
    """Milliseconds by a clock (by default that of this thread), the minimum of three runs, and the result."""
    fastest = float("inf")
    for _ in range(3):
        began = clock()
        result = work()
        fastest = min(fastest, (clock() - began) * 1000)
    return fastest, result


def _batches(inputs: np.ndarray) -> list[np.ndarray]:
    return [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]


def _whole(predictor: Predictor, files: list[Path]) -> float:
    """Processor milliseconds an image of ``predict_many``, the minimum of three runs."""
    return _fastest(lambda: list(predictor.predict_many(files)), time.process_time)[0] / len(files)


def _compare_reduced(predictor: Predictor, files: list[Path], inputs: np.ndarray) -> dict:
    """Time and probabilities with the other decoding: at full size, or as small as is enough."""
    spec = predictor.bundle.spec
    other = replace(spec, resize=VIA_224 if spec.resize == SCALED_224 else SCALED_224)
    milliseconds, small = [], []
    for path in files:
        data = read_file(path)
        elapsed, pixels = _fastest(lambda data=data: resize(other.read(data), other))
        milliseconds.append(elapsed)
        small.append(to_input(pixels[None], spec))
    before, after = (_probabilities(predictor, each) for each in (inputs, np.concatenate(small)))
    difference = np.abs(before - after)
    return {
        "resize": other.resize,
        "decode_and_resize_ms": round(statistics.mean(milliseconds), 3),
        "mean_difference": round(float(difference.mean()), 4),
        "largest_difference": round(float(difference.max()), 4),
        "other_verdicts": int(((before >= predictor.threshold) != (after >= predictor.threshold)).sum()),
    }


def _probabilities(predictor: Predictor, inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([predictor.bundle.run(batch)[PROBABILITIES][:, POSITIVE] for batch in _batches(inputs)])


if __name__ == "__main__":
    main()
