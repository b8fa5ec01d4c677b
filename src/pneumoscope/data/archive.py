"""A zip of labelled radiographs -> image files ``[split/]LABEL/.../name``.

Archives are untrusted input. Each member is checked by name, size and content before anything is written.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pneumoscope.data.class_names import ClassNames
from pneumoscope.data.layout import is_leftover, only_one, split_path
from pneumoscope.data.manifest import Refused
from pneumoscope.errors import DatasetError, ImageError, UnreadableImage
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS
from pneumoscope.radiographs import MAX_BYTES, image_size
from pneumoscope.radiographs.dicom.reader import is_dicom
from pneumoscope.radiographs.folders import find_images
from pneumoscope.radiographs.zip_files import MAX_TOTAL, member_problem, open_zip, read_member

_Tail = tuple[str, ...]  # [split/]LABEL/.../name, the part of a member's name that is kept


def extract_images(
    path: Path,
    out: Path,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None,
    names: ClassNames | None = None,
) -> list[Refused]:
    """Write the images of a zip below ``out`` as ``[split/]LABEL/name``.

    Args:
        path: the zip.
        out: folder for the images.
        progress: wraps the iteration over members.
        names: what the classes are called.

    Returns:
        The refused members with their reasons.

    Raises:
        DatasetError: not a zip, too large, ambiguous, no image to extract, or other images are in ``out`` already.
    """
    with _open_zip(path) as archive:
        wanted, refused = _choose_members(archive.infolist(), path, names)
        _check_out(out, set(wanted), path, names)
        written = 0
        members = list(wanted.items())
        for tail, member in progress(members) if progress else members:
            try:
                _extract_member(archive, member, out.joinpath(*tail))
                written += 1
            except ImageError as error:
                refused.append(Refused(member.filename, str(error)))
            except zipfile.BadZipFile as error:
                refused.append(Refused(member.filename, f"damaged in the archive ({error}): download it again"))
    if not written:
        first = f", the first: {refused[0].path}: {refused[0].reason}" if refused else ""
        raise DatasetError(
            f"expected folders {' and '.join(LABELS)} (or train, val, test with these inside) with images in {path}, "
            f"found none to extract ({len(refused)} members were refused{first})"
        )
    return refused


def _open_zip(path: Path) -> zipfile.ZipFile:
    if not path.exists():
        raise DatasetError(f"expected a folder or a zip file, found nothing at {path}: check the path")
    try:
        return open_zip(path)
    except UnreadableImage as error:
        raise DatasetError(str(error)) from None


def _choose_members(
    members: list[zipfile.ZipInfo], path: Path, names: ClassNames | None
) -> tuple[dict[_Tail, zipfile.ZipInfo], list[Refused]]:
    """Members to extract, by tail, and refused members. Leftovers and second copies are in neither."""
    refused: list[Refused] = []
    images: list[tuple[tuple[str, ...], _Tail, zipfile.ZipInfo]] = []  # (folders above, tail, member)
    others: list[zipfile.ZipInfo] = []
    for member in members:
        parts = tuple(part for part in member.orig_filename.split("/") if part not in ("", "."))
        problem = member_problem(member, MAX_BYTES)
        if problem:
            refused.append(Refused(member.orig_filename, problem))
        elif not member.is_dir() and not is_leftover(parts):
            above, tail = split_path(parts, names)
            if tail:
                images.append((above, tail, member))
            else:
                others.append(member)
    root = _data_root([above for above, _, _ in images], path)
    wanted: dict[_Tail, zipfile.ZipInfo] = {}
    for above, tail, member in images:
        if above == root and tail in wanted:
            refused.append(Refused(member.filename, "expected each name once in the archive, this one is repeated"))
        elif above == root:
            wanted[tail] = member
    where = " or ".join(LABELS)
    for member in [member for _, tail, member in images if tail not in wanted] + others:
        refused.append(Refused(member.filename, f"expected only images in folders {where}, this is elsewhere"))
    _check_total(wanted, path)
    return wanted, refused


def _data_root(folders: list[tuple[str, ...]], path: Path) -> tuple[str, ...]:
    """The shallowest of the folders that contain [split/]LABEL folders; a second copy may be in a deeper one."""
    depth = min((len(folder) for folder in folders), default=0)
    roots = sorted({"/".join(folder) for folder in folders if len(folder) == depth})
    return tuple(filter(None, only_one(roots, path).split("/"))) if roots else ()


def _check_total(wanted: dict[_Tail, zipfile.ZipInfo], path: Path) -> None:
    total = sum(member.file_size for member in wanted.values())
    if total > MAX_TOTAL:
        raise DatasetError(
            f"expected at most {MAX_TOTAL / 1e9:.3g} GB of images in {path}, its list announces {total / 1e9:.3g} GB: "
            "extract it yourself and name the folder"
        )


def _check_out(out: Path, wanted: set[_Tail], path: Path, names: ClassNames | None) -> None:
    """Refuse to mix two data sets: images that are in ``out`` already would get into the manifest unnoticed."""
    for file in find_images(out).images:
        above, tail = split_path(file.relative_to(out).parts, names)
        if tail and not above and tail not in wanted:
            raise DatasetError(
                f"expected nothing in {out} but images of {path}, found {'/'.join(tail)}: "
                "name an empty folder with --out"
            )


def _extract_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one image, complete or not at all, unless it is there already."""
    same_size = target.is_file() and target.stat().st_size == member.file_size
    if same_size and zlib.crc32(target.read_bytes()) == member.CRC:
        return
    data = read_member(archive, member)
    if not is_dicom(data):
        image_size(data)  # raises an error if this is no image
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, data)
