"""A folder or CSV of labelled radiographs -> Manifest: path, label, sub-label, patient, split, hash, size."""

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.inference.preprocess import InputSpec, resize
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL, PNEUMONIA, VIRAL
from pneumoscope.radiographs.images import read_file, read_radiograph

#: Images of the Kaggle set "Chest X-Ray Images (Pneumonia)" by official split and label.
KAGGLE_COUNTS = {
    ("train", NORMAL): 1341, ("train", PNEUMONIA): 3875,
    ("val", NORMAL): 8, ("val", PNEUMONIA): 8,
    ("test", NORMAL): 234, ("test", PNEUMONIA): 390,
}  # fmt: skip
OFFICIAL_SPLITS = ("train", "val", "test")
#: The split of images that lie in no official split folder, as in a user's own collection.
NO_SPLIT = "all"
MANIFEST_NAME = "manifest.csv"

#: Two images whose 32x32 thumbnails correlate above this are one picture saved twice.
SAME_PICTURE = 0.9995
_THUMBNAIL = InputSpec(height=32, width=32)

#: File names that are no UTF-8 come as surrogates from the system, and go back to it as the bytes they were.
_NAMES = "surrogateescape"

_PATIENT = re.compile(r"^(?P<patient>person\d+|(?:NORMAL2-)?IM-\d+|000\d{5}(?=_\d{3}\.))[_-]")
_SUBLABEL = re.compile(r"^person\d+_(?P<sublabel>bacteria|virus)_")


@dataclass(frozen=True)
class Record:
    """One labelled radiograph.

    Attributes:
        path: relative to the manifest's folder where it lies below it, else absolute.
        label: one of :data:`pneumoscope.labels.LABELS`.
        sublabel: ``"bacterial"``, ``"viral"`` or ``""`` (normal, or not known).
        patient: read from the file name; images of one patient never stand on two sides of a split.
        group: the patient, or the first of several patients who share the same picture.
        split: official split, or ``"all"``.
        sha256: of the file's bytes.
        bytes, width, height: of the file and of the full-size image.
        ratio: width over height of the radiograph, which a squashed copy no longer shows; 0 where not known.
    """

    path: str
    label: str
    sublabel: str = ""
    patient: str = ""
    group: str = ""
    split: str = NO_SPLIT
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    ratio: float = 0.0

    @property
    def key(self) -> str:
        """``split/label/file name``: the same on every machine and for every copy of the data."""
        return f"{self.split}/{self.label}/{Path(self.path).name}"


@dataclass(frozen=True)
class Refused:
    """A file that did not enter the manifest, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Labelled radiographs under one folder."""

    root: Path
    records: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.records)

    def path(self, record: Record) -> Path:
        """Where a record's file lies."""
        return self.root / record.path

    def select(self, *splits: str) -> tuple[Record, ...]:
        """Records of some official splits, in the manifest's order."""
        return tuple(record for record in self.records if record.split in splits)

    def counts(self) -> dict[tuple[str, str], int]:
        """Images by (split, label)."""
        counts: dict[tuple[str, str], int] = {}
        for record in self.records:
            counts[record.split, record.label] = counts.get((record.split, record.label), 0) + 1
        return counts


def read_dataset(source: "str | Path | Manifest", progress: Callable | None = None) -> Manifest:
    """Manifest of a folder (its ``manifest.csv`` if it has one, else its images) or of a CSV file.

    Args:
        source: a folder ``[split/]LABEL/image``, a CSV with at least the columns ``path`` and ``label``, or a
            manifest, which is given back.
        progress: wraps the iteration over files, to show how far it is.

    Raises:
        DatasetError: nothing there, unknown labels or columns, or files that cannot be decoded.
    """
    if isinstance(source, Manifest):
        return source
    source = Path(source)
    if source.is_dir() and not (source / MANIFEST_NAME).is_file():
        manifest, refused = scan_folder(source, progress=progress)
        if refused:
            raise DatasetError(
                f"expected only readable radiographs under {source}, {len(refused)} cannot be read (first: "
                f"{refused[0].path}: {refused[0].reason}): run  pneumoscope data fetch --from {source} --out DIR "
                "--allow-partial  "
                "and use --data DIR to leave them out"
            )
        return manifest
    return read_manifest(source / MANIFEST_NAME if source.is_dir() else source)


