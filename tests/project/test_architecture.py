"""The shape of the code: imports go down only, packages export what others use, files are short, imports are cheap."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest
from builders import ROOT

import pneumoscope

PACKAGE = Path(pneumoscope.__file__).parent
CONTRACTS = ROOT / ".importlinter"
PACKAGES = sorted(path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.glob("**/__init__.py"))
HEAVY = ("keras", "tensorflow", "tf2onnx", "sklearn")


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("pneumoscope", include_external_packages=True, cache_dir=None)


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts for the package in a folder.

    In a process of its own: the linter resets logging, which makes absl close the captured standard error.
    """
    code = "from importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(CONTRACTS), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
    )


def test_the_import_contracts_are_kept():
    checked = lint_imports(PACKAGE.parent)
    assert checked.returncode == 0, checked.stdout + checked.stderr


PLANTED = {  # file -> line that is added to it, and the contract that must report it
    "inference/preprocess.py": ("from pneumoscope.data.manifest import Manifest", "Imports go down only"),
    "radiographs/codestream.py": ("from pneumoscope.radiographs.images import Radiograph", "radiographs: "),
    "output/results.py": ("from pneumoscope.training.recipe import Recipe", "Imports go down only"),
    "inference/bundle.py": ("def _inside():\n    import tensorflow", "needs neither training nor plotting"),
    "evaluation/metrics.py": ("import keras", "Evaluation knows only the exported model"),
    "reports/__init__.py": ("", "Imports go down only"),  # a package that is in no layer
}


def test_a_wrong_import_breaks_its_contract(tmp_path):
    """All of them in one copy of the package, because a run of the linter takes seconds."""
    copy = tmp_path / "pneumoscope"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.onnx", "*.jpeg", "*.json", "__pycache__"))
    for name, (line, _) in PLANTED.items():
        path = copy / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    checked = lint_imports(tmp_path)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    broken = [line for line in checked.stdout.splitlines() if " BROKEN" in line]
    for _, contract in PLANTED.values():
        assert any(contract in line for line in broken), f"{contract} is not among {broken}"
    for planted in (
        "pneumoscope.inference.preprocess -> pneumoscope.data.manifest",
        "pneumoscope.radiographs.codestream -> pneumoscope.radiographs.images",
        "pneumoscope.output.results -> pneumoscope.training.recipe",
        "pneumoscope.inference.bundle -> tensorflow",
        "pneumoscope.evaluation.metrics -> keras",
        "pneumoscope.reports",
    ):
        assert planted in checked.stdout


def test_metrics_are_pure(imports):
    """They import NumPy, the class order and errors: nothing that reads, draws or learns."""
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


@pytest.mark.parametrize("package", [path.as_posix() for path in PACKAGES if len(path.parts) > 1])
def test_a_package_says_what_it_is_for(package):
    """A sentence of purpose, what comes in, what goes out, and which file to read first."""
    folder = PACKAGE.parent / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    assert text.splitlines()[0].endswith("."), "the first line is one sentence"
    if len(list(folder.glob("*.py"))) == 1:
        return  # a package without modules, such as the samples
    for word in ("In: ", "Out: ", "Read first: "):
        assert word in text, f"{package}/__init__.py does not say {word!r}"
    first = text.partition("Read first: ")[2].split("``")[1]
    assert (folder / first).exists(), f"{package} has no {first}"


@pytest.mark.parametrize("package", [path.parts[1] for path in PACKAGES if len(path.parts) == 2])
def test_a_package_exports_what_packages_above_it_use(package, imports):
    """Two exceptions: a function with the name of its module, and modules that load TensorFlow."""
    exported = _exports(PACKAGE / package / "__init__.py")
    missing = {
        f"{importer}: {module}.{name}"
        for importer, module, name in _imported_names()
        if module.startswith(f"pneumoscope.{package}.") and not importer.startswith((f"{package}/", "__init__"))
        if name not in exported and name != module.rpartition(".")[2] and not _is_heavy(module, imports)
    }
    assert missing == set()


def _exports(init: Path) -> set[str]:
    for node in ast.parse(init.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@cache
def _imported_names() -> list[tuple[str, str, str]]:
    """File, module and name of each ``from MODULE import NAME`` in the package."""
    return [
        (path.relative_to(PACKAGE).as_posix(), node.module or "", alias.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def _is_heavy(module: str, imports: grimp.ImportGraph) -> bool:
    return any(
        imports.chain_exists(importer=module, imported=library) for library in HEAVY if library in imports.modules
    )


@pytest.mark.parametrize("package", ["pneumoscope", "pneumoscope.output"])
def test_names_that_are_imported_on_first_use_are_complete(package):
    module = importlib.import_module(package)
    assert set(module._PUBLIC) == set(module.__all__) - {"RESEARCH_USE_ONLY", "__version__"}
    for name, defining in module._PUBLIC.items():
        assert getattr(module, name) is getattr(importlib.import_module(f"{package}.{defining}"), name)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018  the access is the test


def test_the_files_that_run_first_exist():
    from conftest import LONGEST_FILES

    assert [name for name in LONGEST_FILES if not list((ROOT / "tests").rglob(name))] == []
