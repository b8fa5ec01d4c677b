"""A zip of labelled radiographs -> image files ``[split/]LABEL/.../name``.

Archives are untrusted input. Each member is checked by name, size and content before anything is written.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pneumoscope.data.layout import is_leftover, only_one, split_path
from pneumoscope.data.manifest import Refused
from pneumoscope.errors import DatasetError, ImageError
from pneumoscope.labels import LABELS
from pneumoscope.radiographs import MAX_BYTES, image_size
from pneumoscope.radiographs.folders import find_images

#: Largest number of members in one archive. Kaggle's has 17,600; two thirds are a second copy and macOS leftovers.
MAX_MEMBERS = 100_000
#: Largest size in bytes of all inflated images of one archive. Kaggle's need 1.2 GB.
MAX_TOTAL = 10 * 10**9

#: What zipfile raises on changed bytes: bad magic or CRC, a header cut off, a foreign version, a seek before the start.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)

# Reading these two can be bounded. A few bytes of bzip2 or LZMA become gigabytes in one call of the decoder.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_Tail = tuple[str, ...]  # [split/]LABEL/.../name, the part of a member's name that is kept


def extract_images(path: Path, out: Path, progress: Callable[[Iterable[Any]], Iterable[Any]] | None) -> list[Refused]:
    """Write the images of a zip below ``out`` as ``[split/]LABEL/name``.

    Args:
        path: the zip.
        out: folder for the images.
        progress: wraps the iteration over members.

    Returns:
        The refused members with their reasons.

    Raises:
        DatasetError: not a zip, too large, ambiguous, no image to extract, or other images are in ``out`` already.
    """
    with _open_zip(path) as archive:
        wanted, refused = _choose_members(archive.infolist(), path)
        _check_out(out, set(wanted), path)
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
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise DatasetError(f"expected a folder or a zip file, found nothing at {path}: check the path") from None
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE:
        if start == b"PK\3\4":
            raise DatasetError(
                f"expected a complete zip file, {path} is truncated or damaged: download it again"
            ) from None
        raise DatasetError(f"expected a folder or a zip file, {path} is neither: check the path") from None
    count = len(archive.infolist())
    if count > MAX_MEMBERS:
        archive.close()
        raise DatasetError(f"expected at most {MAX_MEMBERS:,} members in {path}, found {count:,}: name a folder")
    return archive


def _choose_members(members: list[zipfile.ZipInfo], path: Path) -> tuple[dict[_Tail, zipfile.ZipInfo], list[Refused]]:
    """Members to extract, by tail, and refused members. Leftovers and second copies are in neither."""
    refused: list[Refused] = []
    images: list[tuple[tuple[str, ...], _Tail, zipfile.ZipInfo]] = []  # (folders above, tail, member)
    others: list[zipfile.ZipInfo] = []
    for member in members:
        parts = tuple(part for part in member.orig_filename.split("/") if part not in ("", "."))
        problem = _problem(member)
        if problem:
            refused.append(Refused(member.orig_filename, problem))
        elif not member.is_dir() and not is_leftover(parts):
            above, tail = split_path(parts)
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


def _problem(member: zipfile.ZipInfo) -> str:
    """Why a member is refused by its entry in the archive's list alone; an empty string if it is not."""
    name = member.orig_filename  # as stored in the archive; zipfile cleans its filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or ".." in name.split("/") or any(sign in name for sign in "\\:\0"):
        return "expected a name below the archive's own folder, this one may point outside"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"expected a file, this is a {'symbolic link' if kind == stat.S_IFLNK else 'special file'}"
    if member.flag_bits & 0x1:
        return "expected a file that can be read without a password, this one is encrypted"
    if member.compress_type not in _METHODS:
        return "expected a stored or deflated file, this one uses another compression: pack the zip again"
    if member.file_size > MAX_BYTES:
        return f"expected at most {MAX_BYTES:,} bytes, this inflates to {member.file_size:,}"
    return ""


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


def _check_out(out: Path, wanted: set[_Tail], path: Path) -> None:
    """Refuse to mix two data sets: images that are in ``out`` already would get into the manifest unnoticed."""
    for file in find_images(out).images:
        above, tail = split_path(file.relative_to(out).parts)
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
    data = _read_member(archive, member)
    image_size(data)  # raises an error if this is no image
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")  # a scan skips hidden files
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as file:
            # Never read() without a bound: a member may inflate to more than its announced size, and fill the memory.
            data = file.read(member.file_size + 1)
    except DAMAGE as error:
        raise zipfile.BadZipFile(str(error)) from None
    if len(data) != member.file_size:
        raise zipfile.BadZipFile(f"{len(data)} bytes instead of {member.file_size}")
    return data
