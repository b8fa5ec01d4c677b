"""Kaggle, a zip or a folder -> checked radiographs and their manifest.

An archive is untrusted: its members are judged by name, size and content before anything is written.
"""

import contextlib
import os
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pneumoscope.data.manifest import (
    KAGGLE_COUNTS,
    MANIFEST_NAME,
    OFFICIAL_SPLITS,
    Manifest,
    Refused,
    scan_folder,
    write_manifest,
)
from pneumoscope.errors import DatasetError, ImageError, MissingExtra
from pneumoscope.labels import LABELS
from pneumoscope.radiographs.images import MAX_BYTES, image_size

#: "Chest X-Ray Images (Pneumonia)", Kermany et al. 2018, as Paul Mooney put it on Kaggle.
KAGGLE_SET = "paultimothymooney/chest-xray-pneumonia"

#: Members in one archive; Kaggle's has 17,600, two thirds of them a second copy and macOS leftovers.
MAX_MEMBERS = 100_000
#: Bytes that all images of one archive inflate to; Kaggle's need 1.2 GB.
MAX_TOTAL = 10 * 10**9
#: Folders between the one named and the one with train, val and test; Kaggle's needs one.
MAX_DEPTH = 4

_HELD_BACK = "__MACOSX"  # macOS puts the ._ files of an archive in here
# Bounded while inflating; a few bytes of bzip2 or LZMA become gigabytes inside one call of the decoder.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises on altered bytes: bad magic or CRC, a header cut off, a foreign version, a seek before the start.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)

_BY_HAND = "or download the zip in a browser and name it with  --from FILE.zip"
_GO_ON = "run the same command again, the download goes on where it stopped"


@dataclass(frozen=True)
class FetchResult:
    """What was fetched, and what was not.

    Attributes:
        manifest: the readable radiographs.
        manifest_path: the CSV it was written to.
        refused: files that did not enter it, by name, with the reason.
        count_errors: one sentence for each split and label whose count is not Kaggle's.
    """

    manifest: Manifest
    manifest_path: Path
    refused: list[Refused]
    count_errors: list[str]


