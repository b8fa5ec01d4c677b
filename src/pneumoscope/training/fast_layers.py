"""Layers of a convolutional backbone that train faster on a CPU and compute the numbers of Keras's layers.

A step of a MobileNet spends most of its time in the gradients of convolutions of one pixel, and in batch normalisation
that Keras computes from single operations. Here such a convolution is a matrix product, whose gradients are matrix
products too, and batch normalisation is one operation of TensorFlow. The results differ from Keras's by rounding. Names
and weights are the same, so the weights fit a network of Keras's own layers, which is what is exported.
"""

from typing import Any

from pneumoscope.training.keras_backend import Model, Tensor, keras, tf


class PointwiseConv2D(keras.layers.Conv2D):  # type: ignore[misc]  # Keras ships no annotations
    """Keras's ``Conv2D`` with a kernel of one pixel and no stride, as a matrix product."""

    def call(self, inputs: Tensor) -> Tensor:
        """Compute the output, (N, h, w, C) -> (N, h, w, filters)."""
        kernel = tf.reshape(self.kernel, self.kernel.shape[2:])  # (C, filters)
        product = tf.matmul(tf.reshape(inputs, (-1, inputs.shape[-1])), kernel)
        size = tf.unstack(tf.shape(inputs)[:3])
        outputs = tf.reshape(product, (*size, self.filters))
        return self.activation(outputs + self.bias if self.use_bias else outputs)


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras ships no annotations
    """Keras's ``BatchNormalization`` over (N, h, w, C); in training one operation for the sums and the result.

    Outside training, and where the layer is frozen, it is Keras's own layer.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """Compute the output, and move the running statistics in training."""
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) / inputs.shape[-1], tf.float32)
        variance *= (count - 1) / count  # TensorFlow divides by count - 1, Keras by count
        for running, here in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(self.momentum * running + (1 - self.momentum) * here)
        return outputs


def use_fast_layers(backbone: Model) -> Model:
    """The same backbone with the layers of this module; names and weights stay.

    Args:
        backbone: of convolutions of (N, h, w, C), as from ``keras.applications``.
    """
    copy = keras.models.clone_model(backbone, clone_function=_faster)
    copy.set_weights(backbone.get_weights())
    return copy


def _faster(layer: Any) -> Any:
    if type(layer) is keras.layers.Conv2D and layer.kernel_size == layer.strides == layer.dilation_rate == (1, 1):
        kind: Any = PointwiseConv2D if layer.groups == 1 and layer.data_format == "channels_last" else type(layer)
    elif type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3) and layer.scale and layer.center:
        kind = FusedBatchNormalization
    else:
        kind = type(layer)
    return kind.from_config(layer.get_config())
