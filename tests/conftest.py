"""What the tests share: the bundled radiographs, images made on the spot, and the full data where it lies."""

import os
from pathlib import Path

import numpy as np
import pytest

from pneumoscope.samples import SAMPLES, sample_paths


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    """The 24 bundled radiographs."""
    return sample_paths()


@pytest.fixture(scope="session")
def samples_folder() -> Path:
    """A data folder: NORMAL and PNEUMONIA with eight and sixteen radiographs."""
    return SAMPLES


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The Kermany images, where PNEUMOSCOPE_DATA names a folder with train and val in it."""
    folder = os.environ.get("PNEUMOSCOPE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PNEUMOSCOPE_DATA names no folder with the Kermany images")
    return Path(folder)


@pytest.fixture
def gray() -> np.ndarray:
    """(80, 100) uint8 with some contrast, the smallest thing that passes for a radiograph."""
    rows, columns = np.mgrid[0:80, 0:100]
    return ((rows * 2 + columns) % 256).astype(np.uint8)
