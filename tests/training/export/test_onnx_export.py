"""The exported file computes what the Keras model computes, and its Grad-CAM is that of automatic differentiation."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from pneumoscope.errors import BundleError
from pneumoscope.evaluation import uncertain_band
from pneumoscope.inference.bundle import GRADCAM, PROBABILITIES, SUBTYPES, open_bundle
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.training import networks
from pneumoscope.training.checkpoints import restore_best
from pneumoscope.training.export.inference_graph import (
    CalibratedProbabilities,
    GradCam,
    autodiff_gradcam,
    build_inference_graph,
)
from pneumoscope.training.export.onnx_export import add_evaluation, export_run
from pneumoscope.training.export.onnx_graph import onnx_bytes
from pneumoscope.training.export.parity import GRADCAM_TOLERANCE, ONNX_TOLERANCE, check_gradcam, check_parity
from pneumoscope.training.recipe import read_recipe
from pneumoscope.training.release import release

keras = networks.keras


def test_gradcam_by_hand_on_two_by_two_maps():
    """Two maps, two hidden units, two classes; worked out by hand.

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
def exported_mobilenet(trained_mobilenet, tmp_path_factory):
    return _export(trained_mobilenet, tmp_path_factory.mktemp("mobilenet"))


@pytest.fixture(scope="module")
def exported_lstm(trained_lstm, tmp_path_factory):
    return _export(trained_lstm, tmp_path_factory.mktemp("lstm"))


def _export(run, folder):
    model = networks.build(run.recipe, weights=None)
    restore_best(run, model)
    return run, model, open_bundle(export_run(run, folder / "model.onnx"))


@pytest.fixture
def exported(request, trained):
    """A finished run of each architecture, its Keras model, and its file."""
    return request.getfixturevalue(f"exported_{trained.recipe.model}")


@pytest.fixture(scope="module")
def mobilenet(exported_mobilenet):
    """A finished run of the MobileNet, its Keras model, and its file."""
    return exported_mobilenet


def test_gradcam_in_closed_form_equals_automatic_differentiation(mobilenet, samples):
    _, model, bundle = mobilenet
    inputs = np.concatenate([preprocess(path, bundle.spec) for path in samples])
    peak = autodiff_gradcam(model, inputs).max(axis=(1, 2, 3))
    assert (peak > 0).all(), "an image without any evidence: the comparison proves nothing"
    assert check_gradcam(bundle, model, inputs) <= GRADCAM_TOLERANCE
    other = keras.models.clone_model(model)
    weights = model.get_weights()
    other.set_weights([*weights[:-4], weights[-4] * 1.001, *weights[-3:]])
    with pytest.raises(BundleError, match="of automatic differentiation, they differ by"):
        check_gradcam(bundle, other, inputs)


@pytest.mark.parametrize("count", [1, 7])
def test_onnx_equals_keras_on_radiographs(exported, samples, count):
    _, model, bundle = exported
    inputs = np.concatenate([preprocess(path, bundle.spec) for path in samples[:count]])
    expected = build_inference_graph(model).predict_on_batch(inputs)
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
    assert max(check_parity(bundle, build_inference_graph(model)).values()) <= ONNX_TOLERANCE
    with pytest.raises(BundleError, match="it differs by"):
        check_parity(bundle, build_inference_graph(other))


def test_the_file_has_the_native_operators(exported):
    run, _, bundle = exported
    graph = onnx.load(bundle.path)
    kinds = {node.op_type for node in graph.graph.node}
    assert ("LSTM" if run.recipe.model == "lstm" else "Conv") in kinds
    assert not kinds & {"Loop", "Scan", "If"}
    assert PROBABILITIES in {value.name for value in graph.graph.output}


def test_release_writes_the_held_out_figures_into_the_file(trained, samples_folder):
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


def test_export_is_reproducible(exported, tmp_path):
    run, _, bundle = exported
    assert (
        open_bundle(export_run(run, tmp_path / "again.onnx")).contract["body_sha256"] == bundle.contract["body_sha256"]
    )


def test_the_uncertain_band_has_its_share():
    probability = np.random.default_rng(0).random(1000)
    low, high = uncertain_band(probability, 0.3)
    assert ((probability >= low) & (probability <= high)).mean() == pytest.approx(0.05, abs=0.002)
    assert low < 0.3 < high


def test_adding_figures_keeps_the_network(mobilenet, tmp_path):
    path = shutil.copy(mobilenet[2].path, tmp_path / "model.onnx")
    before = open_bundle(path).contract["body_sha256"]
    data = {"images": 3, "patients": 3, "median_size": None}
    report = {"metrics": {"accuracy": {}}, "subtypes": None, "data": data}
    add_evaluation(path, report, np.array([0, 1, 1]), np.array([0.1, 0.9, 0.4]))
    after = open_bundle(path)
    assert after.contract["body_sha256"] == before
    assert "0 of 2 outside" in after.contract["uncertain_rule"]


