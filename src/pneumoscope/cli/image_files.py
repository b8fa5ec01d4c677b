"""Files of judged images, heatmap overlays and DICOM results, made in threads while other images are judged."""

import io
import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pneumoscope.cli.console import echo_stderr
from pneumoscope.errors import ImageError, PneumoscopeError
from pneumoscope.io.own_files import may_replace

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor
    from pneumoscope.inference.prediction import Prediction
    from pneumoscope.radiographs.sources import Source

HEATMAP = "heatmap"
#: Kind of file -> ending of its name. The DICOM results are those of :mod:`pneumoscope.pacs.results`.
ENDINGS = {HEATMAP: ".png", "SR": ".sr.dcm", "SC": ".sc.dcm", "PR": ".pr.dcm"}
DICOM_KINDS = tuple(kind for kind in ENDINGS if kind != HEATMAP)

_STEM_BYTES = 230


class JudgedImage(NamedTuple):
    """A prediction, and the files that are to be made of the image.

    Attributes:
        source: path or address of the image, or the error in its place.
        prediction: of the image.
        paths: of the files, by kind.
        from_file: the prediction comes from the results of an earlier call.
    """

    source: "Source"
    prediction: "Prediction"
    paths: Mapping[str, Path]
    from_file: bool


class FinishedImage(NamedTuple):
    """What became of a judged image.

    Attributes:
        prediction: of the image.
        overlay: path of its overlay; None where there is none.
        complete: whether every file was made that was asked for.
    """

    prediction: "Prediction"
    overlay: Path | None = None
    complete: bool = True


def write_image_files(predictor: "Predictor", images: Iterator[JudgedImage]) -> Generator[FinishedImage, None, None]:
    """Write the files in threads.

    Yields:
        The images, in order.
    """
    from concurrent.futures import ThreadPoolExecutor

    from pneumoscope.io.cores import available_cores
    from pneumoscope.io.prefetch import ordered_prefetch

    workers = min(4, available_cores())
    pool = ThreadPoolExecutor(workers)
    try:
        yield from ordered_prefetch(pool, lambda image: _write_files(predictor, image), images, max_pending=workers + 1)
    finally:
        pool.shutdown(cancel_futures=True)


def _write_files(predictor: "Predictor", image: JudgedImage) -> FinishedImage:
    """Write the files of one image, or keep those of an earlier call. A failure costs the file only, not the row."""
    from pneumoscope.radiographs.sources import NothingFound

    source, prediction = image.source, image.prediction
    if isinstance(source, NothingFound) or not image.paths:
        return FinishedImage(prediction)
    results = {kind: path for kind, path in image.paths.items() if kind != HEATMAP}
    overlay = _draw_overlay(predictor, image, source) if HEATMAP in image.paths else None
    complete = overlay is not None or HEATMAP not in image.paths
    if results:
        complete = _write_dicom_results(predictor, image, source, results) and complete
    return FinishedImage(prediction, overlay, complete)


def _draw_overlay(predictor: "Predictor", image: JudgedImage, source: "Path | str") -> Path | None:
    from pneumoscope.inference.explain import explain_prediction
    from pneumoscope.output.overlay import is_overlay_of, write_overlay
    from pneumoscope.radiographs.images import read_radiograph

    prediction, path = image.prediction, image.paths[HEATMAP]
    if image.from_file:
        if is_overlay_of(path, prediction):
            return path
        prediction = predictor.predict(source)  # results in files lack the maps
    try:
        radiograph = read_radiograph(source, any_age=predictor.any_age)
    except ImageError as error:
        echo_stderr(f"no heatmap of {source}, which can be read only once: {error}")
        return None
    try:
        return write_overlay(explain_prediction(predictor, radiograph, prediction), path)
    except PneumoscopeError as error:  # a full disk; the row of the image is kept
        echo_stderr(f"no heatmap of {source}: {error}")
        return None


