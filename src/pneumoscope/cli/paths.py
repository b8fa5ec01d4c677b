"""Checks of the paths that the user gives, before any work is done."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pneumoscope.errors import UsageError


def read_names(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments; ``-`` is replaced by the lines of standard input."""
    for argument in arguments:
        if argument == "-":
            stream = getattr(sys.stdin, "buffer", sys.stdin) or ()  # None where standard input is closed
            lines = (os.fsdecode(line) for line in stream)  # file names are bytes, whatever the terminal's encoding
            names = [line.rstrip("\r\n") for line in lines if line.strip()]
            if not names:
                raise UsageError("expected file names on standard input, one a line, received none")
            yield from names
        else:
            yield argument


def check_not_inputs(outputs: Iterable[Path | None], sources: Iterable[object]) -> None:
    """Check that no image would be overwritten by an output.

    Raises:
        UsageError: an output is one of the images.
    """
    images = {source.resolve() for source in sources if isinstance(source, Path)}
    for output in outputs:
        if output is not None and output.resolve() in images:
            raise UsageError(f"expected another output than the image {output} itself: name a new file")


def make_folder(folder: Path | None) -> None:
    """Make a folder, and check that files can be written to it; None is no folder.

    Raises:
        UsageError: it cannot be made or written.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"expected a folder to write to at {folder}: {error.strerror}") from None
