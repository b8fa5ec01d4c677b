"""The command ``export``."""

from pathlib import Path

import typer

from pneumoscope.cli.options import DATA
from pneumoscope.cli.releases import release_and_print


def export(
    run: Path = typer.Argument(help="A finished run folder.", metavar="RUN"),
    data: Path = DATA,
) -> None:
    """Write a finished run as one ONNX file again.

    The file is measured on the held-out images of the run, and contains the figures.
    """
    from pneumoscope.training.runs import open_finished_run

    release_and_print(open_finished_run(run), data)
