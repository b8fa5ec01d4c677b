"""A labelled file -> what the audit needs of it: hashes, statistics, features. Every file is read and decoded once."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pneumoscope.data import THUMBNAIL, Manifest, Record
from pneumoscope.errors import ImageError
from pneumoscope.evaluation.shortcut_scores import SIZE, describe_picture
from pneumoscope.inference import resize
from pneumoscope.io.cores import available_cores
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.radiographs import describe_compression, read_file, read_radiograph

_AHEAD = 32  # files decoded before their turn: enough for all threads, and little memory


@dataclass(frozen=True, eq=False)
class Inspected:
    """One file.

    Attributes:
        record: what the folder or the table says of it.
        problem: why it cannot be used, a sentence; empty if it can. Then all that follows is filled.
        code: of the problem, see :data:`pneumoscope.errors.CODES`.
        sha256: of the bytes, also of a file that cannot be decoded; empty if it cannot be read.
        pixels_sha256: of size and pixels as they are displayed.
        statistics: ``width``, ``height`` (pixels), ``ratio`` (of the original if the table has it; NaN if it has that
            of others only), ``bytes``, ``mean``
            and ``deviation`` (gray levels), ``black`` and ``white`` (share of the pixels at 0 and at 255).
        thumbnail: (32, 32) uint8.
        features: (F,) float for each signal of :mod:`pneumoscope.evaluation.audit.shortcuts`; NaN where unknown.
    """

    record: Record
    problem: str = ""
    code: str = ""
    sha256: str = ""
    pixels_sha256: str = ""
    statistics: dict[str, float] = field(default_factory=dict)
    thumbnail: np.ndarray | None = None
    features: dict[str, np.ndarray] = field(default_factory=dict)


def inspect_files(
    manifest: Manifest,
    records: Sequence[Record],
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> list[Inspected]:
    """Inspect the files of some records, in their order. A file that cannot be used is a result, not an error."""
    has_ratios = any(record.ratio for record in records)  # then the others are unknown, and the files may be squashed

    def inspect(record: Record) -> Inspected:
        return _inspect(manifest, record, has_ratios)

    with ThreadPoolExecutor(2 * available_cores()) as pool:
        results = ordered_prefetch(pool, inspect, records, max_pending=_AHEAD)
        return list(progress(results) if progress else results)


def _inspect(manifest: Manifest, record: Record, has_ratios: bool) -> Inspected:
    digest = ""
    try:
        data = read_file(manifest.path(record))
        digest = hashlib.sha256(data).hexdigest()
        radiograph = read_radiograph(data, any_age=True)  # the labels say what to learn, whatever the age
    except ImageError as error:
        return Inspected(record, problem=str(error), code=error.code, sha256=digest)
    pixels, width, height = radiograph.pixels, radiograph.width, radiograph.height
    ratio = (record.ratio or math.nan) if has_ratios else width / height
    picture = resize(radiograph, SIZE)
    return Inspected(
        record,
        sha256=digest,
        pixels_sha256=hashlib.sha256(f"{width}x{height}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        statistics={
            "width": width,
            "height": height,
            "ratio": ratio,
            "bytes": len(data),
            "mean": float(picture.mean()),
            "deviation": float(picture.std()),
            "black": float((picture == 0).mean()),
            "white": float((picture == 255).mean()),
        },
        thumbnail=resize(radiograph, THUMBNAIL),
        features={
            "ratio": _curve(np.log(ratio)),
            "size": np.log([width, height]),
            "bytes": _curve(np.log(len(data))),
            "compression": _compression_features(data, width * height),
            **describe_picture(picture),
        },
    )


def _curve(value: float) -> np.ndarray:
    """(2,) float: a number and its square, so that a regression can find that both ends differ from the middle."""
    return np.array([value, value * value])


def _compression_features(data: bytes, pixels: int) -> np.ndarray:
    """(6,) float: kind of file, log bytes a pixel, and the settings of a JPEG."""
    kind, quantisation, components, progressive = describe_compression(data)
    rate = np.log(len(data) / pixels)
    return np.array([kind == "jpeg", kind == "png", rate, np.log1p(quantisation), components, progressive], np.float64)
