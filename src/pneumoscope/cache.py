"""Arrays that cost a pass over the data, kept on disk by what they were made of; a cut-off pass goes on."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np


def cache_key(*parts: object) -> str:
    """Short hash over everything an array depends on."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


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
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, done = path.with_suffix(".partial"), path.with_suffix(".done")
        for _ in _fill(partial, done, shape, dtype, rows_from):
            pass
        os.replace(partial, path)
        done.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def _fill(partial: Path, done: Path, shape: tuple, dtype: np.dtype, rows_from: Callable) -> Iterator[int]:
    start = int(done.read_text() or 0) if done.is_file() and partial.is_file() else 0
    array = np.lib.format.open_memmap(partial, mode="r+" if start else "w+", dtype=dtype, shape=shape)
    for block in rows_from(start):
        array[start : start + len(block)] = block
        array.flush()
        start += len(block)
        done.with_suffix(".done-new").write_text(str(start))
        os.replace(done.with_suffix(".done-new"), done)
        yield start
