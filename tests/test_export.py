"""The exported file computes what the Keras model computes, and its Grad-CAM is the gradient's."""

import numpy as np
import onnx
import pytest

from pneumoscope import models
from pneumoscope.bundle import PROBABILITIES, open_bundle
from pneumoscope.errors import BundleError
from pneumoscope.export import (
    GRADCAM_TOLERANCE,
    ONNX_TOLERANCE,
    GradCam,
    autodiff_gradcam,
    check_gradcam,
    check_parity,
    export_run,
    restore_best,
    seal,
    uncertain_band,
    with_gradcam,
)
from pneumoscope.preprocess import preprocess
from pneumoscope.release import release

keras = models.keras


def test_gradcam_by_hand_on_two_by_two_maps():
    """Two maps, two hidden units, two classes; worked out on paper.

    Pooled features (2.5, 1). Hidden: 2.5 - 1 = 1.5 (active) and -2.5 + 0.5 = -2 (not active), so only the first
    unit passes gradient. dlogit_0/dA = W1[:, 0] * W2[0, 0] / 4 = (1, -1) * 2 / 4; dlogit_1/dA = (1, -1) * -3 / 4.
    """
    maps = np.array([[[[1, 0], [2, 4]], [[3, 0], [4, 0]]]], np.float32)  # (1, 2, 2, 2): channels last
    hidden, output = keras.layers.Dense(2, activation="relu"), keras.layers.Dense(2, activation="softmax")
    hidden.build((None, 2))
    output.build((None, 2))
    hidden.set_weights([np.array([[1, -1], [-1, 0.5]], np.float32), np.zeros(2, np.float32)])
    output.set_weights([np.array([[2, -3], [5, 7]], np.float32), np.zeros(2, np.float32)])
    (normal, pneumonia) = np.asarray(GradCam(hidden, output)(maps))[0]
    np.testing.assert_allclose(normal, np.maximum(0, 0.5 * np.array([[1 - 0, 2 - 4], [3 - 0, 4 - 0]])))
    np.testing.assert_allclose(pneumonia, np.maximum(0, -0.75 * np.array([[1 - 0, 2 - 4], [3 - 0, 4 - 0]])))


@pytest.fixture(scope="module")
def mobilenet(tiny_recipe, samples_folder, tmp_path_factory):
    """A trained Keras MobileNet with its run and file."""
    from pneumoscope.train import train

    run = train(tiny_recipe("mobilenet"), samples_folder, runs=tmp_path_factory.mktemp("runs"))
    model = models.build("mobilenet", run.spec, weights=None)
    restore_best(run, model)
    return run, model, open_bundle(export_run(run))


def test_gradcam_in_closed_form_equals_automatic_differentiation(mobilenet, samples):
    _, model, bundle = mobilenet
    inputs = np.concatenate([preprocess(path, bundle.spec) for path in samples])
    peak = autodiff_gradcam(model, inputs).max(axis=(1, 2, 3))
    assert (peak > 0).all(), "an image without any evidence: the comparison would prove nothing"
    assert check_gradcam(bundle, model, inputs) <= GRADCAM_TOLERANCE
    other = keras.models.clone_model(model)
    weights = model.get_weights()
    other.set_weights([*weights[:-4], weights[-4] * 1.001, *weights[-3:]])
    with pytest.raises(BundleError, match="of automatic differentiation, they differ by"):
        check_gradcam(bundle, other, inputs)


@pytest.mark.parametrize("count", [1, 7])
def test_onnx_equals_keras_on_radiographs(trained, samples, count):
    model = models.build(trained.recipe.model, trained.spec, weights=None)
    restore_best(trained, model)
    bundle = open_bundle(export_run(trained))
    inputs = np.concatenate([preprocess(path, bundle.spec) for path in samples[:count]])
    expected = with_gradcam(model).predict_on_batch(inputs)
    received = bundle.run(inputs)
    assert received.keys() == expected.keys()
    for name, value in received.items():
        assert value.shape == expected[name].shape
        np.testing.assert_allclose(value, expected[name], atol=ONNX_TOLERANCE * max(1, np.abs(expected[name]).max()))


def test_another_network_fails_the_parity_check(mobilenet):
    _, model, bundle = mobilenet
    other = keras.models.clone_model(model)
    kernel, bias = model.get_layer("probabilities").get_weights()
    other.set_weights(model.get_weights())
    other.get_layer("probabilities").set_weights([kernel + 0.01, bias + np.array([0.01, 0], np.float32)])
    assert max(check_parity(bundle, model).values()) <= ONNX_TOLERANCE
    with pytest.raises(BundleError, match="it differs by"):
        check_parity(bundle, other)


def test_the_file_holds_the_native_operators(trained):
    graph = onnx.load(export_run(trained))
    kinds = {node.op_type for node in graph.graph.node}
    assert ("LSTM" if trained.recipe.model == "lstm" else "Conv") in kinds
    assert not kinds & {"Loop", "Scan", "If"}
    assert PROBABILITIES in {value.name for value in graph.graph.output}


def test_release_seals_the_held_out_figures(trained, samples_folder):
    report = release(trained, samples_folder)
    bundle = open_bundle(trained.folder / "model.onnx")
    assert bundle.contract["metrics"] == report["metrics"]
    assert report["images"] == len(trained.split.val)
    assert (
        report["data"]["split_fingerprint"]
        == trained.split.fingerprint
        == bundle.contract["training"]["split_fingerprint"]
    )
    low, high = bundle.uncertain
    assert low < bundle.threshold < high
    best = max(row["val_accuracy"] for row in trained.history)
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(best, abs=1e-6)


def test_export_is_reproducible(trained, tmp_path):
    first = open_bundle(export_run(trained, tmp_path / "a.onnx")).contract["body_sha256"]
    assert open_bundle(export_run(trained, tmp_path / "b.onnx")).contract["body_sha256"] == first


def test_the_uncertain_band_holds_its_share():
    probability = np.random.default_rng(0).random(1000)
    low, high = uncertain_band(probability, 0.3)
    assert ((probability >= low) & (probability <= high)).mean() == pytest.approx(0.05, abs=0.002)
    assert low < 0.3 < high


def test_sealing_keeps_the_network(mobilenet, tmp_path):
    run, _, _ = mobilenet
    path = export_run(run, tmp_path / "model.onnx")
    before = open_bundle(path).contract["body_sha256"]
    report = {"metrics": {"accuracy": {}}, "data": {"images": 3, "patients": 3, "median_size": None}}
    seal(path, report, np.array([0, 1, 1]), np.array([0.1, 0.9, 0.4]))
    after = open_bundle(path)
    assert after.contract["body_sha256"] == before
    assert "0 of 2 outside" in after.contract["uncertain_rule"]
