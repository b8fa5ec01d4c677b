"""Folds and held-out series: disjoint, complete, and without a leak."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from builders.splits import assert_no_leak, synthetic, two_series

from pneumoscope.data import Manifest, make_split, read_dataset


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("of", [2, 5, 10])
def test_folds_are_disjoint_and_cover_everything(seed, of):
    manifest = synthetic(seed)
    splits = [make_split(manifest, f"fold{fold}of{of}", seed=seed) for fold in range(of)]
    held = Counter(key for split in splits for key in split.val)
    assert set(held) == {one.key for one in manifest.records}
    assert set(held.values()) == {1}
    for split in splits:
        assert_no_leak(manifest, split)
        assert set(split.train) == set(held) - set(split.val)


@pytest.mark.parametrize("seed", range(5))
def test_folds_have_one_size_and_each_label_its_share(seed):
    manifest = synthetic(seed, patients=600)
    whole = Counter((one.label, one.sublabel) for one in manifest.records)
    for fold in range(5):
        split = make_split(manifest, f"fold{fold}of5", seed=seed)
        assert len(split.val) / len(manifest) == pytest.approx(0.2, abs=0.01)
        held = Counter((one.label, one.sublabel) for one in split.records(manifest, "val"))
        for kind, count in whole.items():
            assert held[kind] / count == pytest.approx(0.2, abs=0.04), kind


def test_folds_follow_from_the_seed():
    manifest = synthetic(0)
    shuffled = list(manifest.records)
    random.Random(1).shuffle(shuffled)
    for scheme in ("fold0of5", "fold4of5"):
        splits = [make_split(manifest, scheme, seed=seed) for seed in range(3)]
        assert splits == [make_split(Manifest(Path("/other"), tuple(shuffled)), scheme, seed=s) for s in range(3)]
        for one, other in itertools.combinations(splits, 2):
            patients = [{record.group for record in split.records(manifest, "val")} for split in (one, other)]
            assert len(patients[0] & patients[1]) < 0.5 * len(patients[0])  # the place of the largest depends on size


def test_the_bundled_radiographs_fold(samples_folder):
    manifest = read_dataset(samples_folder)
    splits = [make_split(manifest, f"fold{fold}of5") for fold in range(5)]
    for split in splits:
        assert_no_leak(manifest, split)
        assert 3 <= len(split.val) <= 8
    assert sum(len(split.val) for split in splits) == 24


# Held-out series -------------------------------------------------------------------------------------------


def _names(keys):
    return [Path(key).name for key in keys]


@pytest.mark.parametrize(("scheme", "prefix"), [("hold-IM", "IM-"), ("hold-NORMAL2", "NORMAL2-")])
def test_a_held_out_series_is_complete_and_alone(scheme, prefix):
    for seed in range(3):
        manifest = two_series(seed)
        split = make_split(manifest, scheme, seed=seed)
        assert_no_leak(manifest, split)
        normals = {name for name in _names(split.val) if not name.startswith("person")}
        every = {Path(one.path).name for one in manifest.records}
        assert normals == {name for name in every if name.startswith(prefix)}
        fold = make_split(manifest, "fold0of5", seed=seed)
        pneumonias = [[key for key in one.val if "person" in key] for one in (split, fold)]
        assert pneumonias[0] == pneumonias[1]
        assert len(split.train) + len(split.val) == len(manifest)


def test_hold_early_holds_out_the_lowest_numbers_of_each_series():
    manifest = two_series(0)
    split = make_split(manifest, "hold-early")
    assert_no_leak(manifest, split)
    for prefix in ("IM-", "NORMAL2-IM-"):
        train, val = (
            {int(name[len(prefix) :][:4]) for name in _names(side) if name.startswith(prefix)}
            for side in (split.train, split.val)
        )
        assert max(val) < min(train)
        assert len(val) == (len(train) + len(val)) // 5
    assert "chest-7-0001.jpeg" in _names(split.train)


@pytest.mark.parametrize("scheme", ["hold-IM", "hold-NORMAL2", "hold-early", "fold0of5"])
def test_a_picture_shared_by_two_series_does_not_leak(scheme):
    """A normal of one series is saved again in the other series, and as a pneumonia."""
    for seed in range(5):
        manifest = two_series(seed)
        chance = random.Random(seed)
        shared = {}
        for number in range(30):
            one, other = chance.sample([one for one in manifest.records if one.patient not in shared], 2)
            shared |= {one.patient: f"shared{number}", other.patient: f"shared{number}"}
        records = tuple(replace(one, group=shared.get(one.patient, one.group)) for one in manifest.records)
        manifest = Manifest(manifest.root, records)
        assert_no_leak(manifest, make_split(manifest, scheme, seed=seed))
