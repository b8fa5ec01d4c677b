"""Compare the default network in other forms: float32, and OpenVINO in float32 and bfloat16.

    python benchmarks/speed/runtimes.py --data DIR --float32 runs/mobilenet-all-seed0/float32.onnx [--model NAME]

Two questions: is a form faster, and does it give the same answers? The int8 file that ships was made from one float32
file (:mod:`pneumoscope.training.export.quantise`), which training leaves in its run folder; any other float32 file is
refused. OpenVINO is not a dependency of this project; without it its rows are missing. The forms take turns, one batch
at a time, and a batch is as long as in use. Speed and answers are compared with the float32 file, on images that it was
trained on. So the ROC AUC shows how much a form loses, not how good the model is; ``crossval`` measures the loss on
held-out patients. The script prints the figures and writes ``benchmarks/results/runtimes.json``.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

from pneumoscope import load
from pneumoscope.data import read_dataset
from pneumoscope.evaluation.metrics import roc_auc
from pneumoscope.inference.bundle import PROBABILITIES, open_bundle
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.labels import POSITIVE, label_index

BENCHMARKS = Path(__file__).parents[1]
sys.path.insert(0, str(BENCHMARKS / "peers"))
from sides import cpu, pin

RESULT = BENCHMARKS / "results" / "runtimes.json"
BATCH = 4  # images in one forward pass; the package judges one at a time
CORES = 2
Form = Callable[[np.ndarray], np.ndarray]  # (N, height, width, channels) float32 -> (N, 2) float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder [split/]LABEL/image")
    parser.add_argument("--float32", required=True, type=Path, help="float32.onnx of the run that made the model")
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    pin(CORES)
    predictor, float32 = load(arguments.model), open_bundle(arguments.float32)
    expected = predictor.bundle.contract["quantisation"]["float32_body_sha256"]
    if float32.contract["body_sha256"] != expected:
        parser.error(f"expected the file that {predictor.bundle.name} was made of, {arguments.float32} is another")
    manifest = read_dataset(arguments.data)
    records = manifest.records[:: max(1, len(manifest) // arguments.images)][: arguments.images]
    inputs = np.stack([preprocess(manifest.path(record), predictor.bundle.spec) for record in records])
    inputs = inputs.reshape(-1, *predictor.bundle.spec.shape)
    labels = np.array([label_index(record.label) for record in records])
    forms = {
        "ONNX Runtime, float32": onnx_form(float32.path),
        "ships: ONNX Runtime, int8": onnx_form(predictor.bundle.path),
        **openvino_forms(float32.path),
    }
    seconds, outputs = in_turns(forms, inputs)
    first = next(iter(forms))
    content = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "used": CORES, "load_before": round(load_before, 2)},
        "model": predictor.bundle.name,
        "images": len(inputs),
        "versions": {name: version(name) for name in ("onnxruntime", "openvino") if installed(name)},
        "forms": {
            name: compared(seconds[name], seconds[first], outputs[name], outputs[first], labels, predictor)
            for name in forms
        },
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def onnx_form(path: Path) -> Form:
    """The file as ONNX Runtime runs it in this project, with the settings of pneumoscope.inference.bundle."""
    session = open_bundle(path, threads=CORES).session
    name = session.get_inputs()[0].name
    return lambda batch: session.run([PROBABILITIES], {name: batch})[0]


def openvino_forms(path: Path) -> dict[str, Form]:
    """The file as OpenVINO runs it; empty if OpenVINO is not installed."""
    if not installed("openvino"):
        return {}
    import openvino

    def form(precision: str) -> Form:
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": CORES}
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        return lambda batch: compiled(batch)[PROBABILITIES]

    return {f"OpenVINO, {precision}": form(precision) for precision in ("f32", "bf16")}


def installed(name: str) -> bool:
    """Whether a package is installed."""
    return find_spec(name) is not None


def in_turns(forms: dict[str, Form], inputs: np.ndarray) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each batch and the probabilities of pneumonia, of every form."""
    seconds, outputs = {name: [] for name in forms}, {name: [] for name in forms}
    for start in range(0, len(inputs), BATCH):
        for name, form in forms.items():
            began = time.perf_counter()
            probabilities = form(inputs[start : start + BATCH])
            seconds[name].append(time.perf_counter() - began)
            outputs[name].append(probabilities[:, POSITIVE])
    return seconds, {name: np.concatenate(parts) for name, parts in outputs.items()}


def compared(seconds, first_seconds, output, first_output, labels: np.ndarray, predictor: Predictor) -> dict:
    """One form compared with the first."""
    verdicts = (output >= predictor.threshold) != (first_output >= predictor.threshold)
    difference = np.abs(output - first_output)
    return {
        "batch_ms": round(1000 * median(seconds), 2),
        "times_faster": round(median(first_seconds) / median(seconds), 2),
        "roc_auc": round(roc_auc(labels, output), 4),
        "mean_difference": round(float(difference.mean()), 4),
        "largest_difference": round(float(difference.max()), 4),
        "other_verdicts": int(verdicts.sum()),
    }


if __name__ == "__main__":
    main()
