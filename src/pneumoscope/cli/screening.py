"""Images -> predictions -> every output of a call: terminal, result files, files of each image, contact sheet."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from pneumoscope.cli.console import JsonLines, Table, echo_stderr, make_console
from pneumoscope.cli.image_files import DICOM_KINDS, FinishedImage, JudgedImage, UniqueNames, write_image_files
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
    folders: Mapping[str, Path] = MappingProxyType({}),
    html: Path | None = None,
) -> bool:
    """Judge the images that no file contains yet, and hand every result to every output.

    Args:
        predictor: the model.
        sources: paths, addresses, and errors in their place.
        files: open result files; those of an earlier call are continued.
        json_lines: print JSON lines instead of a table.
        folders: where files of each image go, by kind, see :data:`pneumoscope.cli.image_files.ENDINGS`.
        html: file of the contact sheet.

    Returns:
        Whether every image was judged, and has every file that was asked for.
    """
    console = make_console()
    outputs: list[Output] = [*files, JsonLines() if json_lines else Table(console)]
    results: list[tuple[Prediction, Path | None]] = []  # only for the contact sheet
    complete = True
    try:
        images = _judge(predictor, sources, _find_finished(files, sources), folders)
        finished = (
            write_image_files(predictor, images) if folders else (FinishedImage(image.prediction) for image in images)
        )
        bar_console = console if console.is_terminal and not json_lines else None  # the bar moves below the table
        with progress_bar(bar_console) as show_progress, contextlib.closing(finished):
            for prediction, overlay, has_files in show_progress(finished, len(sources), "screening"):
                for output in outputs:
                    output.write(prediction)
                if html:
                    results.append((prediction, overlay))
                complete = complete and prediction.judged and has_files
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
    folders: Mapping[str, Path],
) -> Iterator[JudgedImage]:
    """Judge the images that are not finished; all come in the order of the sources."""
    new = predictor.predict_many(
        source for source, prediction in zip(sources, finished, strict=True) if prediction is None
    )
    names = {kind: UniqueNames(folder, sources, kind) for kind, folder in folders.items()}
    for source, from_file in zip(sources, finished, strict=True):
        prediction = from_file or next(new)
        # Of an image that was not judged, there is only the report that says so, if it is a DICOM file.
        kinds = names if prediction.judged else names.keys() & {"SR"} if prediction.sop_instance_uid else ()
        if not (prediction.judged or prediction.sop_instance_uid) and names.keys() & {*DICOM_KINDS}:
            echo_stderr(f"no DICOM result of {prediction.path}, which is no DICOM file or cannot be read")
        paths = {kind: names[kind].assign(source) for kind in kinds}
        yield JudgedImage(source, prediction, paths, from_file is not None)
