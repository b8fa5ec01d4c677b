"""Checks of the paths that the user gives, before any work is done."""

import codecs
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pneumoscope.errors import UsageError
from pneumoscope.io.own_files import may_replace


def read_names(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments; ``-`` is replaced by the lines of standard input."""
    for argument in arguments:
        if argument == "-":
            names = _names_on_standard_input()
            if not names:
                raise UsageError("expected file names on standard input, one a line, received none")
            yield from names
        else:
            yield argument


def _names_on_standard_input() -> list[str]:
    """File names on standard input: one a line, or ended by NUL as ``find -print0`` writes them.

    Names are bytes, whatever the encoding of the terminal. The mark that some programs put before UTF-8 is left out;
    text in UTF-16, as PowerShell writes it, is recognised by its mark.
    """
    stream = getattr(sys.stdin, "buffer", sys.stdin)  # None where standard input is closed
    data = stream.read() if stream else b""
    text = data if isinstance(data, str) else _decode_names(data)
    if "\0" in text:
        return [name for name in text.split("\0") if name.strip()]
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _decode_names(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return os.fsdecode(data.removeprefix(codecs.BOM_UTF8))


def check_not_inputs(outputs: Iterable[Path | None], sources: Iterable[object], lists: Iterable[str] = ()) -> None:
    """Check that no input would be overwritten by an output.

    Args:
        outputs: files to write.
        sources: the images.
        lists: what the user typed: lists and archives are inputs as well.

    Raises:
        UsageError: an output is one of the images, lists or archives.
    """
    images = {os.path.realpath(source) for source in sources if isinstance(source, Path)}
    typed = {os.path.realpath(name) for name in lists if "\0" not in name and os.path.isfile(name)}
    for output in outputs:
        if output is None:
            continue
        name = os.path.realpath(output)
        if name in images:
            raise UsageError(f"expected another output than the image {output} itself: name a new file")
        if name in typed or any(_is_same_file(output, path) for path in typed):
            raise UsageError(f"expected another output than the input {output} itself: name a new file")


def check_replaceable(path: Path | None, kind: str) -> None:
    """Check that a file is not there yet, or was written by this program.

    Args:
        path: of the file; None is no file.
        kind: see :func:`pneumoscope.io.own_files.may_replace`.

    Raises:
        UsageError: somebody else's file is there.
    """
    if path is not None and not may_replace(path, kind):
        raise UsageError(
            f"expected a new file, or results of pneumoscope at {path}, found another file: name a new one"
        )


def check_evaluation_folder(folder: Path, names: Iterable[str]) -> None:
    """Check that an evaluation would replace nothing but an earlier evaluation.

    Args:
        folder: of the evaluation.
        names: the files that it writes.

    Raises:
        UsageError: one of the files is there, and the folder has no report of this program.
    """
    report = folder / "report.json"
    if report.is_file() and may_replace(report, "report"):
        return
    for name in names:
        if (folder / name).exists():
            raise UsageError(
                f"expected a new folder, or an evaluation by pneumoscope in {folder}, found another {name} there: name "
                "another folder with --out"
            )


def _is_same_file(first: Path, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


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
