"""Int8 files: almost the answers of float32; the file says how much they differ, and folds measure it."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pneumoscope.data import read_dataset
from pneumoscope.errors import BundleError, UsageError
from pneumoscope.inference.bundle import PROBABILITIES, open_bundle
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.labels import POSITIVE
from pneumoscope.training.crossval import cross_validate, measured_runs
from pneumoscope.training.export.onnx_export import export_run
from pneumoscope.training.export.quantise import FLOAT_LAYERS, quantise
from pneumoscope.training.runs import FLOAT32_ANSWERS, FLOAT32_NAME


@pytest.fixture(scope="module")
def shipped(samples):
    """The default in float32, and its input of every second sample."""
    bundle = open_bundle("reference-mobilenet")
    return bundle, np.concatenate([preprocess(path, bundle.spec) for path in samples[::2]])


@pytest.fixture(scope="module")
def int8_file(shipped, tmp_path_factory):
    bundle, images = shipped
    return quantise(bundle.path, tmp_path_factory.mktemp("int8") / "model.onnx", images)


def test_the_answers_move_a_little_and_the_file_says_by_how_much(shipped, int8_file, samples):
    before, images = shipped
    after = open_bundle(int8_file)
    unseen = np.concatenate([preprocess(path, before.spec) for path in samples[1::2]])
    one, other = (bundle.run(unseen)[PROBABILITIES][:, POSITIVE] for bundle in (before, after))
    assert 0 < np.abs(one - other).mean() < 0.03
    one, other = (bundle.run(images)[PROBABILITIES][:, POSITIVE] for bundle in (before, after))
    recorded = after.contract["quantisation"]
    assert recorded["mean_difference"] == pytest.approx(np.abs(one - other).mean(), abs=1e-5)
    assert (after.contract["precision"], recorded["images"]) == ("int8", len(images))
    assert recorded["float32_body_sha256"] == before.contract["body_sha256"]


def test_maps_and_the_rest_of_the_contract_stay(shipped, int8_file):
    before, images = shipped
    after = open_bundle(int8_file)
    assert list(after.run(images)) == list(before.run(images))
    maps = [bundle.run(images)["gradcam"][:, POSITIVE].ravel() for bundle in (before, after)]
    assert np.corrcoef(*maps)[0, 1] > 0.9
    changed = {"precision", "quantisation", "body_bytes", "body_sha256", "contract_sha256"}
    assert {name: value for name, value in after.contract.items() if name not in changed} == {
        name: value for name, value in before.contract.items() if name not in changed
    }


def test_the_first_and_the_depthwise_convolutions_stay_in_float32(int8_file):
    graph = onnx.load(int8_file).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type == "Conv"]
    groups = [next((a.i for a in node.attribute if a.name == "group"), 1) for node in layers]
    expected = [None if index < FLOAT_LAYERS or count > 1 else "DequantizeLinear" for index, count in enumerate(groups)]
    assert [made_by.get(node.input[1]) for node in layers] == expected
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    kernels = [values for values in stored if values.dtype == np.int8 and values.ndim == 4]
    assert {values.shape[2:] for values in kernels} == {(1, 1)}
    assert max(int(np.abs(values.astype(int)).max()) for values in kernels) == 127
    assert len(kernels) == len(expected) - expected.count(None) == 11
    assert open_bundle(int8_file).contract["quantisation"]["float32_convolutions"] == expected.count(None) == 16


def test_the_slow_method_of_processors_without_vnni_gives_the_same_answers(shipped, int8_file, monkeypatch):
    _, images = shipped
    here = open_bundle(int8_file)
    monkeypatch.setattr("pneumoscope.inference.sessions._has_vnni", lambda: False)
    exact = open_bundle(int8_file)
    key = "session.x64quantprecision"
    assert exact.session.get_session_options().get_session_config_entry(key) == "1"
    np.testing.assert_array_equal(exact.run(images)[PROBABILITIES], here.run(images)[PROBABILITIES])


def test_the_same_images_give_the_same_file(shipped, int8_file, tmp_path):
    bundle, images = shipped
    again = quantise(bundle.path, tmp_path / "again.onnx", images)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(int8_file.read_bytes()).digest()


def test_a_network_without_convolutions_is_refused(samples, tmp_path):
    bundle = open_bundle("reference-lstm")
    with pytest.raises(
        BundleError, match="expected a network with convolutions, other than depthwise, after its first 6, received 0"
    ):
        quantise(bundle.path, tmp_path / "model.onnx", preprocess(samples[0], bundle.spec))


def test_a_file_whose_answers_differ_too_much_is_refused(shipped, tmp_path, monkeypatch):
    bundle, images = shipped
    monkeypatch.setattr("pneumoscope.training.export.quantise.TOLERANCE", 1e-6)
    with pytest.raises(BundleError, match=r"within 1e-06 of float32 on average, .* 0\.\d+: ship the float32 file"):
        quantise(bundle.path, tmp_path / "model.onnx", images)


def test_folds_in_int8_are_compared_with_float32(tiny_recipe, samples_folder, tmp_path):
    """Only the heads are trained: the export and the comparison are the same as for a whole network."""
    options = {"size": 64, "subtypes": True, "class_weights": "balanced", "epochs": 2}
    recipe = tiny_recipe("mobilenet", name="small", precision="int8", mirror=True, **options)
    pooled = cross_validate(recipe, samples_folder, splits=("fold0of2", "fold1of2"), runs=tmp_path)["pooled"]
    runs = measured_runs(tmp_path)
    assert [open_bundle(run.folder).contract["precision"] for run in runs] == ["int8"] * 2
    assert "precision" not in open_bundle(runs[0].folder / FLOAT32_NAME).contract
    answers = {
        name: value for run in runs for name, value in json.loads((run.folder / FLOAT32_ANSWERS).read_text()).items()
    }
    difference = pooled["float32"]
    assert difference["images"] == len(answers) == 24
    assert 0 < difference["mean_difference"] < 0.2
    assert difference["roc_auc"] == pooled["metrics"]["roc_auc"]["value"]
    float32 = open_bundle(runs[0].folder / FLOAT32_NAME)
    key = runs[0].split.records(read_dataset(samples_folder), "val")[0].path
    expected = float32.run(preprocess(samples_folder / key, float32.spec))[PROBABILITIES][0, POSITIVE]
    assert answers[key] == pytest.approx(expected, abs=1e-6)
    with_folds = open_bundle(export_run(runs[0], tmp_path / "with_folds.onnx", pooled=pooled))
    assert with_folds.contract["beside_float32"] == difference


@pytest.mark.parametrize(
    "changes", [{"precision": "int4"}, {"precision": "int8", "average": 5, "split": "all", "keep": "last"}]
)
def test_other_precisions_are_refused(fine_tuned_recipe, changes):
    with pytest.raises(UsageError, match=r"expected the recipe's precision one of|expected precision = 'int8' with a"):
        fine_tuned_recipe(**changes)
