"""Where the images of a collection are: folders ``[split/]LABEL/``, at some depth below the folder that was named."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pneumoscope.data.class_names import ClassNames
from pneumoscope.data.manifest import NO_SPLIT, OFFICIAL_SPLITS
from pneumoscope.data.patients import SPLIT_NAMES
from pneumoscope.errors import DatasetError
from pneumoscope.labels import LABELS
from pneumoscope.radiographs.folders import is_litter

#: Largest number of folders between the named folder and the one with train, val and test; Kaggle's set has one.
MAX_DEPTH = 4

Place = TypeVar("Place")


class Membership(NamedTuple):
    """What the folders of an image say.

    Attributes:
        split: official split, or ``"all"``.
        label: one of :data:`pneumoscope.labels.LABELS`.
        start: position of the first of the two folders in the path.
    """

    split: str
    label: str
    start: int


def find_data_folder(folder: Path, names: ClassNames | None = None) -> Path:
    """The shallowest folder that contains [train|val|test/]LABEL folders, or the folder itself if there is none."""
    names = names or ClassNames()
    level = [folder]
    for _ in range(MAX_DEPTH + 1):
        candidates = [path for path in level if _has_label_folders(path, names)]
        if candidates:
            return only_one(candidates, folder)
        level = [
            child
            for path in level
            for child in sorted(path.iterdir())
            if child.is_dir() and not is_leftover((child.name,)) and os.access(child, os.R_OK | os.X_OK)
        ]
    return folder


def _has_label_folders(folder: Path, names: ClassNames) -> bool:
    subfolders = _subfolders(folder)
    inner = [name for parent in subfolders if parent.name.casefold() in SPLIT_NAMES for name in _subfolders(parent)]
    return any(names.label_of_folder(path.name) for path in [*subfolders, *inner])


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir() and not is_litter(entry.name)]
    except OSError:
        return []


def is_leftover(parts: tuple[str, ...]) -> bool:
    """Whether a path, given by its parts, is not data: hidden files, and what macOS and Windows leave behind."""
    return any(map(is_litter, parts))


def only_one(candidates: list[Place], source: Path) -> Place:
    """The only candidate for the data folder.

    Raises:
        DatasetError: there are several.
    """
    if len(candidates) > 1:
        raise DatasetError(
            f"expected one folder with {', '.join(OFFICIAL_SPLITS)} or {', '.join(LABELS)} in {source}, found "
            f"{len(candidates)} ({candidates[0]}, {candidates[1]}): name one of them"
        )
    return candidates[0]


def find_membership(parts: Sequence[str], names: ClassNames) -> Membership | None:
    """Split and label of an image, from the parts of its path.

    The first folder that is called like a class decides. The split is the folder before it, or after it.

    Raises:
        DatasetError: the image is in folders of both classes.

    >>> find_membership(("chest_xray", "train", "NORMAL", "siteA", "a.jpeg"), ClassNames())
    Membership(split='train', label='NORMAL', start=1)
    """
    labels = [(place, names.label_of_folder(name)) for place, name in enumerate(parts[:-1])]
    found = [(place, label) for place, label in labels if label]
    if not found:
        return None
    place, label = found[0]
    if any(other != label for _, other in found):
        raise DatasetError(
            f"expected each image below the folder of one class, {'/'.join(parts)} is below folders of both classes: "
            "name the inner folder with --data, or rename one of them"
        )
    before = SPLIT_NAMES.get(parts[place - 1].casefold()) if place else None
    if before:
        return Membership(before, label, place - 1)
    after = SPLIT_NAMES.get(parts[place + 1].casefold()) if place + 1 < len(parts) - 1 else None
    return Membership(after or NO_SPLIT, label, place)


def split_path(parts: tuple[str, ...], names: ClassNames | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(folders above, [split/]LABEL/.../name) of a path; the second is empty outside of label folders.

    >>> split_path(("chest_xray", "train", "NORMAL", "a.jpeg"))
    (('chest_xray',), ('train', 'NORMAL', 'a.jpeg'))
    >>> split_path(("PNEUMONIA", "bacteria", "a.jpeg"))
    ((), ('PNEUMONIA', 'bacteria', 'a.jpeg'))
    """
    membership = find_membership(parts, names or ClassNames())
    if membership is None:
        return parts[:-1], ()
    return parts[: membership.start], parts[membership.start :]
