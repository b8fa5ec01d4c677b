"""What people read on the terminal: a table or JSON lines of results, aligned columns, notes."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from rich.console import Console

    from pneumoscope.inference.prediction import Prediction

_STYLES = {"ok": "", "uncertain": "yellow", "rejected": "magenta", "error": "red"}


class Table:
    """Prints one line for each result as it comes, and a summary at the end. Works on a terminal and in a log file."""

    def __init__(self, console: "Console") -> None:
        self.console = console
        self.counts: Counter[str] = Counter()
        self.uncertain = 0
        self._print(f"{'verdict':<10} {'probability':>11}  {'status':<9}  file", "bold")

    def write(self, prediction: "Prediction") -> None:
        """Print one line."""
        self.counts[prediction.label or prediction.status] += 1
        self.uncertain += prediction.status == "uncertain"
        verdict = prediction.label or "-"
        probability = "-" if prediction.probability is None else f"{prediction.probability:.3f}"
        remarks = f"  ({prediction.remarks})" if prediction.remarks else ""
        style = _STYLES[prediction.status]
        line = f"{verdict:<10} {probability:>11}  {prediction.status:<9}  {prediction.path}{remarks}"
        self._print(printable(line), style)

    def close(self) -> None:
        """Print how many images got each verdict or status."""
        uncertain = f" ({self.uncertain} uncertain)" if self.uncertain else ""
        self._print(f"{format_counts(self.counts)}{uncertain}. {RESEARCH_USE_ONLY}", "bold")

    def _print(self, line: str, style: str) -> None:
        self.console.print(line, style=style or None, soft_wrap=True, markup=False, highlight=False)


class JsonLines:
    """Prints each result as one JSON object on a line of standard output."""

    def write(self, prediction: "Prediction") -> None:
        """Print one object."""
        from pneumoscope.output.results import row_of

        print(json.dumps(row_of(prediction)), flush=True)

    def close(self) -> None:
        """Do nothing: every line is printed already."""


def make_console(stderr: bool = False) -> "Console":
    """A console with colours and bars on a terminal, and plain text elsewhere, whatever FORCE_COLOR says."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream is not None and stream.isatty()
    return Console(stderr=stderr, force_terminal=None if is_terminal else False)


def print_table(title: str, rows: Iterable[Sequence[object]]) -> None:
    """Print rows as aligned columns: the first column to the left, the others to the right."""
    texts = [tuple(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    print(title)
    for first, *others in texts:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip())


def format_counts(counts: Mapping[str, int]) -> str:
    """Counts in words.

    >>> format_counts({"ok": 2, "error": 1})
    '3 images: 1 error, 2 ok'
    """
    total = sum(counts.values())
    parts = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    return f"{total} image{'' if total == 1 else 's'}: {parts or 'none'}"


def echo_stderr(sentence: str) -> None:
    """Print a note for people on standard error, so that standard output holds results only."""
    print(printable(sentence), file=sys.stderr, flush=True)
