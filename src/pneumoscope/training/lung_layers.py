"""Layers and loss of a network whose verdict comes from the lungs: pooling over the lung field, and the mask loss.

The network gives a lung field p(x, y) from 0 to 1 and for each class c a map e_c(x, y). The logits are means of the
maps over the lungs::

    logit_c = sum_xy w(x, y) e_c(x, y) + b_c,    w = (p + FLOOR)^k / sum (p + FLOOR)^k

The floor defines the weights where the network sees no lungs. With a power k above 1, cells at the border of the lungs
count less. No gradient goes through the weights: the field is
learnt from masks alone, and cannot grow to where the label is easy to read.

The evidence map is that sum, cell by cell, for the log odds of PNEUMONIA,
z = log(exp(bacterial) + exp(viral)) - normal. The logarithm is not a sum of maps, so the maps of bacterial and viral
are weighted by their shares s_c in the image, and what is left (the offsets b_c and the entropy of the shares) is
spread with the same weights w::

    evidence(x, y) = w(x, y) * (sum_c s_c e_c(x, y) - e_normal(x, y) + rest),    sum_xy evidence = z

Positive cells speak for PNEUMONIA, negative ones for NORMAL.

Reference: Dice loss as in Milletari et al., "V-Net", 2016; class maps that are pooled into logits as in Zhou et al.,
"Learning deep features for discriminative localization", 2016.
"""

from typing import Any

from pneumoscope.training.keras_backend import Tensor, keras, tf

#: Added to the lung field before it becomes pooling weights.
FLOOR = 1e-3
_SMOOTH = 1.0  # cells added to both sides of the Dice ratio, so that an empty mask has no jump


def pooling_weights(lungs: Tensor, power: float = 1.0) -> Tensor:
    """(N, h, w) lung field -> (N, h, w) weights that add up to 1 in each image."""
    weights = lungs + FLOOR
    if power != 1:
        weights = weights**power
    return weights / keras.ops.sum(weights, axis=(1, 2), keepdims=True)


class Enlarged(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no annotations
    """Maps (N, h, w, C) -> (N, 2 h, 2 w, C) by bilinear interpolation; Keras's own layer takes known sizes only."""

    def call(self, inputs: Tensor) -> Tensor:
        """Compute the maps."""
        known = None not in inputs.shape[1:3]
        size = [2 * side for side in inputs.shape[1:3]] if known else 2 * tf.shape(inputs)[1:3]
        return tf.image.resize(inputs, size, method="bilinear")


class LungField(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no annotations
    """A map of one channel (N, h, w, 1) -> the lung field (N, h, w), of any size."""

    def call(self, inputs: Tensor) -> Tensor:
        """Drop the channel."""
        return keras.ops.squeeze(inputs, axis=-1)


class LungPooling(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no annotations
    """Maps (N, h, w, C) and lung field (N, h, w) -> logits (N, C); the docstring of the module has the formula.

    Args:
        power: k in the formula.
    """

    def __init__(self, power: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.power = power

    def build(self, shapes: Any) -> None:
        """Create the offsets of the classes."""
        self.bias = self.add_weight(shape=(shapes[0][-1],), initializer="zeros", name="bias")

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Compute the logits."""
        maps, lungs = inputs
        weights = keras.ops.stop_gradient(pooling_weights(lungs, self.power))
        return keras.ops.sum(weights[..., None] * maps, axis=(1, 2)) + self.bias


class Evidence(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no annotations
    """Maps, lung field and logits -> the evidence map (N, h, w), whose sum is the calibrated log odds of PNEUMONIA.

    Args:
        slope, intercept: of the calibration.
        power: of the pooling.
    """

    def __init__(self, slope: float, intercept: float, power: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.slope, self.intercept, self.power = slope, intercept, power

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Compute the map."""
        ops = keras.ops
        maps, lungs, logits = inputs
        weights = pooling_weights(lungs, self.power)
        pneumonia = ops.logsumexp(logits[:, 1:], axis=1)
        # A softmax; the one of Keras warns where there is only one kind of pneumonia.
        shares = ops.exp(logits[:, 1:] - pneumonia[:, None])[:, None, None, :]
        local = ops.sum(maps[..., 1:] * shares, axis=-1) - maps[..., 0]  # (N, h, w)
        rest = pneumonia - logits[:, 0] - ops.sum(weights * local, axis=(1, 2))
        return weights * (self.slope * (local + rest[:, None, None]) + self.intercept)


def lung_loss(masks: Tensor, lungs: Tensor) -> Tensor:
    """Dice loss plus cross-entropy of lung fields (N, h, w) against masks (N, h, w) in [0, 1] -> (N,)."""
    ops = keras.ops
    likely = ops.clip(lungs, 1e-6, 1 - 1e-6)
    entropy = -ops.mean(masks * ops.log(likely) + (1 - masks) * ops.log(1 - likely), axis=(1, 2))
    overlap = ops.sum(masks * lungs, axis=(1, 2))
    total = ops.sum(masks, axis=(1, 2)) + ops.sum(lungs, axis=(1, 2))
    return entropy + 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def dice(masks: Tensor, lungs: Tensor) -> Tensor:
    """Dice coefficient (N,) of cells that are lung by more than half."""
    ops = keras.ops
    one, other = ops.cast(masks > 0.5, "float32"), ops.cast(lungs > 0.5, "float32")
    total = ops.sum(one, axis=(1, 2)) + ops.sum(other, axis=(1, 2))
    return (2 * ops.sum(one * other, axis=(1, 2)) + 1e-6) / (total + 1e-6)
