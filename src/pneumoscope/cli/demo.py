"""The command ``demo``: judge the bundled radiographs."""

from pathlib import Path

import typer

from pneumoscope.cli.image_files import HEATMAP
from pneumoscope.cli.options import MODEL
from pneumoscope.cli.screening import screen


def demo(
    out: Path = typer.Option(Path("demo"), help="Folder for the overlays and the page.", metavar="DIR"),
    model: str = MODEL,
) -> None:
    """Judge the bundled radiographs and write a page.

    Writes overlays, a CSV and an HTML contact sheet.
    """
    from pneumoscope.inference.predict import load
    from pneumoscope.output import CsvFile
    from pneumoscope.samples import sample_paths

    page, heatmaps, predictor = out / "index.html", out / "heatmaps", load(model)
    table = CsvFile(out / "predictions.csv", predictor, resume=False)
    table.begin()
    complete = screen(predictor, sample_paths(), [table], folders={HEATMAP: heatmaps}, html=page)
    print(f"Contact sheet: {page.absolute()}")
    print(f"Heatmaps:      {heatmaps.absolute()}")
    raise typer.Exit(0 if complete else 1)
