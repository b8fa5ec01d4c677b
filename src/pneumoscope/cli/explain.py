"""The command ``explain``: heatmap overlays, without other results."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.image_files import UniqueNames
from pneumoscope.cli.options import ANY_AGE, MODEL, PREVALENCE, THRESHOLD, open_predictor
from pneumoscope.cli.paths import check_not_inputs, check_replaceable, read_names
from pneumoscope.errors import ImageError, UsageError

if TYPE_CHECKING:
    from pneumoscope.inference.explain import Explanation
    from pneumoscope.inference.predict import Predictor
    from pneumoscope.radiographs.sources import Source


def explain(
    images: list[str] = typer.Argument(help="One or more radiographs.", metavar="IMAGE..."),
    out: Path = typer.Option(
        ..., help="Overlay file (.png or .jpg) for one image; a folder for several.", metavar="FILE|DIR"
    ),
    label: str | None = typer.Option(
        None, "--class", help="Class to explain: NORMAL or PNEUMONIA; the predicted one by default."
    ),
    model: str = MODEL,
    threshold: str | None = THRESHOLD,
    prevalence: float | None = PREVALENCE,
    any_age: bool = ANY_AGE,
) -> None:
    """Draw where the model looked.

    Uses Grad-CAM, or occlusion sensitivity for models without a feature map.
    """
    from pneumoscope.output.overlay import write_overlay
    from pneumoscope.radiographs.sources import expand

    names = list(read_names(images))
    sources = list(expand(names, note=echo_stderr))
    check_not_inputs([out], sources, names)
    is_file = out.suffix.lower() in (".png", ".jpg", ".jpeg")
    if is_file and len(sources) > 1:
        raise UsageError(
            f"expected a folder for --out with {len(sources)} images, received the file {out}: name a folder"
        )
    if not is_file and out.suffix and not out.is_dir():
        raise UsageError(f"expected --out ending in .png or .jpg, or a folder, received {out}")
    if is_file:
        check_replaceable(out, "png" if out.suffix.lower() == ".png" else "jpg")
    predictor = open_predictor(model, threshold, prevalence, any_age=any_age)
    overlays = UniqueNames(out, sources)
    complete = True
    for source in sources:
        try:
            explanation = _explain_source(predictor, source, label)
        except ImageError as error:
            complete = False
            echo_stderr(f"{getattr(error, 'path', source)}: {error}")
            continue
        path = write_overlay(explanation, out if is_file else overlays.assign(source))
        probability = f"pneumonia {explanation.prediction.probability:.3f}"
        echo_stderr(f"{path}: {explanation.method} for {explanation.label}, {probability}")
        if not explanation.heatmap.any():
            echo_stderr(f"{path}: nothing in this image speaks for {explanation.label}, the heatmap is empty")
    raise typer.Exit(0 if complete else 1)


def _explain_source(predictor: "Predictor", source: "Source", label: str | None) -> "Explanation":
    from pneumoscope.inference.explain import explain as explain_image
    from pneumoscope.radiographs.sources import NothingFound

    if isinstance(source, NothingFound):
        raise source
    return explain_image(predictor, source, label)
