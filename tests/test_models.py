"""The architectures are the published ones, and weights come from where the user says."""

from dataclasses import replace

import numpy as np
import pytest

from pneumoscope import models
from pneumoscope.errors import RunError, UsageError
from pneumoscope.recipe import read_recipe

layers = models.keras.layers

LSTM, MOBILENET = read_recipe("reference-lstm"), read_recipe("reference-mobilenet")


def test_the_lstm_is_the_published_one():
    model = models.build(LSTM)
    lstm = [layer for layer in model.layers if isinstance(layer, layers.LSTM)]
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    assert model.input_shape == (None, 150, 450)
    assert [layer.units for layer in lstm] == [250, 120, 64]
    assert {(layer.dropout, layer.recurrent_dropout) for layer in lstm} == {(0.05, 0.20)}
    assert [layer.units for layer in dense] == [250, 120, 64, 28, 2]
    assert [layer.activation.__name__ for layer in dense] == ["relu"] * 4 + ["softmax"]


def test_the_mobilenet_is_frozen_under_its_head(backbone_weights):
    model = models.build(MOBILENET, weights=str(backbone_weights))
    assert model.input_shape == (None, 150, 150, 3)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == 1024 * 128 + 128 + 128 * 2 + 2
    assert model.get_layer("backbone").count_params() == 3_228_864  # Howard et al. 2017, without the classifier
    assert isinstance(model.get_layer("features"), layers.GlobalAveragePooling2D)


def test_the_backbone_gets_the_range_it_was_trained_on():
    model = models.build(MOBILENET, weights=None)
    rescaling = model.get_layer("to_backbone_range")
    np.testing.assert_allclose(rescaling(np.array([[0.0, 0.5, 1.0]], np.float32)), [[-1, 0, 1]])


def test_head_of_frozen_equals_whole(backbone_weights):
    model = models.build(MOBILENET, weights=str(backbone_weights))
    frozen, head = models.split_at_features(model)
    inputs = np.random.default_rng(0).random((3, 150, 150, 3), np.float32)
    np.testing.assert_allclose(head(frozen(inputs)), model(inputs), atol=1e-6)
    assert head.trainable_weights[0] is model.trainable_weights[0]


def test_an_lstm_has_no_frozen_part():
    assert models.split_at_features(models.build(LSTM)) is None


def test_recurrent_dropout_does_not_change_inference():
    training, inference = models.build(LSTM), models.build(LSTM, inference=True)
    inference.set_weights(training.get_weights())
    inputs = np.random.default_rng(0).random((2, 150, 450), np.float32)
    np.testing.assert_allclose(inference(inputs), training(inputs), atol=1e-6)


def test_wrong_weights_are_named(tmp_path):
    with pytest.raises(RunError, match="found no file: check --weights"):
        models.build(MOBILENET, weights=str(tmp_path / "missing.h5"))
    wrong = tmp_path / "wrong.weights.h5"
    wrong.write_bytes(b"not HDF5")
    with pytest.raises(RunError, match="expected the ImageNet MobileNet v1"):
        models.build(MOBILENET, weights=str(wrong))
    other = tmp_path / "other.weights.h5"
    models.keras.Sequential([layers.Input((4,)), layers.Dense(2)]).save_weights(other)
    with pytest.raises(RunError, match="expected the ImageNet MobileNet v1"):
        models.build(MOBILENET, weights=str(other))


def test_a_download_that_fails_names_the_local_alternative(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: refused at once
    with pytest.raises(RunError, match="give a local copy with  --weights FILE"):
        models.build(MOBILENET)


def test_an_unknown_model_is_named():
    with pytest.raises(
        UsageError, match="expected the recipe's model one of mobilenet, lstm, bilstm, received 'resnet'"
    ):
        models.build(replace(LSTM, model="resnet"))
