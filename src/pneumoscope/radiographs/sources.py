"""What the user names -> the images to judge: files, folders, patterns, lists in CSV or Parquet, addresses."""

import csv
import glob
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from pneumoscope.errors import MissingExtra, UnreadableImage, UsageError
from pneumoscope.radiographs.folders import (
    NO_REGULAR_FILE,
    describe_counts,
    find_images,
    find_images_in_zip,
    has_no_ending,
    is_litter,
    reason_by_name,
)
from pneumoscope.radiographs.images import SUFFIXES
from pneumoscope.radiographs.remote import is_address, list_address, open_address
from pneumoscope.radiographs.tables import PATH_COLUMNS, describe_columns, find_column, read_table
from pneumoscope.radiographs.zip_files import is_member_address, member_address, split_address

#: Endings of the names of lists: tables with a column that names images.
LIST_SUFFIXES = (".csv", ".tsv", ".parquet")


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
    arguments: Iterable[str],
    skip: Collection[Path] = (),
    note: Callable[[str], None] | None = None,
    *,
    path_column: str | None = None,
    root: Path | None = None,
) -> Iterator[Source]:
    """Files, folders, patterns, lists, zip archives and addresses -> images. What matches nothing becomes an error.

    Args:
        arguments: as typed on the command line.
        skip: folders to leave out where they lie below a given one, such as the heatmaps of an earlier call.
        note: called with a sentence that says how many files were left out and why, or how a list was understood.
        path_column: column of a list that names the images; one of the usual names by default.
        root: folder that the names in a list begin at; the folder of the list by default.

    Yields:
        Images, in the order of the arguments; those of a folder are sorted.

    Raises:
        UsageError: a list that cannot be read or has no column of names.

    >>> list(expand(["no-such-*.png"]))[0].path
    'no-such-*.png'
    """
    note = note or (lambda sentence: None)
    for argument in arguments:
        path = Path(argument)
        name = argument.lower()
        if not argument:
            yield NothingFound(argument, "expected a file name, received an empty one")
        elif is_member_address(argument):
            yield argument
        elif name.endswith(LIST_SUFFIXES) and not os.path.isdir(path):
            yield from _expand_list(argument, note, path_column, root)
        elif is_address(argument):
            yield from _expand_address(argument, note)
        elif os.path.isdir(path):  # unlike Path.is_dir, False if the rights are missing
            yield from _expand_folder(argument, skip, note)
        elif name.endswith(".zip") and os.path.isfile(path):
            yield from _expand_zip(argument, note)
        elif glob.has_magic(argument) and not os.path.exists(path):
            yield from _expand_pattern(argument, note)
        else:
            yield path


def stem_of(source: Source) -> str:
    """File name of an image without folders and ending, for names of files made from it.

    >>> stem_of(Path("a/chest.png")), stem_of("zip://A/IM000001::export.zip"), stem_of(Path("1.2.840.5"))
    ('chest', 'IM000001', '1.2.840.5')
    """
    text = split_address(source)[0] if is_member_address(source) else str(source)
    name = Path(text).name
    return name if has_no_ending(name) else Path(name).stem


def _expand_list(
    argument: str, note: Callable[[str], None], path_column: str | None, root: Path | None
) -> Iterator[Source]:
    """The images that a table names. Relative names are relative to the table, or to the root."""
    base: Path | str = Path(argument).parent
    if root is not None:
        base = root
    elif is_address(argument):
        base = argument.rpartition("/")[0]
    read_names: Callable[[IO[bytes], str, Callable[[str], None], str | None], Iterator[str | None]]
    read_names = _parquet_names if argument.lower().endswith(".parquet") else _csv_names
    rows = 0
    try:
        with open_address(argument) if is_address(argument) else open(argument, "rb") as file:
            for name in read_names(file, argument, note, path_column):
                rows += 1
                if not name:
                    yield NothingFound(argument, "expected a file name in the list, received an empty one")
                elif is_address(name):
                    yield name
                else:
                    yield Path(base, name) if isinstance(base, Path) or os.path.isabs(name) else f"{base}/{name}"
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise UsageError(f"expected a list of images at {argument}, the system says {reason}: check the name") from None
    if not rows:
        yield NothingFound(argument, "expected file names below the header of this list, found none")


