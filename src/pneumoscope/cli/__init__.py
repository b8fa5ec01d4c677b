"""The command line: thin calls, one sentence for an error, exit codes 0, 1 and 2.

Heavy modules are imported inside the commands, so that ``--help`` and ``--version`` answer at once.
"""

import signal
import sys
import threading

import typer
import typer.core

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.errors import Interrupted, PneumoscopeError


class _Commands(typer.core.TyperGroup):
    """Ctrl-C becomes one of our errors, before Typer turns it into a silent exit; SIGTERM is taken for it."""

    def invoke(self, context: typer.Context) -> object:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; what was written so far is kept") from None


app = typer.Typer(
    cls=_Commands,
    help=f"Detect pneumonia in chest radiographs, and see where the model looked. {RESEARCH_USE_ONLY}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: it answers in half the time
)

# They register their commands on app, in the order of the help page.
from pneumoscope.cli import screen  # noqa: E402, I001
from pneumoscope.cli import service  # noqa: E402
from pneumoscope.cli import data, learn  # noqa: E402

__all__ = ["app", "data", "learn", "main", "screen", "service"]


def main() -> None:
    """Run the command line; every foreseen error is one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding lacks is shown escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except PneumoscopeError as error:
        print(f"pneumoscope: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a folder that cannot be made, a full disk: the system's own words and the place
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has had enough
            sys.stderr.close()
            sys.exit(1)
        place = f" at {error.filename}" if error.filename else ""
        print(
            f"pneumoscope: expected to read or write a file, the system says {error.strerror}{place}", file=sys.stderr
        )
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"pneumoscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass
