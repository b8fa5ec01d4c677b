"""Where the images of a collection are: folders ``[split/]LABEL/``, at some depth below the folder that was named."""

import os
from pathlib import Path
from typing import TypeVar

from pneumoscope.data.manifest import OFFICIAL_SPLITS
from pneumoscope.errors import DatasetError
from pneumoscope.labels import LABELS

#: Largest number of folders between the named folder and the one with train, val and test; Kaggle's set has one.
MAX_DEPTH = 4

_MACOS_FOLDER = "__MACOSX"  # where macOS keeps the ._ files of an archive

Place = TypeVar("Place")


def find_data_folder(folder: Path) -> Path:
    """The shallowest folder that contains [train|val|test/]LABEL folders, or the folder itself if there is none."""
    level = [folder]
    for _ in range(MAX_DEPTH + 1):
        candidates = [path for path in level if _has_label_folders(path)]
        if candidates:
            return only_one(candidates, folder)
        level = [
            child
            for path in level
            for child in sorted(path.iterdir())
            if child.is_dir() and not is_leftover((child.name,)) and os.access(child, os.R_OK | os.X_OK)
        ]
    return folder


def _has_label_folders(folder: Path) -> bool:
    return any((folder / split / label).is_dir() for split in ("", *OFFICIAL_SPLITS) for label in LABELS)


def is_leftover(parts: tuple[str, ...]) -> bool:
    """Whether a path, given by its parts, is not data: macOS files (.DS_Store, ._name, __MACOSX) or hidden files."""
    return any(part == _MACOS_FOLDER or part.startswith(".") for part in parts)


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


def split_path(parts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(folders above, [split/]LABEL/name) of a path; the second is empty outside of label folders.

    >>> split_path(("chest_xray", "train", "NORMAL", "a.jpeg"))
    (('chest_xray',), ('train', 'NORMAL', 'a.jpeg'))
    """
    if len(parts) < 2 or parts[-2] not in LABELS:
        return parts[:-1], ()
    start = len(parts) - (3 if len(parts) > 2 and parts[-3] in OFFICIAL_SPLITS else 2)
    return parts[:start], parts[start:]
