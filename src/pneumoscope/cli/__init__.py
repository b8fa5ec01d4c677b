"""The command line.

In: the words that the user types. Out: results on standard output and in files, notes on standard error.
Read first: ``predict.py``. Each file holds one command, or a few related ones.
Modules that take long to load are imported inside the commands, so that ``--help`` and ``--version`` answer at once.
"""

import io
import os
import signal
import sys
import threading
from typing import Any

import typer
import typer.core

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.cli import (
    compare,
    crossval,
    data,
    deidentify,
    demo,
    evaluate,
    explain,
    export,
    models,
    node,
    predict,
    serve,
    train,
)
from pneumoscope.cli.console import echo_stderr
from pneumoscope.errors import Interrupted, PneumoscopeError
from pneumoscope.io.streams import occupy_standard_streams, quiet_libraries

__all__ = ["app", "main"]


class _Commands(typer.core.TyperGroup):
    """Turns Ctrl-C and SIGTERM into one of our errors; Typer alone would exit without a message."""

    def invoke(self, ctx: Any) -> Any:  # Any: Typer brings its own copy of Click, or uses the installed one
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; what was written so far is kept") from None


app = typer.Typer(
    cls=_Commands,
    help=f"Detect pneumonia in chest radiographs, and see where the model looked. {RESEARCH_USE_ONLY}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs half the time
)

# In the order of the help page.
for _command in (
    predict.predict,
    explain.explain,
    demo.demo,
    models.models,
    serve.serve,
    train.train,
    crossval.crossval,
    export.export,
    evaluate.evaluate,
    compare.compare,
    deidentify.deidentify,
):
    app.command()(_command)
app.add_typer(data.data_app, name="data")
app.add_typer(node.node_app, name="node")


def main() -> None:
    """Run the command line. Each expected error is one sentence on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that the terminal cannot show are escaped
            stream.reconfigure(errors="backslashreplace")
    occupy_standard_streams()
    with quiet_libraries():
        _run()


def _run() -> None:
    try:
        app()
    except PneumoscopeError as error:
        echo_stderr(f"pneumoscope: {error}")
        sys.exit(error.exit_code)
    except OSError as error:  # such as a full disk: the system's own words, and the file
        if isinstance(error, BrokenPipeError):  # the reader, such as head or less, wants no more
            _drop_output()
            sys.exit(1)
        place = f" at {error.filename}" if error.filename else ""
        echo_stderr(f"pneumoscope: expected to read or write a file, the system says {error.strerror}{place}")
        sys.exit(1)


def _drop_output() -> None:
    """Send what is still to be written to a pipe without a reader to nowhere; Python would complain at its end."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 1)
    os.close(null_device)
    sys.stderr.close()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pneumoscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass
