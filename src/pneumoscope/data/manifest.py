"""Labelled radiographs and their manifest, a CSV file: path, label, sub-label, patient, split, hash, size."""

import csv
import io
import math
from dataclasses import dataclass, fields
from pathlib import Path

from pneumoscope.data.file_names import patient_of, sublabel_of
from pneumoscope.errors import DatasetError
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS

OFFICIAL_SPLITS = ("train", "val", "test")
#: Split of images that are in no official split folder, as in a user's own collection.
NO_SPLIT = "all"
MANIFEST_NAME = "manifest.csv"

#: The system gives file names that are not UTF-8 as surrogates. Written this way they become the same bytes again.
_NAMES = "surrogateescape"


@dataclass(frozen=True)
class Record:
    """One labelled radiograph.

    Attributes:
        path: relative to the manifest's folder if the file is inside it, otherwise absolute.
        label: one of :data:`pneumoscope.labels.LABELS`.
        sublabel: ``"bacterial"``, ``"viral"`` or ``""`` (normal, or unknown).
        patient: read from the file name. A split never has images of one patient on both sides.
        group: the patient, or the first of several patients who share the same picture.
        split: official split, or ``"all"``.
        sha256: of the file's bytes.
        bytes, width, height: of the file and of the full-size image.
        ratio: width over height of the original radiograph, which a squashed copy no longer shows; 0 if unknown.
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
    """A file that is not in the manifest, and the reason."""

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
        """The file of a record."""
        return self.root / record.path

    def select(self, *splits: str) -> tuple[Record, ...]:
        """Records of some official splits, in the manifest's order."""
        return tuple(record for record in self.records if record.split in splits)

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of images by (split, label)."""
        counts: dict[tuple[str, str], int] = {}
        for record in self.records:
            counts[record.split, record.label] = counts.get((record.split, record.label), 0) + 1
        return counts


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest as CSV. The file is complete or absent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Record)]
    writer.writerow(names)
    writer.writerows([getattr(record, name) or "" for name in names] for record in manifest.records)
    write_atomic(Path(path), text.getvalue().encode("utf-8", _NAMES))


def read_manifest(path: str | Path) -> Manifest:
    """Read a CSV with at least the columns ``path`` and ``label``. Paths are relative to the folder of the CSV.

    Without a column ``ratio``, the ratio is ``width`` over ``height``. With this column, an empty field means that
    the ratio is unknown.

    Raises:
        DatasetError: no such file, missing columns, no row, an unknown label or split, or a field that must be a
            number and is not.
    """
    path = Path(path)
    names = {field.name for field in fields(Record)}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors=_NAMES) as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            missing = {"path", "label"} - set(columns)
            if missing:
                raise DatasetError(
                    f"expected the columns path and label in {path}, missing {' and '.join(sorted(missing))}: "
                    "add a header line"
                )
            rows = [
                (reader.line_num, {name: value for name, value in row.items() if name in names and value})
                for row in reader
            ]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: a NUL byte in the name
        raise DatasetError(f"expected a folder or a CSV of labelled radiographs at {path}: {error}") from None
    if not rows:
        raise DatasetError(f"expected at least one row in {path}, found none")
    has_ratio = "ratio" in columns
    return Manifest(path.parent.absolute(), tuple(_parse_row(row, path, line, has_ratio) for line, row in rows))


def _parse_row(row: dict[str, str], path: Path, line: int, has_ratio: bool) -> Record:
    """One record; what the row does not say comes from the file name."""
    if "path" not in row:
        raise DatasetError(f"expected a path in {path} line {line}, received none: name the image or remove the line")
    for column, values in (("label", LABELS), ("split", (*OFFICIAL_SPLITS, NO_SPLIT))):
        # A missing split is valid and means NO_SPLIT. For the label, NO_SPLIT is not a valid value.
        if row.get(column, NO_SPLIT) not in values:
            raise DatasetError(
                f"expected the {column} {' or '.join(values)} in {path} line {line}, received {row.get(column)!r}"
            )
    size = {column: _parse_count(row, column, path, line) for column in ("bytes", "width", "height")}
    if has_ratio:
        ratio = _parse_ratio(row.get("ratio", "0"), path, line)
    else:
        ratio = size["width"] / size["height"] if size["height"] else 0.0
    name = Path(row["path"]).name
    patient = row.get("patient") or patient_of(name)
    return Record(
        path=row["path"],
        label=row["label"],
        sublabel=row.get("sublabel") or sublabel_of(name),
        patient=patient,
        group=row.get("group") or patient,
        split=row.get("split") or NO_SPLIT,
        sha256=row.get("sha256", ""),
        **size,
        ratio=ratio,
    )


def _parse_count(row: dict[str, str], column: str, path: Path, line: int) -> int:
    text = row.get(column, "0")
    if not text.isdecimal():
        raise DatasetError(f"expected a whole number of {column} in {path} line {line}, received {text!r}")
    return int(text)


def _parse_ratio(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DatasetError(
            f"expected width over height as ratio in {path} line {line}, received {text!r}: give a number, or leave "
            "the field empty if the ratio is unknown"
        )
    return value
