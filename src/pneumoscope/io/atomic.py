"""Atomic writes: a file is complete or absent, even if the process is killed. And reading back what may be damaged."""

import io
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush to disk, then rename. Each writer has its own name, so two do not mix."""
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
