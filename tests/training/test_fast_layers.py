"""Layers that train faster compute the numbers of Keras's layers: outputs, gradients, running statistics."""

import numpy as np
import pytest

from pneumoscope.training.fast_layers import FusedBatchNormalization, PointwiseConv2D, use_fast_layers
from pneumoscope.training.keras_backend import keras, tf
from pneumoscope.training.networks import build
from pneumoscope.training.recipe import read_recipe


def small_backbone() -> keras.Model:
    """Convolutions of all kinds with batch normalisation; with random weights and statistics."""
    layers = keras.layers
    image = layers.Input((8, 10, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(x))
    x = layers.Conv2D(5, 1, activation="relu")(x)
    x = layers.BatchNormalization()(layers.Conv2D(7, 1, use_bias=False)(x))
    model = keras.Model(image, layers.Conv2D(4, 1, strides=2)(x))
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(1, 0.5, weight.shape)) for weight in model.get_weights()])
    return model


@pytest.fixture
def images() -> np.ndarray:
    """Three images of noise."""
    return np.random.default_rng(1).normal(size=(3, 8, 10, 3)).astype(np.float32)


def step(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Output in training, gradients of its squares, and the weights afterwards (with the running statistics)."""
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_mean(tf.square(outputs))
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, model.trainable_variables)]
    return outputs.numpy(), gradients, model.get_weights()


def test_a_training_step_has_the_numbers_of_keras(images):
    model = small_backbone()
    fast = use_fast_layers(model)
    before = model.get_weights()
    kinds = [type(layer) for layer in fast.layers]
    assert kinds.count(PointwiseConv2D) == 2  # the convolution with a stride stays
    assert kinds.count(FusedBatchNormalization) == 2
    plain, own = step(model, images), step(fast, images)
    np.testing.assert_allclose(own[0], plain[0], rtol=2e-4, atol=2e-5)
    for ours, theirs in zip((*own[1], *own[2]), (*plain[1], *plain[2]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5)
    assert any(np.abs(new - old).max() > 1e-3 for new, old in zip(own[2], before, strict=True))  # statistics moved


def test_outside_training_nothing_moves_and_the_numbers_are_those_of_keras(images):
    model = small_backbone()
    fast = use_fast_layers(model)
    before = fast.get_weights()
    np.testing.assert_allclose(fast(images).numpy(), model(images).numpy(), rtol=1e-5, atol=1e-5)
    for layer in fast.layers:
        layer.trainable = False
    np.testing.assert_allclose(fast(images, training=True).numpy(), model(images).numpy(), rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(new, old) for new, old in zip(fast.get_weights(), before, strict=True))


@pytest.mark.parametrize("architecture", ["mobilenet", "mobilenet-lungs"])
def test_only_a_trainable_backbone_in_training_has_them(architecture):
    changes = {"name": "x", "size": 64, "trainable": "all", "subtypes": True}
    recipe = read_recipe("reference-mobilenet", model=architecture, **changes)

    def kinds(model: keras.Model) -> set[type]:
        return {type(layer) for layer in model.get_layer("backbone").layers}

    training, exported = build(recipe, weights=None), build(recipe, weights=None, inference=True)
    assert {PointwiseConv2D, FusedBatchNormalization} <= kinds(training)
    assert not {PointwiseConv2D, FusedBatchNormalization} & kinds(exported)
    exported.set_weights(training.get_weights())
    names = [weight.path for weight in training.weights]
    assert names == [weight.path for weight in exported.weights]
    inputs = np.random.default_rng(2).random((2, *recipe.spec.shape), np.float32)
    ours, theirs = training(inputs), exported(inputs)
    for one, other in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)
    frozen = build(read_recipe("reference-mobilenet"), weights=None)
    assert PointwiseConv2D not in kinds(frozen)
