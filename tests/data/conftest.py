"""Radiographs in the layout of Kaggle's archive."""

import pytest

from pneumoscope.data import kaggle


@pytest.fixture(scope="session")
def layout(samples) -> dict[str, bytes]:
    """Names in the archive -> files: one normal and two pneumonia radiographs in each official split."""
    normal = [path for path in samples if path.parent.name == "NORMAL"]
    pneumonia = [path for path in samples if path.parent.name == "PNEUMONIA"]
    files = {}
    for number, split in enumerate(("train", "val", "test")):
        for path in (normal[number], *pneumonia[2 * number : 2 * number + 2]):
            files[f"chest_xray/{split}/{path.parent.name}/{path.name}"] = path.read_bytes()
    return files


@pytest.fixture
def counted(monkeypatch):
    """The layout has the expected number of images."""
    counts = {(split, label): 1 if label == "NORMAL" else 2 for split, label in kaggle.KAGGLE_COUNTS}
    monkeypatch.setattr(kaggle, "KAGGLE_COUNTS", counts)
