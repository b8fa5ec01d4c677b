"""Splits: no patient and no picture on both sides, and the same result on every machine."""

import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from builders.splits import assert_no_leak, record, sides_of, synthetic, two_series

from pneumoscope.data import Manifest, read_dataset
from pneumoscope.data.splits import Split, check_scheme, class_weights, make_split, read_split, write_split
from pneumoscope.errors import DatasetError, UsageError
from pneumoscope.labels import NORMAL, PNEUMONIA

# The leak test ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_no_patient_and_no_shared_picture_on_two_sides(seed):
    manifest = synthetic(seed)
    for fraction in (0.05, 0.1, 0.3, 0.5):
        split = make_split(manifest, seed=seed, fraction=fraction)
        assert_no_leak(manifest, split)
        assert len(split.train) + len(split.val) == len(manifest)


def test_a_picture_under_two_names_stays_on_one_side(data_folder):
    """From files to split: the split keeps the groups of the scan together."""
    names = [f"PNEUMONIA/person{number}_virus_{number}.png" for number in range(20)]
    data_folder(*names, *(f"NORMAL/IM-{number:04d}-0001.png" for number in range(20)))
    for pair in range(0, 20, 2):
        folder = data_folder(*names[pair : pair + 2], picture=f"picture {pair}")
    manifest = read_dataset(folder)
    assert len({one.sha256 for one in manifest.records}) == 30
    for seed in range(20):
        assert_no_leak(manifest, make_split(manifest, seed=seed, fraction=0.3))


@pytest.mark.real
@pytest.mark.parametrize("seed", [0, 1])
def test_no_leak_in_the_real_split(real_manifest, seed):
    assert_no_leak(real_manifest, make_split(real_manifest, seed=seed))


# Shares ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_each_label_and_sublabel_has_its_share(seed):
    manifest = synthetic(seed, patients=600)
    split = make_split(manifest, seed=seed, fraction=0.2)
    whole = Counter((one.label, one.sublabel) for one in manifest.records)
    val = Counter((one.label, one.sublabel) for one in split.records(manifest, "val"))
    for kind, count in whole.items():
        assert val[kind] / count == pytest.approx(0.2, abs=0.04), kind
    assert len(split.val) / len(manifest) == pytest.approx(0.2, abs=0.01)


def test_the_published_scheme_splits_images_within_the_official_train_folder():
    manifest = synthetic(0)
    others = tuple(record(f"IM-9{number:03d}-0001.jpeg", split) for number in range(50) for split in ("val", "test"))
    split = make_split(Manifest(manifest.root, manifest.records + others), "published", fraction=0.1)
    count = Counter(one.label for one in manifest.records)
    assert Counter(key.split("/")[1] for key in split.val) == {label: int(0.1 * n) for label, n in count.items()}
    assert {key.split("/")[0] for key in split.train + split.val} == {"train"}
    patients = list(sides_of(manifest, split, "patient"))
    assert patients[0] & patients[1]  # as published: patients are on both sides


def test_the_official_test_images_are_in_no_split():
    manifest = synthetic(0)
    extra = tuple(record(f"IM-9{number:03d}-0001.jpeg", split) for number in range(9) for split in ("val", "test"))
    split = make_split(Manifest(manifest.root, manifest.records + extra))
    assert Counter(key.split("/")[0] for key in split.train + split.val) == {"train": len(manifest), "val": 9}


@pytest.mark.real
def test_the_real_shares(real_manifest):
    split = make_split(real_manifest, "published")
    train, val = (Counter(key.split("/")[1] for key in side) for side in (split.train, split.val))
    assert (train[NORMAL], val[NORMAL]) == (1207, 134)
    assert train[PNEUMONIA] + val[PNEUMONIA] == 3875
    assert abs(val[PNEUMONIA] - 387) <= 1
    weights = class_weights([key.split("/")[1] for key in split.train], "inverse-ratio")
    assert weights[NORMAL] == pytest.approx(2.89, abs=0.005)
    assert weights[PNEUMONIA] == pytest.approx(0.35, abs=0.005)
    patient_wise = make_split(real_manifest)
    assert (len(patient_wise.train), len(patient_wise.val)) == (4709, 523)
    kinds = Counter((one.label, one.sublabel) for one in real_manifest.records)
    held_out = Counter((one.label, one.sublabel) for one in patient_wise.records(real_manifest, "val"))
    for kind, count in kinds.items():
        assert held_out[kind] / count == pytest.approx(0.1, abs=0.01)


# Repeatability ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["patient", "published"])
def test_a_seed_gives_one_split_and_another_seed_another(scheme):
    manifest = synthetic(0)
    splits = [make_split(manifest, scheme, seed=seed) for seed in range(5)]
    assert splits == [make_split(manifest, scheme, seed=seed) for seed in range(5)]
    for one, other in itertools.combinations(splits, 2):
        assert one.fingerprint != other.fingerprint
        assert len(set(one.val) & set(other.val)) < 0.5 * len(one.val)