def scan_folder(
    folder: str | Path, *, relative_to: str | Path | None = None, progress: Callable | None = None
) -> tuple[Manifest, list[Refused]]:
    """Decode and hash every image of ``[split/]LABEL/`` folders.

    Args:
        folder: holds ``train``, ``val``, ``test`` folders, or the label folders themselves.
        relative_to: folder the manifest will lie in; default ``folder``.
        progress: wraps the iteration over files.

    Returns:
        The manifest, ordered by split, label and name, and the files that were refused with the reason.

    Raises:
        DatasetError: no label folder with a file in it.
    """
    folder = Path(folder).absolute()
    root = Path(relative_to).absolute() if relative_to else folder
    found = list(_labelled_files(folder))
    if not found:
        raise DatasetError(
            f"expected folders {' and '.join(LABELS)} (or train, val, test with these inside) with images "
            f"under {folder}, found none: check the path"
        )
    records, thumbnails, refused = [], [], []
    with ThreadPoolExecutor() as pool:
        for result in (progress or iter)(ordered_prefetch(pool, lambda item: _describe(*item, root), found, ahead=32)):
            if isinstance(result, Refused):
                refused.append(result)
            else:
                records.append(result[0])
                thumbnails.append(result[1])
    return Manifest(root, tuple(_with_groups(records, thumbnails))), refused


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Record)]
    writer.writerow(names)
    writer.writerows([getattr(record, name) or "" for name in names] for record in manifest.records)
    write_atomic(Path(path), text.getvalue().encode("utf-8", _NAMES))


def read_manifest(path: str | Path) -> Manifest:
    """Read a CSV with at least the columns ``path`` and ``label``; paths are relative to its folder.

    Without a column ``ratio`` it is ``width`` over ``height``; with one, an empty field says that it is not known.

    Raises:
        DatasetError: no such file, missing columns, an unknown label or split, no number where one belongs, or no row.
    """
    path = Path(path)
    names = {field.name for field in fields(Record)}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors=_NAMES) as file:
            reader = csv.DictReader(file)
            missing = {"path", "label"} - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(
                    f"expected the columns path and label in {path}, missing {' and '.join(sorted(missing))}: "
                    "add a header line"
                )
            with_ratio = "ratio" in reader.fieldnames
            rows = [
                (reader.line_num, {name: value for name, value in row.items() if name in names and value})
                for row in reader
            ]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: a NUL byte in the name
        raise DatasetError(f"expected a folder or a CSV of labelled radiographs at {path}: {error}") from None
    if not rows:
        raise DatasetError(f"expected at least one row in {path}, found none")
    return Manifest(path.parent.absolute(), tuple(_record(row, path, line, with_ratio) for line, row in rows))


def patient_of(name: str) -> str:
    """Patient of a Kermany or NIH ChestX-ray14 file name; other names are patients of their own.

    >>> patient_of("person447_virus_921_1.jpeg"), patient_of("NORMAL2-IM-0793-0001.jpeg")
    ('person447', 'NORMAL2-IM-0793')
    >>> patient_of("00001299_000.png")  # patient and follow-up number
    '00001299'
    """
    match = _PATIENT.match(name)
    return match["patient"] if match else Path(name).stem


def sublabel_of(name: str) -> str:
    """Bacterial or viral, from a Kermany file name; ``""`` where it does not say.

    >>> sublabel_of("person447_virus_921_1.jpeg")
    'viral'
    """
    match = _SUBLABEL.match(name)
    return {"bacteria": BACTERIAL, "virus": VIRAL}[match["sublabel"]] if match else ""


