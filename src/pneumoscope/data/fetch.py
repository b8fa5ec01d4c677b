"""Kaggle, a zip or a folder -> checked radiographs and their manifest.

The Kaggle download is in ``kaggle.py``, the check of an untrusted zip in ``archive.py``.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumoscope.data.archive import extract_images
from pneumoscope.data.class_names import ClassNames
from pneumoscope.data.kaggle import count_errors, download_kaggle
from pneumoscope.data.layout import find_data_folder
from pneumoscope.data.manifest import MANIFEST_NAME, Manifest, Refused, write_manifest
from pneumoscope.data.scan import scan_folder
from pneumoscope.errors import DatasetError
from pneumoscope.io.own_files import may_replace


@dataclass(frozen=True)
class FetchResult:
    """What was fetched, and what was not.

    Attributes:
        manifest: the readable radiographs.
        manifest_path: the CSV file of the manifest.
        refused: files that are not in the manifest, by name, with the reason.
        count_errors: one sentence for each split and label whose count is not Kaggle's.
        folder: where the images are.
    """

    manifest: Manifest
    manifest_path: Path
    refused: list[Refused]
    count_errors: list[str]
    folder: Path


def fetch(
    out: str | Path,
    source: str | Path | None = None,
    *,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    names: ClassNames | None = None,
) -> FetchResult:
    """Get labelled radiographs, decode every one, and write ``out/manifest.csv``.

    Kaggle's files stay in kagglehub's cache (``KAGGLEHUB_CACHE`` moves it), and a folder stays where it is: the
    manifest names the files of both by absolute path. The images of a zip are extracted to ``out``; a second call
    keeps what an interrupted call has extracted. The data folder is the shallowest one that contains train, val and
    test, or the label folders. A second copy further down and macOS leftovers are ignored.

    Args:
        out: folder for the manifest and for the images of an archive; created if missing.
        source: a zip or a folder; the Kaggle set if None.
        progress: wraps the iterations over files, to show the progress.
        names: what the classes are called.

    Returns:
        The manifest, the refused files, and where the counts differ from Kaggle's. A collection without train, val
        and test folders is not counted.

    Raises:
        DatasetError: no data there, a file that is no archive, or a download that failed.
        MissingExtra: no source is given, and kagglehub is not installed.

    >>> import tempfile
    >>> from pneumoscope.samples import SAMPLES
    >>> with tempfile.TemporaryDirectory() as out:
    ...     len(fetch(out, SAMPLES).manifest)
    24
    """
    out = Path(os.path.abspath(out))
    refused: list[Refused] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        _check_manifest(out / MANIFEST_NAME)
        if source is None:
            folder = find_data_folder(download_kaggle())
        elif Path(source).is_dir():
            folder = find_data_folder(Path(os.path.abspath(source)), names)
        else:
            folder, refused = out, extract_images(Path(source), out, progress, names)
        manifest, unreadable = scan_folder(folder, relative_to=out, progress=progress, names=names)
        manifest_path = out / MANIFEST_NAME
        write_manifest(manifest, manifest_path)
    except OSError as error:
        raise DatasetError(
            f"expected to read and write {error.filename or out}, the system says {error.strerror or error}: "
            "check the permissions and the free disk space, then run the same command again, it continues"
        ) from None
    return FetchResult(manifest, manifest_path, refused + unreadable, count_errors(manifest, folder), folder)


def _check_manifest(path: Path) -> None:
    if not may_replace(path, "manifest"):
        raise DatasetError(
            f"expected no {path}, or one that pneumoscope wrote, found another table: name another folder with --out"
        )
