"""Run the walkthrough and store its outputs, or check that the stored outputs are current.

    python notebooks/run_walkthrough.py            # a minute; also: make pictures
    python notebooks/run_walkthrough.py --check    # seconds; exit code 1 if the outputs are stale

It needs the extras ``train``, ``report`` and ``notebook``. The notebook stores a fingerprint of its code and of the
model files that it uses. The outputs are stale if this fingerprint has changed. The ImageNet weights are downloaded, or
read from the file that ``PNEUMOSCOPE_WEIGHTS`` names.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from pneumoscope.inference.bundle import ZOO

NOTEBOOK = Path(__file__).parent / "walkthrough.ipynb"
MODELS = ("mobilenet", "reference-lstm")  # the shipped models that its cells load


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check that the stored outputs are current")
    arguments = parser.parse_args()
    if arguments.check:
        if not is_current(read()):
            sys.exit(f"expected outputs of the present cells and models in {NOTEBOOK.name}: run  make pictures")
        return
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(read(), Path(folder))
    keep_what_readers_need(notebook)
    notebook.metadata["pneumoscope"] = {"fingerprint": fingerprint(notebook)}
    nbformat.write(notebook, NOTEBOOK)
    print(f"written to {NOTEBOOK}")


def read() -> NotebookNode:
    """The stored notebook."""
    return nbformat.read(NOTEBOOK, as_version=4)


def is_current(notebook: NotebookNode) -> bool:
    """Whether the outputs belong to the present cells and models."""
    stored = notebook.metadata.get("pneumoscope", {}).get("fingerprint")
    return stored == fingerprint(notebook) and all(cell.outputs for cell in code_cells(notebook) if shows(cell))


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run all cells in a folder, on the bundled radiographs."""
    from nbclient import NotebookClient

    os.environ.pop("PNEUMOSCOPE_DATA", None)
    resources = {"metadata": {"path": str(folder)}}
    settings = {"timeout": 900, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
    return NotebookClient(notebook, resources=resources, **settings).execute()


def keep_what_readers_need(notebook: NotebookNode) -> None:
    """Remove the log messages of libraries, and data about this machine."""
    for cell in code_cells(notebook):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}


def fingerprint(notebook: NotebookNode) -> str:
    """SHA-256 of the code and of the model files, in hexadecimal digits."""
    digest = hashlib.sha256()
    for cell in code_cells(notebook):
        digest.update(cell.source.encode())
    for model in MODELS:
        digest.update((ZOO / f"{model}.onnx").read_bytes())
    return digest.hexdigest()


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shows(cell: NotebookNode) -> bool:
    """Whether a cell prints or displays something."""
    return any(word in cell.source for word in ("print(", "display(", "plt.show("))


if __name__ == "__main__":
    main()
