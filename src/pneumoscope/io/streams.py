"""Standard error without the words of libraries, which may repeat what a file contains."""

import functools
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pneumoscope.io.names import printable

_STDERR = 2


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide what libraries write to standard error; what this package prints there is still shown.

    libpng, libjpeg and OpenCV write to the file descriptor, and quote what a file contains. Python libraries warn, and
    log; warnings are hidden, and logged errors are shown without control characters. It changes the whole process, so
    it belongs into programs: the command line, the service, a worker of Ray. With PNEUMOSCOPE_SHOW_LIBRARIES=1 it does
    nothing.
    """
    if os.environ.get("PNEUMOSCOPE_SHOW_LIBRARIES") == "1":
        yield
        return
    with warnings.catch_warnings(), _printable_log():
        if not sys.warnoptions:  # the user asks for warnings: python -W, PYTHONWARNINGS
            warnings.simplefilter("ignore")
        with _own_descriptor():
            yield


def occupy_standard_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise the next file that is opened takes its number, and what is printed goes into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest free number


@contextmanager
def _own_descriptor() -> Iterator[None]:
    """Send the file descriptor of standard error to nowhere, and Python's stream to where it went before."""
    previous = sys.stderr
    terminal = os.dup(_STDERR)
    null_device = os.open(os.devnull, os.O_WRONLY)
    own_stream = None
    if _descriptor_of(previous) == _STDERR:  # a test, or a notebook, may have replaced it
        previous.flush()
        own_stream = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding=previous.encoding, errors="backslashreplace")
        sys.stderr = own_stream
    os.dup2(null_device, _STDERR)
    os.close(null_device)
    try:
        yield
    finally:
        os.dup2(terminal, _STDERR)
        os.close(terminal)
        if own_stream is not None:
            sys.stderr = previous
            with suppress(OSError):  # the reader is gone, or the disk is full
                own_stream.close()


def _descriptor_of(stream: object) -> int | None:
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]  # the stream may be None, or anything with write
    except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is both of the last two
        return None


@functools.cache
def silence_library(package: str) -> None:
    """Keep the warnings and the log of a library out of terminals and logs, because they may contain patient data.

    Both filters belong to the whole process, and changing them while threads run is not safe. So they are set once,
    after the import.
    """
    warnings.filterwarnings("ignore", module=package)
    logging.getLogger(package).setLevel(logging.CRITICAL)


class _PrintableFormatter(logging.Formatter):
    """Log records without control characters; the lines of a traceback stay lines."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


@contextmanager
def _printable_log() -> Iterator[None]:
    """Let the log that Python keeps where nothing is set up write printable characters only."""
    handler = logging.lastResort
    before = handler.formatter if handler else None
    if handler:
        handler.setFormatter(_PrintableFormatter())
    try:
        yield
    finally:
        if handler:
            handler.setFormatter(before)
