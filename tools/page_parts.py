"""Pieces of a generated Markdown page: paragraphs, list items, tables, estimates with their interval."""

import textwrap

WIDTH = 120  # columns, as in the pages written by hand


def paragraph(*sentences: str, indent: str = "") -> list[str]:
    """Sentences as one paragraph, wrapped, with an empty line after it."""
    return [*_wrap(" ".join(sentences), "", indent), ""]


def item(*sentences: str) -> list[str]:
    """Sentences as one item of a list, wrapped."""
    return _wrap(" ".join(sentences), "- ", "  ")


def _wrap(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(head: list, rows: list) -> list[str]:
    """A table with an empty line after it.

    >>> table(["a", "b"], [[1, 2]])
    ['| a | b |', '|---|---|', '| 1 | 2 |', '']
    """
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:], ""]


def interval(estimate: dict) -> str:
    """An estimate with its 95 % interval."""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
