"""Finished run -> exported model file, its evaluation and the figures on the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.progress import progress_bar
from pneumoscope.cli.reports import print_pooled, print_report, write_report_page

if TYPE_CHECKING:
    from pneumoscope.data.manifest import Manifest
    from pneumoscope.training.runs import Run


def release_and_print(run: "Run", data: "Path | Manifest") -> None:
    """Export a run, evaluate the file, and print its metrics."""
    from pneumoscope.evaluation import read_report
    from pneumoscope.training.release import release

    pooled = None if run.split.val else _read_pooled(run)
    with progress_bar() as show_progress:
        report = release(run, data, show_progress, pooled)
    print(f"model  {run.folder / 'model.onnx'}")
    if report is None:
        if pooled:
            print_pooled(run.recipe.name, pooled)
        return
    folder = run.folder / "evaluation-val"
    write_report_page(report, read_report(folder)[1], folder, run.history)
    print_report(report, folder)


def _read_pooled(run: "Run") -> dict[str, Any] | None:
    """Metrics and calibration of the recipe's folds, for a run that was trained on every image."""
    from pneumoscope.training.fold_average import pooled_results

    pooled = pooled_results(run)
    if pooled is None:
        echo_stderr(
            f"note: trained on every image, without calibration or figures: run  pneumoscope crossval --recipe "
            f"{run.recipe.name}  first and  pneumoscope export  again"
        )
    return pooled
