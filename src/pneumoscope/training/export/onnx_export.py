"""Finished run -> one ONNX file with its contract, parity-checked against Keras."""

import hashlib
import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np

from pneumoscope import __version__
from pneumoscope.errors import BundleError, MissingExtra
from pneumoscope.evaluation.metrics import uncertain_band, uncertain_rule
from pneumoscope.inference.bundle import (
    GRADCAM,
    SCHEMA,
    Bundle,
    contract_sha256,
    metadata_bytes,
    open_bundle,
)
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS
from pneumoscope.training import networks as models
from pneumoscope.training.export.inference_graph import autodiff_gradcam, build_inference_graph
from pneumoscope.training.runs import Run
from pneumoscope.training.train import restore_best

keras = models.keras

#: Largest absolute difference of a probability or relative difference of a map, ONNX against Keras. Both
#: compute in float32 with differently ordered sums.
ONNX_TOLERANCE = 1e-5
#: Largest difference of the closed-form maps from automatic differentiation, relative to the largest value in
#: the maps of an image.
GRADCAM_TOLERANCE = 1e-4

#: Operating point of a reference model.
THRESHOLD = 0.5


def export_run(run: Run, out: str | Path | None = None, pooled: dict | None = None) -> Path:
    """Write the kept epoch of a run as a model file, ``runs/<id>/model.onnx`` by default.

    The file is complete but for the held-out figures, which :func:`add_evaluation` adds after it was evaluated; a model
    that was trained on every image gets those of the folds of its recipe.

    Args:
        run: finished.
        out: the file.
        pooled: out-of-fold figures of the recipe, from :func:`pneumoscope.training.crossval.pool_folds`: gives the calibration,
            the operating points and, where the run holds nothing out, the figures.

    Raises:
        BundleError: the ONNX file does not compute what the Keras model computes.
    """
    model = models.build(run.recipe, weights=None, inference=True)
    restore_best(run, model)
    out = Path(out or run.folder / "model.onnx")
    network = build_inference_graph(model, mirror=run.recipe.mirror, **(pooled["calibration"] if pooled else {}))
    body = onnx_bytes(network)
    config = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    contract = {
        "schema": SCHEMA,
        "name": run.recipe.name,
        "pneumoscope": __version__,
        "architecture": run.recipe.model,
        "input": run.spec.to_dict(),
        "labels": list(LABELS),
        "outputs": list(network.output),
        "threshold": THRESHOLD,
        "threshold_rule": "as published, not chosen on data",
        "uncertain": [THRESHOLD, THRESHOLD],
        "uncertain_rule": "not fitted",
        "calibration": {"method": "none"},
        **(_from_folds(pooled) if pooled else {}),
        "training": {
            "recipe": {**run.recipe.to_dict(), "weights": Path(run.recipe.weights).name},
            "split_fingerprint": run.split.fingerprint,
            "images": config["images"],
            "versions": config["versions"],
            "best_epoch": int(run.kept["epoch"]),
            "parameters": int(model.count_params()),
        },
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    write_contract(out, contract, body)
    check_parity(open_bundle(out), network)
    check_gradcam(open_bundle(out), model)
    return out


def _from_folds(pooled: dict) -> dict:
    """What a file takes over from the out-of-fold predictions of its recipe."""
    return {
        "threshold": pooled["operating_points"]["default"],
        "threshold_rule": pooled["rules"]["default"],
        "operating_points": pooled["operating_points"],
        "operating_point_rules": pooled["rules"],
        "prevalence": pooled["prevalence"],
        "calibration": {
            "method": "temperature and intercept",
            **pooled["calibration"],
            "rule": pooled["rules"]["calibration"],
        },
        "uncertain": pooled["uncertain"],
        "uncertain_rule": pooled["rules"]["uncertain"],
        "metrics": pooled["calibrated"],
        "subtypes": pooled["subtypes"],
        "held_out": pooled["held_out"],
        **({"beside_float32": pooled["float32"]} if pooled.get("float32") else {}),
    }


def add_evaluation(path: str | Path, report: dict, labels: np.ndarray, probability: np.ndarray) -> Path:
    """Add the held-out figures and the band of uncertain probabilities to a model file.

    Args:
        path: written by :func:`export_run`.
        report: from :mod:`pneumoscope.evaluation.evaluate`, on the held-out images.
        labels: (N,) int, of the held-out images.
        probability: (N,) float, of pneumonia.
    """
    bundle = open_bundle(path)
    low, high = uncertain_band(probability, bundle.threshold)
    wrong = (probability >= bundle.threshold) != labels.astype(bool)
    contract = {
        **bundle.contract,
        "metrics": report["metrics"],
        "subtypes": report["subtypes"],
        "held_out": {name: report["data"][name] for name in ("images", "patients", "median_size")},
        "uncertain": [low, high],
        "uncertain_rule": uncertain_rule(probability, wrong, low, high),
    }
    write_contract(path, contract)
    open_bundle(path)
    return Path(path)


def write_contract(path: str | Path, contract: dict, body: bytes | None = None) -> None:
    """Write a contract behind a network: the one given, or the one the file holds already."""
    if body is None:
        body = Path(path).read_bytes()[: contract["body_bytes"]]
    write_atomic(Path(path), with_contract(body, contract))


def with_contract(body: bytes, contract: dict) -> bytes:
    """A model file: a network and its contract, with the contract's own hash."""
    return body + metadata_bytes({**contract, "contract_sha256": contract_sha256(contract)})


def onnx_bytes(network: keras.Model) -> bytes:
    """A network that :func:`build_inference_graph` made as ONNX, without a contract.

    Raises:
        MissingExtra: tf2onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx  # noqa: F401  Keras needs it and would name it in a longer sentence
    except ImportError as error:
        raise MissingExtra("exporting", "train", error.name or "tf2onnx") from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it warns of each operator that it folds away
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports a model only once it was called
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # tf2onnx 1.17 asks NumPy for the long-gone np.object
        warnings.simplefilter("ignore", FutureWarning)
        path = Path(folder) / "model.onnx"
        network.export(path, format="onnx", verbose=False)
        graph = onnx.load(path)
    _rename(graph, network.input.name, network.output)
    graph.producer_name, graph.producer_version = "pneumoscope", __version__
    graph.graph.doc_string = ""  # the converter's names a function by a count
    del graph.metadata_props[:]
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)


def check_parity(bundle: Bundle, network: keras.Model, seed: int = 0) -> dict[str, float]:
    """Compare the file with the Keras network that :func:`build_inference_graph` made, at two batch sizes, on noise.

    Returns:
        The largest difference of each output.

    Raises:
        BundleError: a difference above :data:`ONNX_TOLERANCE`.
    """
    differences: dict[str, float] = {}
    for count in (1, 5):
        inputs = np.random.default_rng(seed).random((count, *bundle.spec.shape), np.float32)
        expected = network.predict_on_batch(inputs)
        for name, value in bundle.run(inputs).items():
            scale = max(1.0, float(np.abs(expected[name]).max()))
            difference = float(np.abs(value - expected[name]).max()) / scale
            differences[name] = max(difference, differences.get(name, 0.0))
    for name, difference in differences.items():
        if not difference <= ONNX_TOLERANCE:
            raise BundleError(
                f"expected {name} of {bundle.path} within {ONNX_TOLERANCE} of Keras, it differs by {difference:.2g}: "
                "do not use this file and report the versions in its run folder"
            )
    return differences


def check_gradcam(bundle: Bundle, model: keras.Model, inputs: np.ndarray | None = None) -> float | None:
    """Compare the file's Grad-CAM maps with automatic differentiation.

    Args:
        bundle: the file.
        model: the Keras model it was made of.
        inputs: (N, *spec.shape) float32; smooth random images by default.

    Returns:
        The largest difference, relative to the largest value in the maps of an image; None for a model
        without a feature map.

    Raises:
        BundleError: a difference above :data:`GRADCAM_TOLERANCE`.
    """
    if not bundle.has_gradcam:
        return None
    if inputs is None:
        coarse = np.random.default_rng(0).random((8, 10, 10, 1), np.float32)
        height, width, channels = bundle.spec.shape
        inputs = np.kron(coarse, np.ones((1, -(-height // 10), -(-width // 10), channels), np.float32))
        inputs = inputs[:, :height, :width]
    expected = autodiff_gradcam(model, inputs, bool(bundle.contract["training"]["recipe"].get("mirror")))
    peak = expected.max(axis=(1, 2, 3), keepdims=True)
    received = bundle.run(inputs)[GRADCAM]
    difference = float((np.abs(received - expected) / np.where(peak > 0, peak, 1)).max())
    if not difference <= GRADCAM_TOLERANCE:
        raise BundleError(
            f"expected the Grad-CAM maps of {bundle.path} within {GRADCAM_TOLERANCE} of automatic differentiation, "
            f"they differ by {difference:.2g}: do not use this file and report the versions in its run folder"
        )
    return difference


def _rename(graph: object, input_name: str, outputs: dict) -> None:
    """Give the ends of the graph the contract's names, and everything between numbers in order of use.

    The converter's own names and order change from process to process; without them equal weights give equal
    bytes.
    """
    _sort_nodes(graph.graph)
    names = {"": "", graph.graph.input[0].name: input_name}  # "" stands for an input left out
    names.update({value.name: value.name for value in graph.graph.output})
    if set(outputs) - set(names):
        raise BundleError(f"expected the outputs {list(outputs)} from the converter, received {list(names.values())}")
    for number, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{number}"
        for ends in (node.input, node.output):
            ends[:] = [names.setdefault(name, f"t{len(names)}") for name in ends]
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for tensor in graph.graph.initializer:
        tensor.name = names[tensor.name]
    graph.graph.initializer.sort(key=lambda tensor: int(tensor.name[1:]))
    del graph.graph.value_info[:]
    graph.graph.name = "pneumoscope"


def _sort_nodes(graph: object) -> None:
    """Depth first from the outputs: an order that follows from the network alone."""
    maker = {name: node for node in graph.node for name in node.output}
    placed, ordered = set(), []

    def place(name: str) -> None:
        node = maker.get(name)
        if node is not None and name not in placed:
            placed.update(node.output)
            for source in node.input:
                place(source)
            ordered.append(node)

    for value in sorted(graph.output, key=lambda value: (len(value.type.tensor_type.shape.dim), value.name)):
        place(value.name)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
