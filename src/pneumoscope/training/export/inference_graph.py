"""A trained Keras model -> the network that goes into the file: calibrated, mirrored, with its Grad-CAM maps.

The MobileNet gets a second output, its Grad-CAM map in closed form. After the last feature map A (h, w, K) come global
average pooling and the dense head, so the gradient of the logit of class c with respect to A is the same at every
position::

    dlogit_c / dA[i,j,k] = 1 / (h w) * sum_u W1[k,u] * [hidden_u > 0] * W2[u,c]

Its mean over the positions is Grad-CAM's weight alpha[k,c]. The map relu(sum_k alpha[k,c] A[:,:,k]) therefore needs no
gradient tape: the forward pass that gives the probability also gives the map.

Reference: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", 2017, equations 1 and 2.
"""

from typing import Any

import numpy as np

from pneumoscope.errors import BundleError
from pneumoscope.inference import EVIDENCE, GRADCAM, LUNGS, PROBABILITIES, SUBTYPES
from pneumoscope.labels import LABELS
from pneumoscope.training.keras_backend import Model, Tensor, keras, tf
from pneumoscope.training.lung_layers import Evidence


def build_inference_graph(model: Model, *, mirror: bool = False, slope: float = 1.0, intercept: float = 0.0) -> Model:
    """The network that goes into the file: with named outputs, and with Grad-CAM maps if it has a feature map.

    Args:
        model: as trained.
        mirror: average the logits of the radiograph and of its mirror image. The maps are the mean of the Grad-CAM of
            both views, the mirrored one flipped back.
        slope, intercept: of the calibration, see :class:`CalibratedProbabilities`.

    Returns:
        A model with the outputs ``probabilities`` (N, 2); ``subtypes`` (N, 2), the shares of bacterial and viral, if it
        learns them; ``gradcam`` (N, 2, h, w), if it has a feature map; ``lungs`` and ``evidence`` (N, h, w), if it
        learns the lungs (see :mod:`pneumoscope.training.lung_layers`).

    Raises:
        BundleError: ``mirror`` for a model without a feature map.
    """
    if learns_lungs(model):
        return _lung_graph(model, mirror, slope, intercept)
    output = model.get_layer("probabilities")
    if mirror and not has_feature_map(model):
        raise BundleError("expected a model with a feature map to average mirrored views of, this one has none")
    features = model.get_layer("features").input if has_feature_map(model) else None
    if not mirror and (slope, intercept) == (1.0, 0.0) and output.units == len(LABELS):
        outputs, logits = {PROBABILITIES: model.output}, output  # the model as it is
    else:
        hidden = output.input
        if mirror:
            features, hidden = _both_views(model, features, hidden)
        outputs, logits = _calibrated_outputs(output, hidden, mirror, slope, intercept)
    if has_feature_map(model):
        gradcam = GradCam(model.get_layer("hidden"), logits, name=GRADCAM)
        outputs[GRADCAM] = _mirrored_maps(gradcam, features) if mirror else gradcam(features)
    return keras.Model(model.input, outputs)


def has_feature_map(model: Model) -> bool:
    """Whether a model ends in pooling and a dense head, so that Grad-CAM applies."""
    return any(layer.name == "features" for layer in model.layers)


def learns_lungs(model: Model) -> bool:
    """Whether a model predicts the lung field and pools its evidence over it."""
    return any(layer.name == LUNGS for layer in model.layers)


def _lung_graph(model: Model, mirror: bool, slope: float, intercept: float) -> Model:
    if mirror:
        raise BundleError("expected a network without lungs to average mirrored views of: set mirror = false")
    maps, lungs, logits = (model.get_layer(name).output for name in ("class_maps", LUNGS, "logits"))
    verdict = CalibratedProbabilities(slope, intercept, name="verdict")(logits)
    parts = verdict if isinstance(verdict, list) else [verdict]
    outputs = dict(zip((PROBABILITIES, SUBTYPES), parts, strict=False))
    evidence = Evidence(slope, intercept, model.get_layer("logits").power, name=EVIDENCE)([maps, lungs, logits])
    return keras.Model(model.input, {**outputs, LUNGS: lungs, EVIDENCE: evidence})


