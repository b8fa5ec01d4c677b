"""Manifest -> Split: which radiographs train and which validate. A split is seeded, recorded and hashed."""

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pneumoscope.data.manifest import NO_SPLIT, Manifest, Record
from pneumoscope.errors import DatasetError, UsageError
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS, NORMAL

PATIENT_WISE = "patient"
AS_PUBLISHED = "published"
#: Every image trains and none validates, for the model that ships. The folds of its recipe measure it.
ALL = "all"
SCHEMES = (PATIENT_WISE, AS_PUBLISHED, "fold0of5", "hold-IM", "hold-NORMAL2", "hold-early", ALL)
_FOLD = re.compile(r"fold(\d+)of(\d+)")

#: Class-weight rules for training.
CLASS_WEIGHTS = ("inverse-ratio", "balanced", "none")


@dataclass(frozen=True)
class Split:
    """Training and validation images, by :attr:`pneumoscope.data.manifest.Record.key`.

    Attributes:
        scheme: as given to :func:`make_split`.
        seed: of the shuffling.
        fraction: share of the images that validate.
        train, val: sorted keys.
    """

    scheme: str
    seed: int
    fraction: float
    train: tuple[str, ...]
    val: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all keys and their sides: equal splits have equal fingerprints everywhere."""
        lines = [f"train {key}" for key in self.train] + [f"val {key}" for key in self.val]
        return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()

    def records(self, manifest: Manifest, side: str) -> tuple[Record, ...]:
        """The records of one side, in the split's order.

        Raises:
            DatasetError: the manifest lacks some of them.
        """
        by_key = {record.key: record for record in manifest.records}
        keys = {"train": self.train, "val": self.val}[side]
        missing = [key for key in keys if key not in by_key]
        if missing:
            raise DatasetError(
                f"expected the {len(keys)} {side} images of this split under {manifest.root}, "
                f"{len(missing)} are not there (first: {missing[0]}): use --data with the data it was made from"
            )
        return tuple(by_key[key] for key in keys)


def make_split(manifest: Manifest, scheme: str = PATIENT_WISE, *, seed: int = 0, fraction: float = 0.1) -> Split:
    """Split off a validation set.

    Args:
        manifest: labelled radiographs.
        scheme: one of

            - ``"patient"``: the official train and val folders together. All images of a patient, and all copies of a
              picture, are on one side. Stratified by label and sub-label.
            - ``"published"``: image by image within the official train folder, stratified by label. The published
              results were made this way. Images of one patient are on both sides, so the results look too good.
            - ``"fold0of5"`` to ``"fold4of5"`` (or another number of folds): the patient-wise folds of a
              cross-validation.
            - ``"hold-IM"``, ``"hold-NORMAL2"``: all normal patients of one Kermany series are held out, with one fold
              of the pneumonias.
            - ``"hold-early"``: the fifth of the normal patients with the lowest numbers of each series, whose numbers
              are nearest to those of the official test images.
            - ``"all"``: nothing is held out.
        seed: of the shuffling.
        fraction: share of the images that validate, above 0 and at most 0.5.

    Raises:
        DatasetError: no images to split, a class that is too small, or a repeated key.
        UsageError: an unknown scheme, or a fraction outside (0, 0.5].
    """
    check_scheme(scheme)
    if not 0 < fraction <= 0.5:
        raise UsageError(f"expected a validation fraction above 0 and at most 0.5, received {fraction}")
    pool = manifest.select("train") if scheme == AS_PUBLISHED else manifest.select("train", "val", NO_SPLIT)
    _check_pool(pool, manifest)
    if scheme == ALL:
        return Split(scheme, seed, fraction, tuple(sorted(record.key for record in pool)), ())
    if fold := _FOLD.fullmatch(scheme):
        val = _fold(pool, seed, int(fold[1]), int(fold[2]))
    elif scheme.startswith("hold-"):
        val = _series_for_validation(pool, seed, scheme)
    elif scheme == PATIENT_WISE:
        val = _patients_for_validation(pool, seed, fraction)
    else:
        val = _images_for_validation(pool, seed, fraction)
    for label in LABELS:
        for side in (val, {record.key for record in pool} - val):
            if not any(record.key in side and record.label == label for record in pool):
                raise DatasetError(
                    f"expected images of {label} on both sides of the split, one side has none: "
                    "use more images, or a larger share (data split --fraction, or validation_fraction in the recipe)"
                )
    train = {record.key for record in pool} - val
    return Split(scheme, seed, fraction, tuple(sorted(train)), tuple(sorted(val)))


def check_scheme(scheme: str) -> None:
    """Refuse a scheme that :func:`make_split` does not know.

    Raises:
        UsageError: an unknown scheme, or a fold number that is not below the number of folds.
    """
    fold = _FOLD.fullmatch(scheme)
    if fold and not (2 <= int(fold[2]) <= 100 and int(fold[1]) < int(fold[2])):
        raise UsageError(f"expected a fold like fold0of5 to fold4of5, of 2 to 100 folds, received {scheme!r}")
    if not fold and scheme not in SCHEMES:
        raise UsageError(f"expected a split {', '.join(SCHEMES)}, received {scheme!r}")


def select_records(manifest: Manifest, name: str, training: dict[str, Any]) -> tuple[tuple[Record, ...], str | None]:
    """The images to evaluate a model on.

    Args:
        manifest: labelled radiographs.
        name: ``"val"``, the held-out images of the model's own training; ``"test"``, the official test
            folder; ``"all"``, every image.
        training: the model's ``training`` record, with its recipe and split fingerprint.

    Returns:
        The records. For ``"val"`` also the fingerprint of the split, otherwise None.

    Raises:
        DatasetError: the model was trained on other data, or has no held-out images, or there is no test folder.
        UsageError: an unknown name.
    """
    if name == "all":
        return manifest.records, None
    if name == "test":
        records = manifest.select("test")
        if not records:
            raise DatasetError(f"expected images in a test folder under {manifest.root}, found none: check --data")
        return records, None
    if name != "val":
        raise UsageError(f"expected the split val, test or all, received {name!r}")
    recipe = training["recipe"]
    if recipe["split"] == ALL:
        raise DatasetError(
            "expected a model with a held-out split, this one was trained on all images and its figures come from its "
            "folds: use --split test, or --split all on other data"
        )
    split = make_split(manifest, recipe["split"], seed=recipe["split_seed"], fraction=recipe["validation_fraction"])
    if split.fingerprint != training["split_fingerprint"]:
        raise DatasetError(
            f"expected the data this model was trained on (split {training['split_fingerprint'][:12]}), the images "
            f"under {manifest.root} give split {split.fingerprint[:12]}: use --split all or test on other data"
        )
    return split.records(manifest, "val"), split.fingerprint


def write_split(split: Split, path: str | Path) -> None:
    """Write a split, with its fingerprint, as JSON."""
    content = {"fingerprint": split.fingerprint, **asdict(split)}
    write_atomic(Path(path), (json.dumps(content, indent=1) + "\n").encode())


def read_split(path: str | Path) -> Split:
    """Read what :func:`write_split` wrote.

    Raises:
        DatasetError: no split file, or its content does not match its fingerprint.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        recorded = content.pop("fingerprint")
        split = Split(**{**content, "train": tuple(content["train"]), "val": tuple(content["val"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"expected a split file at {path}, cannot read it: {error}") from None
    if split.fingerprint != recorded:
        raise DatasetError(
            f"expected the split with fingerprint {str(recorded)[:12]} in {path}, it was changed by hand: "
            "use the original, or make a new split"
        )
    return split


def class_weights(labels: Sequence[str], rule: str, classes: Sequence[str] = LABELS) -> dict[str, float]:
    """Weight of each class in the training loss.

    ``"inverse-ratio"``: the count of the other classes over the count of this class (as published: NORMAL about 2.89,
    PNEUMONIA about 0.35). ``"balanced"``: n / (classes * count), whose mean over the images is 1. ``"none"``: 1.

    Raises:
        UsageError: an unknown rule.
        DatasetError: a class without images.

    >>> class_weights(["NORMAL"] + 4 * ["PNEUMONIA"], "inverse-ratio")
    {'NORMAL': 4.0, 'PNEUMONIA': 0.25}
    """
    if rule not in CLASS_WEIGHTS:
        raise UsageError(f"expected class weights {', '.join(CLASS_WEIGHTS)}, received {rule!r}")
    count = Counter(labels)
    if any(count[label] == 0 for label in classes):
        raise DatasetError(f"expected images of both {' and '.join(classes)}, received {dict(count)}")
    total = len(labels)
    if rule == "inverse-ratio":
        return {label: (total - count[label]) / count[label] for label in classes}
    if rule == "balanced":
        return {label: total / (len(classes) * count[label]) for label in classes}
    return dict.fromkeys(classes, 1.0)


def _check_pool(pool: Sequence[Record], manifest: Manifest) -> None:
    if not pool:
        raise DatasetError(f"expected training images under {manifest.root}, found none: check --data")
    repeated = [key for key, count in Counter(record.key for record in pool).items() if count > 1]
    if repeated:
        raise DatasetError(f"expected each file name once per split and label, {repeated[0]} is repeated: rename one")


def _patients_by_stratum(pool: Sequence[Record], seed: int) -> Iterator[tuple[list[str], dict[str, list[Record]]]]:
    """Shuffled patients of each stratum (label and sub-label), and the records of all patients."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(pool, key=lambda record: record.key):
        groups[record.group].append(record)
    strata: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for name, members in groups.items():
        strata[tuple(sorted({(member.label, member.sublabel) for member in members}))].append(name)
    for stratum in sorted(strata):
        names = sorted(strata[stratum])
        random.Random(f"{seed} {stratum}").shuffle(names)
        yield names, groups


def _fold(pool: Sequence[Record], seed: int, fold: int, folds: int) -> set[str]:
    """One of ``folds`` disjoint sets of patients: patients, largest first, are added to the smallest set."""
    chosen: set[str] = set()
    for names, groups in _patients_by_stratum(pool, seed):
        sizes = [0] * folds
        for name in sorted(names, key=lambda name: -len(groups[name])):
            smallest = sizes.index(min(sizes))
            sizes[smallest] += len(groups[name])
            if smallest == fold:
                chosen |= {record.key for record in groups[name]}
    return chosen


def _series_for_validation(pool: Sequence[Record], seed: int, scheme: str) -> set[str]:
    """Normal patients of one series, or with the lowest numbers, and the first of five folds of the pneumonias."""
    normals = [record for record in pool if record.label == NORMAL]
    held_out = {record.key for record in pool if record.label != NORMAL} & _fold(pool, seed, 0, 5)
    for prefix in ("IM", "NORMAL2"):
        series = [record for record in normals if record.patient.startswith(f"{prefix}-")]
        if scheme == f"hold-{prefix}":
            held_out |= {record.key for record in series}
        elif scheme == "hold-early":
            patients = sorted({record.group for record in series})  # numbers have four digits, so names sort by number
            early = set(patients[: len(patients) // 5])
            held_out |= {record.key for record in series if record.group in early}
    groups = {record.group for record in pool if record.key in held_out}  # a picture may have two labels or series
    return {record.key for record in pool if record.group in groups}


def _patients_for_validation(pool: Sequence[Record], seed: int, fraction: float) -> set[str]:
    """Take shuffled patients of each stratum until the stratum has its share of images."""
    chosen: set[str] = set()
    for names, groups in _patients_by_stratum(pool, seed):
        wanted = round(fraction * sum(len(groups[name]) for name in names))
        for name in names:  # skip a patient with more images than are still wanted
            if len(groups[name]) <= wanted:
                wanted -= len(groups[name])
                chosen.add(name)
    return {record.key for name in chosen for record in groups[name]}


def _images_for_validation(pool: Sequence[Record], seed: int, fraction: float) -> set[str]:
    """Take a share of the shuffled images of each label."""
    chosen: set[str] = set()
    for label in LABELS:
        keys = sorted(record.key for record in pool if record.label == label)
        random.Random(f"{seed} {label}").shuffle(keys)
        chosen.update(keys[: int(fraction * len(keys))])
    return chosen
