"""The list of formats: it agrees with the classes, and the command line can read it quickly."""

import subprocess
import sys

import pytest

from pneumoscope import load
from pneumoscope.output.formats import FORMATS
from pneumoscope.output.results import ResultsFile


@pytest.mark.parametrize("entry", FORMATS, ids=lambda entry: entry.option)
def test_a_listed_format_opens_its_class(entry, tmp_path):
    file = entry.open(tmp_path / "results", load(), False)
    file.release()
    assert isinstance(file, ResultsFile)
    assert type(file).__name__ == entry.class_name
    assert (tmp_path / "results").is_dir() == (entry.metavar == "DIR")


def test_options_are_unique():
    options = [entry.option for entry in FORMATS]
    assert len(set(options)) == len(options)


def test_the_list_is_read_without_the_formats_libraries():
    code = (
        "import sys; from pneumoscope.output.formats import FORMATS; "
        "print(*sorted({'numpy', 'cv2', 'onnxruntime', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
