"""Arrays that need a pass over all data, cached on disk under a hash of their inputs; a pass can be resumed."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from pneumoscope.errors import RunError
from pneumoscope.io.locks import lock_file


def cache_key(*parts: object) -> str:
    """Short hash of everything that an array depends on."""
    return hashlib.sha256("\n".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()[:16]


def cached_rows(
    path: Path,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    rows_from: Callable[[int], Iterable[np.ndarray]],
) -> np.ndarray:
    """An array that is computed block by block, or read from ``path`` if it is there already.

    An interrupted computation (Ctrl-C, kill -9) continues after the last block that reached the disk.

    Args:
        path: of the finished ``.npy``; while it is made, ``.partial`` and ``.done`` files lie beside it.
        shape: (N, ...) of the whole array.
        dtype: of the array.
        rows_from: called with the number of the first missing row; yields blocks of rows from there on.

    Returns:
        The array, memory-mapped read-only.

    Raises:
        RunError: the blocks end before the last row, or the file cannot be read back.
    """
    array = _open(path, "r", shape, dtype)
    if array is not None:
        return array
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, done = path.with_suffix(".partial"), path.with_suffix(".done")
    with partial.open("ab") as file:
        lock_file(file, partial, wait=True)  # another training may compute the same array
        array = _open(path, "r", shape, dtype)
        if array is not None:  # it has
            partial.unlink(missing_ok=True)
            return array
        _fill(partial, done, shape, dtype, rows_from)
        try:
            os.replace(partial, path)
        except FileNotFoundError:  # without locks, another training renamed the same array first
            if not path.is_file():
                raise
    done.unlink(missing_ok=True)
    array = _open(path, "r", shape, dtype)
    if array is None:
        raise RunError(f"expected at {path} the array just written, found another file: run it again")
    return array


def _open(
    path: Path, mode: Literal["r", "r+"], shape: tuple[int, ...], dtype: DTypeLike
) -> np.memmap[Any, np.dtype[Any]] | None:
    """Map a ``.npy`` file; None where it is missing, damaged, or another array."""
    try:
        array = np.lib.format.open_memmap(path, mode=mode)
    except (OSError, ValueError):
        return None
    return array if array.shape == tuple(shape) and array.dtype == dtype else None


def _fill(
    partial: Path,
    done: Path,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    rows_from: Callable[[int], Iterable[np.ndarray]],
) -> None:
    """Write the rows that ``partial`` lacks; ``done`` holds how many are complete."""
    array, start = _open(partial, "r+", shape, dtype), 0
    if array is None:
        done.unlink(missing_ok=True)  # it counts the rows of another file
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
