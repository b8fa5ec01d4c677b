"""Fixtures for reading radiographs."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumoscope.radiographs.images import read_radiograph


@pytest.fixture(scope="session")
def image(samples: list[Path]) -> np.ndarray:
    """(120, 160) uint8: a small copy of a bundled radiograph."""
    return cv2.resize(read_radiograph(samples[0]).pixels, (160, 120), interpolation=cv2.INTER_AREA)


@pytest.fixture
def no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if OpenCV decodes an image: its header should have been refused first."""

    def decode(*_: object) -> None:
        pytest.fail("decoded before its header was checked")

    monkeypatch.setattr(cv2, "imdecode", decode)
