"""A folder -> the image files in it, at any depth; what is left out is counted, with the reason."""

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.containers import is_image
from pneumoscope.radiographs.files import MAX_BYTES
from pneumoscope.radiographs.images import SUFFIXES
from pneumoscope.radiographs.zip_files import MAX_TOTAL, member_problem, open_zip, read_member

#: Files and folders that systems, viewers and disks put beside images. DICOMDIR is the index of a DICOM disk.
LITTER = frozenset(
    ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir", "icon\r", "$recycle.bin", "@eadir",
     "lost+found", "system volume information")
)  # fmt: skip

HIDDEN = "hidden or system files and folders"
NO_IMAGE = "files without an ending that are no images"
NO_REGULAR_FILE = "pipes, sockets or devices"
BROKEN_LINK = "links to nothing"
SEARCHED_ALREADY = "links to folders that were searched already"
ARCHIVE = "zip archives (name an archive itself to read it)"
_OTHER_ENDING = "files ending in "

#: Bytes at the start of a file that show what it is.
HEAD = 512

# "IM000001" and "1.2.840.113619.2.5": exports name DICOM files without an ending, or by an identifier of numbers.
_WITHOUT_ENDING = re.compile(r"[^.]+|.*\.\d+", re.DOTALL)


@dataclass
class FolderContent:
    """What a folder contains.

    Attributes:
        images: paths of the image files, sorted.
        left_out: number of other files and folders, by reason.
        failures: folders and files that could not be looked into.
    """

    images: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    failures: list[OSError] = field(default_factory=list)

    def describe_left_out(self) -> str:
        """What was left out, in words; empty if nothing was.

        >>> FolderContent(left_out=Counter({"files ending in .txt": 2})).describe_left_out()
        '2 files ending in .txt'
        """
        return describe_counts(self.left_out)


def describe_counts(counts: Counter[str]) -> str:
    """Counts of reasons in words, the largest first."""
    return join_counts(in_order(counts))


def join_counts(counts: Mapping[str, int]) -> str:
    """Counts of reasons in words, in the order that they have."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def in_order(counts: Counter[str]) -> dict[str, int]:
    """Counts above 0, the largest first, equal ones by name."""
    return dict(sorted((+counts).items(), key=lambda item: (-item[1], item[0])))


def find_images(folder: str | Path, skip: Collection[Path] = ()) -> FolderContent:
    """Find the image files in a folder and its subfolders.

    A file is an image by the ending of its name, or by its first bytes if the name has no ending. A link to a folder is
    followed once, after all other folders; links that lead in a circle end there.

    Args:
        folder: to look into.
        skip: folders to leave out without counting them; not the folder itself.
    """
    content = FolderContent()
    searched = {identity for path in skip if (identity := _identity(path))} - {_identity(folder)}
    folders, links = [os.fspath(folder)], list[str]()
    while folders or links:
        is_link = not folders
        path = links.pop(0) if is_link else folders.pop()
        identity = _identity(path)
        if identity in searched:
            content.left_out[SEARCHED_ALREADY] += is_link
            continue
        if identity:
            searched.add(identity)
        for entry, kind in _list_folder(path, content):
            if kind == "folder":
                (links if entry.is_symlink() else folders).append(entry.path)
            elif kind:
                content.left_out[kind] += 1
            else:
                content.images.append(Path(entry.path))
    content.images.sort()
    return content


def find_images_in_zip(path: Path) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Find the image files in a zip archive.

    Returns:
        (member, why it is refused or an empty string), sorted, and the number of other members by reason.

    Raises:
        UnreadableImage: no zip archive, a damaged one, or one that inflates to too much.
    """
    found: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    with open_zip(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if sum(member.file_size for member in members) > MAX_TOTAL:
            raise UnreadableImage(
                f"expected at most {MAX_TOTAL / 1e9:.3g} GB in {path}, its list announces more: extract it yourself",
                code="too_large",
            )
        for member in members:
            reason, problem = _judge_member(archive, member)
            if reason or member.filename in found:
                left_out[reason or "members whose name is there twice"] += 1
            else:
                found[member.filename] = problem
    return sorted(found.items()), left_out


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or put there by a system and not by a person.

    >>> is_litter(".DS_Store"), is_litter("Thumbs.db"), is_litter("a.png")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in LITTER


def has_no_ending(name: str) -> bool:
    """Whether a file name says nothing of the format.

    >>> has_no_ending("IM000001"), has_no_ending("1.2.840.10008.5"), has_no_ending("a.png")
    (True, True, False)
    """
    return _WITHOUT_ENDING.fullmatch(name) is not None


def reason_by_name(name: str) -> str | None:
    """Why a file is no image, by its name alone.

    Returns:
        A reason; an empty string for an image; None if the first bytes have to decide.
    """
    if is_litter(name):
        return HIDDEN
    if name.lower().endswith(SUFFIXES):
        return ""
    if has_no_ending(name):
        return None
    ending = os.path.splitext(name)[1].lower()
    if ending == ".zip":
        return ARCHIVE
    return _OTHER_ENDING + (ending if re.fullmatch(r"\.[a-z0-9_]{1,8}", ending) else "something else")


def _list_folder(path: str, content: FolderContent) -> Iterator[tuple["os.DirEntry[str]", str]]:
    """Each entry of a folder with ``"folder"``, the reason to leave it out, or an empty string for an image."""
    try:
        with os.scandir(path) as entries:
            listed = list(entries)
    except OSError as error:
        content.failures.append(error)
        return
    for entry in listed:
        try:
            yield entry, _kind(entry)
        except OSError as error:
            content.failures.append(error)


def _kind(entry: "os.DirEntry[str]") -> str:
    if is_litter(entry.name):
        return HIDDEN
    if entry.is_dir():
        return "folder"
    if not entry.is_file():  # a link to nothing, or no regular file
        return BROKEN_LINK if entry.is_symlink() and not os.path.exists(entry.path) else NO_REGULAR_FILE
    reason = reason_by_name(entry.name)
    if reason is None:
        with open(entry.path, "rb") as file:
            reason = "" if is_image(file.read(HEAD)) else NO_IMAGE
    return reason


def _judge_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, str]:
    """Why a member is left out, and why it is refused; both are empty for an image."""
    parts = member.filename.replace("\\", "/").split("/")
    if any(is_litter(part) for part in parts if part not in (".", "..")):
        return HIDDEN, ""
    reason = reason_by_name(parts[-1])
    problem = member_problem(member, MAX_BYTES)
    if reason is None and not problem:
        try:
            reason = "" if is_image(read_member(archive, member, HEAD)) else NO_IMAGE
        except zipfile.BadZipFile:
            problem = "expected a whole file, this one is damaged in the archive: download it again"
    return reason or "", problem


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What identifies a folder, whatever path leads to it; None if it cannot be found out."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
