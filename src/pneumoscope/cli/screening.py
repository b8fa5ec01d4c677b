"""Images -> predictions -> every output of a call: terminal, result files, heatmap overlays, contact sheet."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pneumoscope.cli.console import JsonLines, Table, echo_stderr, make_console
from pneumoscope.cli.overlays import JudgedImage, UniqueNames, draw_overlays
from pneumoscope.cli.progress import progress_bar
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor
    from pneumoscope.inference.prediction import Prediction
    from pneumoscope.output.results import ResultsFile
    from pneumoscope.radiographs.sources import Source


class Output(Protocol):
    """Takes one prediction after the other."""

    def write(self, prediction: "Prediction") -> None:
        """Take one prediction."""

    def close(self) -> None:
        """Finish, after the last prediction or an error."""


def screen(
    predictor: "Predictor",
    sources: "Sequence[Source]",
    files: "Sequence[ResultsFile]",
    json_lines: bool = False,
    heatmaps: Path | None = None,
    html: Path | None = None,
) -> bool:
    """Judge the images that no file contains yet, and hand every result to every output.

    Args:
        predictor: the model.
        sources: paths, addresses, and errors in their place.
        files: open result files; those of an earlier call are continued.
        json_lines: print JSON lines instead of a table.
        heatmaps: folder of the overlays.
        html: file of the contact sheet.

    Returns:
        Whether every image was judged, and has an overlay if overlays are asked for.
    """
    console = make_console()
    outputs: list[Output] = [*files, JsonLines() if json_lines else Table(console)]
    results: list[tuple[Prediction, Path | None]] = []  # only for the contact sheet
    complete = True
    try:
        images = _judge(predictor, sources, _find_finished(files, sources), heatmaps)
        drawn = draw_overlays(predictor, images) if heatmaps else ((image.prediction, None) for image in images)
        bar_console = console if console.is_terminal and not json_lines else None  # the bar moves below the table
        with progress_bar(bar_console) as show_progress, contextlib.closing(drawn):
            for prediction, overlay in show_progress(drawn, len(sources), "screening"):
                for output in outputs:
                    output.write(prediction)
                if html:
                    results.append((prediction, overlay))
                complete = complete and prediction.judged and (overlay is not None or not heatmaps)
    finally:
        for output in outputs:
            output.close()
        if html:
            from pneumoscope.output.contact_sheet import write_contact_sheet

            write_contact_sheet(results, html)
    return complete


def show_sources(sources: "Sequence[Source]") -> None:
    """Print how many images were found, which files are missing, and what is no image; nothing is judged."""
    from pneumoscope.radiographs.sources import NothingFound

    missing = [source for source in sources if isinstance(source, Path) and not os.path.exists(source)]
    errors = [source for source in sources if isinstance(source, NothingFound)]
    print(f"{len(sources) - len(missing) - len(errors):,} images to judge, {len(missing):,} missing files")
    for source in missing[:5]:
        print(f"missing: {printable(str(source))}")
    for error in errors:
        print(f"{printable(error.path)}: {error}")


def _find_finished(files: "Sequence[ResultsFile]", sources: "Sequence[Source]") -> "list[Prediction | None]":
    """The predictions that the files contain of the sources; None for those to be judged."""
    from pneumoscope.output.results import find_finished

    finished = find_finished(files, sources)
    done = len(finished) - finished.count(None)
    if done:
        echo_stderr(f"{done} of {len(finished)} images are already done")
    return finished


def _judge(
    predictor: "Predictor",
    sources: "Sequence[Source]",
    finished: "Sequence[Prediction | None]",
    heatmaps: Path | None,
) -> Iterator[JudgedImage]:
    """Judge the images that are not finished; all come in the order of the sources."""
    new = predictor.predict_many(
        source for source, prediction in zip(sources, finished, strict=True) if prediction is None
    )
    names = UniqueNames(heatmaps, sources) if heatmaps else None
    for source, from_file in zip(sources, finished, strict=True):
        prediction = from_file or next(new)
        overlay = names.assign(source) if names and prediction.judged else None
        yield JudgedImage(source, prediction, overlay, from_file is not None)
