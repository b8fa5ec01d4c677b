"""The notebook runs from top to bottom on the bundled radiographs, in an empty folder."""

import nbformat
import pytest
from builders import ROOT

NOTEBOOK = ROOT / "notebooks" / "walkthrough.ipynb"


# The kernel's own libraries (zmq, tornado) warn of their event loops; the notebook's code is not theirs.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_walkthrough_runs(tmp_path, backbone_weights, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PNEUMOSCOPE_WEIGHTS", str(backbone_weights))
    monkeypatch.delenv("PNEUMOSCOPE_DATA", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    printed = "".join(output.text for output in shown if output.output_type == "stream" and output.name == "stdout")
    assert len(pictures) >= 8, "the radiographs, six figures of the evaluation, and the heatmaps"
    assert "patients on both sides: 0" in printed
    assert "found nothing under this name" in printed
    assert (tmp_path / "runs" / "reference-mobilenet-patient-seed0" / "model.onnx").is_file()


def test_the_walkthrough_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
