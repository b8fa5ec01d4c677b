"""The command ``evaluate``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.evaluations import evaluate_predictor, evaluation_folder
from pneumoscope.cli.options import ANY_AGE, DATA, MODEL, PREVALENCE, THRESHOLD, open_predictor, with_scope
from pneumoscope.cli.reports import print_report
from pneumoscope.cli.table_options import with_table_options

if TYPE_CHECKING:
    from pneumoscope.data.manifest import TableOptions


@with_table_options
@with_scope
def evaluate(
    data: Path = DATA,
    model: str = MODEL,
    split: str = typer.Option(
        "val",
        help="Images to measure on: val, held out in the training; test, the official test set; or all.",
        metavar="val|test|all",
    ),
    out: Path | None = typer.Option(None, help="Folder for report.json, report.html and figures.", metavar="DIR"),
    threshold: str | None = THRESHOLD,
    prevalence: float | None = PREVALENCE,
    any_age: bool = ANY_AGE,
    errors: int = typer.Option(
        6, min=0, help="Wrong verdicts of each kind on the page, with their evidence; with 0 it has no radiograph."
    ),
    robustness: bool = typer.Option(
        False, "--robustness", help="Measure on radiographs that are changed in 83 ways, too; takes 83 times as long."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
    *,
    table: "TableOptions",
) -> None:
    """Measure a model file, with 95 % intervals."""
    predictor = open_predictor(model, threshold, prevalence, any_age=any_age)
    folder = out or evaluation_folder(predictor, split)
    report = evaluate_predictor(predictor, data, split, folder, table, errors, robustness)
    if as_json:
        print(json.dumps(report))
    else:
        print_report(report, folder)
    raise typer.Exit(1 if report["failed"] else 0)
