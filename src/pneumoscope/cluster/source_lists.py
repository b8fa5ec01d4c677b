"""A list of sources as text for a worker, and as a hash that changes when a file changes."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pneumoscope.errors import ImageError
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.radiographs.remote import is_address, stamp_address
from pneumoscope.radiographs.sources import NothingFound, Source
from pneumoscope.radiographs.zip_files import is_member_address, split_address

_THREADS = 32  # over a network, looking up size and date is mostly waiting


def encode_sources(sources: Sequence[Source]) -> str:
    """Sources as text. JSON escapes file names that are not UTF-8, so they arrive unchanged."""
    return json.dumps([_name_and_reason(source) for source in sources])


def decode_sources(text: str) -> list[Source]:
    """The sources of a text from :func:`encode_sources`; paths come back as strings."""
    return [NothingFound(name, reason) if reason else name for name, reason in json.loads(text)]


def has_relative_names(sources: Sequence[Source]) -> bool:
    """Whether a source is named relative to the working folder.

    >>> has_relative_names(["/a/b.png", "s3://bucket/a.png", "zip://m.png::/a/b.zip"]), has_relative_names(["a.png"])
    (False, True)
    """
    for source in sources:
        if isinstance(source, ImageError):
            continue
        path = split_address(source)[1] if is_member_address(source) else source
        if not is_address(path) and not os.path.isabs(path):
            return True
    return False


def hash_sources(sources: Sequence[Source]) -> str:
    """SHA-256 over the sources in order, each with its size and date."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        stamps = ordered_prefetch(pool, _stamp, sources, max_pending=8 * _THREADS)
        for source, stamp in zip(sources, stamps, strict=True):
            digest.update(json.dumps([*_name_and_reason(source), stamp]).encode() + b"\n")
    return digest.hexdigest()


def _name_and_reason(source: Source) -> tuple[str, str]:
    return (source.path, str(source)) if isinstance(source, NothingFound) else (str(source), "")


def _stamp(source: Source) -> str:
    """Size and date of a file; empty if there is no file."""
    if isinstance(source, ImageError):
        return ""
    if is_address(source):
        return stamp_address(source)
    try:
        status = os.stat(source)
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
