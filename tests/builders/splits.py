"""Records with Kermany file names, and the check that a split has no leak."""

import random
from pathlib import Path

from pneumoscope.data import Manifest, Record
from pneumoscope.data.file_names import patient_of, sublabel_of
from pneumoscope.labels import NORMAL, PNEUMONIA


def record(name, split="train", group=None):
    """A record whose label, sub-label and patient follow from the file name."""
    label = PNEUMONIA if name.startswith("person") else NORMAL
    patient = patient_of(name)
    return Record(f"{split}/{label}/{name}", label, sublabel_of(name), patient, group or patient, split)


def synthetic(seed, patients=300):
    """Patients with one to thirty images; some pneumonia patients with both sub-labels, some sharing a picture."""
    chance = random.Random(seed)
    records = []
    for number in range(patients):
        kind = chance.choice(("normal", "bacteria", "virus", "both"))
        for image in range(min(30, int(chance.paretovariate(1.5)))):
            if kind == "normal":
                records.append(record(f"IM-{number:04d}-{image:04d}.jpeg"))
                continue
            word = chance.choice(("bacteria", "virus")) if kind == "both" else kind
            shared = f"person{number - number % 2}" if number % 50 < 2 else None
            records.append(record(f"person{number}_{word}_{number * 100 + image}.jpeg", group=shared))
    return Manifest(Path("/data"), tuple(records))


def two_series(seed):
    """Names as in the Kermany data: two series of normals, and one normal from elsewhere."""
    chance = random.Random(seed)
    pneumonias = [one for one in synthetic(seed).records if one.label == PNEUMONIA]
    normals = [record("chest-7-0001.jpeg")]
    for prefix, numbers in (("IM", range(115, 766, 7)), ("NORMAL2-IM", range(400, 1400, 9))):
        for number in numbers:
            images = range(1, chance.choice((2, 2, 2, 4)))
            normals += [record(f"{prefix}-{number:04d}-{image:04d}.jpeg") for image in images]
    records = [*normals, *pneumonias]
    chance.shuffle(records)
    return Manifest(Path("/data"), tuple(records))


def sides_of(manifest, split, what):
    """The values of one field of the records, on the training and on the validation side."""
    return ({getattr(record, what) for record in split.records(manifest, side)} for side in ("train", "val"))


def assert_no_leak(manifest, split):
    """No key, patient, group or file is on both sides."""
    for what in ("key", "patient", "group"):
        train, val = sides_of(manifest, split, what)
        assert train
        assert val
        assert not train & val, what
    train, val = sides_of(manifest, split, "sha256")
    assert not train & val - {""}
