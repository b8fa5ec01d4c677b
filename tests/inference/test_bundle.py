"""A model file is accepted only if its network and contract were written together."""

import json

import numpy as np
import onnx
import pytest

from pneumoscope.errors import BundleError
from pneumoscope.inference.bundle import DEFAULT_MODEL, METADATA_KEY, ZOO, open_bundle, shipped_models
from pneumoscope.labels import LABELS
from pneumoscope.training.export.onnx_export import write_contract

NAMES = ("lstm", "mobilenet", "reference-lstm", "reference-mobilenet")
LSTMS = ("lstm", "reference-lstm")


def test_four_models_ship_and_one_is_the_default():
    assert tuple(shipped_models()) == NAMES
    assert DEFAULT_MODEL in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_carries_its_contract(name):
    bundle = open_bundle(name)
    contract = bundle.contract
    assert tuple(contract["labels"]) == LABELS
    assert contract["training"]["recipe"]["split"] == ("patient" if name.startswith("reference") else "all")
    assert contract["training"]["recipe"]["seed"] == 0
    assert len(contract["training"]["split_fingerprint"]) == 64
    assert bundle.has_gradcam == (name not in LSTMS)
    for key in ("accuracy", "roc_auc", "sensitivity", "specificity"):
        estimate = contract["metrics"][key]
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    low, high = bundle.uncertain
    assert 0 <= low < bundle.threshold < high <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_valid_onnx_with_named_inputs_and_outputs(name):
    graph = onnx.load(ZOO / f"{name}.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [value.name for value in graph.graph.input] == ["rows" if name in LSTMS else "image"]
    assert "probabilities" in [value.name for value in graph.graph.output]
    kinds = {node.op_type for node in graph.graph.node}
    assert ("LSTM" in kinds) == (name in LSTMS)
    assert "Loop" not in kinds


def _altered(tmp_path, change):
    data = (ZOO / "reference-lstm.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(change(data))
    return path


def _with_contract(tmp_path, **changes):
    source = open_bundle("reference-lstm")
    path = tmp_path / "model.onnx"
    path.write_bytes(source.path.read_bytes())
    write_contract(path, {**source.contract, **changes})
    return path


def test_an_altered_network_is_refused(tmp_path):
    half = open_bundle("reference-lstm").contract["body_bytes"] // 2

    def flip(data):
        return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]

    with pytest.raises(BundleError, match="the file was altered: fetch it again"):
        open_bundle(_altered(tmp_path, flip))


def test_an_edited_contract_is_refused(tmp_path):
    """The threshold changed in place, the network untouched."""
    with pytest.raises(BundleError, match="the file was altered: fetch it again"):
        open_bundle(_altered(tmp_path, lambda data: data.replace(b'"threshold": 0.5', b'"threshold": 0.9')))


def test_bytes_after_the_contract_are_refused(tmp_path):
    """Readers of protocol buffers merge repeated fields: an appended weight would replace one of the network."""
    extra = onnx.ModelProto()
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "extra")
    extra.graph.initializer.append(tensor)
    with pytest.raises(BundleError, match="the file was altered: fetch it again"):
        open_bundle(_altered(tmp_path, lambda data: data + extra.SerializeToString()))


def test_a_truncated_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="expected an ONNX model"):
        open_bundle(_altered(tmp_path, lambda data: data[: len(data) // 2]))


def test_a_foreign_model_is_refused(tmp_path):
    graph = onnx.load(ZOO / "reference-lstm.onnx")
    del graph.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(graph, path)
    with pytest.raises(BundleError, match="has no contract"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": 99}, "expected contract version 1 .* received 99"),
        ({"threshold": "high"}, "expected threshold as float"),
        ({"threshold": 7.0}, "expected a threshold from 0 to 1"),
        ({"uncertain": []}, "expected uncertain as two rising probabilities"),
        ({"uncertain": [0.9, 0.1]}, "expected uncertain as two rising probabilities"),
        ({"training": {}}, "expected recipe and split_fingerprint"),
        ({"labels": list(reversed(LABELS))}, "expected the classes NORMAL, PNEUMONIA"),
        ({"outputs": ["probabilities", "gradcam"]}, "expected the outputs"),
    ],
)
def test_a_contract_with_wrong_values_is_refused(tmp_path, change, sentence):
    with pytest.raises(BundleError, match=sentence):
        open_bundle(_with_contract(tmp_path, **change))


def test_an_input_that_does_not_fit_the_network_is_refused(tmp_path):
    contract = open_bundle("reference-lstm").contract
    with pytest.raises(BundleError, match=r"expected input \(160, 450\)"):
        open_bundle(_with_contract(tmp_path, input={**contract["input"], "height": 160}))


def test_an_input_key_of_another_version_is_refused(tmp_path):
    contract = open_bundle("reference-lstm").contract
    with pytest.raises(BundleError, match="expected the input keys"):
        open_bundle(_with_contract(tmp_path, input={**contract["input"], "crop": 1}))


def test_an_unreadable_contract_is_refused(tmp_path):
    graph = onnx.load(ZOO / "reference-lstm.onnx")
    del graph.metadata_props[:]
    graph.metadata_props.add(key=METADATA_KEY, value="{")
    path = tmp_path / "model.onnx"
    onnx.save(graph, path)
    with pytest.raises(BundleError, match="expected contract version 1"):
        open_bundle(path)


def test_the_contract_is_plain_json():
    graph = onnx.load(ZOO / "reference-mobilenet.onnx", load_external_data=False)
    (entry,) = [prop for prop in graph.metadata_props if prop.key == METADATA_KEY]
    assert json.loads(entry.value)["name"] == "reference-mobilenet"
