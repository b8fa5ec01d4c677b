"""How results reach the terminal: a table, JSON lines, progress."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pneumoscope import RESEARCH_USE_ONLY

_STYLES = {"ok": "", "uncertain": "yellow", "rejected": "magenta", "error": "red"}


class Table:
    """One line a result as it comes, and a summary: readable on a terminal and in a log."""

    def __init__(self, console) -> None:
        self.console = console
        self.count: Counter = Counter()
        self.uncertain = 0
        self._print(f"{'verdict':<10} {'probability':>11}  {'status':<9}  file", "bold")

    def write(self, prediction) -> None:
        """Print one line."""
        self.count[prediction.label or prediction.status] += 1
        self.uncertain += prediction.status == "uncertain"
        verdict = prediction.label or "-"
        share = "-" if prediction.probability is None else f"{prediction.probability:.3f}"
        reason = f"  ({prediction.reason})" if prediction.reason else ""
        path = printable(prediction.path)
        style = _STYLES[prediction.status]
        self._print(f"{verdict:<10} {share:>11}  {prediction.status:<9}  {path}{reason}", style)

    def close(self) -> None:
        """Print how many of each."""
        unsure = f" ({self.uncertain} uncertain)" if self.uncertain else ""
        self._print(f"{format_counts(self.count)}{unsure}. {RESEARCH_USE_ONLY}", "bold")

    def _print(self, line: str, style: str) -> None:
        self.console.print(line, style=style or None, soft_wrap=True, markup=False, highlight=False)


class JsonLines:
    """One JSON object a line on standard output."""

    def write(self, prediction) -> None:
        """Print one object."""
        print(json.dumps(prediction.to_dict()), flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


@contextmanager
def progress_bar(console=None):
    """A bar on standard error where that is a terminal; yields ``show(items, total, what)``.

    ``show`` passes the items through and moves the bar.
    """
    from rich.console import Console

    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda items, total=None, what="": items
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip

    def show(items: Iterable, total: int | None = None, what: str = "") -> Iterator:
        if total is None and hasattr(items, "__len__"):
            total = len(items)
        # One bar at a time, gone when its work is done: what follows may draw its own.
        # Standard output stays as it is: it may be a file full of JSON while the bar is on the terminal.
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
            yield from progress.track(items, total=total, description=what)

    yield show


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """What libraries write to standard error past Python goes nowhere for a while; our own sentences still arrive."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    ours, sys.stderr = sys.stderr, os.fdopen(kept, "w", buffering=1, errors="backslashreplace")
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        sys.stderr.close()
        sys.stderr = ours


def format_counts(count: dict[str, int]) -> str:
    """How many of each, in words.

    >>> counted({"ok": 2, "error": 1})
    '3 images: 1 error, 2 ok'
    """
    total = sum(count.values())
    parts = ", ".join(f"{number} {name}" for name, number in sorted(count.items()))
    return f"{total} image{'' if total == 1 else 's'}: {parts or 'none'}"


def printable(name: str) -> str:
    """A file name without what would steer a terminal or break a line."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)


def print_table(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows as aligned columns, the first one left, the others right."""
    rows = [tuple(map(str, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    print(title)
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip())


def echo_stderr(sentence: str) -> None:
    """A note for people, on standard error, so that standard output stays for results."""
    print(sentence, file=sys.stderr, flush=True)
