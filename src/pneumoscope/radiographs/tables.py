"""Tables in text files as people have them: any usual delimiter, encoding and name of a column."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from pneumoscope.errors import UsageError

#: Largest size of a list in bytes: some million rows.
MAX_TABLE_BYTES = 500_000_000
#: Usual names of the column with the file names, the most telling first, as :func:`simplify` writes them.
PATH_COLUMNS = (
    "path", "imagepath", "filepath", "imgpath", "dicompath", "filename", "file", "imagefile", "imagename",
    "xrayimagename", "image", "img", "imageindex", "imageid",
)  # fmt: skip
_DELIMITERS = ",;\t|"
_SURROGATES = "surrogateescape"  # a file name that is not UTF-8 keeps its bytes


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: names in the header, without surrounding space.
        delimiter: between cells.
        rows: (line number, cells by column) of each row that is not empty; ``csv.Error`` for a broken line.
    """

    columns: tuple[str, ...]
    delimiter: str
    rows: Iterator[tuple[int, dict[str, str]]]


def read_table(file: IO[bytes], usual: Iterable[str] = PATH_COLUMNS) -> Table:
    """Read a CSV file.

    Encoding: UTF-8, or UTF-16 if it begins with the mark of UTF-16. Delimiter: comma, semicolon, tab or ``|``: the one
    that gives most of the ``usual`` columns, then most columns. A first line like ``sep=;`` names it.

    Raises:
        UsageError: more than :data:`MAX_TABLE_BYTES`.
    """
    data = file.read(MAX_TABLE_BYTES + 1)
    if len(data) > MAX_TABLE_BYTES:
        raise UsageError(f"expected a table of at most {MAX_TABLE_BYTES // 10**6} MB, received more: split it")
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = data.decode("utf-16", "replace") if utf16 else data.decode("utf-8-sig", _SURROGATES)
    lines = io.StringIO(text, newline="")
    header = lines.readline()
    if named := re.match(r'"?sep=(.)"?[\r\n]', header):
        delimiter = named[1]
        skipped = 1
    else:
        delimiter, skipped = _find_delimiter(header, frozenset(usual)), 0
        lines.seek(0)
    reader = csv.reader(lines, delimiter=delimiter)
    columns = tuple(name.strip() for name in next(reader, []))
    return Table(columns, delimiter, _rows(reader, columns, skipped))


def find_column(columns: Sequence[str], usual: Iterable[str], wanted: str | None = None) -> str | None:
    """The column that the user names, or the first with a usual name; None if there is none.

    >>> find_column(["Image Index", "Finding Labels"], PATH_COLUMNS)
    'Image Index'
    """
    if wanted is not None:
        same = [name for name in columns if name == wanted.strip()]
        return next(iter(same or [name for name in columns if name.casefold() == wanted.strip().casefold()]), None)
    by_name: dict[str, str] = {}
    for name in columns:
        by_name.setdefault(simplify(name), name)
    return next((by_name[name] for name in usual if name in by_name), None)


def simplify(name: str) -> str:
    """The name of a column in small letters, without spaces, ``_``, ``-`` and dots.

    >>> simplify("Image_Path ")
    'imagepath'
    """
    return re.sub(r"[\s_.\-]+", "", name.casefold())


def describe_columns(columns: Iterable[str]) -> str:
    """The names of columns for a message; characters that control a terminal are escaped."""
    names = [name if name.isprintable() else repr(name) for name in columns]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "no column"


def _find_delimiter(header: str, usual: frozenset[str]) -> str:
    def score(delimiter: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return sum(simplify(cell) in usual for cell in cells), len(cells)

    return max(_DELIMITERS, key=score)


def _rows(reader: "Iterator[list[str]]", columns: Sequence[str], skipped: int) -> Iterator[tuple[int, dict[str, str]]]:
    for cells in reader:
        if cells:
            line: int = reader.line_num  # type: ignore[attr-defined]  # of csv.reader, whose type has no public name
            yield line + skipped, dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))], strict=False))
