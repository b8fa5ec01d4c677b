"""What the user names -> the images to judge: files, folders, globs, lists in CSV or Parquet, addresses."""

import csv
import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError
from pneumoscope.radiographs.images import SUFFIXES
from pneumoscope.radiographs.remote import is_address, list_address, open_address

#: File endings of lists: tables whose column ``path`` names images.
LISTS = (".csv", ".parquet")

Source = "Path | str | NothingFound"


class NothingFound(UnreadableImage):
    """A folder or pattern without images; keeps the name it was given under."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def expand(
    arguments: Iterable[str], skip: Path | None = None, note: Callable[[str], None] | None = None
) -> Iterator[Source]:
    """Files, folders, globs, lists and addresses -> image files; what matches nothing becomes an error in its place.

    Args:
        arguments: as typed.
        skip: a folder below a given one to leave out: where heatmaps of an earlier call lie.
        note: told in a sentence how many files of other kinds a folder holds.

    Raises:
        UsageError: a list that cannot be read or has no column ``path``.

    >>> list(expand(["no-such-*.png"]))[0].path
    'no-such-*.png'
    """
    for argument in arguments:
        path = Path(argument)
        if not argument:
            yield NothingFound(argument, "expected a file name, received an empty one")
        elif argument.lower().endswith(LISTS) and not os.path.isdir(path):
            yield from _in_list(argument)
        elif is_address(argument):
            yield from _at_address(argument, note)
        elif os.path.isdir(path):  # unlike Path.is_dir, False where the rights to look are missing
            yield from _in_folder(argument, skip, note)
        elif glob.has_magic(argument) and not os.path.exists(path):
            found = [Path(name) for name in sorted(glob.glob(argument, recursive=True)) if not os.path.isdir(name)]
            yield from found or [NothingFound(argument, "expected files that match this pattern, found none")]
        else:
            yield path


def _in_list(argument: str) -> Iterator[Source]:
    """The images that a table names; relative names are relative to the table."""
    base = argument.rpartition("/")[0] if is_address(argument) else Path(argument).parent
    read = _csv_column if argument.lower().endswith(".csv") else _parquet_column
    try:
        with open_address(argument) if is_address(argument) else open(argument, "rb") as file:
            for name in read(file, argument):
                if not name:
                    yield NothingFound(argument, "expected a file name in the column path, received an empty one")
                elif is_address(name):
                    yield name
                else:
                    yield Path(base, name) if isinstance(base, Path) or os.path.isabs(name) else f"{base}/{name}"
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise UsageError(f"expected a list of images at {argument}, the system says {reason}: check the name") from None


def _csv_column(file: io.BufferedIOBase, argument: str) -> Iterator[str]:
    with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as lines:
        rows = csv.DictReader(lines, restval="")
        try:
            _check_columns(rows.fieldnames or (), argument)
            for row in rows:
                yield row["path"]
        except csv.Error as error:
            raise UsageError(f"expected a CSV file at {argument}, line {rows.line_num}: {error}") from None


def _parquet_column(file: io.BufferedIOBase, argument: str) -> Iterator[str | None]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("reading a Parquet list", "parquet", error.name or "pyarrow") from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        _check_columns(table.schema_arrow.names, argument)
        for batch in table.iter_batches(columns=["path"]):
            yield from batch.column(0).cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
        raise UsageError(f"expected a Parquet file with text in its column path at {argument}, it is none") from None


def _check_columns(names: Iterable[str], argument: str) -> None:
    if "path" not in names:
        raise UsageError(
            f"expected a column path in {argument}, received {', '.join(names) or 'no column'}: rename the one that "
            "names the images"
        )


def _at_address(argument: str, note: Callable[[str], None] | None) -> Iterator[Source]:
    """The images below an address, or itself; one that ends like an image is taken for one without asking."""
    is_pattern = "*" in argument or "[" in argument
    if argument.lower().endswith(SUFFIXES) and not is_pattern:
        yield argument
        return
    try:
        names = list_address(argument)
    except UnreadableImage as error:
        yield NothingFound(argument, str(error))
        return
    if names is None:
        yield argument
        return
    names = [name for name in names if not name.rpartition("/")[2].startswith(".")]
    found = names if is_pattern else [name for name in names if name.lower().endswith(SUFFIXES)]
    if note and len(found) < len(names):
        note(_left_out(argument, len(names) - len(found)))
    yield from found or [NothingFound(argument, f"expected {', '.join(SUFFIXES)} files at this address, found none")]


def _in_folder(argument: str, skip: Path | None, note: Callable[[str], None] | None) -> Iterator[Source]:
    """The images of a folder and its folders, sorted, and an error for each folder that cannot be looked into."""
    closed: list[OSError] = []
    found, others = [], 0
    skipped = skip.resolve() if skip is not None and skip.resolve() != Path(argument).resolve() else None
    for folder, folders, names in os.walk(argument, onerror=closed.append):
        folders[:] = [name for name in folders if Path(folder, name).resolve() != skipped]
        names = [name for name in names if not name.startswith(".")]  # macOS leaves ._name.jpeg beside images
        images = [name for name in names if name.lower().endswith(SUFFIXES)]
        others += len(names) - len(images)
        found += [Path(folder, name) for name in images]
    if others and note:
        note(_left_out(argument, others))
    yield from sorted(found)
    for error in closed:
        yield NothingFound(str(error.filename), f"expected a folder to look into, the system says {error.strerror}")
    if not found and not closed:
        yield NothingFound(argument, f"expected {', '.join(SUFFIXES)} files in this folder, found none")


def _left_out(argument: str, others: int) -> str:
    return f"{argument}: left out {others} files that do not end in {', '.join(SUFFIXES)}"
