"""Heatmap overlays of judged images, drawn in threads while other images are judged."""

import os
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pneumoscope.cli.console import echo_stderr
from pneumoscope.errors import ImageError, PneumoscopeError
from pneumoscope.io.own_files import may_replace

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor
    from pneumoscope.inference.prediction import Prediction
    from pneumoscope.radiographs.sources import Source


_STEM_BYTES = 230


class JudgedImage(NamedTuple):
    """A prediction, and where its overlay goes.

    Attributes:
        source: path or address of the image, or the error in its place.
        prediction: of the image.
        overlay: path of the overlay; None if none is to be drawn.
        from_file: the prediction comes from the results of an earlier call.
    """

    source: "Source"
    prediction: "Prediction"
    overlay: Path | None
    from_file: bool


def draw_overlays(
    predictor: "Predictor", images: Iterator[JudgedImage]
) -> Generator[tuple["Prediction", Path | None], None, None]:
    """Draw the overlays in threads.

    Yields:
        Each prediction, in order, with the path of its overlay; None where there is none.
    """
    from concurrent.futures import ThreadPoolExecutor

    from pneumoscope.io.cores import available_cores
    from pneumoscope.io.prefetch import ordered_prefetch

    def draw(image: JudgedImage) -> "tuple[Prediction, Path | None]":
        return image.prediction, _draw_overlay(predictor, image)

    workers = min(4, available_cores())
    pool = ThreadPoolExecutor(workers)
    try:
        yield from ordered_prefetch(pool, draw, images, max_pending=workers + 1)
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_overlay(predictor: "Predictor", image: JudgedImage) -> Path | None:
    """Draw one overlay, or keep the one of an earlier call; a file that changed since costs its overlay only."""
    from pneumoscope.inference.explain import explain_prediction
    from pneumoscope.output.overlay import is_overlay_of, write_overlay
    from pneumoscope.radiographs.images import read_radiograph
    from pneumoscope.radiographs.sources import NothingFound

    source, prediction, path, _ = image
    if path is None or isinstance(source, NothingFound):
        return None
    if image.from_file:
        if is_overlay_of(path, prediction):
            return path
        prediction = predictor.predict(source)  # results in files lack the feature map
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


class UniqueNames:
    """File names for the overlays of a call: that of the image, with a number if two images share it.

    Args:
        folder: of the overlays.
        sources: all images of the call; none of them is overwritten.
    """

    def __init__(self, folder: Path, sources: "Sequence[Source]") -> None:
        self._folder = folder
        images = [source.resolve() for source in sources if isinstance(source, Path)]
        self._used = {image.name.lower() for image in images if image.parent == folder.resolve()}

    def assign(self, source: "Source") -> Path:
        """A path that no other overlay of this call has, no image, and no file that another program wrote."""
        from pneumoscope.radiographs.sources import stem_of

        stem, number = portable_stem(_shorten(stem_of(source))), 1
        name = f"{stem}.png"
        while name.lower() in self._used or not may_replace(self._folder / name, "png"):
            # in small letters: case-insensitive file systems exist
            number += 1
            name = f"{stem}-{number}.png"
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
