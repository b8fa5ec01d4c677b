"""Do the maps of a model show what its verdict depends on?

    python benchmarks/models/explanations.py MODEL --data DATA [--every 4] [--out FILE]

MODEL is a model file, a run folder, or the name of a shipped model that was not trained on DATA. The tests are those of
``pneumoscope.evaluation.explanations``, on the held-out images of the model's own split. For the test with random
weights, the script shuffles the weights of the last convolutions and dense layers of the file.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from pneumoscope import load
from pneumoscope.data import read_dataset, select_records
from pneumoscope.evaluation.explanations import measure_explanations
from pneumoscope.inference import open_bundle
from pneumoscope.training.export.onnx_export import write_contract

_LAYERS = 3  # the last layers with weights


def randomise(source: Path, target: Path, seed: int = 0) -> None:
    """Shuffle the weights of the last layers of a model file, and write it with its contract."""
    bundle = open_bundle(source)
    model = onnx.load_from_string(source.read_bytes()[: bundle.contract["body_bytes"]])
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    rng, shuffled = np.random.default_rng(seed), 0
    for node in reversed(model.graph.node):
        if node.op_type not in ("Conv", "MatMul", "Gemm") or shuffled == _LAYERS:
            continue
        name = next((name for name in node.input if name in weights and len(weights[name].dims) > 1), None)
        if name is not None:
            values = numpy_helper.to_array(weights[name]).copy()
            weights[name].CopyFrom(numpy_helper.from_array(rng.permutation(values.ravel()).reshape(values.shape), name))
            shuffled += 1
    body = model.SerializeToString()
    sizes = {"body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}
    write_contract(target, {**bundle.contract, **sizes}, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model file or run folder")
    parser.add_argument("--data", required=True, type=Path, help="the data that it was trained on")
    parser.add_argument("--every", type=int, default=4, help="use every Nth held-out image (default: 4)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    predictor, manifest = load(arguments.model), read_dataset(arguments.data)
    records, _ = select_records(manifest, "val", predictor.bundle.contract["training"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "randomised.onnx"
        randomise(predictor.bundle.path, file)
        found = measure_explanations(predictor, manifest, records[:: arguments.every], load(file))
    print(f"{predictor.bundle.name}: {found['images']} pneumonias that the model finds")
    for test in ("deletion", "insertion"):
        for name, figure in found[test].items():
            print(f"{test:10s} {name:14s} {_text(figure)}")
    for name in ("shifted", "brighter", "randomised"):
        print(f"{name:25s} {_text(found[name])}")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _text(figure: dict | None) -> str:
    return "undefined" if figure is None else f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


if __name__ == "__main__":
    main()