def fetch(out: str | Path, source: str | Path | None = None, *, progress: Callable | None = None) -> FetchResult:
    """Get labelled radiographs, decode every one, and write ``out/manifest.csv``.

    Kaggle's files stay in kagglehub's cache (``KAGGLEHUB_CACHE`` moves it) and a folder is used where it
    lies: the manifest names both by absolute path. The images of a zip are extracted to ``out``; what an
    interrupted call has extracted is kept. The shallowest folder that holds train, val and test, or the
    label folders, is the data; a second copy of it further down and macOS leftovers are passed over.

    Args:
        out: folder for the manifest and for the images of an archive; made if it is not there.
        source: a zip or a folder; the Kaggle set if None.
        progress: wraps the iterations over files, to show how far they are.

    Returns:
        The manifest, what was refused, and where the counts differ from Kaggle's. A collection without
        train, val and test folders is not counted.

    Raises:
        DatasetError: no data there, an archive that is none, or a download that failed.
        MissingExtra: Kaggle asked for, kagglehub not installed.

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
        if source is None:
            folder = _data_folder(_download())
        elif Path(source).is_dir():
            folder = _data_folder(Path(os.path.abspath(source)))
        else:
            folder, refused = out, _extract(Path(source), out, progress)
        manifest, unreadable = scan_folder(folder, relative_to=out, progress=progress)
        manifest_path = out / MANIFEST_NAME
        write_manifest(manifest, manifest_path)
    except OSError as error:
        raise DatasetError(
            f"expected to read and write {error.filename or out}, the system says {error.strerror or error}: "
            "check the rights and the room on the disk, then run the same command again, it goes on"
        ) from None
    return FetchResult(manifest, manifest_path, refused + unreadable, _count_errors(manifest, folder))


def _download() -> Path:
    """The folder that kagglehub downloads to, or has downloaded before.

    Not through its ``output_dir``: that refuses a folder with half a download in it, the cache resumes it.
    """
    with contextlib.redirect_stdout(sys.stderr):  # it reports on standard output, which is kept for results
        try:
            import kagglehub
        except ImportError:
            raise MissingExtra("downloading from Kaggle", "train", "kagglehub") from None
        import requests

        try:
            return Path(kagglehub.dataset_download(KAGGLE_SET))
        except requests.RequestException as error:
            raise _request_error(error) from None
        except OSError as error:  # after requests' own errors, which are of this kind too
            raise DatasetError(
                f"expected to keep the download in {error.filename or 'the cache of kagglehub'}, the system says "
                f"{error.strerror or error}: make room or set KAGGLEHUB_CACHE to another folder, and {_GO_ON}"
            ) from None
        except Exception as error:  # kagglehub's own errors share no base class
            raise _kagglehub_error(error) from None


def _request_error(error: Exception) -> DatasetError:
    """One sentence for what ``requests`` raises; its own would show the signed address of the download."""
    import requests

    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return _credentials_error(f"HTTP {status}")
    if status == 404:
        return DatasetError(f"expected the data set {KAGGLE_SET} on Kaggle, received HTTP 404: try later, {_BY_HAND}")
    if status is not None:
        return DatasetError(f"expected the data set from Kaggle, received HTTP {status}: try later, {_BY_HAND}")
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return DatasetError(
            f"expected an answer from Kaggle, could not connect ({type(error).__name__}): check the network and the "
            f"proxy, and {_GO_ON}, {_BY_HAND}"
        )
    return DatasetError(
        f"expected the whole download from Kaggle, the transfer broke off ({type(error).__name__}): "
        f"{_GO_ON}, {_BY_HAND}"
    )


def _kagglehub_error(error: Exception) -> DatasetError:
    if "credentials" in str(error).lower() or "authenticated" in str(error).lower():
        return _credentials_error(str(error))
    if type(error).__name__ == "DataCorruptionError" or isinstance(error, _DAMAGE):
        _discard_archive()
        return DatasetError(
            "expected a whole archive from Kaggle, received a damaged one, which was deleted: "
            f"run the same command again, {_BY_HAND}"
        )
    return DatasetError(f"expected a download from Kaggle, kagglehub says {error}: try again, {_BY_HAND}")


def _credentials_error(received: str) -> DatasetError:
    return DatasetError(
        f"expected valid Kaggle credentials, received {received}: create an API token in the settings of your Kaggle "
        "account and save it as ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY, or KAGGLE_API_TOKEN, "
        f"{_BY_HAND}"
    )


def _discard_archive() -> None:
    """Delete what kagglehub keeps to resume from: it takes any file of the full size for a good one."""
    from kagglehub.config import get_cache_folder

    for archive in Path(get_cache_folder(), "datasets", KAGGLE_SET).glob("*.archive"):
        archive.unlink()


def _data_folder(folder: Path) -> Path:
    """The shallowest folder with [train|val|test/]LABEL folders; the folder itself if there is none."""
    level = [folder]
    for _ in range(MAX_DEPTH + 1):
        found = [path for path in level if _holds_data(path)]
        if found:
            return _only(found, folder)
        level = [
            child
            for path in level
            for child in sorted(path.iterdir())
            if child.is_dir() and not _is_leftover((child.name,)) and os.access(child, os.R_OK | os.X_OK)
        ]
    return folder


def _holds_data(folder: Path) -> bool:
    return any((folder / split / label).is_dir() for split in ("", *OFFICIAL_SPLITS) for label in LABELS)


def _is_leftover(parts: tuple[str, ...]) -> bool:
    """Of macOS: .DS_Store, ._name and the folder __MACOSX; other hidden files are no data either."""
    return any(part == _HELD_BACK or part.startswith(".") for part in parts)


def _only(found: list, source: Path) -> Path | str:
    if len(found) > 1:
        raise DatasetError(
            f"expected one folder with {', '.join(OFFICIAL_SPLITS)} or {', '.join(LABELS)} in {source}, found "
            f"{len(found)} ({found[0]}, {found[1]}): name one of them"
        )
    return found[0]


def _extract(path: Path, out: Path, progress: Callable | None) -> list[Refused]:
    """Write the images of a zip below ``out`` as [split/]LABEL/name; returns the members refused."""
    with _open_zip(path) as archive:
        wanted, refused = _choose_members(archive.infolist(), path)
        _check_out(out, set(wanted), path)
        written = 0
        for tail, member in (progress or iter)(list(wanted.items())):
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
    except _DAMAGE:
        if start == b"PK\3\4":
            raise DatasetError(f"expected a whole zip file, {path} is cut off or damaged: download it again") from None
        raise DatasetError(f"expected a folder or a zip file, {path} is neither: check the path") from None
    if len(archive.infolist()) > MAX_MEMBERS:
        count = len(archive.infolist())
        archive.close()
        raise DatasetError(f"expected at most {MAX_MEMBERS:,} members in {path}, found {count:,}: name a folder")
    return archive


def _choose_members(
    members: list[zipfile.ZipInfo], path: Path
) -> tuple[dict[tuple[str, ...], zipfile.ZipInfo], list[Refused]]:
    """Members to extract by [split/]LABEL/name, and those refused; leftovers and second copies are in neither."""
    refused, placed, elsewhere = [], [], []
    for member in members:
        parts = tuple(part for part in member.orig_filename.split("/") if part not in ("", "."))
        problem = _problem(member)
        if problem:
            refused.append(Refused(member.orig_filename, problem))
        elif not member.is_dir() and not _is_leftover(parts):
            prefix, tail = _place(parts)
            (placed if tail else elsewhere).append((prefix, tail, member))
    depth = min((len(prefix) for prefix, _, _ in placed), default=0)
    roots = sorted({"/".join(prefix) for prefix, _, _ in placed if len(prefix) == depth})
    root = tuple(filter(None, _only(roots, path).split("/"))) if roots else ()

    wanted: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    for prefix, tail, member in placed:
        if prefix == root and tail in wanted:
            refused.append(Refused(member.filename, "expected each name once in the archive, this one comes again"))
        elif prefix == root:
            wanted[tail] = member
    for _, tail, member in placed + elsewhere:
        if tail not in wanted:
            where = " or ".join(LABELS)
            refused.append(Refused(member.filename, f"expected only images in folders {where}, this lies elsewhere"))
    total = sum(member.file_size for member in wanted.values())
    if total > MAX_TOTAL:
        raise DatasetError(
            f"expected at most {MAX_TOTAL / 1e9:.3g} GB of images in {path}, its list announces {total / 1e9:.3g} GB: "
            "extract it yourself and name the folder"
        )
    return wanted, refused


def _problem(member: zipfile.ZipInfo) -> str:
    """Why a member is not even looked at, from the archive's list; an empty string if it may be."""
    name = member.orig_filename  # as it stands in the archive; zipfile cleans its filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or ".." in name.split("/") or any(sign in name for sign in "\\:\0"):
        return "expected a name below the archive's own folder, this one points or may point outside"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"expected a file, this is a {'symbolic link' if kind == stat.S_IFLNK else 'special file'}"
    if member.flag_bits & 0x1:
        return "expected a file that can be read without a password, this one is encrypted"
    if member.compress_type not in _METHODS:
        return "expected a stored or deflated file, this one is compressed another way: pack the zip again"
    if member.file_size > MAX_BYTES:
        return f"expected at most {MAX_BYTES:,} bytes, this inflates to {member.file_size:,}"
    return ""


