"""A file is written whole or not at all, also through a kill -9."""

import io
import os
from pathlib import Path

import numpy as np


def write_atomic(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to the disk, then rename."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as ``.npz``, without pickle."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomic(path, content.getvalue())
