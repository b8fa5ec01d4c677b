"""The LSTM that trains faster is Keras's own: same outputs, same gradients, same masks."""

import numpy as np
import pytest

from pneumoscope.training import networks
from pneumoscope.training.fused_lstm import FusedLSTM

keras, layers = networks.keras, networks.keras.layers
tensorflow = pytest.importorskip("tensorflow")


def trained_step(kind, *, sequences, states=None, **options):
    """The outputs of a layer in training, and the derivatives by its weights, its input and its first states."""
    keras.utils.set_random_seed(0)
    layer = kind(7, dropout=0.3, recurrent_dropout=0.4, seed=1, **options)
    layer.build(sequences.shape)
    x = tensorflow.constant(sequences)
    given = [tensorflow.constant(state) for state in states or ()]
    with tensorflow.GradientTape() as tape:
        tape.watch([x, *given])
        outputs = layer(x, initial_state=given or None, training=True)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        weighted = [tensorflow.reduce_sum(output * np.cos(np.arange(output.shape[-1]))) for output in outputs]
        total = sum(weighted)
    gradients = tape.gradient(total, [*layer.trainable_weights, x, *given])
    return [np.array(value) for value in (*outputs, *gradients)]


@pytest.fixture
def sequences():
    return np.random.default_rng(0).normal(size=(5, 11, 4)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_sequences": True, "return_state": True}])
def test_a_step_of_training_is_that_of_keras(sequences, options):
    ours = trained_step(FusedLSTM, sequences=sequences, **options)
    keras_own = trained_step(layers.LSTM, sequences=sequences, **options)
    assert len(ours) == len(keras_own)
    for mine, own in zip(ours, keras_own, strict=True):
        assert mine.shape == own.shape
        np.testing.assert_allclose(mine, own, rtol=1e-4, atol=2e-6)


def test_initial_states_have_the_outputs_and_gradients_of_keras(sequences):
    states = np.random.default_rng(1).normal(size=(2, 5, 7)).astype(np.float32)
    ours = trained_step(FusedLSTM, sequences=sequences, states=list(states), return_state=True)
    keras_own = trained_step(layers.LSTM, sequences=sequences, states=list(states), return_state=True)
    for mine, own in zip(ours, keras_own, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-4, atol=2e-6)


def test_the_loop_is_ours_in_training_only(sequences, monkeypatch):
    """Otherwise the test above would compare Keras with itself."""
    from pneumoscope.training import fused_lstm

    called = []
    original = fused_lstm.masked_lstm
    monkeypatch.setattr(fused_lstm, "masked_lstm", lambda *arguments: called.append(1) or original(*arguments))
    layer = FusedLSTM(7, dropout=0.3, recurrent_dropout=0.4)
    layer(sequences, training=False)
    assert not called
    layer(sequences, training=True)
    assert called


def test_masks_differ_from_batch_to_batch(sequences):
    layer = FusedLSTM(7, dropout=0.3, recurrent_dropout=0.4)
    first, second = (np.array(layer(sequences, training=True)) for _ in range(2))
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    "options",
    [
        {"go_backwards": True},
        {"recurrent_dropout": 0.0},
        {"dropout": 0.0},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"use_bias": False},
        {"dtype": "float64"},
    ],
)
def test_other_options_are_left_to_keras(sequences, options):
    results = []
    for kind in (FusedLSTM, layers.LSTM):
        keras.utils.set_random_seed(0)
        layer = kind(7, **{"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 1} | options)
        results.append(np.array(layer(sequences, training=True)))
    np.testing.assert_array_equal(*results)