def _csv_names(file: IO[bytes], argument: str, note: Callable[[str], None], path_column: str | None) -> Iterator[str]:
    line = 1
    try:
        table = read_table(file)
        column = _find_path_column(table.columns, argument, path_column)
        if column != "path" or table.delimiter != ",":
            note(f"{argument}: file names from the column {column!r}, cells separated by {table.delimiter!r}")
        for number, row in table.rows:
            line = number  # for the message
            yield row[column].strip("\r\n")
    except csv.Error as error:
        raise UsageError(f"expected a CSV file at {argument}, after line {line}: {error}") from None


def _parquet_names(
    file: IO[bytes], argument: str, note: Callable[[str], None], path_column: str | None
) -> Iterator[str | None]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("reading a Parquet list", "parquet", error.name or "pyarrow") from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        column = _find_path_column(table.schema_arrow.names, argument, path_column)
        if column != "path":
            note(f"{argument}: file names from the column {column!r}")
        for batch in table.iter_batches(columns=[column]):
            yield from batch.column(0).cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
        raise UsageError(f"expected a Parquet file with text in its column path at {argument}, it is none") from None


def _find_path_column(names: Iterable[str], argument: str, wanted: str | None) -> str:
    columns = list(names)
    column = find_column(columns, PATH_COLUMNS, wanted)
    if column is None:
        expected = "a column path" if wanted is None else f"the column {wanted!r}"
        raise UsageError(
            f"expected {expected} in {argument}, received {describe_columns(columns)}: name the one that names the "
            "images with --path-column"
        )
    return column


def _expand_address(argument: str, note: Callable[[str], None]) -> Iterator[Source]:
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
    left_out: Counter[str] = Counter()
    images = []
    for name in names:
        reason = reason_by_name(name.rpartition("/")[2])
        if is_pattern and not is_litter(name.rpartition("/")[2]):
            reason = ""
        if reason == "":
            images.append(name)
        else:
            left_out["files without an ending" if reason is None else reason] += 1
    _note_left_out(argument, left_out, note)
    yield from images
    if not images:
        yield NothingFound(argument, "expected images at this address, found none" + _in_brackets(left_out))


def _expand_folder(argument: str, skip: Collection[Path], note: Callable[[str], None]) -> Iterator[Source]:
    """The images in a folder and its subfolders, sorted, then an error for each folder that cannot be listed."""
    content = find_images(argument, skip)
    _note_left_out(argument, content.left_out, note)
    yield from content.images
    for error in content.failures:
        yield NothingFound(str(error.filename), f"expected to look into this, the system says {error.strerror}")
    if not content.images and not content.failures:
        yield NothingFound(argument, "expected images in this folder, found none" + _in_brackets(content.left_out))


def _expand_zip(argument: str, note: Callable[[str], None]) -> Iterator[Source]:
    """The images in a zip archive, sorted; an error for each one that is refused."""
    try:
        members, left_out = find_images_in_zip(Path(argument))
    except UnreadableImage as error:
        yield NothingFound(argument, str(error))
        return
    _note_left_out(argument, left_out, note)
    for member, problem in members:
        address = member_address(argument, member)
        yield NothingFound(address, problem) if problem else address
    if not members:
        yield NothingFound(argument, "expected images in this archive, found none" + _in_brackets(left_out))


def _expand_pattern(argument: str, note: Callable[[str], None]) -> Iterator[Source]:
    """The files that match a pattern, sorted."""
    images = []
    left_out: Counter[str] = Counter()
    for name in sorted(glob.glob(argument, recursive=True)):
        if os.path.isdir(name):
            continue
        if not os.path.isfile(name) and os.path.exists(name):
            left_out[NO_REGULAR_FILE] += 1
        else:
            images.append(Path(name))
    _note_left_out(argument, left_out, note)
    yield from images
    if not images:
        yield NothingFound(argument, "expected files that match this pattern, found none" + _in_brackets(left_out))


def _note_left_out(argument: str, left_out: Counter[str], note: Callable[[str], None]) -> None:
    if left_out:
        note(f"{argument}: left out {describe_counts(left_out)}")


def _in_brackets(left_out: Counter[str]) -> str:
    return f" ({describe_counts(left_out)})" if left_out else ""
