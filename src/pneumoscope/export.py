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
    SUBTYPES,
    Bundle,
    contract_sha256,
    metadata_bytes,
    open_bundle,
)
from pneumoscope.errors import BundleError, MissingExtra
from pneumoscope.labels import LABELS
from pneumoscope.metrics import uncertain_band, uncertain_rule
from pneumoscope.runs import Run
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


class GradCam(keras.layers.Layer):
    """Grad-CAM maps of NORMAL and PNEUMONIA from the last feature map, in closed form.

    (N, h, w, K) -> (N, 2, h, w) float32, zero or above; see the module's head for the formula. In a network
    that tells sub-types the logit of PNEUMONIA is ``log(exp(bacterial) + exp(viral))``, whose gradient is the
    mean of theirs, weighted by their softmax.

    Args:
        hidden: the dense layer (ReLU) behind the pooling.
        output: the dense layer (softmax) behind it; its logits are explained.
    """

    def __init__(self, hidden: keras.layers.Dense, output: keras.layers.Dense, **options: object) -> None:
        super().__init__(**options)
        self.hidden, self.logits = hidden, output

    def call(self, features: object) -> object:
        """Compute the maps."""
        return keras.ops.relu(self.evidence(features))

    def evidence(self, features: object) -> object:
        """The maps before negative evidence is cut off: (N, 2, h, w)."""
        ops = keras.ops
        positions = features.shape[1] * features.shape[2]
        pooled = ops.mean(features, axis=(1, 2))  # (N, K)
        hidden = ops.relu(ops.matmul(pooled, self.hidden.kernel) + self.hidden.bias)  # (N, U)
        active = ops.cast(hidden > 0, "float32")[:, :, None]  # (N, U, 1)
        slopes = active * self._slopes(hidden)  # (N, U, 2)
        alpha = ops.matmul(self.hidden.kernel, slopes) / positions  # (N, K, 2)
        flat = ops.reshape(features, (-1, positions, features.shape[3]))  # (N, h * w, K)
        maps = ops.transpose(ops.matmul(flat, alpha), (0, 2, 1))  # (N, 2, h * w)
        return ops.reshape(maps, (-1, len(LABELS), *features.shape[1:3]))

    def _slopes(self, hidden: object) -> object:
        """Gradient of the two logits with respect to the hidden units, (U, 2) or (N, U, 2)."""
        ops, kernel = keras.ops, self.logits.kernel
        if kernel.shape[1] == len(LABELS):
            return kernel
        logits = ops.matmul(hidden, kernel) + self.logits.bias  # (N, 3)
        nothing = ops.zeros_like(logits[:, :1])
        normal = ops.concatenate([nothing + 1, nothing, nothing], axis=1)  # (N, 3) share of each logit
        pneumonia = ops.concatenate([nothing, ops.softmax(logits[:, 1:])], axis=1)
        return ops.matmul(kernel, ops.stack([normal, pneumonia], axis=-1))


class Verdict(keras.layers.Layer):
    """Logits of one or two views -> calibrated probabilities, and the shares of the sub-types.

    The log odds of pneumonia, ``z = log(exp(bacterial) + exp(viral)) - normal`` for three classes, become
    ``p = sigmoid(slope * z + intercept)`` (Platt, "Probabilistic outputs for support vector machines", 1999).

    (N, classes), or (2, N, classes) of two views -> (N, 2), or [(N, 2), (N, 2)] with sub-types, float32.

    Args:
        slope, intercept: of the calibration; 1 and 0 change nothing.
    """

    def __init__(self, slope: float, intercept: float, **options: object) -> None:
        super().__init__(**options)
        self.slope, self.intercept = slope, intercept

    def call(self, logits: object) -> object:
        """Compute the probabilities."""
        ops = keras.ops
        if len(logits.shape) == 3:
            logits = ops.mean(logits, axis=0)  # (N, classes)
        pneumonia = ops.logsumexp(logits[:, 1:], axis=1)
        z = self.slope * (pneumonia - logits[:, 0]) + self.intercept
        probabilities = ops.stack([ops.sigmoid(-z), ops.sigmoid(z)], axis=1)
        return [probabilities, ops.softmax(logits[:, 1:])] if logits.shape[1] > len(LABELS) else probabilities


def export_run(run: Run, out: str | Path | None = None, pooled: dict | None = None) -> Path:
    """Write the kept epoch of a run as a model file, ``runs/<id>/model.onnx`` by default.

    The file is complete but for the held-out figures, which :func:`seal` adds after it was evaluated; a model
    that was trained on every image gets those of the folds of its recipe.

    Args:
        run: finished.
        out: the file.
        pooled: out-of-fold figures of the recipe, from :func:`pneumoscope.crossval.pool`: gives the calibration,
            the operating points and, where the run holds nothing out, the figures.

    Raises:
        BundleError: the ONNX file does not compute what the Keras model computes.
    """
    model = models.build(run.recipe, weights=None, inference=True)
    restore_best(run, model)
    out = Path(out or run.folder / "model.onnx")
    network = deployed(model, mirror=run.recipe.mirror, **(pooled["calibration"] if pooled else {}))
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
        "threshold": pooled["operating_points"]["balanced"],
        "threshold_rule": pooled["rules"]["balanced"],
        "operating_points": pooled["operating_points"],
        "operating_point_rules": pooled["rules"],
        "prevalence": pooled["prevalence"],
        "calibration": {"method": "temperature", **pooled["calibration"], "rule": pooled["rules"]["calibration"]},
        "uncertain": pooled["uncertain"],
        "uncertain_rule": pooled["rules"]["uncertain"],
        "metrics": pooled["calibrated"],
        "subtypes": pooled["subtypes"],
        "held_out": pooled["held_out"],
    }


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
    contract = {**contract, "contract_sha256": contract_sha256(contract)}
    write_whole(Path(path), body + metadata_bytes(contract))


