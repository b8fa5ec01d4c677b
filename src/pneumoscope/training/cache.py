"""Arrays that cost a pass over the data, kept on disk by what they were made of; a cut-off pass goes on."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from pneumoscope.errors import RunError


def cache_key(*parts: object) -> str:
    """Short hash over everything an array depends on."""
    return hashlib.sha256("\n".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:16]


def cached_rows(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    rows_from: Callable[[int], Iterable[np.ndarray]],
) -> np.ndarray:
    """An array computed row block by row block, read from ``path`` where it already lies there.

    A computation that is cut off (Ctrl-C, kill -9) goes on after the last block that reached the disk.

    Args:
        path: of the finished ``.npy``; ``.partial`` and ``.done`` files stand beside it while it is made.
        shape: (N, ...) of the whole array.
        dtype: of the array.
        rows_from: called with the first missing row; yields blocks of following rows.

    Returns:
        The array, memory-mapped read-only.

    Raises:
        RunError: the blocks end before the last row.
    """
    array = _open(path, "r", shape, dtype)
    if array is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, done = path.with_suffix(".partial"), path.with_suffix(".done")
        _fill(partial, done, shape, dtype, rows_from)
        try:
            os.replace(partial, path)
        except FileNotFoundError:  # another training made the same array and was here first
            if not path.is_file():
                raise
        done.unlink(missing_ok=True)
        array = _open(path, "r", shape, dtype)
    return array


def _open(path: Path, mode: str, shape: tuple, dtype: np.dtype) -> np.memmap | None:
    """Map a ``.npy`` file; None where it is not there, spoilt, or another array."""
    try:
        array = np.lib.format.open_memmap(path, mode=mode)
    except (OSError, ValueError):
        return None
    return array if array.shape == tuple(shape) and array.dtype == dtype else None


def _fill(partial: Path, done: Path, shape: tuple, dtype: np.dtype, rows_from: Callable) -> None:
    array, start = _open(partial, "r+", shape, dtype), 0
    if array is None:
        done.unlink(missing_ok=True)  # it spoke of another file
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    elif done.is_file() and (text := done.read_text()).isdecimal() and int(text) <= shape[0]:
        start = int(text)
    for block in rows_from(start):
        array[start : start + len(block)] = block
        array.flush()
        start += len(block)
        done.write_text(str(start))
    if start != shape[0]:
        raise RunError(f"expected {shape[0]} rows for {partial.with_suffix('.npy')}, received {start}: run it again")
