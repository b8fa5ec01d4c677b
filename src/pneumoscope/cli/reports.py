"""Reports of evaluations and cross-validations: tables on the terminal, figures and a page on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumoscope.cli.console import echo_stderr, print_table
from pneumoscope.errors import MissingExtra


def print_report(report: dict[str, Any], folder: Path) -> None:
    """Print the metrics of an evaluation, and where its page is."""
    from pneumoscope.evaluation.report import render_table
    from pneumoscope.inference.bundle import scope_of

    data = report["data"]
    title = f"{report['model']['name']} on {data['images']} images of {data['patients']} patients ({data['split']})"
    if scope := scope_of(report["model"]["name"]):
        print(scope)
    print_table(title, render_table(report))
    print(f"patients: {data['patients_from']}")
    for sentence in data["warnings"]:
        echo_stderr(f"warning: {sentence}")
    for failed in report["failed"]:
        echo_stderr(f"not judged, left out of all figures: {failed['path']}: {failed['reason']}")
    print(f"report {folder / 'report.html'}")


def write_report_page(
    report: dict[str, Any],
    predictions: Sequence[dict[str, Any]],
    folder: Path,
    history: list[dict[str, float]] | None,
    errors: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Draw the figures and write the page ``report.html``; without the drawing packages the page has no figures.

    Args:
        report, predictions: of the evaluation in the folder, see :func:`pneumoscope.evaluation.read_report`.
        folder: where the page goes.
        history: rows of the training's epochs; None for no curves.
        errors: caption and JPEG bytes of wrong verdicts.
    """
    from pneumoscope.evaluation.figures import draw_figures
    from pneumoscope.evaluation.report import report_html

    try:
        figures = draw_figures(report, predictions, folder, history=history)
    except MissingExtra as error:
        echo_stderr(f"no figures: {error}")
        figures = []
    report_html(report, figures, folder / "report.html", errors)


def print_pooled(name: str, pooled: Mapping[str, Any]) -> None:
    """Print the metrics of a recipe's folds, before and after calibration."""
    metrics = ("accuracy", "roc_auc", "sensitivity", "specificity", "brier", "ece")
    rows = [
        (metric, *(f"{pooled[side][metric]['value']:.4f}" for side in ("metrics", "calibrated"))) for metric in metrics
    ]
    held_out = pooled["held_out"]
    title = f"{name}, {held_out['images']} images of {held_out['patients']} patients, "
    title += "each judged by the fold that was not trained on it"
    print_table(title, [("", "as trained", "calibrated"), *rows])


def echo_fold(row: Mapping[str, Any]) -> None:
    """Print one line for a finished run of a cross-validation."""
    metrics = "  ".join(f"{name} {row['metrics'][name]['value']:.4f}" for name in ("accuracy", "roc_auc"))
    areas: Sequence[float] = [shift["roc_auc"] for shift in row["shifts"].values()]
    echo_stderr(f"{row['run']}: {metrics}  AUC over shifts {sum(areas) / len(areas):.4f}{_style_figures(row['style'])}")


def _style_figures(style: Mapping[str, Any] | None) -> str:
    """The AUC of each measurement of the style that was made."""
    parts = []
    for name, figures in (style or {}).items():
        if figures:
            area = figures["roc_auc"]
            parts.append(f"  {name} {area['value'] if isinstance(area, dict) else area:.4f}")
    return "".join(parts)
