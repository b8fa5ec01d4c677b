"""The shape of the code: imports go one way, the import is cheap, files are short."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from builders import ROOT

import pneumoscope

PACKAGE = Path(pneumoscope.__file__).parent
CONTRACTS = ROOT / ".importlinter"


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("pneumoscope", include_external_packages=True, cache_dir=None)


def test_the_import_contracts_are_kept():
    """In a process of its own: the linter resets logging, which makes absl close the captured standard error."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    checked = subprocess.run(
        [*command, "--config", str(CONTRACTS), "--no-cache"], capture_output=True, text=True, cwd=CONTRACTS.parent
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_metrics_are_pure(imports):
    """NumPy and the class order: nothing that reads, draws or learns."""
    modules = imports.find_modules_directly_imported_by("pneumoscope.evaluation.metrics")
    libraries = {name for name in modules if name not in sys.stdlib_module_names}
    assert libraries <= {"numpy", "pneumoscope.evaluation.bootstrap", "pneumoscope.labels", "pneumoscope.errors"}


def test_labels_and_errors_need_nothing(imports):
    for module in ("pneumoscope.labels", "pneumoscope.errors"):
        assert imports.find_modules_directly_imported_by(module) == set()


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import pneumoscope", ["tensorflow", "keras", "onnxruntime", "cv2", "matplotlib", "numpy", "typer", "rich"]),
        ("import pneumoscope; pneumoscope.sample_paths()", ["onnxruntime", "cv2", "numpy"]),
        ("from pneumoscope import load; load", ["tensorflow", "keras", "matplotlib", "sklearn", "onnx", "tf2onnx"]),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement, forbidden):
    code = f"import sys; {statement}; print(*sorted(set({forbidden!r}) & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout.strip(), process.stderr) == (0, "", "")


def test_files_are_short_and_about_one_thing():
    sources = sorted(PACKAGE.rglob("*.py"))
    lengths = {path.relative_to(PACKAGE).as_posix(): len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    assert not [name for name in lengths if Path(name).stem in {"utils", "util", "helpers", "common", "misc"}]
