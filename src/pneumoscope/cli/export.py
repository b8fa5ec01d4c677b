"""The command ``export``."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.datasets import read_data
from pneumoscope.cli.options import DATA
from pneumoscope.cli.progress import progress_bar
from pneumoscope.cli.releases import release_and_print
from pneumoscope.cli.table_options import with_table_options

if TYPE_CHECKING:
    from pneumoscope.data.manifest import TableOptions


@with_table_options
def export(
    run: Path = typer.Argument(help="A finished run folder.", metavar="RUN"),
    data: Path = DATA,
    *,
    table: "TableOptions",
) -> None:
    """Write a finished run as one ONNX file again.

    The file is measured on the held-out images of the run, and contains the figures.
    """
    from pneumoscope.training.runs import open_finished_run

    finished = open_finished_run(run)
    with progress_bar() as show_progress:
        manifest = read_data(data, show_progress, table)
    release_and_print(finished, manifest)