def has_feature_map(model: keras.Model) -> bool:
    """Whether a model ends in pooling and a dense head, so that Grad-CAM applies."""
    return any(layer.name == "features" for layer in model.layers)


def deployed(model: keras.Model, *, mirror: bool = False, slope: float = 1.0, intercept: float = 0.0) -> keras.Model:
    """The network that goes into the file: named outputs, and the Grad-CAM maps where it has a feature map.

    Args:
        model: as trained.
        mirror: average the logits of the radiograph and of its mirror image.
        slope, intercept: of the calibration, see :class:`Verdict`.

    Returns:
        A model with the outputs ``probabilities`` (N, 2), ``gradcam`` (N, 2, h, w) where it has a feature map,
        and ``subtypes`` (N, 2), the shares of bacterial and viral, where it tells them.
    """
    output, image = model.get_layer("probabilities"), model.input
    if mirror and not has_feature_map(model):
        raise BundleError("expected a model with a feature map to average mirrored views of, this one has none")
    if not mirror and (slope, intercept) == (1.0, 0.0) and output.units == len(LABELS):
        outputs, logits = {PROBABILITIES: model.output}, output
    else:
        hidden, logits = output.input, keras.layers.Dense(output.units, name="logits")
        if mirror:
            ops, ends = keras.ops, [model.get_layer("features").input, hidden]
            seen, hidden = keras.Model(image, ends)(ops.concatenate([image, _mirror(image)], axis=0))
        values = logits(hidden)
        logits.set_weights(output.get_weights())
        if mirror:
            values = ops.reshape(values, (2, -1, output.units))  # (2, N, classes)
        verdict = Verdict(slope, intercept, name="verdict")(values)
        verdict = verdict if isinstance(verdict, list) else [verdict]
        outputs = dict(zip((PROBABILITIES, SUBTYPES), verdict, strict=False))
    if has_feature_map(model):
        gradcam = GradCam(model.get_layer("hidden"), logits, name=GRADCAM)
        outputs[GRADCAM] = _mirrored_maps(gradcam, seen) if mirror else gradcam(model.get_layer("features").input)
    return keras.Model(image, outputs)


def _mirror(image: object) -> object:
    """Left-right mirror image, (N, height, width, channels); taken by index, which exports as one Gather."""
    return keras.ops.take(image, np.arange(image.shape[2])[::-1].copy(), axis=2)


def _mirrored_maps(gradcam: GradCam, features: object) -> object:
    """Mean evidence of a view and of its mirror image, turned back: (2N, h, w, K) -> (N, 2, h, w)."""
    ops = keras.ops
    maps = gradcam.evidence(features)  # (2N, 2, h, w)
    maps = ops.reshape(maps, (2, -1, *maps.shape[1:]))
    return ops.relu((maps[0] + ops.flip(maps[1], axis=-1)) / 2)


def onnx_bytes(network: keras.Model) -> bytes:
    """A network that :func:`deployed` made as ONNX, without a contract.

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
    """Compare the file with the Keras network that :func:`deployed` made, at two batch sizes, on noise.

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


def autodiff_gradcam(model: keras.Model, inputs: np.ndarray, mirror: bool = False) -> np.ndarray:
    """Grad-CAM by automatic differentiation, to check the closed form against.

    Args:
        model: as trained.
        inputs: (N, *spec.shape) float32.
        mirror: mean of each view's maps, as in :func:`deployed`.

    Returns:
        (N, classes, h, w) float32.
    """
    import tensorflow as tf

    to_map = keras.Model(model.input, model.get_layer("features").input)
    pooling, hidden, output = (model.get_layer(name) for name in ("features", "hidden", "probabilities"))

    def evidence(view: np.ndarray) -> np.ndarray:
        feature_map = tf.convert_to_tensor(to_map(view))
        maps = []
        for columns in (slice(0, 1), slice(1, None)):  # NORMAL, all kinds of PNEUMONIA
            with tf.GradientTape() as tape:
                tape.watch(feature_map)
                logits = tf.matmul(hidden(pooling(feature_map)), output.kernel) + output.bias
                target = tf.reduce_logsumexp(logits[:, columns], axis=1)
            alpha = tf.reduce_mean(tape.gradient(target, feature_map), axis=(1, 2))  # (N, K)
            maps.append(tf.einsum("nhwk,nk->nhw", feature_map, alpha).numpy())
        return np.stack(maps, axis=1)

    maps = evidence(inputs)
    if mirror:
        maps = (maps + evidence(inputs[:, :, ::-1])[..., ::-1]) / 2
    return np.maximum(maps, 0)


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
