"""The architectures are the published ones, and weights come from where the user says."""

from dataclasses import replace

import numpy as np
import pytest

from pneumoscope.errors import RunError, UsageError
from pneumoscope.inference.preprocess import INPUT_SPECS
from pneumoscope.training import networks
from pneumoscope.training.recipe import Recipe, read_recipe

layers = networks.keras.layers

LSTM, MOBILENET = read_recipe("reference-lstm"), read_recipe("reference-mobilenet")


def test_the_lstm_is_the_published_one():
    model = networks.build(LSTM)
    lstm = [layer for layer in model.layers if isinstance(layer, layers.LSTM)]
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    assert model.input_shape == (None, 150, 450)
    assert [layer.units for layer in lstm] == [250, 120, 64]
    assert {(layer.dropout, layer.recurrent_dropout) for layer in lstm} == {(0.05, 0.20)}
    assert [layer.units for layer in dense] == [250, 120, 64, 28, 2]
    assert [layer.activation.__name__ for layer in dense] == ["relu"] * 4 + ["softmax"]


def test_the_mobilenet_is_frozen_under_its_head(backbone_weights):
    model = networks.build(MOBILENET, weights=str(backbone_weights))
    assert model.input_shape == (None, 150, 150, 3)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == 1024 * 128 + 128 + 128 * 2 + 2
    assert model.get_layer("backbone").count_params() == 3_228_864  # Howard et al. 2017, without the classifier
    assert isinstance(model.get_layer("features"), layers.GlobalAveragePooling2D)


def test_the_backbone_gets_the_range_it_was_trained_on():
    model = networks.build(MOBILENET, weights=None)
    rescaling = model.get_layer("to_backbone_range")
    np.testing.assert_allclose(rescaling(np.array([[0.0, 0.5, 1.0]], np.float32)), [[-1, 0, 1]])


def test_head_of_frozen_equals_whole(backbone_weights):
    model = networks.build(MOBILENET, weights=str(backbone_weights))
    frozen, head = networks.split_at_features(model)
    inputs = np.random.default_rng(0).random((3, 150, 150, 3), np.float32)
    np.testing.assert_allclose(head(frozen(inputs)), model(inputs), atol=1e-6)
    assert head.trainable_weights[0] is model.trainable_weights[0]


def test_an_lstm_has_no_frozen_part():
    assert networks.split_at_features(networks.build(LSTM)) is None


def test_recurrent_dropout_does_not_change_inference():
    recipe = replace(LSTM, size=32)
    training, inference = networks.build(recipe), networks.build(recipe, inference=True)
    inference.set_weights(training.get_weights())
    inputs = np.random.default_rng(0).random((2, 32, 96), np.float32)
    np.testing.assert_allclose(inference(inputs), training(inputs), atol=1e-6)


def test_wrong_weights_are_named(tmp_path):
    with pytest.raises(RunError, match="found no file: check --weights"):
        networks.build(MOBILENET, weights=str(tmp_path / "missing.h5"))
    wrong = tmp_path / "wrong.weights.h5"
    wrong.write_bytes(b"not HDF5")
    with pytest.raises(RunError, match="expected the ImageNet MobileNet v1"):
        networks.build(MOBILENET, weights=str(wrong))
    other = tmp_path / "other.weights.h5"
    networks.keras.Sequential([layers.Input((4,)), layers.Dense(2)]).save_weights(other)
    with pytest.raises(RunError, match="expected the ImageNet MobileNet v1"):
        networks.build(MOBILENET, weights=str(other))


