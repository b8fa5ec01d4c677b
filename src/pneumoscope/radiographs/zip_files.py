"""Files in a zip archive, read in memory. Archives are untrusted input: each member is checked before it is read.

A file in an archive has the address ``zip://MEMBER::ARCHIVE``, as in fsspec.
"""

import functools
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TypeGuard

from pneumoscope.errors import UnreadableImage

#: Largest number of members in one archive. Kaggle's has 17,600; two thirds are a second copy and macOS leftovers.
MAX_MEMBERS = 100_000
#: Largest size in bytes of all inflated images of one archive. Kaggle's need 1.2 GB.
MAX_TOTAL = 10 * 10**9

#: What zipfile raises on changed bytes: bad magic or CRC, a header cut off, a foreign version, a seek before the start.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)

# Reading these two can be bounded. A few bytes of bzip2 or LZMA become gigabytes in one call of the decoder.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_SCHEME = "zip://"


def is_member_address(source: object) -> TypeGuard[str]:
    """Whether a source is the address of a file in a zip archive.

    >>> is_member_address("zip://A/IM000001::export.zip"), is_member_address("export.zip")
    (True, False)
    """
    return isinstance(source, str) and source.startswith(_SCHEME) and "::" in source


def member_address(archive: str | Path, member: str) -> str:
    """The address of a file in an archive."""
    return f"{_SCHEME}{member}::{archive}"


def split_address(address: str) -> tuple[str, Path]:
    """Member and archive of an address from :func:`member_address`."""
    member, _, archive = address.removeprefix(_SCHEME).rpartition("::")
    return member, Path(archive)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive and read its list of members.

    Raises:
        UnreadableImage: not there, no zip archive, cut off, or with more than :data:`MAX_MEMBERS` members.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise UnreadableImage(
            f"expected a zip file at {path}, the system says {error.strerror}: check the path"
        ) from None
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE:
        if start == b"PK\3\4":
            raise UnreadableImage(
                f"expected a complete zip file, {path} is truncated or damaged: download it again", code="damaged"
            ) from None
        raise UnreadableImage(
            f"expected a folder or a zip file, {path} is neither: check the path", code="unsupported_format"
        ) from None
    count = len(archive.infolist())
    if count > MAX_MEMBERS:
        archive.close()
        raise UnreadableImage(
            f"expected at most {MAX_MEMBERS:,} members in {path}, found {count:,}: name a folder", code="too_large"
        )
    return archive


def member_problem(member: zipfile.ZipInfo, max_bytes: int) -> str:
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
    if member.file_size > max_bytes:
        return f"expected at most {max_bytes:,} bytes, this inflates to {member.file_size:,}"
    return ""


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int | None = None) -> bytes:
    """The bytes of a member, or its first ``limit`` bytes.

    Raises:
        zipfile.BadZipFile: damaged, or longer than its entry says.
    """
    try:
        with archive.open(member) as file:
            # Never read() without a bound: a member may inflate to more than its announced size, and fill the memory.
            data = file.read(member.file_size + 1 if limit is None else limit)
    except DAMAGE as error:
        raise zipfile.BadZipFile(str(error)) from None
    if limit is None and len(data) != member.file_size:
        raise zipfile.BadZipFile(f"{len(data)} bytes instead of {member.file_size}")
    return data


def read_member_address(address: str, max_bytes: int) -> bytes:
    """The bytes of the file at an address from :func:`member_address`.

    Raises:
        UnreadableImage: no such archive or member, a refused member, or a damaged one.
    """
    name, path = split_address(address)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImage(f"expected a zip file, the system says {reason}: check the path") from None
    archive = _open_once(path, status.st_mtime_ns, status.st_size)
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise UnreadableImage("expected this name in the archive, found none: check it", code="not_found") from None
    if problem := member_problem(member, max_bytes):
        raise UnreadableImage(problem)
    try:
        return read_member(archive, member)
    except zipfile.BadZipFile:
        raise UnreadableImage(
            "expected a whole file, this one is damaged in the archive: download it again", code="damaged"
        ) from None


@functools.lru_cache(maxsize=4)
def _open_once(path: Path, changed: int, size: int) -> zipfile.ZipFile:
    """An archive that stays open: its list is read once and not again for each member. Threads may share it."""
    return open_zip(path)