# Three classes, two views ------------------------------------------------------------------------------------


def test_gradcam_of_three_classes_by_hand():
    """As above, with a third class; bacterial and viral share the gradient of PNEUMONIA by their softmax.

    Hidden (1.5, 0): logits 1.5 * (2, -3, -3 + log(3) / 1.5), so viral has three times the share of bacterial:
    1/4 and 3/4. dlogit/dA of PNEUMONIA = (1, -1) * (-3 / 4 + 3 / 4 * (-3 + log(3) / 1.5)) / 4.
    """
    maps = np.array([[[[1, 0], [2, 4]], [[3, 0], [4, 0]]]], np.float32)
    hidden, output = keras.layers.Dense(2, activation="relu"), keras.layers.Dense(3, activation="softmax")
    hidden.build((None, 2))
    output.build((None, 2))
    viral = -3 + np.log(3) / 1.5
    hidden.set_weights([np.array([[1, -1], [-1, 0.5]], np.float32), np.zeros(2, np.float32)])
    output.set_weights([np.array([[2, -3, viral], [5, 7, 9]], np.float32), np.zeros(3, np.float32)])
    (normal, pneumonia) = np.asarray(GradCam(hidden, output).evidence(maps))[0]
    difference = np.array([[1 - 0, 2 - 4], [3 - 0, 4 - 0]])
    np.testing.assert_allclose(normal, 0.5 * difference, atol=1e-6)
    np.testing.assert_allclose(pneumonia, (-3 / 4 + 3 / 4 * viral) / 4 * difference, atol=1e-6)


def _sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z)))


def test_calibrated_probabilities_by_hand():
    """Log odds 2 and -1; slope 2 and intercept -1 make them 3 and -3."""
    logits = np.array([[1, 3], [0.5, -0.5]], np.float32)
    plain, calibrated = (np.asarray(CalibratedProbabilities(*how)(logits)) for how in ((1.0, 0.0), (2.0, -1.0)))
    np.testing.assert_allclose(plain[:, 1], _sigmoid([2, -1]), atol=1e-6)
    np.testing.assert_allclose(calibrated[:, 1], _sigmoid([3, -3]), atol=1e-6)
    np.testing.assert_allclose(plain, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-6)


def test_probabilities_of_three_classes_add_up_the_pneumonias():
    """Weights 1, 2 and 6 after exp: 8 of 9 pneumonia, a quarter of it bacterial."""
    logits = np.log([[1, 2, 6]]).astype(np.float32)
    probabilities, subtypes = (np.asarray(part) for part in CalibratedProbabilities(1.0, 0.0)(logits))
    np.testing.assert_allclose(probabilities, [[1 / 9, 8 / 9]], atol=1e-6)
    np.testing.assert_allclose(subtypes, [[1 / 4, 3 / 4]], atol=1e-6)
    probabilities, subtypes = (np.asarray(part) for part in CalibratedProbabilities(0.5, 1.0)(logits))
    np.testing.assert_allclose(probabilities[:, 1], _sigmoid([0.5 * np.log(8) + 1]), atol=1e-6)
    np.testing.assert_allclose(subtypes, [[1 / 4, 3 / 4]], atol=1e-6)  # calibration is about normal or not


def test_probabilities_of_two_views_are_those_of_their_mean_logits():
    views = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    together, alone = CalibratedProbabilities(1.3, 0.2)(views), CalibratedProbabilities(1.3, 0.2)(views.mean(axis=0))
    for of_both, of_mean in zip(together, alone, strict=True):
        np.testing.assert_allclose(of_both, of_mean, atol=1e-6)


def test_extreme_logits_keep_their_verdict():
    """No overflow: the odds are computed from logarithms."""
    logits = np.array([[500, -500, -499], [-500, 500, 499]], np.float32)
    probabilities, subtypes = (np.asarray(part) for part in CalibratedProbabilities(1.0, 0.0)(logits))
    np.testing.assert_array_equal(probabilities, [[1, 0], [0, 1]])
    assert np.isfinite(subtypes).all()


