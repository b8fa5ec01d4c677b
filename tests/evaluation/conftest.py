"""The bundled radiographs in a small size, and one evaluation of them."""

from pathlib import Path

import cv2
import pytest
from builders.given_models import given, probabilities

from pneumoscope.data import Manifest, read_dataset
from pneumoscope.evaluation import evaluate_model
from pneumoscope.radiographs import read_radiograph


@pytest.fixture(scope="session")
def small_samples(samples_folder, tmp_path_factory) -> Manifest:
    """The bundled radiographs in a small size, because they are read about fifty times."""
    full, root = read_dataset(samples_folder), tmp_path_factory.mktemp("samples")
    for record in full.records:
        (root / record.path).parent.mkdir(exist_ok=True)
        small = cv2.resize(read_radiograph(full.path(record)).pixels, (100, 80), interpolation=cv2.INTER_AREA)
        assert cv2.imwrite(str(root / record.path), small)
    return Manifest(root, full.records)


@pytest.fixture
def evaluated(small_samples, tmp_path) -> Path:
    predictor = given(probabilities(small_samples.records))
    evaluate_model(predictor, small_samples, small_samples.records, "all", out=tmp_path / "out", resamples=50)
    return tmp_path / "out"


@pytest.fixture
def batches_in_order(monkeypatch):
    """Batches one after the other, because :class:`builders.given_models.GivenBundle` gives its answers in order."""
    monkeypatch.setattr("pneumoscope.inference.predict.available_cores", lambda: 1)
