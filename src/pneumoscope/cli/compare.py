"""The command ``compare``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.console import print_table
from pneumoscope.cli.evaluations import evaluate_predictor, evaluation_folder
from pneumoscope.cli.table_options import with_table_options
from pneumoscope.errors import UsageError

if TYPE_CHECKING:
    from pneumoscope.data.manifest import TableOptions


@with_table_options
def compare(
    models: list[str] = typer.Argument(help="Two or more report folders, or models with --data.", metavar="A B..."),
    data: Path | None = typer.Option(None, "--data", help="Evaluate the models on this data first.", metavar="DIR|CSV"),
    split: str = typer.Option("val", metavar="val|test|all", help="The same as for evaluate."),
    as_json: bool = typer.Option(False, "--json", help="Print the comparison as JSON."),
    *,
    table: "TableOptions",
) -> None:
    """Compare models side by side.

    If the models were measured on the same images, the paired differences are added.
    """
    from pneumoscope.evaluation import compare_reports, read_report
    from pneumoscope.evaluation.report import render_comparison

    if len(models) < 2:
        raise UsageError(f"expected two or more models to compare, received {len(models)}")
    folders = _evaluate_models(models, data, split, table) if data else _report_folders(models)
    reports, predictions = zip(*(read_report(folder) for folder in folders), strict=True)
    comparison = compare_reports(list(reports), list(predictions))
    if as_json:
        print(json.dumps(comparison))
    else:
        for title, rows in render_comparison(comparison):
            print_table(title, rows)


def _evaluate_models(models: list[str], data: Path, split: str, table: "TableOptions") -> list[Path]:
    """The folders of the evaluations that this makes."""
    from pneumoscope.inference.predict import load

    predictors = [load(model) for model in models]
    folders = [evaluation_folder(predictor, split) for predictor in predictors]
    for predictor, folder in zip(predictors, folders, strict=True):
        evaluate_predictor(predictor, data, split, folder, table)
    return folders


def _report_folders(models: list[str]) -> list[Path]:
    from pneumoscope.inference.bundle import shipped_models

    if any(model in shipped_models() or model.endswith(".onnx") for model in models):
        raise UsageError("expected evaluation folders, received a model: add --data DIR to evaluate the models first")
    return [Path(model) for model in models]
