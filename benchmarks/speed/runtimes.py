"""The default network in other forms: float32, and OpenVINO in float32 and bfloat16. Faster, and do they say the same?

    python benchmarks/speed/runtimes.py --data DIR --float32 runs/mobilenet-all-seed0/float32.onnx [--model NAME]

The default in eight bits is what :mod:`pneumoscope.training.export.quantise` made of the given file, which a training leaves in its
run folder; another one is refused. OpenVINO is no dependency of this project; without it its rows are left out. The
forms take turns, one batch as long as in use at a time. Both the speed and the answers are compared with the float32
file, on images that it was trained on, so that their ROC AUC says by how much a form falls and not how good the model
is; how it falls on held-out patients, ``crossval`` measures. Prints, and writes ``benchmarks/results/runtimes.json``.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from sides import cpu, pin

from pneumoscope import load
from pneumoscope.data.manifest import read_dataset
from pneumoscope.evaluation.metrics import roc_auc
from pneumoscope.inference.bundle import PROBABILITIES, open_bundle
from pneumoscope.inference.predict import BATCH, Predictor
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.labels import POSITIVE, label_index

RESULT = Path(__file__).parent / "results" / "runtimes.json"
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
    made_of = predictor.bundle.contract["quantisation"]["float32_body_sha256"]
    if float32.contract["body_sha256"] != made_of:
        parser.error(f"expected the file that {predictor.bundle.name} was made of, {arguments.float32} is another")
    records = read_dataset(arguments.data).records
    records = records[:: max(1, len(records) // arguments.images)][: arguments.images]
    root = read_dataset(arguments.data).root
    inputs = np.stack([preprocess(root / record.path, predictor.bundle.spec) for record in records])
    inputs = inputs.reshape(-1, *predictor.bundle.spec.shape)
    labels = np.array([label_index(record.label) for record in records])
    forms = {
        "ONNX Runtime, float32": of_onnx(float32.path),
        "ships: ONNX Runtime, int8": of_onnx(predictor.bundle.path),
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


def of_onnx(path: Path) -> Form:
    """A file as ONNX Runtime runs it here, with the settings of pneumoscope.inference.bundle."""
    session = open_bundle(path, threads=CORES).session
    name = session.get_inputs()[0].name
    return lambda batch: session.run([PROBABILITIES], {name: batch})[0]


def openvino_forms(path: Path) -> dict[str, Form]:
    """The file as OpenVINO runs it; nothing where OpenVINO is not installed."""
    if not installed("openvino"):
        return {}
    import openvino

    def form(precision: str) -> Form:
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": CORES}
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        return lambda batch: compiled(batch)[PROBABILITIES]

    return {f"OpenVINO, {precision}": form(precision) for precision in ("f32", "bf16")}


def installed(name: str) -> bool:
    """Whether a package is there."""
    from importlib.util import find_spec

    return find_spec(name) is not None


def in_turns(forms: dict[str, Form], inputs: np.ndarray) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each batch and the probabilities of pneumonia, of every form."""
    seconds, outputs = {name: [] for name in forms}, {name: [] for name in forms}
    for start in range(0, len(inputs), BATCH):
        for name, form in forms.items():
            began = time.perf_counter()
            found = form(inputs[start : start + BATCH])
            seconds[name].append(time.perf_counter() - began)
            outputs[name].append(found[:, POSITIVE])
    return seconds, {name: np.concatenate(parts) for name, parts in outputs.items()}


def compared(seconds, first_seconds, output, first_output, labels: np.ndarray, predictor: Predictor) -> dict:
    """One form beside the first."""
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
