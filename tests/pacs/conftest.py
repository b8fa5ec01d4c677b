"""A radiograph as DICOM, its prediction, and the DICOM toolkits of Debian."""

import shutil
import subprocess

import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, dicom_file

from pneumoscope import load, read_radiograph


@pytest.fixture(scope="session")
def predictor():
    return load(threads=1)


@pytest.fixture(scope="session")
def radiograph(samples):
    """The bytes of a DICOM file with pneumonia."""
    return dicom_file(read_radiograph(samples[9]).pixels, **ELEMENTS_OF_STUDY)


@pytest.fixture
def tool():
    """Runs a program of a DICOM toolkit and returns what it printed; the test is skipped where there is none."""

    def run(name, *arguments, check=True):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed: requirements/debian.txt names its package")
        done = subprocess.run([name, *map(str, arguments)], capture_output=True, check=False)
        text = (done.stdout + done.stderr).decode(errors="replace")
        assert not check or done.returncode == 0, text
        return text

    return run
