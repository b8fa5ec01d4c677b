"""Finished run -> one ONNX file with its contract, parity-checked against Keras.

The MobileNet gets a second output, its Grad-CAM map in closed form. Behind global average pooling and the
dense head the gradient of the logit of class c with respect to the last feature map A (h, w, K) is the same
at every position::

    dlogit_c / dA[i,j,k] = 1 / (h w) * sum_u W1[k,u] * [hidden_u > 0] * W2[u,c]

Its mean over the positions is Grad-CAM's weight alpha[k,c], so the map relu(sum_k alpha[k,c] A[:,:,k]) needs
no gradient tape: it leaves the same forward pass as the probability.

Reference: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", 2017, equations 1 and 2.
"""

import hashlib
import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np

from pneumoscope import __version__, models
from pneumoscope.atomic import write_whole
from pneumoscope.bundle import (
    GRADCAM,
    PROBABILITIES,
    SCHEMA,
    Bundle,
    contract_sha256,
    metadata_bytes,
    open_bundle,
)
from pneumoscope.errors import BundleError, MissingExtra
from pneumoscope.labels import LABELS
from pneumoscope.runs import MONITOR, Run
from pneumoscope.train import restore_best

keras = models.keras

#: Largest absolute difference of a probability or relative difference of a map, ONNX against Keras. Both
#: compute in float32 with differently ordered sums.
ONNX_TOLERANCE = 1e-5
#: Largest difference of the closed-form maps from automatic differentiation, relative to the largest value in
#: the maps of an image.
GRADCAM_TOLERANCE = 1e-4

#: Operating point of a reference model.
THRESHOLD = 0.5
#: Share of the held-out images that are called uncertain: those nearest to the threshold.
UNCERTAIN_SHARE = 0.05


class GradCam(keras.layers.Layer):
    """Grad-CAM maps of all classes from the last feature map, in closed form.

    (N, h, w, K) -> (N, classes, h, w) float32, zero or above; see the module's head for the formula.

    Args:
        hidden: the dense layer (ReLU) behind the pooling.
        output: the dense layer (softmax) behind it; its logits are explained.
    """

    def __init__(self, hidden: keras.layers.Dense, output: keras.layers.Dense, **options: object) -> None:
        super().__init__(**options)
        self.hidden, self.logits = hidden, output

    def call(self, features: object) -> object:
        """Compute the maps."""
        ops = keras.ops
        positions = features.shape[1] * features.shape[2]
        pooled = ops.mean(features, axis=(1, 2))  # (N, K)
        active = ops.cast(ops.matmul(pooled, self.hidden.kernel) + self.hidden.bias > 0, "float32")  # (N, U)
        alpha = ops.matmul(self.hidden.kernel, active[:, :, None] * self.logits.kernel) / positions  # (N, K, classes)
        flat = ops.reshape(features, (-1, positions, features.shape[3]))  # (N, h * w, K)
        maps = ops.transpose(ops.matmul(flat, alpha), (0, 2, 1))  # (N, classes, h * w)
        return ops.relu(ops.reshape(maps, (-1, maps.shape[1], *features.shape[1:3])))