@pytest.mark.parametrize("scheme", ["patient", "published"])
def test_neither_order_nor_folder_of_the_records_matters(scheme):
    manifest = synthetic(0)
    shuffled = list(manifest.records)
    random.Random(1).shuffle(shuffled)
    moved = tuple(replace(one, path=f"/elsewhere/{one.path}", sha256="1", bytes=5) for one in shuffled)
    assert make_split(Manifest(Path("/other"), moved), scheme) == make_split(manifest, scheme)


def test_the_split_of_the_bundled_radiographs_is_this_one(samples_folder):
    """Golden test: the same images and seed give this split on every machine and in every version."""
    split = make_split(read_dataset(samples_folder), fraction=0.25)
    assert len(split.val) == 6
    assert split.fingerprint == "abd0a14e90682c9e3711c605ceb5ec2b634bbe5b57d3860556f5d951048846ba"


@pytest.mark.real
def test_the_split_of_the_real_data_is_that_of_the_shipped_models(real_manifest, samples_folder):
    """Golden test: shipped models record these, and the text of the bundled radiographs lists the held-out ones."""
    split = make_split(real_manifest)
    assert split.fingerprint == "179254163cb0cb795b91a702254f3d93a1c773c448a346874e82259055a849ee"
    published = make_split(real_manifest, "published")
    assert published.fingerprint == "668c2a25e159f75dfe22788b0acc63272a743f9ef20073989e58980064bd9bc0"
    attribution = (samples_folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    listed = {line.strip("- `") for line in attribution.splitlines() if line.startswith("- `")}
    bundled = {Path(one.path).name for one in read_dataset(samples_folder).records}
    assert listed == bundled & {key.split("/")[-1] for key in split.val}
    assert f"{len(listed)} of them were held out" in attribution


def test_the_fingerprint_is_over_keys_and_sides_only():
    split = Split("patient", 0, 0.1, ("a", "b"), ("c",))
    assert split.fingerprint == replace(split, seed=5, fraction=0.2, train=("b", "a")).fingerprint
    assert split.fingerprint != replace(split, train=("a",), val=("b", "c")).fingerprint
    assert split.fingerprint != replace(split, train=("c",), val=("a", "b")).fingerprint


def test_a_name_that_is_not_utf_8_has_a_fingerprint():
    names = ("r\udcf6ntgen.png", "r\udcf7ntgen.png")
    assert len({Split("patient", 0, 0.1, (name,), ("a",)).fingerprint for name in names}) == 2


# Files -----------------------------------------------------------------------------------------------------


def test_a_written_split_is_read_back_unchanged(tmp_path):
    manifest = synthetic(0)
    split = make_split(manifest, seed=3)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split


def test_a_name_that_is_not_utf_8_is_read_back_unchanged(tmp_path):
    split = Split("patient", 0, 0.1, ("all/NORMAL/r\udcf6ntgen.png",), ("all/NORMAL/b.png",))
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split


def _move_one(content):
    content["train"].append(content["val"].pop())


def _drop_one(content):
    content["val"].pop()


def _rename_one(content):
    content["val"][0] += "x"


def _forge(content):
    content["fingerprint"] = "0" * 64


def _number(content):
    content["fingerprint"] = 5


@pytest.mark.parametrize("change", [_move_one, _drop_one, _rename_one, _forge, _number])
def test_a_changed_file_is_noticed(tmp_path, change):
    path = tmp_path / "split.json"
    write_split(make_split(synthetic(0)), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="it was changed by hand"):
        read_split(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '{"fingerprint": "a"}', '{"fingerprint": "a", "train": 3}']
)
def test_other_files_are_not_a_split(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"expected a split file at .*split.json, cannot read it"):
        read_split(path)
    with pytest.raises(DatasetError, match="cannot read it"):
        read_split(tmp_path / "missing.json")


def test_a_split_of_other_data_gives_the_missing_images():
    manifest = synthetic(0)
    split = make_split(manifest)
    half = Manifest(manifest.root, manifest.records[::2])
    with pytest.raises(DatasetError, match=r"\d+ are not there \(first: train/"):
        split.records(half, "train")


# Impossible splits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["patient", "published"])
@pytest.mark.parametrize("size", range(1, 9))
def test_small_sets_are_split_or_give_an_error(scheme, size):
    """Every small set gives either a split without a leak or an error."""
    names = [f"IM-{number:04d}-0001.jpeg" for number in range(size)]
    names += [f"person{number // 2}_virus_{number}.jpeg" for number in range(size)]
    manifest = Manifest(Path("/data"), tuple(map(record, names)))
    reasons = []
    for seed, fraction in itertools.product(range(3), (0.01, 0.1, 0.25, 0.5)):
        try:
            split = make_split(manifest, scheme, seed=seed, fraction=fraction)
        except DatasetError as error:
            reasons.append(str(error))
            continue
        assert len(split.train) + len(split.val) == len(manifest)
        for side in (split.train, split.val):
            assert {key.split("/")[1] for key in side} == {NORMAL, PNEUMONIA}
        if scheme == "patient":
            assert_no_leak(manifest, split)
    assert all("on both sides of the split, one side has none" in reason for reason in reasons)


