"""Rows -> CSV text that other programs read, with texts as :func:`pneumoscope.io.names.encode_cell` writes them."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from pneumoscope.io.names import encode_cell


def csv_bytes(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> bytes:
    """A table as CSV in UTF-8, with a header. None becomes an empty cell, a float keeps all its digits.

    Raises:
        ValueError: a row has a key that is not among the columns.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _encode(value) for key, value in row.items()})
    return text.getvalue().encode()


def csv_line(cells: Iterable[object]) -> str:
    """One line of such a table, with its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_encode, cells))
    return text.getvalue()


def _encode(value: object) -> object:
    return encode_cell(value) if isinstance(value, str) else value