def export_run(run: Run, out: str | Path | None = None) -> Path:
    """Write the best epoch of a run as a model file, ``runs/<id>/model.onnx`` by default.

    The file is complete but for the held-out figures, which :func:`seal` adds after it was evaluated.

    Raises:
        BundleError: the ONNX file does not compute what the Keras model computes.
    """
    model = models.build(run.recipe.model, run.spec, weights=None, inference=True)
    restore_best(run, model)
    out = Path(out or run.folder / "model.onnx")
    body = onnx_bytes(model)
    config = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    outputs = [PROBABILITIES, GRADCAM] if has_feature_map(model) else [PROBABILITIES]
    best = max(run.history, key=lambda row: row[MONITOR])
    contract = {
        "schema": SCHEMA,
        "name": run.recipe.name,
        "pneumoscope": __version__,
        "architecture": run.recipe.model,
        "input": run.spec.to_dict(),
        "labels": list(LABELS),
        "outputs": outputs,
        "threshold": THRESHOLD,
        "threshold_rule": "as published, not chosen on data",
        "uncertain": [THRESHOLD, THRESHOLD],
        "uncertain_rule": "not fitted",
        "calibration": {"method": "none"},
        "training": {
            "recipe": {**run.recipe.to_dict(), "weights": Path(run.recipe.weights).name},
            "split_fingerprint": run.split.fingerprint,
            "images": config["images"],
            "versions": config["versions"],
            "best_epoch": int(best["epoch"]),
            "parameters": int(model.count_params()),
        },
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    write_contract(out, contract, body)
    check_parity(open_bundle(out), model)
    check_gradcam(open_bundle(out), model)
    return out


def seal(path: str | Path, report: dict, labels: np.ndarray, probability: np.ndarray) -> Path:
    """Add the held-out figures and the band of uncertain probabilities to a model file.

    Args:
        path: written by :func:`export_run`.
        report: from :mod:`pneumoscope.evaluate`, on the held-out images.
        labels: (N,) int, of the held-out images.
        probability: (N,) float, of pneumonia.
    """
    bundle = open_bundle(path)
    low, high = uncertain_band(probability, bundle.threshold)
    wrong = (probability >= bundle.threshold) != labels.astype(bool)
    inside = (probability >= low) & (probability <= high)
    contract = {
        **bundle.contract,
        "metrics": report["metrics"],
        "held_out": {name: report["data"][name] for name in ("images", "patients", "median_size")},
        "uncertain": [low, high],
        "uncertain_rule": (
            f"the {UNCERTAIN_SHARE:.0%} of the {len(probability)} held-out images nearest to the threshold; "
            f"{int(wrong[inside].sum())} of {int(inside.sum())} verdicts inside are wrong, "
            f"{int(wrong[~inside].sum())} of {int((~inside).sum())} outside"
        ),
    }
    write_contract(path, contract)
    open_bundle(path)
    return Path(path)


def write_contract(path: str | Path, contract: dict, body: bytes | None = None) -> None:
    """Write a contract behind a network: the one given, or the one the file holds already."""
    if body is None:
        body = Path(path).read_bytes()[: contract["body_bytes"]]
    contract = {**contract, "contract_sha256": contract_sha256(contract)}
    write_whole(Path(path), body + metadata_bytes(contract))


def uncertain_band(probability: np.ndarray, threshold: float) -> tuple[float, float]:
    """The band around the threshold that holds :data:`UNCERTAIN_SHARE` of the images.

    >>> uncertain_band(np.array([0.01] * 19 + [0.4]), 0.5)
    (0.4, 0.6)
    """
    distance = np.sort(np.abs(probability - threshold))
    count = max(1, round(UNCERTAIN_SHARE * len(distance)))
    width = float(distance[count - 1])
    return round(max(0.0, threshold - width), 6), round(min(1.0, threshold + width), 6)


def has_feature_map(model: keras.Model) -> bool:
    """Whether a model ends in pooling and a dense head, so that Grad-CAM applies."""
    return any(layer.name == "features" for layer in model.layers)


def with_gradcam(model: keras.Model) -> keras.Model:
    """The model with named outputs, and the Grad-CAM maps beside the probabilities where it has them."""
    outputs = {PROBABILITIES: model.output}
    if has_feature_map(model):
        feature_map = model.get_layer("features").input  # (N, h, w, K)
        gradcam = GradCam(model.get_layer("hidden"), model.get_layer("probabilities"), name=GRADCAM)
        outputs[GRADCAM] = gradcam(feature_map)
    return keras.Model(model.input, outputs)


def onnx_bytes(model: keras.Model) -> bytes:
    """The network as ONNX, without a contract.

    Raises:
        MissingExtra: tf2onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx  # noqa: F401  Keras needs it and would name it in a longer sentence
    except ImportError as error:
        raise MissingExtra("exporting", "train", error.name or "tf2onnx") from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it warns of each operator that it folds away
    exported = with_gradcam(model)
    exported(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports a model only once it was called
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # tf2onnx 1.17 asks NumPy for the long-gone np.object
        warnings.simplefilter("ignore", FutureWarning)
        path = Path(folder) / "model.onnx"
        exported.export(path, format="onnx", verbose=False)
        graph = onnx.load(path)
    _rename(graph, model.input.name, exported.output)
    graph.producer_name, graph.producer_version = "pneumoscope", __version__
    graph.graph.doc_string = ""  # the converter's names a function by a count
    del graph.metadata_props[:]
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)


def check_parity(bundle: Bundle, model: keras.Model, seed: int = 0) -> dict[str, float]:
    """Compare the file with the Keras model, at two batch sizes, on noise.

    Returns:
        The largest difference of each output.

    Raises:
        BundleError: a difference above :data:`ONNX_TOLERANCE`.
    """
    reference = with_gradcam(model)
    differences: dict[str, float] = {}
    for count in (1, 5):
        inputs = np.random.default_rng(seed).random((count, *bundle.spec.shape), np.float32)
        expected = reference.predict_on_batch(inputs)
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
        inputs = np.kron(coarse, np.ones((1, bundle.spec.height // 10, bundle.spec.width // 10, bundle.spec.channels)))
        inputs = inputs.astype(np.float32)
    expected = autodiff_gradcam(model, inputs)
    peak = expected.max(axis=(1, 2, 3), keepdims=True)
    received = bundle.run(inputs)[GRADCAM]
    difference = float((np.abs(received - expected) / np.where(peak > 0, peak, 1)).max())
    if not difference <= GRADCAM_TOLERANCE:
        raise BundleError(
            f"expected the Grad-CAM maps of {bundle.path} within {GRADCAM_TOLERANCE} of automatic differentiation, "
            f"they differ by {difference:.2g}: do not use this file and report the versions in its run folder"
        )
    return difference


def autodiff_gradcam(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Grad-CAM by automatic differentiation, to check the closed form against.

    Args:
        inputs: (N, *spec.shape) float32.

    Returns:
        (N, classes, h, w) float32.
    """
    import tensorflow as tf

    to_map = keras.Model(model.input, model.get_layer("features").input)
    pooling, hidden, output = (model.get_layer(name) for name in ("features", "hidden", "probabilities"))
    feature_map = tf.convert_to_tensor(to_map(inputs))
    maps = []
    for column in range(len(LABELS)):
        with tf.GradientTape() as tape:
            tape.watch(feature_map)
            logits = tf.matmul(hidden(pooling(feature_map)), output.kernel) + output.bias
            target = logits[:, column]
        alpha = tf.reduce_mean(tape.gradient(target, feature_map), axis=(1, 2))  # (N, K)
        maps.append(tf.nn.relu(tf.einsum("nhwk,nk->nhw", feature_map, alpha)))
    return np.stack([value.numpy() for value in maps], axis=1)


def _rename(graph: object, input_name: str, outputs: dict) -> None:
    """Give the ends of the graph the contract's names, and everything between numbers in order of use.

    The converter's own names and order change from process to process; without them equal weights give equal
    bytes.
    """
    _sort_nodes(graph.graph)
    by_rank = {len(value.shape): name for name, value in outputs.items()}  # (N, 2) or (N, 2, h, w)
    names = {"": "", graph.graph.input[0].name: input_name}  # "" stands for an input left out
    for value in graph.graph.output:
        names[value.name] = by_rank[len(value.type.tensor_type.shape.dim)]
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

    for value in sorted(graph.output, key=lambda value: len(value.type.tensor_type.shape.dim)):
        place(value.name)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
