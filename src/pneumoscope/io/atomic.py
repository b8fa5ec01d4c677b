"""Atomic writes: a file is complete or absent, even if the process is killed. And reading back what may be damaged."""

import functools
import io
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")
_LEFTOVER_SECONDS = 3600  # no write takes so long
_REPLACE_TRIES = 20 if os.name == "nt" else 1  # Windows replaces no file that another process has open


def write_atomic(path: Path, content: bytes, durable: bool = False) -> None:
    """Write to a temporary name, flush to disk, then rename. Each writer has its own name, so two do not mix.

    A process that is killed leaves its temporary file. The next one that writes into the folder, an hour later or more,
    deletes it.

    Args:
        path: of the file.
        content: of it.
        durable: flush the folder, too, so that a machine that loses its power has the file under its name.
    """
    _delete_leftovers(path.parent)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _replace(partial, path)
        if durable:
            _flush_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(partial: Path, path: Path) -> None:
    for _ in range(_REPLACE_TRIES - 1):
        with suppress(PermissionError):
            os.replace(partial, path)
            return
        time.sleep(0.05)
    os.replace(partial, path)


@functools.lru_cache(maxsize=256)  # once for each folder of a process
def _delete_leftovers(folder: Path) -> None:
    """Delete temporary files of processes that were killed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PARTIAL.fullmatch(entry.name):
                with suppress(OSError):  # another process deletes it, too
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFTOVER_SECONDS:
                        os.unlink(entry.path)


def write_npz(path: Path, arrays: "dict[str, np.ndarray]") -> None:
    """Write arrays of numbers or text as ``.npz``; these need no pickle."""
    import numpy as np  # here, as --help needs this package but not NumPy

    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # the stub allows a key to be the bool allow_pickle; none is
    write_atomic(path, content.getvalue())


def read_npz(path: Path) -> "dict[str, np.ndarray]":
    """Read what :func:`write_npz` wrote, all of it.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged.
    """
    import zipfile

    import numpy as np

    try:
        # NumPy leaves a file that it opens by name open if it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError:
        raise
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from None
