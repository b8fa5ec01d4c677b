"""What the user names -> the images to judge: files, folders, patterns, lists in CSV or Parquet, addresses."""

import csv
import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError
from pneumoscope.radiographs.images import SUFFIXES
from pneumoscope.radiographs.remote import is_address, list_address, open_address

#: Endings of the names of lists: tables whose column ``path`` names images.
LIST_SUFFIXES = (".csv", ".parquet")


class NothingFound(UnreadableImage):
    """A folder or pattern without images.

    Attributes:
        path: the name that the user gave.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


#: One image: a path, an address, or the error to report in its place.
Source = Path | str | NothingFound


def expand(
    arguments: Iterable[str], skip: Path | None = None, note: Callable[[str], None] | None = None
) -> Iterator[Source]:
    """Files, folders, patterns, lists and addresses -> images. An argument that matches nothing becomes an error.

    Args:
        arguments: as typed on the command line.
        skip: a folder to leave out when it lies below a given one, such as the heatmaps of an earlier call.
        note: called with a sentence that says how many files of other types a folder contains.

    Yields:
        Images, in the order of the arguments; those of a folder are sorted.

    Raises:
        UsageError: a list that cannot be read or has no column ``path``.

    >>> list(expand(["no-such-*.png"]))[0].path
    'no-such-*.png'
    """
    for argument in arguments:
        path = Path(argument)
        if not argument:
            yield NothingFound(argument, "expected a file name, received an empty one")
        elif argument.lower().endswith(LIST_SUFFIXES) and not os.path.isdir(path):
            yield from _expand_list(argument)
        elif is_address(argument):
            yield from _expand_address(argument, note)
        elif os.path.isdir(path):  # unlike Path.is_dir, False if the rights are missing
            yield from _expand_folder(argument, skip, note)
        elif glob.has_magic(argument) and not os.path.exists(path):
            yield from _expand_pattern(argument)
        else:
            yield path


def _expand_list(argument: str) -> Iterator[Source]:
    """The images that a table names. Relative names are relative to the table."""
    base = argument.rpartition("/")[0] if is_address(argument) else Path(argument).parent
    read_names: Callable[[IO[bytes], str], Iterator[str | None]]
    read_names = _csv_names if argument.lower().endswith(".csv") else _parquet_names
    try:
        with open_address(argument) if is_address(argument) else open(argument, "rb") as file:
            for name in read_names(file, argument):
                if not name:
                    yield NothingFound(argument, "expected a file name in the column path, received an empty one")
                elif is_address(name):
                    yield name
                else:
                    yield Path(base, name) if isinstance(base, Path) or os.path.isabs(name) else f"{base}/{name}"
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise UsageError(f"expected a list of images at {argument}, the system says {reason}: check the name") from None


def _csv_names(file: IO[bytes], argument: str) -> Iterator[str]:
    with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as lines:
        rows = csv.DictReader(lines, restval="")
        try:
            _check_columns(rows.fieldnames or (), argument)
            for row in rows:
                yield row["path"]
        except csv.Error as error:
            raise UsageError(f"expected a CSV file at {argument}, line {rows.line_num}: {error}") from None


def _parquet_names(file: IO[bytes], argument: str) -> Iterator[str | None]:
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


def _expand_address(argument: str, note: Callable[[str], None] | None) -> Iterator[Source]:
    """The images below an address. One that ends like an image file is not looked up: it is yielded as it is."""
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
    images = names if is_pattern else [name for name in names if name.lower().endswith(SUFFIXES)]
    if note and len(images) < len(names):
        note(_left_out(argument, len(names) - len(images)))
    yield from images
    if not images:
        yield NothingFound(argument, f"expected {', '.join(SUFFIXES)} files at this address, found none")


def _expand_folder(argument: str, skip: Path | None, note: Callable[[str], None] | None) -> Iterator[Source]:
    """The images in a folder and its subfolders, sorted, then an error for each folder that cannot be listed."""
    failures: list[OSError] = []
    images: list[Path] = []
    other_files = 0
    skipped = skip.resolve() if skip is not None and skip.resolve() != Path(argument).resolve() else None
    for folder, subfolders, names in os.walk(argument, onerror=failures.append):
        subfolders[:] = [name for name in subfolders if Path(folder, name).resolve() != skipped]
        names = [name for name in names if not name.startswith(".")]  # macOS puts ._name.jpeg beside images
        image_names = [name for name in names if name.lower().endswith(SUFFIXES)]
        other_files += len(names) - len(image_names)
        images += [Path(folder, name) for name in image_names]
    if other_files and note:
        note(_left_out(argument, other_files))
    yield from sorted(images)
    for error in failures:
        yield NothingFound(str(error.filename), f"expected a folder to look into, the system says {error.strerror}")
    if not images and not failures:
        yield NothingFound(argument, f"expected {', '.join(SUFFIXES)} files in this folder, found none")


def _left_out(argument: str, count: int) -> str:
    return f"{argument}: left out {count} files that do not end in {', '.join(SUFFIXES)}"


def _expand_pattern(argument: str) -> Iterator[Source]:
    """The files that match a pattern, sorted."""
    images = [Path(name) for name in sorted(glob.glob(argument, recursive=True)) if not os.path.isdir(name)]
    yield from images
    if not images:
        yield NothingFound(argument, "expected files that match this pattern, found none")
