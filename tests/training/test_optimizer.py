"""Optimizer of a recipe: schedule, decay, and smaller steps for the pretrained layers."""

import numpy as np
import pytest

from pneumoscope.errors import UsageError
from pneumoscope.training import networks
from pneumoscope.training.optimizer import build_optimizer
from pneumoscope.training.recipe import Recipe

keras = networks.keras


def recipe_of(**changes) -> Recipe:
    values = {"optimizer": "adamw", "trainable": "all", "schedule": "cosine", "weight_decay": 0.0, "epochs": 10}
    return Recipe("tuned", "mobilenet", **{**values, **changes})


@pytest.fixture
def network():
    image = keras.Input((4, 4, 1))
    backbone = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()], name="backbone"
    )
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(backbone(image))))


def after_one_step(network, recipe, gradient) -> dict[str, np.ndarray]:
    """How far each variable moved from 1."""
    optimizer = build_optimizer(recipe, 1, network)
    for weight in network.trainable_weights:
        weight.assign(np.ones(weight.shape))
    optimizer.apply([np.full(w.shape, gradient, np.float32) for w in network.trainable_weights])
    return {weight.path: 1 - weight.numpy() for weight in network.trainable_weights}


def test_the_cosine_schedule_rises_and_falls(network):
    rate = build_optimizer(recipe_of(warmup_epochs=2.0, learning_rate=0.01), 5, network)._learning_rate
    values = [float(rate(step)) for step in range(51)]
    assert values[0] == 0
    assert values[5] == pytest.approx(0.005)
    assert values[10] == pytest.approx(0.01) == max(values)
    assert values[30] == pytest.approx(0.005)
    assert values[50] == pytest.approx(0, abs=1e-8)
    without = build_optimizer(recipe_of(learning_rate=0.01), 5, network)._learning_rate
    assert [float(without(step)) for step in (0, 25, 50)] == pytest.approx([0.01, 0.005, 0], abs=1e-8)


def test_weight_decay_leaves_biases_and_batch_normalisation_alone(network):
    """The gradient is zero, so only the decay changes a weight."""
    recipe = recipe_of(weight_decay=0.5, schedule="constant", learning_rate=0.1)
    for path, moved in after_one_step(network, recipe, 0.0).items():
        np.testing.assert_allclose(moved, 0.05 if path.endswith("kernel") else 0.0, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_backbone_takes_its_share_of_each_step(network, share):
    """Adam's first step is the learning rate, whatever the gradient."""
    recipe = recipe_of(schedule="constant", learning_rate=0.1, backbone_rate=share)
    backbone = {weight.path for weight in network.get_layer("backbone").trainable_weights}
    moves = after_one_step(network, recipe, 3.0)
    assert len(backbone) == 4 < len(moves) == 6
    for path, moved in moves.items():
        np.testing.assert_allclose(moved, 0.1 * share if path in backbone else 0.1, rtol=1e-4, err_msg=path)


def test_the_backbone_decays_by_its_share(network):
    recipe = recipe_of(weight_decay=0.5, schedule="constant", learning_rate=0.1, backbone_rate=0.25)
    backbone = {weight.path for weight in network.get_layer("backbone").trainable_weights}
    for path, moved in after_one_step(network, recipe, 0.0).items():
        expected = 0.05 * (0.25 if path in backbone else 1) * path.endswith("kernel")
        np.testing.assert_allclose(moved, expected, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(UsageError, match=r"backbone_rate above 0 to 1, received"):
        recipe_of(backbone_rate=share)


@pytest.mark.parametrize("changes", [{"trainable": "head"}, {"optimizer": "adam"}])
def test_a_share_needs_a_trained_backbone_and_adamw(changes):
    with pytest.raises(UsageError, match="expected backbone_rate with trainable = 'all' and optimizer = 'adamw'"):
        recipe_of(backbone_rate=0.5, **changes)