def _labelled_files(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """(file, label, split), sorted; hidden files and macOS leftovers are no files."""
    splits = [name for name in OFFICIAL_SPLITS if (folder / name).is_dir()]
    for split in splits or [NO_SPLIT]:
        for label in LABELS:
            base = folder / split / label if splits else folder / label
            if base.is_dir():
                for path in sorted(base.iterdir()):
                    if path.is_file() and not path.name.startswith("."):
                        yield path, label, split


def _describe(path: Path, label: str, split: str, root: Path) -> "tuple[Record, np.ndarray] | Refused":
    try:
        data = read_file(path)
        radiograph = read_radiograph(data)
    except ImageError as error:
        return Refused(str(path), str(error))
    record = Record(
        path=path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
        label=label,
        sublabel=sublabel_of(path.name),
        patient=patient_of(path.name),
        split=split,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=radiograph.width,
        height=radiograph.height,
        ratio=radiograph.width / radiograph.height,
    )
    return record, resize(radiograph, _THUMBNAIL)


def _with_groups(records: list[Record], thumbnails: list[np.ndarray]) -> list[Record]:
    """Join the patients that share a picture: a patient-wise split must keep copies together."""
    leader = {record.patient: record.patient for record in records}

    def find(patient: str) -> str:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    for first, second in same_pictures(np.stack(thumbnails) if thumbnails else np.zeros((0, 32, 32), np.uint8)):
        a, b = sorted((find(records[first].patient), find(records[second].patient)))
        leader[b] = a
    return [replace(record, group=find(record.patient)) for record in records]


def same_pictures(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of images that are the same picture: thumbnails that correlate above :data:`SAME_PICTURE`.

    Args:
        thumbnails: (N, 32, 32) uint8.

    Returns:
        Index pairs (i, j), i < j.
    """
    flat = thumbnails.reshape(len(thumbnails), math.prod(thumbnails.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9
    pairs = []
    block = 1024  # rows at a time: 5,232 images need 21 MB instead of 110
    for start in range(0, len(flat), block):
        correlation = flat[start : start + block] @ flat.T  # (block, N)
        for i, j in zip(*np.nonzero(correlation > SAME_PICTURE), strict=True):
            if start + i < j:
                pairs.append((int(start + i), int(j)))
    return pairs


def _record(row: dict[str, str], path: Path, line: int, with_ratio: bool) -> Record:
    if "path" not in row:
        raise DatasetError(f"expected a path in {path} line {line}, received none: name the image or remove the line")
    for column, values in (("label", LABELS), ("split", (*OFFICIAL_SPLITS, NO_SPLIT))):
        if row.get(column, NO_SPLIT) not in values:  # a split may be left out, NO_SPLIT is no label
            raise DatasetError(
                f"expected the {column} {' or '.join(values)} in {path} line {line}, received {row.get(column)!r}"
            )
    numbers: dict[str, float] = {}
    for column in ("bytes", "width", "height"):
        text = row.get(column, "0")
        if not text.isdecimal():
            raise DatasetError(f"expected a whole number of {column} in {path} line {line}, received {text!r}")
        numbers[column] = int(text)
    if with_ratio:
        numbers["ratio"] = _ratio(row.get("ratio", "0"), path, line)
    elif numbers["height"]:
        numbers["ratio"] = numbers["width"] / numbers["height"]
    name = Path(row["path"]).name
    patient = row.get("patient") or patient_of(name)
    defaults = {"patient": patient, "group": patient, "sublabel": sublabel_of(name)}
    return Record(**{**defaults, **row, **numbers})


def _ratio(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DatasetError(
            f"expected width over height as ratio in {path} line {line}, received {text!r}: give a number, or leave "
            "it empty where it is not known"
        )
    return value
