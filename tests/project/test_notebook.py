"""The notebook runs from top to bottom on the bundled radiographs. Its stored outputs are those of the present code."""

import importlib.util

import nbformat
import pytest
from builders import ROOT

from pneumoscope.inference import bundle

SCRIPT = ROOT / "notebooks" / "run_walkthrough.py"
#: Cells whose text depends neither on the ImageNet weights nor on the processor that trains.
REPEATABLE = ("cell-01", "cell-03", "cell-06", "cell-08", "cell-19")


@pytest.fixture(scope="module")
def walkthrough():
    spec = importlib.util.spec_from_file_location("run_walkthrough", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(notebook, cell_id):
    outputs = next(cell.outputs for cell in notebook.cells if cell.id == cell_id)
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


# The kernel's own libraries (zmq, tornado) warn of their event loops; the notebook's code is not theirs.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_walkthrough_runs_and_prints_what_is_stored(walkthrough, tmp_path, backbone_weights, monkeypatch):
    monkeypatch.setenv("PNEUMOSCOPE_WEIGHTS", str(backbone_weights))
    monkeypatch.delenv("PNEUMOSCOPE_DATA", raising=False)
    notebook = walkthrough.execute(walkthrough.read(), tmp_path)
    shown = [output for cell in walkthrough.code_cells(notebook) for output in cell.outputs]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    printed = "".join(output.text for output in shown if output.output_type == "stream" and output.name == "stdout")
    assert len(pictures) >= 8, "the radiographs, six figures of the evaluation, and the heatmaps"
    assert "patients on both sides: 0" in printed
    assert "found nothing under this name" in printed
    assert (tmp_path / "runs" / "reference-mobilenet-patient-seed0" / "model.onnx").is_file()
    stored = walkthrough.read()
    for cell_id in REPEATABLE:
        assert text_of(notebook, cell_id) == text_of(stored, cell_id) != "", f"{cell_id} is stale: run  make pictures"


def test_the_stored_outputs_are_those_of_the_present_cells_and_models(walkthrough):
    notebook = walkthrough.read()
    nbformat.validate(notebook)
    assert walkthrough.is_current(notebook), "run  make pictures"
    text = SCRIPT.with_name("walkthrough.ipynb").read_text(encoding="utf-8")
    assert not [place for place in ("/tmp/", "/home/", "/root/", "/Users/", "stderr") if place in text]


def test_outputs_of_another_cell_or_model_are_stale(walkthrough, tmp_path, monkeypatch):
    notebook = walkthrough.read()
    walkthrough.code_cells(notebook)[-1].source += "\nprint(predictor.threshold)"
    assert not walkthrough.is_current(notebook)
    notebook = walkthrough.read()
    walkthrough.code_cells(notebook)[-1].outputs = []
    assert not walkthrough.is_current(notebook)
    for model in walkthrough.MODELS:
        (tmp_path / f"{model}.onnx").write_bytes((bundle.ZOO / f"{model}.onnx").read_bytes() + b"\0")
    monkeypatch.setattr(walkthrough, "ZOO", tmp_path)
    assert not walkthrough.is_current(walkthrough.read())