def _both_views(model: Model, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Features and hidden units of N images followed by those of their N mirror images."""
    views = keras.ops.concatenate([model.input, _mirror(model.input)], axis=0)
    both_features, both_hidden = keras.Model(model.input, [features, hidden])(views)
    return both_features, both_hidden


def _calibrated_outputs(
    output: Any, hidden: Tensor, mirror: bool, slope: float, intercept: float
) -> tuple[dict[str, Tensor], Any]:
    """The softmax layer ``output`` replaced by logits and :class:`CalibratedProbabilities`.

    Returns:
        Probabilities and, for three classes, sub-types by name; and the layer of the logits.
    """
    logits = keras.layers.Dense(output.units, name="logits")
    values = logits(hidden)
    logits.set_weights(output.get_weights())
    if mirror:
        values = keras.ops.reshape(values, (2, -1, output.units))  # (2, N, classes)
    verdict = CalibratedProbabilities(slope, intercept, name="verdict")(values)
    parts = verdict if isinstance(verdict, list) else [verdict]
    return dict(zip((PROBABILITIES, SUBTYPES), parts, strict=False)), logits


def _mirror(image: Tensor) -> Tensor:
    """Left-right mirror image, (N, height, width, channels). Taking columns by index exports as one Gather."""
    return keras.ops.take(image, np.arange(image.shape[2])[::-1].copy(), axis=2)


def _mirrored_maps(gradcam: "GradCam", features: Tensor) -> Tensor:
    """Mean evidence of a view and of its mirror image, flipped back: (2N, h, w, K) -> (N, 2, h, w)."""
    ops = keras.ops
    maps = gradcam.evidence(features)  # (2N, 2, h, w)
    maps = ops.reshape(maps, (2, -1, *maps.shape[1:]))
    return ops.relu((maps[0] + ops.flip(maps[1], axis=-1)) / 2)


class GradCam(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no annotations
    """Grad-CAM maps of NORMAL and PNEUMONIA from the last feature map, in closed form.

    (N, h, w, K) -> (N, 2, h, w) float32, zero or above; the docstring of the module has the formula. In a network that
    learns sub-types the logit of PNEUMONIA is ``log(exp(bacterial) + exp(viral))``. Its gradient is the mean of their
    gradients, weighted by their softmax.

    Args:
        hidden: the dense layer (ReLU) after the pooling.
        output: the dense layer (softmax) after that; its logits are explained.
    """

    def __init__(self, hidden: Any, output: Any, **options: Any) -> None:
        super().__init__(**options)
        self.hidden, self.logits = hidden, output

    def call(self, features: Tensor) -> Tensor:
        """Compute the maps."""
        return keras.ops.relu(self.evidence(features))

    def evidence(self, features: Tensor) -> Tensor:
        """The maps before negative values are set to zero: (N, 2, h, w)."""
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

    def _slopes(self, hidden: Tensor) -> Tensor:
        """Gradient of the two logits with respect to the hidden units, (U, 2) or (N, U, 2)."""
        ops, kernel = keras.ops, self.logits.kernel
        if kernel.shape[1] == len(LABELS):
            return kernel
        logits = ops.matmul(hidden, kernel) + self.logits.bias  # (N, 3)
        zero = ops.zeros_like(logits[:, :1])
        normal = ops.concatenate([zero + 1, zero, zero], axis=1)  # (N, 3) share of each logit
        pneumonia = ops.concatenate([zero, ops.softmax(logits[:, 1:])], axis=1)
        return ops.matmul(kernel, ops.stack([normal, pneumonia], axis=-1))


class CalibratedProbabilities(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no annotations
    """Logits of one or two views -> calibrated probabilities, and the shares of the sub-types.

    The log odds of pneumonia, ``z = log(exp(bacterial) + exp(viral)) - normal`` for three classes, become
    ``p = sigmoid(slope * z + intercept)`` (Platt, "Probabilistic outputs for support vector machines", 1999).

    (N, classes), or (2, N, classes) of two views -> (N, 2), or [(N, 2), (N, 2)] with sub-types, float32.

    Args:
        slope, intercept: of the calibration; 1 and 0 change nothing.
    """

    def __init__(self, slope: float, intercept: float, **options: Any) -> None:
        super().__init__(**options)
        self.slope, self.intercept = slope, intercept

    def call(self, logits: Tensor) -> Tensor:
        """Compute the probabilities."""
        ops = keras.ops
        if len(logits.shape) == 3:
            logits = ops.mean(logits, axis=0)  # (N, classes)
        pneumonia = ops.logsumexp(logits[:, 1:], axis=1)
        z = self.slope * (pneumonia - logits[:, 0]) + self.intercept
        probabilities = ops.stack([ops.sigmoid(-z), ops.sigmoid(z)], axis=1)
        return [probabilities, ops.softmax(logits[:, 1:])] if logits.shape[1] > len(LABELS) else probabilities


def autodiff_gradcam(model: Model, inputs: np.ndarray, mirror: bool = False) -> np.ndarray:
    """Grad-CAM by automatic differentiation, which the closed form is checked against.

    Args:
        model: as trained.
        inputs: (N, *spec.shape) float32.
        mirror: the mean over both views, as in :func:`build_inference_graph`.

    Returns:
        (N, classes, h, w) float32.
    """
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
    positive: np.ndarray = np.maximum(maps, 0)
    return positive