def test_the_bundled_radiographs_can_be_split(samples_folder):
    manifest = read_dataset(samples_folder)
    for seed in range(20):
        split = make_split(manifest, seed=seed)
        assert_no_leak(manifest, split)
        assert 2 <= len(split.val) <= 4
    with pytest.raises(DatasetError, match=r"expected training images under .* found none"):
        make_split(manifest, "published")


@pytest.mark.parametrize("names", [["IM-0001-0001.jpeg"] * 1, [f"person{n}_virus_{n}.jpeg" for n in range(40)]])
def test_one_class_alone_cannot_be_split(names):
    manifest = Manifest(Path("/data"), tuple(map(record, names)))
    for scheme in ("patient", "published"):
        with pytest.raises(DatasetError, match="one side has none: use more images, or a larger share"):
            make_split(manifest, scheme)


def test_one_patient_a_class_cannot_be_split_by_patient():
    names = [f"IM-0001-{number:04d}.jpeg" for number in range(30)]
    names += [f"person1_virus_{number}.jpeg" for number in range(30)]
    manifest = Manifest(Path("/data"), tuple(map(record, names)))
    with pytest.raises(DatasetError, match="on both sides of the split, one side has none"):
        make_split(manifest)
    assert len(make_split(manifest, "published").val) == 6


def test_a_repeated_key_is_an_error():
    names = [f"IM-{number:04d}-0001.jpeg" for number in range(3)] + ["person1_virus_1.jpeg"]
    records = tuple(map(record, names))
    twice = Manifest(Path("/data"), (*records, replace(records[0], path="other/IM-0000-0001.jpeg")))
    with pytest.raises(DatasetError, match=r"train/NORMAL/IM-0000-0001.jpeg is repeated: rename one"):
        make_split(twice)


@pytest.mark.parametrize("fraction", [0, -0.1, 0.51, 1, float("nan"), float("inf")])
def test_fractions_out_of_range_are_errors(fraction):
    with pytest.raises(UsageError, match=r"validation fraction above 0 and at most 0\.5, received"):
        make_split(synthetic(0), fraction=fraction)


def test_other_schemes_are_errors():
    for scheme in ("random", "", "fold", "fold1", "foldAof5", "fold-1of5", "hold-", "hold-late", "fold0of5 "):
        with pytest.raises(UsageError, match=f"expected a split patient, published, .*, all, received {scheme!r}"):
            make_split(synthetic(0), scheme)


@pytest.mark.parametrize("scheme", ["fold5of5", "fold0of0", "fold0of1", "fold7of3", "fold0of101"])
def test_impossible_folds_are_errors(scheme):
    with pytest.raises(UsageError, match=f"expected a fold like fold0of5 to fold4of5, of 2 to 100 folds, .*{scheme}"):
        check_scheme(scheme)
    with pytest.raises(UsageError, match="expected a fold like"):
        make_split(synthetic(0), scheme)


def test_more_folds_than_patients_are_an_error(samples_folder):
    with pytest.raises(DatasetError, match="expected images of NORMAL on both sides of the split, one side has none"):
        make_split(read_dataset(samples_folder), "fold9of10")


def test_a_series_that_is_not_there_cannot_be_held_out():
    with pytest.raises(DatasetError, match="expected images of NORMAL on both sides of the split"):
        make_split(synthetic(0), "hold-NORMAL2")
    with pytest.raises(DatasetError, match="expected images of NORMAL on both sides of the split"):
        make_split(synthetic(0), "hold-IM")  # all normals are of this series: none is left for training


# Nothing held out ------------------------------------------------------------------------------------------


def test_all_leaves_out_only_the_official_test():
    manifest = synthetic(0)
    extra = tuple(record(f"IM-9{number:03d}-0001.jpeg", split) for number in range(9) for split in ("val", "test"))
    split = make_split(Manifest(manifest.root, manifest.records + extra), "all")
    assert split.val == ()
    assert Counter(key.split("/")[0] for key in split.train) == {"train": len(manifest), "val": 9}
    assert split.fingerprint == make_split(Manifest(manifest.root, manifest.records + extra), "all", seed=3).fingerprint


def test_all_of_nothing_is_an_error():
    with pytest.raises(DatasetError, match="expected training images under"):
        make_split(Manifest(Path("/data"), ()), "all")


@pytest.mark.parametrize("scheme", ["fold1of5", "hold-early", "all"])
def test_a_split_of_every_scheme_is_read_back_unchanged(tmp_path, scheme):
    split = make_split(two_series(0), scheme)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
