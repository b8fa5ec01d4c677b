"""The images that a model is evaluated on: its own held-out images, the official test, or all."""

from pathlib import Path

import pytest
from builders.splits import record, synthetic

from pneumoscope.data import Manifest, make_split, select_records
from pneumoscope.errors import DatasetError, UsageError


def training_of(split):
    return {
        "recipe": {"split": split.scheme, "split_seed": split.seed, "validation_fraction": split.fraction},
        "split_fingerprint": split.fingerprint,
    }


def test_a_model_is_evaluated_on_its_own_held_out_images():
    manifest = synthetic(0)
    split = make_split(manifest, seed=4)
    records, fingerprint = select_records(manifest, "val", training_of(split))
    assert tuple(one.key for one in records) == split.val
    assert fingerprint == split.fingerprint
    assert select_records(manifest, "all", {}) == (manifest.records, None)


def test_a_model_without_held_out_images_cannot_be_evaluated_on_val():
    """The error is the same on other data, because neither has held-out images."""
    training = training_of(make_split(synthetic(0), "all"))
    for manifest in (synthetic(0), synthetic(1)):
        with pytest.raises(DatasetError, match=r"expected a model with a held-out split, .* its folds: use --split"):
            select_records(manifest, "val", training)
        assert select_records(manifest, "all", training) == (manifest.records, None)
    test = record("IM-9000-0001.jpeg", "test")
    with_test = Manifest(Path("/data"), (*synthetic(0).records, test))
    assert select_records(with_test, "test", training) == ((test,), None)


def test_other_data_do_not_pass_for_the_held_out_images():
    split = make_split(synthetic(0))
    with pytest.raises(DatasetError, match="expected the data this model was trained on"):
        select_records(synthetic(1), "val", training_of(split))
    with pytest.raises(DatasetError, match="expected images in a test folder"):
        select_records(synthetic(0), "test", training_of(split))
    with pytest.raises(UsageError, match="expected the split val, test or all, received 'train'"):
        select_records(synthetic(0), "train", training_of(split))