def test_a_download_that_fails_names_the_local_alternative(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: refused at once
    with pytest.raises(RunError, match="give a local copy with  --weights FILE"):
        networks.build(MOBILENET)


def test_an_unknown_model_is_named():
    with pytest.raises(
        UsageError,
        match="expected the recipe's model one of mobilenet, mobilenet-lungs, lstm, bilstm, received 'resnet'",
    ):
        networks.build(replace(LSTM, model="resnet"))


def test_every_architecture_has_an_input_and_a_builder():
    assert networks.BUILDERS.keys() == INPUT_SPECS.keys()


@pytest.mark.parametrize("model", INPUT_SPECS)
@pytest.mark.parametrize("subtypes", [False, True])
def test_every_architecture_takes_its_input_and_gives_its_classes(model, subtypes):
    recipe = Recipe("mine", model, subtypes=subtypes, dropout=0.2, size=32)
    network = networks.build(recipe, weights=None)
    assert network.input_shape == (None, *recipe.spec.shape)
    outputs = network(np.random.default_rng(0).random((2, *recipe.spec.shape), np.float32))
    probabilities = np.asarray(outputs["probabilities"] if recipe.learns_lungs else outputs)
    assert probabilities.shape == (2, 3 if subtypes else 2)
    assert network.name == model.replace("-", "_")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (probabilities > 0).all()


def test_the_bilstm_reads_rows_and_columns_both_ways():
    network = networks.build(Recipe("mine", "bilstm"))
    assert network.input_shape == (None, 112, 112)
    both_ways = [layer for layer in network.layers if isinstance(layer, layers.Bidirectional)]
    assert [layer.output.shape for layer in both_ways] == [(None, 112, 2 * networks.LSTM_UNITS)] * 4
    assert network.get_layer("hidden").input.shape == (None, 8 * networks.LSTM_UNITS)  # 2 readings, mean and maximum
    assert networks.split_at_features(network) is None


def test_the_bilstm_sees_the_same_picture_at_any_gain_and_offset():
    """The standardised picture stays the same, up to the epsilon in its variance; another tone curve changes it."""
    networks.keras.utils.set_random_seed(0)
    network = networks.build(Recipe("mine", "bilstm", size=32))
    standardise = networks.keras.Model(network.input, network.get_layer("standardised").output)
    picture = np.random.default_rng(0).random((3, 32, 32), np.float32)
    mean, variance = (of(picture, axis=(1, 2), keepdims=True) for of in (np.mean, np.var))
    np.testing.assert_allclose(standardise(picture), (picture - mean) / np.sqrt(variance + 1e-3), atol=1e-5)
    changed = [picture, picture + 0.3, 0.9 * picture + 0.1, picture**3, picture[:, ::-1]]
    expected, offset, gain, tone, flipped = np.split(np.asarray(network(np.concatenate(changed))), len(changed))
    np.testing.assert_allclose(offset, expected, atol=1e-5)
    np.testing.assert_allclose(gain, expected, atol=5e-4)
    assert np.abs(tone - expected).max() > 2e-3
    assert np.abs(flipped - expected).max() > 1e-4


def test_the_bilstm_tells_rows_from_columns():
    networks.keras.utils.set_random_seed(0)
    network = networks.build(Recipe("mine", "bilstm", size=32))
    picture = np.random.default_rng(0).random((2, 32, 32), np.float32)
    upright, transposed = np.split(np.asarray(network(np.concatenate([picture, picture.transpose(0, 2, 1)]))), 2)
    assert np.abs(upright - transposed).max() > 1e-4


def test_a_fine_tuned_mobilenet_trains_every_layer(backbone_weights):
    recipe = replace(MOBILENET, trainable="all", subtypes=True, size=64)
    model = networks.build(recipe, weights=str(backbone_weights))
    head = 1024 * 128 + 128 + 128 * 3 + 3
    statistics = sum(np.prod(w.shape) for w in model.non_trainable_weights)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == 3_228_864 - statistics + head
    assert {w.name for w in model.non_trainable_weights} == {"moving_mean", "moving_variance"}
    assert networks.split_at_features(model) is None  # nothing is frozen: no feature can be cached
    before = [np.asarray(w) for w in model.get_layer("backbone").trainable_weights]
    statistics_before = [np.asarray(w) for w in model.non_trainable_weights]
    model.compile(optimizer=networks.keras.optimizers.SGD(1.0), loss="categorical_crossentropy", jit_compile=False)
    images = np.random.default_rng(0).random((4, 64, 64, 3), np.float32)
    model.train_on_batch(images, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, model.get_layer("backbone").trainable_weights, strict=True)
    ]
    assert np.mean(moved) > 0.9
    for was, now in zip(statistics_before, model.non_trainable_weights, strict=True):
        assert not np.array_equal(was, now)


def test_fine_tuned_and_frozen_start_from_the_same_network(backbone_weights):
    """Same weights, same inference: batch normalisation with its ImageNet statistics."""
    frozen, tuned = (
        networks.build(replace(MOBILENET, trainable=trainable, size=64), weights=str(backbone_weights))
        for trainable in ("head", "all")
    )
    tuned.set_weights(frozen.get_weights())
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    np.testing.assert_allclose(tuned(images), frozen(images), atol=1e-6)
    np.testing.assert_allclose(frozen(images, training=True), frozen(images), atol=1e-6)
    assert np.abs(np.asarray(tuned(images, training=True)) - np.asarray(tuned(images))).max() > 1e-4


def test_dropout_is_drawn_in_training_only(backbone_weights):
    model = networks.build(replace(MOBILENET, dropout=0.5, size=64), weights=str(backbone_weights))
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    np.testing.assert_array_equal(model(images), model(images))
    assert not np.array_equal(model(images, training=True), model(images, training=True))
    assert sum(isinstance(layer, layers.Dropout) for layer in model.layers) == 2
    frozen, head = networks.split_at_features(model)
    np.testing.assert_allclose(head(frozen(images)), model(images), atol=1e-6)


def test_batch_normalisation_may_keep_its_statistics_in_training(backbone_weights):
    """The output in training is that in use, and all kernels still learn."""
    recipe = replace(MOBILENET, trainable="all", batch_norm="frozen", size=64)
    model = networks.build(recipe, weights=str(backbone_weights))
    images = np.random.default_rng(0).random((4, 64, 64, 3), np.float32)
    np.testing.assert_allclose(model(images, training=True), model(images), atol=1e-6)
    statistics = [np.asarray(w) for w in model.non_trainable_weights]
    before = [np.asarray(w) for w in model.trainable_weights]
    assert len(before) == 27 + 4  # convolutions of the backbone, and the head
    model.compile(optimizer=networks.keras.optimizers.Adam(0.01), loss="categorical_crossentropy", jit_compile=False)
    model.fit(images, np.eye(2, dtype=np.float32)[[0, 1, 1, 0]], verbose=0)
    for was, now in zip(statistics, model.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(was, now)
    assert np.mean([not np.array_equal(a, b) for a, b in zip(before, model.trainable_weights, strict=True)]) > 0.9
    plain = networks.build(replace(recipe, batch_norm="batch"), weights=str(backbone_weights))
    assert [w.path for w in plain.weights] == [w.path for w in model.weights]  # a saved run fits either
