"""Which patient an image shows: from a column, or from the path by stated rules.

The rules, in this order:

1. A column of the table names the patient.
2. A folder in the path names the patient: ``patient00007`` (CheXpert), ``p10000032`` (MIMIC-CXR), ``sub-S03044``
   (BIDS), ``PAT0001``, ``subject 12``.
3. The file name does: the names of the Kermany and NIH collections, and names that begin with the words of rule 2.
4. Otherwise each image counts as a patient of its own.

For rules 2 and 3 with the words of rule 2, the folders above belong to the key, without the folders of splits and
classes: ``train/siteA/patient1/a.png`` and ``valid/siteA/patient1/b.png`` show one patient, ``siteB/patient1/a.png``
another one.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from pneumoscope.data.class_names import ClassNames, sublabel_of_name
from pneumoscope.data.file_names import known_patient

FROM_COLUMN = "from the column of the table"
FROM_FOLDER = "from folder names"
FROM_NAME = "from file names"
OWN = "each image its own"

#: Folders of the official splits, in small letters, and the names that other collections give them.
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

_WORDS = r"(?:patient|subject|subj|sub|pat)[-_ ]?(?:id)?[-_ ]?"
_FOLDER = re.compile(rf"{_WORDS}[a-z]{{0,2}}\d+|sub-[a-z0-9]+|p\d{{8}}", re.IGNORECASE)
_NAME = re.compile(rf"(?P<patient>{_WORDS}[a-z]{{0,2}}\d+|sub-[a-z0-9]+)(?=[^a-z0-9]|$)", re.IGNORECASE)


def name_patients(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Patient of each image, and where it comes from.

    Args:
        paths: of the images; relative to one folder, or absolute.

    Returns:
        (patient, one of :data:`FROM_FOLDER`, :data:`FROM_NAME`, :data:`OWN`) for each path.

    >>> name_patients(["NORMAL/1.png", "PNEUMONIA/1.png"])
    [('NORMAL/1.png', 'each image its own'), ('PNEUMONIA/1.png', 'each image its own')]
    >>> name_patients(["train/patient7/study1/view1.jpg", "train/patient8/study1/view1.jpg"])
    [('patient7', 'from folder names'), ('patient8', 'from folder names')]
    """
    relative = _relative(paths)
    found = [_patient_of_path(path) for path in relative]
    stems = Counter(path.stem for path in relative)
    taken = {patient for patient, _ in filter(None, found)}
    named = []
    for path, patient in zip(relative, found, strict=True):
        own = path.stem if stems[path.stem] == 1 and path.stem not in taken else str(path)
        named.append(patient or (own, OWN))
    return named


def describe_sources(sources: Iterable[str]) -> str:
    """Where the patients of images come from, in words.

    >>> describe_sources([OWN, FROM_NAME, FROM_NAME])
    'from file names (2 images), each image its own (1 image)'
    >>> describe_sources([OWN])
    'each image its own'
    """
    counts = Counter(source or FROM_COLUMN for source in sources)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({n:,} image{'' if n == 1 else 's'})" for name, n in counts.most_common())


def _relative(paths: Sequence[str]) -> list[PurePosixPath]:
    """The paths with ``/``; absolute ones below the deepest folder that contains them all."""
    absolute = [path for path in paths if os.path.isabs(path)]
    try:
        base = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    except ValueError:  # several drives
        base = ""
    return [
        PurePosixPath((os.path.relpath(path, base) if base and os.path.isabs(path) else path).replace("\\", "/"))
        for path in paths
    ]


def _patient_of_path(path: PurePosixPath) -> tuple[str, str] | None:
    folders = path.parts[:-1]
    for depth, name in enumerate(folders):
        if _FOLDER.fullmatch(name):
            return _key(folders[:depth], name), FROM_FOLDER
    if patient := known_patient(path.name):
        return patient, FROM_NAME
    if match := _NAME.match(path.name):
        return _key(folders, match["patient"]), FROM_NAME
    return None


def _key(folders: Sequence[str], name: str) -> str:
    """Folders and name as one key, without the folders of splits, classes and kinds of pneumonia."""
    usual = ClassNames()
    kept = [
        folder
        for folder in folders
        if folder.casefold() not in SPLIT_NAMES and not usual.label_of_folder(folder) and not sublabel_of_name(folder)
    ]
    return "/".join([*kept, name])
