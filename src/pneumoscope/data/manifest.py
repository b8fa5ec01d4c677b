"""Labelled radiographs and their manifest, a CSV file: path, label, sub-label, patient, split, hash, size."""

import csv
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from pneumoscope.data.class_names import ClassNames, sublabel_of_name
from pneumoscope.data.file_names import sublabel_of
from pneumoscope.data.patients import FROM_COLUMN, SPLIT_NAMES, name_patients
from pneumoscope.errors import DatasetError
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.csv_text import csv_bytes
from pneumoscope.io.names import decode_name
from pneumoscope.labels import LABELS, NORMAL
from pneumoscope.radiographs.tables import PATH_COLUMNS, Table, describe_columns, find_column, read_table, simplify

OFFICIAL_SPLITS = ("train", "val", "test")
#: Split of images that are in no official split folder, as in a user's own collection.
NO_SPLIT = "all"
MANIFEST_NAME = "manifest.csv"

#: Usual names of columns by the field of a record that they fill, as ``radiographs.tables.simplify`` writes them.
USUAL_COLUMNS = {
    "path": PATH_COLUMNS,
    "label": (
        "label", "labels", "class", "classname", "target", "finding", "findings", "findinglabels", "diagnosis",
        "category", "pneumonia",
    ),
    "patient": ("patient", "patientid", "subject", "subjectid"),
}  # fmt: skip
#: Usual names of columns with attributes of patients and images, for figures of subgroups.
ATTRIBUTE_COLUMNS = {
    "age": ("age", "patientage", "ageyears", "ageinyears"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "view": ("view", "viewposition"),
}
_USUAL_COLUMNS = frozenset(name for names in USUAL_COLUMNS.values() for name in names)


@dataclass(frozen=True)
class TableOptions:
    """How to read a table, or a folder, of labelled radiographs.

    Attributes:
        path_column, label_column, patient_column: names of columns; None for the usual ones.
        subgroups: names of columns with attributes, beside the usual ones for age, sex and view.
        names: what the two classes are called.
        root: folder that the paths begin at; None for the folder of the table.
    """

    path_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    subgroups: tuple[str, ...] = ()
    names: ClassNames = field(default_factory=ClassNames)
    root: Path | None = None

    def wanted_columns(self) -> dict[str, str | None]:
        """The columns that the user names, by the field of a record that they fill."""
        return {"path": self.path_column, "label": self.label_column, "patient": self.patient_column}


@dataclass(frozen=True)
class Record:
    """One labelled radiograph.

    Attributes:
        path: relative to the manifest's folder if the file is inside it, otherwise absolute.
        label: one of :data:`pneumoscope.labels.LABELS`.
        sublabel: ``"bacterial"``, ``"viral"`` or ``""`` (normal, or unknown).
        patient: see :mod:`pneumoscope.data.patients`. A split never has images of one patient on both sides.
        group: the patient, or the first of several patients who share the same picture.
        split: official split, or ``"all"``.
        sha256: of the file's bytes.
        bytes, width, height: of the file and of the full-size image.
        ratio: width over height of the original radiograph, which a squashed copy no longer shows; 0 if unknown.
        patient_from: where the patient was read, see :mod:`pneumoscope.data.patients`; ``""`` if unknown.
        picture: the same text for all images that show the same picture; ``""`` for a picture that is there once.
        attributes: (name, value) of what a table says of the patient or the image, such as age, sex and view.
        tail: end of the path that tells it from others of the same split, label and name; ``""`` if its name does.
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
    patient_from: str = ""
    picture: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    tail: str = ""

    @property
    def key(self) -> str:
        """``split/label/file name``: the same on every machine and for every copy of the data.

        Where images of one split and label share a name, as many folders are added as tell them apart.
        """
        return f"{self.split}/{self.label}/{self.tail or Path(self.path).name}"


#: Columns of a manifest.
COLUMNS = tuple(field.name for field in fields(Record) if field.name not in ("attributes", "tail"))


@dataclass(frozen=True)
class Refused:
    """A file that is not in the manifest, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Labelled radiographs under one folder.

    Attributes:
        root: the folder that relative paths begin at.
        records: one for each image.
        unused: number of files or rows that were found and are not in the records, by reason.
        mapping: how the columns and labels of a table were understood, in sentences; empty for a folder.
    """

    root: Path
    records: tuple[Record, ...]
    unused: Mapping[str, int] = field(default_factory=dict, compare=False)
    mapping: tuple[str, ...] = field(default=(), compare=False)

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
    """Write a manifest as CSV, with its texts as :func:`pneumoscope.io.encode_cell` writes them.

    The file is complete or absent.
    """
    rows = ({name: getattr(record, name) or "" for name in COLUMNS} for record in manifest.records)
    write_atomic(Path(path), csv_bytes(rows, COLUMNS))


def complete_records(records: Sequence[Record]) -> tuple[Record, ...]:
    """Fill in the patients that no column names, the groups, and the tails that make the keys differ."""
    unnamed = [record for record in records if not record.patient]
    patients = iter(name_patients([record.path for record in unnamed]))
    completed = []
    for record in records:
        if not record.patient:
            patient, patient_from = next(patients)
            record = replace(record, patient=patient, patient_from=patient_from)
        completed.append(record if record.group else replace(record, group=record.patient))
    return tuple(_with_tails(completed))


def _with_tails(records: list[Record]) -> list[Record]:
    same_key: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        same_key[record.key].append(place)
    for places in same_key.values():
        parts = [records[place].path.replace(os.sep, "/").split("/") for place in places]
        distinct = len(set(map(tuple, parts)))
        if distinct < 2:
            continue
        length = next(n for n in range(1, max(map(len, parts)) + 1) if len({tuple(p[-n:]) for p in parts}) == distinct)
        for place, part in zip(places, parts, strict=True):
            records[place] = replace(records[place], tail="/".join(part[-length:]))
    return records


def read_manifest(path: str | Path, options: TableOptions | None = None) -> Manifest:
    """Read a CSV with a column of paths and one of labels. Paths are relative to the folder of the CSV, or to a root.

    Columns are found by their usual names, labels by their usual values, unless the options name them. Without a column
    ``ratio``, the ratio is ``width`` over ``height``. With this column, an empty field means that the ratio is unknown.

    Raises:
        DatasetError: no such file, missing columns, no row, an unknown label or split, or a field that must be a
            number and is not.
    """
    path, options = Path(path), options or TableOptions()
    try:
        with path.open("rb") as file:
            table = read_table(file, _USUAL_COLUMNS)
            columns = _find_columns(table.columns, options, path)
            decode = decode_name if tuple(table.columns) == COLUMNS else str  # other programs do not write names so
            attributes = _find_attributes(table.columns, options, path, columns.values())

            def read_cells(row: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
                return {name: decode(cell) for name, column in names.items() if (cell := row[column].strip())}

            rows = [(line, read_cells(row, columns), read_cells(row, attributes)) for line, row in table.rows]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: a NUL byte in the name
        raise DatasetError(f"expected a folder or a CSV of labelled radiographs at {path}: {error}") from None
    if not rows:
        raise DatasetError(f"expected at least one row in {path}, found none")
    parser = _RowParser(path, columns, options.names)
    parsed = [
        replace(record, attributes=tuple(found.items()))
        for line, row, found in rows
        if (record := parser.parse(line, row))
    ]
    records = complete_records(parsed)
    if not records:
        raise DatasetError(
            f"expected rows with the labels of --positive or --negative in {path}, found {parser.describe_others()}"
        )
    root = (options.root or path.parent).absolute()
    return Manifest(root, records, parser.unused(), _describe_mapping(path, table, columns, parser, len(rows)))


def _find_columns(columns: Sequence[str], options: TableOptions, path: Path) -> dict[str, str]:
    """Columns of the table, by the field of a record that they fill."""
    found = {}
    for name, wanted in options.wanted_columns().items():
        column = find_column(columns, USUAL_COLUMNS[name], wanted)
        if column is None and wanted is not None:
            raise DatasetError(
                f"expected the column {wanted!r} in {path}, received {describe_columns(columns)}: check the option"
            )
        if column is not None:
            found[name] = column
    missing = {"path", "label"} - set(found)
    if missing:
        raise DatasetError(
            f"expected the columns path and label in {path}, missing {' and '.join(sorted(missing))}, received "
            f"{describe_columns(columns)}: name them with --path-column and --label-column, or add a header line"
        )
    for name in COLUMNS:
        column = find_column(columns, (simplify(name),))
        if name not in USUAL_COLUMNS and column is not None and column not in found.values():
            found[name] = column
    return found


def _find_attributes(
    columns: Sequence[str], options: TableOptions, path: Path, used: Collection[str]
) -> dict[str, str]:
    """Columns with attributes by the name of the attribute: those that the user names, and the usual ones."""
    found = {name: find_column(columns, usual) for name, usual in ATTRIBUTE_COLUMNS.items()}
    for wanted in options.subgroups:
        if find_column(columns, (), wanted) is None:
            raise DatasetError(
                f"expected the column {wanted!r} in {path}, received {describe_columns(columns)}: check --subgroup"
            )
        if wanted not in found.values():
            found[wanted] = wanted
    return {name: column for name, column in found.items() if column is not None and column not in used}


def _describe_mapping(
    path: Path, table: Table, columns: Mapping[str, str], parser: "_RowParser", rows: int
) -> tuple[str, ...]:
    """What was mapped to what, for people; empty if it is a manifest of ours and nothing was mapped."""
    mapped = {name: column for name, column in columns.items() if name in USUAL_COLUMNS}
    plain = all(name == column for name, column in mapped.items()) and table.delimiter == ","
    if plain and all(value == label for value, label in parser.values) and not parser.others:
        return ()
    names = ", ".join(f"{name} from column {column!r}" for name, column in mapped.items())
    values = ", ".join(f"{count:,} {value!r} as {label}" for (value, label), count in parser.values.most_common())
    return (f"{path}: {rows:,} rows, cells separated by {table.delimiter!r}; {names}", f"labels: {values}")


class _RowParser:
    """Rows of a table -> records; counts the labels."""

    def __init__(self, path: Path, columns: Mapping[str, str], names: ClassNames) -> None:
        self._path, self._columns, self._names = path, columns, names
        self.values: Counter[tuple[str, str]] = Counter()
        self.others: Counter[str] = Counter()

    def parse(self, line: int, row: dict[str, str]) -> Record | None:
        """One record, without what complete_records adds; None for a row with another label."""
        path = self._path
        if "path" not in row:
            raise DatasetError(
                f"expected a path in {path} line {line}, received none: name the image or remove the line"
            )
        value = row.get("label")
        label = self._names.label_of_value(value) if value else None
        if label is None:
            if not self._names.leaves_others_out:
                raise DatasetError(
                    f"expected the label {' or '.join(LABELS)} in {path} line {line}, received {value!r}: say what "
                    "your labels mean with --positive and --negative; with both, rows with other labels are left out"
                )
            self.others[value or ""] += 1
            return None
        self.values[value or "", label] += 1
        size = {column: _parse_count(row, column, path, line) for column in ("bytes", "width", "height")}
        if "ratio" in self._columns:
            ratio = _parse_ratio(row.get("ratio", "0"), path, line)
        else:
            ratio = size["width"] / size["height"] if size["height"] else 0.0
        patient = row.get("patient", "")
        return Record(
            path=row["path"],
            label=label,
            sublabel=row.get("sublabel") or _sublabel(row["path"], value or "", label),
            patient=patient,
            group=row.get("group", ""),
            split=_parse_split(row, path, line),
            sha256=row.get("sha256", ""),
            bytes=size["bytes"],
            width=size["width"],
            height=size["height"],
            ratio=ratio,
            patient_from=(row.get("patient_from") or FROM_COLUMN) if patient else "",
            picture=row.get("picture", ""),
        )

    def describe_others(self) -> str:
        """The labels that were left out, for a message."""
        return ", ".join(f"{count:,} {value!r}" for value, count in self.others.most_common(5)) or "no row"

    def unused(self) -> dict[str, int]:
        """Rows that are not used, by reason."""
        return {f"rows with the label {value!r}": count for value, count in self.others.most_common()}


def sublabel_of_path(path: str) -> str:
    """Bacterial or viral, from the file name or a folder, such as ``PNEUMONIA/bacteria/``; ``""`` if neither says."""
    *folders, name = path.replace("\\", "/").split("/")
    return sublabel_of(name) or next(filter(None, map(sublabel_of_name, reversed(folders))), "")


def _sublabel(path: str, value: str, label: str) -> str:
    return "" if label == NORMAL else sublabel_of_path(path) or sublabel_of_name(value)


def _parse_split(row: dict[str, str], path: Path, line: int) -> str:
    """The official split; a missing one is valid and means NO_SPLIT."""
    text = row.get("split", NO_SPLIT)
    split = {NO_SPLIT: NO_SPLIT, **SPLIT_NAMES}.get(text.casefold())
    if split is None:
        raise DatasetError(
            f"expected the split {' or '.join((*OFFICIAL_SPLITS, NO_SPLIT))} in {path} line {line}, received {text!r}"
        )
    return split


def _parse_count(row: dict[str, str], column: str, path: Path, line: int) -> int:
    text = row.get(column, "0")
    whole = re.fullmatch(r"(\d+)(?:[.,]0+)?", text, re.ASCII)  # pandas writes 1024.0 where some cells are empty
    if not whole:
        raise DatasetError(f"expected a whole number of {column} in {path} line {line}, received {text!r}")
    return int(whole[1])


def _parse_ratio(text: str, path: Path, line: int) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DatasetError(
            f"expected width over height as ratio in {path} line {line}, received {text!r}: give a number, or leave "
            "the field empty if the ratio is unknown"
        )
    return value
