"""The command ``deidentify``: DICOM files without what names the patient, for research."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.paths import make_folder, read_names
from pneumoscope.cli.progress import progress_bar
from pneumoscope.errors import ImageError, UsageError

if TYPE_CHECKING:
    from pneumoscope.pacs.deidentification import Pseudonyms
    from pneumoscope.radiographs.sources import Source


def deidentify(
    paths: list[str] = typer.Argument(
        help="DICOM files, folders, globs, zip archives, or - for names on standard input.", metavar="PATH..."
    ),
    out: Path = typer.Option(
        ..., help="Folder for the new files: a folder for each patient, a file for each image.", metavar="DIR"
    ),
    key: Path | None = typer.Option(
        None,
        help="File with a secret of at least 16 characters: the same one gives the same pseudonyms. Without it, "
        "another one is made for each call, and not kept.",
        metavar="FILE",
    ),
    keep_characteristics: bool = typer.Option(
        False, "--keep-characteristics", help="Keep age, sex, size and weight of the patient."
    ),
) -> None:
    """Remove what names patients from DICOM files.

    By the Basic Profile of the standard (PS3.15, annex E). The pixels stay as they are: where there seems to be text in
    their borders, a sentence says so. Reports and other objects without pixels are left out. Exit code 1 if a file was
    left out.
    """
    import pneumoscope.pacs  # noqa: F401  # says at once what is not installed
    from pneumoscope.pacs.deidentification import Pseudonyms
    from pneumoscope.radiographs.sources import expand

    pseudonyms = Pseudonyms() if key is None else Pseudonyms(_read_key(key))
    names = list(read_names(paths))
    _check_apart(out, (Path(name) for name in names if os.path.isdir(name)))
    sources = list(expand(names, note=echo_stderr))
    _check_apart(out, (source.parent for source in sources if isinstance(source, Path)), is_inside_only=True)
    make_folder(out)
    written = 0
    texts: Counter[bool | None] = Counter()
    with progress_bar() as show_progress:
        for source in show_progress(sources, len(sources), "files"):
            try:
                texts[_write_deidentified(source, out, pseudonyms, keep_characteristics)] += 1
            except ImageError as error:
                echo_stderr(f"{getattr(error, 'path', source)} left out: {error}")
                continue
            written += 1
    print(f"{written} of {len(sources)} files written to {out}")
    if texts[True]:
        print(f"{texts[True]} seem to have text in the borders of the image: look at them before you give them away")
    if texts[None]:
        print(f"of {texts[None]} it is not known whether they have text: look at them before you give them away")
    raise typer.Exit(0 if written == len(sources) else 1)


def _check_apart(out: Path, folders: Iterable[Path], is_inside_only: bool = False) -> None:
    """Check that originals and new files do not mix.

    Args:
        out: folder of the new files.
        folders: of the originals.
        is_inside_only: only that no original lies in the folder of the new files.

    Raises:
        UsageError: a folder is that of the new files, or inside it, or the reverse.
    """
    new = Path(os.path.realpath(out))
    for folder in {Path(os.path.realpath(folder)) for folder in folders}:
        if folder.is_relative_to(new) or (new.is_relative_to(folder) and not is_inside_only):
            raise UsageError(
                f"expected --out outside the folders of the original files, received {out}: name a folder beside them"
            )


def _write_deidentified(
    source: "Source", out: Path, pseudonyms: "Pseudonyms", keep_characteristics: bool
) -> bool | None:
    """Write one file; returns whether there seems to be text in the borders of its image, None if it is not known."""
    from pneumoscope.pacs.burned_in_text import find_text_lines
    from pneumoscope.pacs.deidentification import deidentify as deidentify_file
    from pneumoscope.pacs.dicom_files import write_dicom
    from pneumoscope.radiographs.files import read_file
    from pneumoscope.radiographs.images import read_radiograph
    from pneumoscope.radiographs.sources import NothingFound

    if isinstance(source, NothingFound):
        raise source
    data = read_file(source)
    dataset = deidentify_file(data, pseudonyms, keep_characteristics)
    path = out / str(dataset.PatientID) / f"{dataset.SOPInstanceUID}.dcm"
    write_dicom(dataset, path)
    try:
        lines = find_text_lines(read_radiograph(data, any_age=True).pixels)
    except ImageError as error:
        echo_stderr(f"{path}: whether there is text in the image is not known: {error}")
        return None
    if lines:
        echo_stderr(f"{path}: there seems to be text in the borders of the image ({lines} lines)")
    return bool(lines)


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"expected a text file with the key at {path}, it cannot be read") from None
