"""Options and help that come from one place: formats of results, and whom the models know."""

import subprocess
import sys

import pytest

from pneumoscope.labels import SCOPE
from pneumoscope.output.formats import FORMATS
from pneumoscope.samples import SAMPLES

# A format is one class and one entry of the registry. The option of the made-up one has a dash, which a name has not.
WITH_NEW_FORMAT = """
from pneumoscope.output import formats, text_files

class NameList(text_files.JsonLinesFile):
    def _append(self, row):
        self._write_text(row["path"] + "\\n")

text_files.NameList = NameList
formats.FORMATS += (formats.Format("name-list", "FILE", "Also write the names.", "text_files", "NameList"),)

from pneumoscope import cli
cli.main()
"""


def run_with_new_format(*words, folder):
    command = [sys.executable, "-W", "error", "-c", WITH_NEW_FORMAT, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_format_that_is_added_to_the_registry_has_an_option(tmp_path):
    page = run_with_new_format("predict", "--help", folder=tmp_path).stdout
    options = [page.index(option) for option in ("--parquet DIR", "--name-list FILE", "--resume / --no-resume")]
    assert options == sorted(options)
    assert "Also write the names." in page


def test_the_option_of_an_added_format_writes_its_file(tmp_path):
    done = run_with_new_format("predict", SAMPLES / "NORMAL", "--name-list", "names.txt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    names = sorted(str(path) for path in (SAMPLES / "NORMAL").iterdir())
    assert (tmp_path / "names.txt").read_text().splitlines() == names


def test_sentences_about_formats_name_an_added_one(tmp_path):
    done = run_with_new_format("predict", "a.png", "--resume", folder=tmp_path)
    assert done.returncode == 2
    assert "expected --csv, --jsonl, --parquet or --name-list with --resume" in done.stderr
    options = ["--engine", "ray", "--parquet", "parts", "--name-list", "names.txt"]
    done = run_with_new_format("predict", "a.png", *options, folder=tmp_path)
    assert done.returncode == 2
    assert "expected --engine local for --name-list, received --engine ray" in done.stderr
    assert list(tmp_path.iterdir()) == []


def help_page(*words):
    command = [sys.executable, "-m", "pneumoscope", *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_the_help_begins_with_whom_the_models_know(command):
    paragraphs = help_page(command).split("\n\n")
    assert " ".join(paragraphs[2].split()) == SCOPE


def test_the_help_of_predict_shows_every_format():
    page = " ".join(help_page("predict").split())
    for each in FORMATS:
        assert f"--{each.option} {each.metavar} {each.help}" in page


@pytest.mark.parametrize("words", [[], ["predict"], ["evaluate"], ["serve"]])
def test_help_loads_no_numeric_library(words):
    code = (
        "import sys\nfrom pneumoscope import cli\n"
        f"sys.argv = ['pneumoscope', *{words!r}, '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print({'numpy', 'cv2', 'onnxruntime', 'rich', 'fastapi', 'matplotlib'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
