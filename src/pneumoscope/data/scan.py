"""A folder or CSV of labelled radiographs -> Manifest: every image is decoded and hashed, and copies are found."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data.file_names import patient_of, sublabel_of
from pneumoscope.data.manifest import (
    MANIFEST_NAME,
    NO_SPLIT,
    OFFICIAL_SPLITS,
    Manifest,
    Record,
    Refused,
    read_manifest,
)
from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.inference import InputSpec, resize
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.labels import LABELS
from pneumoscope.radiographs import read_file, read_radiograph

#: Two images are one picture saved twice if the correlation of their 32x32 thumbnails is above this value.
SAME_PICTURE = 0.9995
_THUMBNAIL = InputSpec(height=32, width=32)
_AHEAD = 32  # files decoded before their turn: enough for all threads, and little memory


def read_dataset(
    source: str | Path | Manifest, progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None
) -> Manifest:
    """Read a folder (its ``manifest.csv`` if it has one, otherwise its images) or a CSV file.

    Args:
        source: a folder ``[split/]LABEL/image``, or a CSV with at least the columns ``path`` and ``label``. A manifest
            is returned unchanged.
        progress: wraps the iteration over files, to show the progress.

    Raises:
        DatasetError: no data there, unknown labels or columns, or files that cannot be decoded.
    """
    if isinstance(source, Manifest):
        return source
    source = Path(source)
    if source.is_dir() and not (source / MANIFEST_NAME).is_file():
        manifest, refused = scan_folder(source, progress=progress)
        if refused:
            raise DatasetError(
                f"expected only readable radiographs under {source}, {len(refused)} cannot be read (first: "
                f"{refused[0].path}: {refused[0].reason}): run  pneumoscope data fetch --from {source} --out DIR "
                "--allow-partial  "
                "and use --data DIR to leave them out"
            )
        return manifest
    return read_manifest(source / MANIFEST_NAME if source.is_dir() else source)


def scan_folder(
    folder: str | Path,
    *,
    relative_to: str | Path | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> tuple[Manifest, list[Refused]]:
    """Decode and hash every image of ``[split/]LABEL/`` folders.

    Args:
        folder: contains ``train``, ``val`` and ``test`` folders, or the label folders themselves.
        relative_to: folder where the manifest will be written; default ``folder``.
        progress: wraps the iteration over files.

    Returns:
        The manifest, ordered by split, label and name, and the refused files with their reasons.

    Raises:
        DatasetError: no label folder that contains a file.
    """
    folder = Path(folder).absolute()
    root = Path(relative_to).absolute() if relative_to else folder
    files = list(_labelled_files(folder))
    if not files:
        raise DatasetError(
            f"expected folders {' and '.join(LABELS)} (or train, val, test with these inside) with images "
            f"under {folder}, found none: check the path"
        )
    records, thumbnails, refused = [], [], []
    with ThreadPoolExecutor() as pool:
        results = ordered_prefetch(
            pool, lambda file: _describe(file[0], file[1], file[2], root), files, max_pending=_AHEAD
        )
        for result in progress(results) if progress else results:
            if isinstance(result, Refused):
                refused.append(result)
            else:
                records.append(result[0])
                thumbnails.append(result[1])
    return Manifest(root, tuple(_with_groups(records, thumbnails))), refused


def _labelled_files(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """(file, label, split), sorted. Hidden files are skipped, also those of macOS."""
    splits = [name for name in OFFICIAL_SPLITS if (folder / name).is_dir()]
    for split in splits or [NO_SPLIT]:
        for label in LABELS:
            base = folder / split / label if splits else folder / label
            if base.is_dir():
                for path in sorted(base.iterdir()):
                    if path.is_file() and not path.name.startswith("."):
                        yield path, label, split


def _describe(path: Path, label: str, split: str, root: Path) -> tuple[Record, np.ndarray] | Refused:
    """The record of an image and its thumbnail (32, 32) uint8, or why the file is refused."""
    try:
        data = read_file(path)
        radiograph = read_radiograph(data, any_age=True)  # the labels say what to learn, whatever the age
    except ImageError as error:
        return Refused(str(path), str(error))
    record = Record(
        path=path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
        label=label,
        sublabel=sublabel_of(path.name),
        patient=patient_of(path.name),
        split=split,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=radiograph.width,
        height=radiograph.height,
        ratio=radiograph.width / radiograph.height,
    )
    return record, resize(radiograph, _THUMBNAIL)


def _with_groups(records: list[Record], thumbnails: list[np.ndarray]) -> list[Record]:
    """Join the patients who share a picture, because a patient-wise split must keep copies together."""
    leader = {record.patient: record.patient for record in records}

    def find_leader(patient: str) -> str:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    for first, second in same_pictures(np.stack(thumbnails) if thumbnails else np.zeros((0, 32, 32), np.uint8)):
        a, b = sorted((find_leader(records[first].patient), find_leader(records[second].patient)))
        leader[b] = a
    return [replace(record, group=find_leader(record.patient)) for record in records]


def same_pictures(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of images that show the same picture: the correlation of their thumbnails is above :data:`SAME_PICTURE`.

    Args:
        thumbnails: (N, 32, 32) uint8.

    Returns:
        Index pairs (i, j), i < j.
    """
    flat = thumbnails.reshape(len(thumbnails), math.prod(thumbnails.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9
    pairs = []
    block = 1024  # rows at a time: 5,232 images need 21 MB instead of 110
    for start in range(0, len(flat), block):
        correlation = flat[start : start + block] @ flat.T  # (block, N)
        for i, j in zip(*np.nonzero(correlation > SAME_PICTURE), strict=True):
            if start + i < j:
                pairs.append((int(start + i), int(j)))
    return pairs