def _write_dicom_results(
    predictor: "Predictor", image: JudgedImage, source: "Path | str", paths: Mapping[str, Path]
) -> bool:
    """Returns whether all results were written, or were there already."""
    from pneumoscope.pacs import REPORT, STATE, is_result_of, make_results, write_dicom
    from pneumoscope.radiographs.files import read_file

    prediction = image.prediction
    if image.from_file:
        paths = {kind: path for kind, path in paths.items() if not is_result_of(path, kind, prediction)}
        if set(paths) - {REPORT} and prediction.judged:
            prediction = predictor.predict(source)  # results in files lack the maps
    try:
        results = make_results(read_file(source), predictor, prediction, paths)
        for kind, dataset in results.items():
            write_dicom(dataset, paths[kind])
        if STATE in paths and prediction.judged and STATE not in results:
            echo_stderr(
                f"no presentation state of {source}: it is stored in colour (RGB or YBR), and viewers need gray"
            )
    except PneumoscopeError as error:
        echo_stderr(f"no DICOM result of {source}: {error}")
        return False
    return True


def leave_out_own_results(sources: "Sequence[Source]") -> "list[Source]":
    """Leave out the DICOM results that this program wrote, as the node does; a sentence says how many."""
    kept = [source for source in sources if not _is_own_result(source)]
    if number := len(sources) - len(kept):
        echo_stderr(f"left out {number} DICOM results of pneumoscope, which are no radiographs")
    return kept


def _is_own_result(source: "Source") -> bool:
    from pneumoscope.pacs import is_own_result_file
    from pneumoscope.radiographs.files import read_file
    from pneumoscope.radiographs.sources import NothingFound

    if isinstance(source, NothingFound):
        return False
    try:
        if isinstance(source, Path):
            if not source.is_file():  # a pipe can be read only once
                return False
            with source.open("rb") as file:
                return is_own_result_file(file)
        return is_own_result_file(io.BytesIO(read_file(source)))
    except (ImageError, OSError, ValueError):  # the prediction will say why
        return False


class UniqueNames:
    """File names for the files of a call: that of the image, with a number if two images share it.

    Args:
        folder: of the files.
        sources: all images of the call; none of them is overwritten.
        kind: of the files, a key of :data:`ENDINGS`.
    """

    def __init__(self, folder: Path, sources: "Sequence[Source]", kind: str = HEATMAP) -> None:
        self._folder, self._ending = folder, ENDINGS[kind]
        images = [source.resolve() for source in sources if isinstance(source, Path)]
        self._used = {image.name.lower() for image in images if image.parent == folder.resolve()}

    def assign(self, source: "Source") -> Path:
        """A path that no other file of this call has, no image, and no file that another program wrote."""
        from pneumoscope.radiographs.sources import stem_of

        stem, number = portable_stem(_shorten(stem_of(source))), 1
        name = f"{stem}{self._ending}"
        own_kind = self._ending.rpartition(".")[2]
        while name.lower() in self._used or not may_replace(self._folder / name, own_kind):
            # in small letters: case-insensitive file systems exist
            number += 1
            name = f"{stem}-{number}{self._ending}"
        self._used.add(name.lower())
        return self._folder / name


def portable_stem(stem: str, windows: bool = os.name == "nt") -> str:
    """A stem that the system takes as a file name. Windows has devices and characters that no file may be called.

    >>> portable_stem("aux", windows=True), portable_stem("a.png?x=9", windows=True), portable_stem("aux", False)
    ('aux_', 'a.png_x=9', 'aux')
    """
    if not windows:
        return stem
    stem = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", stem).rstrip(". ") or "image"
    return f"{stem}_" if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", stem) else stem


def _shorten(stem: str) -> str:
    """A stem that leaves room for a number and an ending: file systems take 255 bytes."""
    data = os.fsencode(stem)
    return stem if len(data) <= _STEM_BYTES else data[:_STEM_BYTES].decode("utf-8", "ignore") or "image"