@pytest.fixture(scope="module")
def run_of_three(tiny_recipe, samples_folder, tmp_path_factory):
    """A finished run with three classes. 96 pixels, which is no multiple of ten, give maps of 3x3."""
    from pneumoscope.training.train import train

    recipe = tiny_recipe("mobilenet", name="three", size=96, subtypes=True, dropout=0.2)
    return train(recipe, samples_folder, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module", params=[False, True], ids=["one view", "mirrored"])
def three_classes(request, run_of_three, tmp_path_factory):
    """That run, its Keras model, and its file with one view or two."""
    run = replace(run_of_three, recipe=replace(run_of_three.recipe, mirror=request.param))
    model = networks.build(run.recipe, weights=None, inference=True)
    restore_best(run, model)
    return run, model, open_bundle(export_run(run, tmp_path_factory.mktemp("three") / "model.onnx"))


@pytest.fixture(scope="module")
def images(samples, run_of_three) -> np.ndarray:
    """(8, 96, 96, 3) float32 in [0, 1]."""
    return np.concatenate([preprocess(path, run_of_three.spec) for path in samples[4:12]])


def test_a_file_of_three_classes_names_its_outputs(three_classes):
    run, _, bundle = three_classes
    assert set(bundle.contract["outputs"]) == {PROBABILITIES, SUBTYPES, GRADCAM}
    assert bundle.contract["labels"] == ["NORMAL", "PNEUMONIA"]
    assert bundle.contract["training"]["recipe"]["mirror"] == run.recipe.mirror
    assert bundle.contract["training"]["best_epoch"] == run.kept["epoch"]
    graph = onnx.load(bundle.path)
    assert not {node.op_type for node in graph.graph.node} & {"Loop", "Scan", "If"}


@pytest.mark.parametrize("count", [1, 7])
def test_onnx_equals_keras_with_three_classes(three_classes, images, count):
    run, model, bundle = three_classes
    expected = build_inference_graph(model, mirror=run.recipe.mirror).predict_on_batch(images[:count])
    received = bundle.run(images[:count])
    assert received.keys() == expected.keys()
    for name, value in received.items():
        assert value.shape == expected[name].shape
        scale = max(1, np.abs(expected[name]).max())
        np.testing.assert_allclose(value, expected[name], atol=ONNX_TOLERANCE * scale, err_msg=name)


def test_the_file_adds_bacterial_and_viral_up_to_pneumonia(three_classes, images):
    run, model, bundle = three_classes
    received = bundle.run(images)
    views = [
        model.predict_on_batch(view) for view in ((images, images[:, :, ::-1]) if run.recipe.mirror else (images,))
    ]
    odds = np.mean([np.log(view) for view in views], axis=0)  # (N, 3) mean logits, up to a constant in each row
    softmax = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    if not run.recipe.mirror:  # with two views the sum comes after the mean of the logits
        np.testing.assert_allclose(softmax, views[0], atol=1e-6)
    np.testing.assert_allclose(received[PROBABILITIES][:, 1], softmax[:, 1] + softmax[:, 2], atol=2e-5)
    np.testing.assert_allclose(received[SUBTYPES][:, 0], softmax[:, 1] / softmax[:, 1:].sum(axis=1), atol=2e-5)
    np.testing.assert_allclose(received[SUBTYPES].sum(axis=1), 1, atol=1e-6)


def test_gradcam_of_three_classes_equals_automatic_differentiation(three_classes, images):
    run, model, bundle = three_classes
    maps = autodiff_gradcam(model, images, run.recipe.mirror)
    assert (maps.max(axis=(1, 2, 3)) > 0).all(), "an image without any evidence: the comparison proves nothing"
    assert check_gradcam(bundle, model, images) <= GRADCAM_TOLERANCE
    assert check_gradcam(bundle, model) <= GRADCAM_TOLERANCE  # on noise, at a size that is no multiple of ten
    other = keras.models.clone_model(model)
    weights = model.get_weights()
    other.set_weights([*weights[:-4], weights[-4] * 1.001, *weights[-3:]])
    with pytest.raises(BundleError, match="of automatic differentiation, they differ by"):
        check_gradcam(bundle, other, images)


def test_a_mirrored_file_judges_a_mirror_image_alike(three_classes, images):
    """With one view the mirror image is another picture; with two it is the same, and its map is flipped."""
    run, _, bundle = three_classes
    plain, flipped = bundle.run(images), bundle.run(np.ascontiguousarray(images[:, :, ::-1]))
    difference = {name: np.abs(plain[name] - flipped[name]).max() for name in (PROBABILITIES, SUBTYPES)}
    peak = np.abs(plain[GRADCAM]).max()
    difference[GRADCAM] = np.abs(plain[GRADCAM] - flipped[GRADCAM][..., ::-1]).max() / peak
    assert np.abs(plain[GRADCAM] - flipped[GRADCAM]).max() / peak > 1e-3, "the maps are symmetric: this proves nothing"
    if run.recipe.mirror:
        assert max(difference.values()) < 1e-5
    else:
        assert min(difference.values()) > 1e-4


def test_a_mirrored_probability_lies_between_those_of_its_views(three_classes, images):
    run, model, bundle = three_classes
    predict = build_inference_graph(model).predict_on_batch
    views = np.stack([predict(view)[PROBABILITIES][:, 1] for view in (images, images[:, :, ::-1])])
    received = bundle.run(images)[PROBABILITIES][:, 1]
    if run.recipe.mirror:
        assert (received > views.min(axis=0) - 0.01).all()
        assert (received < views.max(axis=0) + 0.01).all()
        assert np.abs(received - views[0]).max() > 1e-4
    else:
        np.testing.assert_allclose(received, views[0], atol=ONNX_TOLERANCE)


@pytest.mark.parametrize("mirror", [False, True])
def test_calibration_changes_the_probability_and_nothing_else(run_of_three, images, mirror):
    model = networks.build(run_of_three.recipe, weights=None, inference=True)
    restore_best(run_of_three, model)
    plain = build_inference_graph(model, mirror=mirror).predict_on_batch(images)
    calibrated = build_inference_graph(model, mirror=mirror, slope=1.7, intercept=-0.4).predict_on_batch(images)
    p = plain[PROBABILITIES][:, 1].astype(float)
    np.testing.assert_allclose(calibrated[PROBABILITIES][:, 1], _sigmoid(1.7 * np.log(p / (1 - p)) - 0.4), atol=1e-5)
    for name in (SUBTYPES, GRADCAM):
        np.testing.assert_allclose(calibrated[name], plain[name], rtol=1e-5, atol=1e-6)


def test_two_classes_are_mirrored_and_calibrated_too(mobilenet, samples, tmp_path):
    run, model, bundle = mobilenet
    assert set(bundle.contract["outputs"]) == {PROBABILITIES, GRADCAM}
    inputs = np.concatenate([preprocess(path, bundle.spec) for path in samples[6:10]])
    mirrored = open_bundle(export_run(replace(run, recipe=replace(run.recipe, mirror=True)), tmp_path / "two.onnx"))
    assert set(mirrored.contract["outputs"]) == {PROBABILITIES, GRADCAM}
    assert check_gradcam(mirrored, model, inputs) <= GRADCAM_TOLERANCE
    plain, flipped = mirrored.run(inputs), mirrored.run(np.ascontiguousarray(inputs[:, :, ::-1]))
    np.testing.assert_allclose(plain[PROBABILITIES], flipped[PROBABILITIES], atol=1e-5)
    p = bundle.run(inputs)[PROBABILITIES][:, 1].astype(float)
    calibrated = build_inference_graph(model, slope=0.5, intercept=1.0).predict_on_batch(inputs)
    np.testing.assert_allclose(calibrated[PROBABILITIES][:, 1], _sigmoid(0.5 * np.log(p / (1 - p)) + 1), atol=1e-5)


def test_a_network_without_a_feature_map_is_not_mirrored():
    network = networks.build(read_recipe("reference-lstm", size=32))
    with pytest.raises(BundleError, match="expected a model with a feature map to average mirrored views of"):
        build_inference_graph(network, mirror=True)


def test_the_bilstm_is_exported_with_native_operators(tmp_path):
    recipe = read_recipe("reference-lstm", model="bilstm", size=32, subtypes=True, dropout=0.2)
    keras.utils.set_random_seed(0)
    network = build_inference_graph(networks.build(recipe, inference=True))
    graph = onnx.load_model_from_string(onnx_bytes(network))
    kinds = [node.op_type for node in graph.graph.node]
    assert "LSTM" in kinds
    assert not set(kinds) & {"Loop", "Scan", "If"}
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        inputs = np.random.default_rng(0).random((count, *recipe.spec.shape), np.float32)
        expected = network.predict_on_batch(inputs)
        assert set(expected) == {PROBABILITIES, SUBTYPES}
        for name, value in expected.items():
            (received,) = session.run([name], {"rows": inputs})
            np.testing.assert_allclose(received, value, atol=ONNX_TOLERANCE)


def test_a_fine_tuned_run_is_exported(fine_tuned, tmp_path):
    """The export checks it against Keras; the batch normalisation of the backbone has changed in training."""
    bundle = open_bundle(export_run(fine_tuned, tmp_path / "model.onnx"))
    assert bundle.spec == fine_tuned.spec
    assert bundle.contract["training"]["recipe"]["augment"] == fine_tuned.recipe.to_dict()["augment"]
    assert bundle.contract["training"]["best_epoch"] == 2
