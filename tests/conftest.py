"""Fixtures of all tests: the bundled radiographs, generated images, tiny trainings, and the full data if present."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumoscope.data import Manifest, read_dataset
from pneumoscope.samples import SAMPLES, sample_paths

#: Files that take minutes, the longest first: no worker may be left alone with one of them at the end.
LONGEST_FILES = (
    "test_real_data.py",
    "test_train.py",
    "test_weight_averaging.py",
    "test_cluster_run.py",
    "test_crossval.py",
    "test_lungs.py",
    "test_onnx_export.py",
    "test_quantise.py",
    "test_training_commands.py",
    "test_same_digits.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first; the others stay in their order."""
    places = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


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


@pytest.fixture(scope="session")
def backbone_weights(tmp_path_factory) -> Path:
    """A weights file for the MobileNet: random, but with different answers to different images.

    If PNEUMOSCOPE_WEIGHTS names the real ImageNet weights, these are used.
    """
    real = os.environ.get("PNEUMOSCOPE_WEIGHTS", "")
    if real and Path(real).is_file():
        return Path(real)
    from pneumoscope.training.keras_backend import keras

    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(150, 150, 3))
    for layer in backbone.layers:
        if "conv" in layer.name and layer.weights and "kernel" in layer.weights[0].name:
            layer.set_weights(
                [5 * weight for weight in layer.get_weights()]
            )  # otherwise the signal gets too small on its way
    path = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    backbone.save_weights(path)
    return path


@pytest.fixture(scope="session")
def tiny_recipe(backbone_weights):
    """Makes recipes that train on the bundled radiographs in seconds."""
    from pneumoscope.training.recipe import read_recipe

    def make(model: str, **changes: object):
        values = {"epochs": 3, "batch_size": 8, "validation_fraction": 0.25, **changes}
        if model == "mobilenet":
            values["weights"] = str(backbone_weights)
        return read_recipe(f"reference-{model}", **values)

    return make


@pytest.fixture(scope="session")
def fine_tuned_recipe(tiny_recipe):
    """Makes recipes with all options: every layer, three classes, augmentation; small enough for seconds."""

    def make(**changes: object):
        values = {
            "name": "fine-tuned", "size": 64, "source_size": 80, "trainable": "all", "dropout": 0.2, "subtypes": True,
            "epochs": 2, "optimizer": "adamw", "weight_decay": 1e-3, "schedule": "cosine", "warmup_epochs": 0.5,
            "label_smoothing": 0.05, "mixup": 0.2, "class_weights": "balanced", "keep": "last",
            "augment": {
                "equalize_aspect": 1, "crop_side": 0.7, "rotation": 9, "flip": 0.5, "tone": 0.5, "noise": 0.02,
                "markers": 0.3,
            },
        }  # fmt: skip
        return tiny_recipe("mobilenet", **{**values, **changes})

    return make


@pytest.fixture(scope="session")
def fine_tuned(fine_tuned_recipe, samples_folder, tmp_path_factory):
    """A finished run with all options."""
    from pneumoscope.training.train import train

    return train(fine_tuned_recipe(), samples_folder, runs=tmp_path_factory.mktemp("fine-tuned"))


@pytest.fixture(scope="session")
def trained_mobilenet(tiny_recipe, samples_folder, tmp_path_factory):
    """A finished run of the MobileNet on the bundled radiographs."""
    from pneumoscope.training.train import train

    return train(tiny_recipe("mobilenet"), samples_folder, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def trained_lstm(tiny_recipe, samples_folder, tmp_path_factory):
    """A finished run of the LSTM on the bundled radiographs."""
    from pneumoscope.training.train import train

    return train(tiny_recipe("lstm"), samples_folder, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session", params=["mobilenet", "lstm"])
def trained(request):
    """A finished run of each architecture on the bundled radiographs."""
    return request.getfixturevalue(f"trained_{request.param}")


@pytest.fixture(scope="session")
def real_manifest(real_data) -> Manifest:
    """The Kermany images, decoded and hashed once a session."""
    return read_dataset(real_data)


@pytest.fixture
def data_folder(tmp_path) -> Callable[..., Path]:
    """Writes small pictures under the names given, a different one for each unless ``picture`` says which."""

    def write(*names: str, picture: str | None = None) -> Path:
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = np.random.default_rng(zlib.crc32((picture or name).encode())).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(np.kron(coarse, np.ones((10, 10), np.uint8))).save(path)  # (80, 80) uint8
        return tmp_path / "data"

    return write
