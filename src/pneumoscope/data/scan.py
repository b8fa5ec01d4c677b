"""A folder or CSV of labelled radiographs -> Manifest: every image is decoded and hashed, and copies are found."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data.class_names import ClassNames
from pneumoscope.data.layout import Membership, find_membership
from pneumoscope.data.manifest import (
    MANIFEST_NAME,
    NO_SPLIT,
    OFFICIAL_SPLITS,
    Manifest,
    Record,
    Refused,
    TableOptions,
    complete_records,
    read_manifest,
    sublabel_of_path,
)
from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.inference import InputSpec, resize
from pneumoscope.io.cores import available_cores
from pneumoscope.io.names import printable
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.labels import LABELS, NORMAL
from pneumoscope.radiographs import read_file, read_radiograph
from pneumoscope.radiographs.folders import find_images, in_order, is_litter

#: Two images are one picture saved twice if the correlation of their 32x32 thumbnails is above this value.
SAME_PICTURE = 0.9995
#: The size at which pictures are compared.
THUMBNAIL = InputSpec(height=32, width=32)
_AHEAD = 32  # files decoded before their turn: enough for all threads, and little memory


def read_dataset(
    source: str | Path | Manifest,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    options: TableOptions | None = None,
) -> Manifest:
    """Read a folder (its ``manifest.csv`` if it has one, otherwise its images) or a CSV file.

    Args:
        source: a folder ``[split/]LABEL/.../image``, or a CSV with columns of paths and labels. A manifest is returned
            unchanged.
        progress: wraps the iteration over files, to show the progress.
        options: names of columns and classes.

    Raises:
        DatasetError: no data there, unknown labels or columns, or files that cannot be decoded.
    """
    if isinstance(source, Manifest):
        return source
    source, options = Path(source), options or TableOptions()
    if source.is_dir() and not (source / MANIFEST_NAME).is_file():
        manifest, refused = scan_folder(source, progress=progress, names=options.names)
        if refused:
            raise DatasetError(
                f"expected only readable radiographs under {source}, {len(refused)} cannot be read (first: "
                f"{refused[0].path}: {refused[0].reason}): run  pneumoscope data fetch --from {source} --out DIR "
                "--allow-partial  "
                "and use --data DIR to leave them out"
            )
        return manifest
    return read_manifest(source / MANIFEST_NAME if source.is_dir() else source, options)


def list_dataset(source: str | Path, options: TableOptions | None = None) -> Manifest:
    """Like :func:`read_dataset`, but no image is opened: records of a folder have no hash, size and group.

    Raises:
        DatasetError: no data there, or unknown labels or columns.
    """
    source, options = Path(source), options or TableOptions()
    if not source.is_dir() or (source / MANIFEST_NAME).is_file():
        return read_dataset(source, options=options)
    files, unused = _labelled_files(source, options.names)
    _check_found(files, source)
    records = []
    for path, label, split in files:
        place = path.relative_to(source).as_posix()
        sublabel = "" if label == NORMAL else sublabel_of_path(place)
        records.append(Record(place, label, sublabel, split=split))
    return Manifest(source.absolute(), complete_records(records), unused)


def _check_found(files: Sequence[object], folder: Path) -> None:
    if not files:
        raise DatasetError(
            f"expected folders {' and '.join(LABELS)} (or train, val, test with these inside) with images "
            f"under {folder}, found none{_describe_found(folder)}: check the path, or name your folders with "
            "--positive and --negative"
        )


def scan_folder(
    folder: str | Path,
    *,
    relative_to: str | Path | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    names: ClassNames | None = None,
) -> tuple[Manifest, list[Refused]]:
    """Decode and hash every image below ``[split/]LABEL/`` folders, at any depth. Other files are counted.

    Args:
        folder: contains ``train``, ``val`` and ``test`` folders, or the label folders themselves.
        relative_to: folder where the manifest will be written; default ``folder``.
        progress: wraps the iteration over files.
        names: what the classes are called.

    Returns:
        The manifest, ordered by split, label and name, and the refused files with their reasons.

    Raises:
        DatasetError: no label folder that contains a file.
    """
    folder = Path(folder).absolute()
    root = Path(relative_to).absolute() if relative_to else folder
    files, unused = _labelled_files(folder, names or ClassNames())
    _check_found(files, folder)
    records, thumbnails, refused = [], [], []
    with ThreadPoolExecutor(2 * available_cores()) as pool:
        results = ordered_prefetch(pool, lambda file: _describe(*file, folder, root), files, max_pending=_AHEAD)
        for result in progress(results) if progress else results:
            if isinstance(result, Refused):
                refused.append(result)
            else:
                records.append(result[0])
                thumbnails.append(result[1])
    return Manifest(root, tuple(_with_groups(list(complete_records(records)), thumbnails)), unused), refused


def _labelled_files(folder: Path, names: ClassNames) -> tuple[list[tuple[Path, str, str]], dict[str, int]]:
    """(file, label, split) of the images of a collection, in their order, and the number of other files by reason."""
    content = find_images(folder)
    if content.failures:
        raise content.failures[0]
    unused = content.left_out
    unused[f"files ending in {Path(MANIFEST_NAME).suffix}"] -= (folder / MANIFEST_NAME).is_file()
    found: list[tuple[Path, Membership]] = []
    for path in content.images:
        parts = path.relative_to(folder).parts
        membership = find_membership(parts, names)
        if membership and membership.start == 0:
            found.append((path, membership))
        else:
            place = f"the folder {printable(parts[0])}" if len(parts) > 1 else "no folder"
            unused[f"images in {place}, outside of {' and '.join(LABELS)}"] += 1
    has_splits = any(membership.split != NO_SPLIT for _, membership in found)
    files = []
    for path, membership in found:
        if has_splits and membership.split == NO_SPLIT:
            unused[f"{membership.label} images outside of {', '.join(OFFICIAL_SPLITS)}"] += 1
        else:
            files.append((path, membership.label, membership.split))
    order = [*OFFICIAL_SPLITS, NO_SPLIT]
    files.sort(key=lambda file: (order.index(file[2]), LABELS.index(file[1]), file[0]))
    return files, in_order(unused)


def _describe_found(folder: Path) -> str:
    """The folders that are there, for a message."""
    if not folder.is_dir():
        return ""
    found = sorted(printable(path.name) for path in folder.iterdir() if path.is_dir() and not is_litter(path.name))
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f" (its folders are {', '.join(found[:5])}{more})" if found else ""


def _describe(path: Path, label: str, split: str, folder: Path, root: Path) -> tuple[Record, np.ndarray] | Refused:
    """The record of an image and its thumbnail (32, 32) uint8, or why the file is refused."""
    try:
        data = read_file(path)
        radiograph = read_radiograph(data, any_age=True)  # the labels say what to learn, whatever the age
    except ImageError as error:
        return Refused(str(path), str(error))
    place = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    record = Record(
        path=place,
        label=label,
        sublabel="" if label == NORMAL else sublabel_of_path(path.relative_to(folder).as_posix()),
        split=split,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=radiograph.width,
        height=radiograph.height,
        ratio=radiograph.width / radiograph.height,
    )
    return record, resize(radiograph, THUMBNAIL)


def _with_groups(records: list[Record], thumbnails: list[np.ndarray]) -> list[Record]:
    """Join the patients who share a picture, because a patient-wise split must keep copies together."""
    leader = {record.patient: record.patient for record in records}

    def find_leader(patient: str) -> str:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    pictures: dict[int, int] = {}  # index of an image -> index of the first with the same picture
    for first, second in same_pictures(np.stack(thumbnails) if thumbnails else np.zeros((0, 32, 32), np.uint8)):
        a, b = sorted((find_leader(records[first].patient), find_leader(records[second].patient)))
        leader[b] = a
        pictures[first] = pictures[second] = pictures.get(first, pictures.get(second, first))
    return [
        replace(
            record,
            group=find_leader(record.patient),
            picture=records[pictures[place]].sha256[:16] if place in pictures else "",
        )
        for place, record in enumerate(records)
    ]


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
