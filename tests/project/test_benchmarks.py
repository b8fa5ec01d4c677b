"""Each benchmark explains itself, and the table of benchmarks/README.md lists all of them."""

import re
import subprocess
import sys

import pytest
from builders import ROOT

BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(
    path
    for folder in ("damage", "pacs", "speed", "service", "training", "models")
    for path in (BENCHMARKS / folder).glob("*.py")
)
ROWS = {
    re.search(r"benchmarks/\w+/(\w+)\.py", line)[1]: line
    for line in (BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "python benchmarks/" in line
}


def test_every_script_answers_help():
    """In one process, so that TensorFlow is imported once; each script in its own folder."""
    code = """
import contextlib, io, os, runpy, sys
for path in sys.argv[1:]:
    sys.path.insert(0, os.path.dirname(path))
    output, arguments, sys.argv = io.StringIO(), sys.argv, [path, "--help"]
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        print(end.code, output.getvalue().splitlines()[0])
    sys.path.pop(0)
    sys.argv = arguments
"""
    scripts = [*SCRIPTS, ROOT / "experiments" / "collect_runs.py"]
    done = subprocess.run([sys.executable, "-c", code, *scripts], capture_output=True, text=True, timeout=240)
    answers = [line.split()[:3] for line in done.stdout.splitlines()]
    assert answers == [["0", "usage:", path.name] for path in scripts], done.stderr


def test_every_script_is_in_the_table():
    assert sorted(ROWS) == sorted(path.stem for path in SCRIPTS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_table_names_the_file_that_a_script_writes(path):
    written = re.findall(
        r'(?:"results" / "|benchmarks/results/)([\w.]+\.(?:json|csv))"', path.read_text(encoding="utf-8")
    )
    kept_by_hand = re.findall(r"benchmarks/results/(\w+\.txt)", path.read_text(encoding="utf-8"))
    assert re.findall(r"\(results/([\w.]+)\)", ROWS[path.stem]) == written + kept_by_hand


def test_every_result_belongs_to_a_script():
    assert {path.stem for path in (BENCHMARKS / "results").iterdir()} <= {path.stem for path in SCRIPTS}


def test_links_of_the_table_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", (BENCHMARKS / "README.md").read_text(encoding="utf-8")):
        assert (BENCHMARKS / target).exists(), target