def _place(parts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(folders above, [split/]LABEL/name); the second is empty outside of label folders."""
    if len(parts) < 2 or parts[-2] not in LABELS:
        return parts[:-1], ()
    start = len(parts) - (3 if len(parts) > 2 and parts[-3] in OFFICIAL_SPLITS else 2)
    return parts[:start], parts[start:]


def _check_out(out: Path, wanted: set[tuple[str, ...]], path: Path) -> None:
    """Another data set below ``out`` would be mixed into the manifest unseen."""
    for split in ("", *OFFICIAL_SPLITS):
        for label in LABELS:
            for file in sorted((out / split / label).glob("*")):
                tail = file.relative_to(out).parts
                if tail not in wanted and file.is_file() and not _is_leftover(tail):
                    raise DatasetError(
                        f"expected nothing in {out} but images of {path}, found {'/'.join(tail)}: "
                        "name an empty folder with --out"
                    )


def _extract_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one image, whole or not at all, unless it is there already."""
    there = target.is_file() and target.stat().st_size == member.file_size
    if there and zlib.crc32(target.read_bytes()) == member.CRC:
        return
    data = _read_member(archive, member)
    image_size(data)  # raises on anything but a JPEG or PNG
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")  # hidden: no scan takes it for an image
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as file:
            # Never read() without a bound: what inflates beyond the size in the list would all be held in memory.
            data = file.read(member.file_size + 1)
    except _DAMAGE as error:
        raise zipfile.BadZipFile(str(error)) from None
    if len(data) != member.file_size:
        raise zipfile.BadZipFile(f"{len(data)} bytes instead of {member.file_size}")
    return data


def _count_errors(manifest: Manifest, folder: Path) -> list[str]:
    if not any((folder / split).is_dir() for split in OFFICIAL_SPLITS):
        return []
    found = manifest.counts()
    return [
        f"expected {expected} {label} images in {split}, found {found.get((split, label), 0)}: "
        + ("fetch a complete copy" if found.get((split, label), 0) < expected else "this is not the Kaggle set alone")
        for (split, label), expected in KAGGLE_COUNTS.items()
        if found.get((split, label), 0) != expected
    ]
