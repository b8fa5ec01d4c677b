"""Atomic writes: the old file or the new one, never a part."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pneumoscope.io.atomic import write_atomic, write_npz


def test_a_file_is_replaced_and_no_temporary_file_remains(tmp_path):
    path = tmp_path / "report.json"
    for content in (b"first", b"second, longer"):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomic(path, b"old")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_arrays_are_read_back_without_pickle(tmp_path):
    arrays = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "history": np.array("text")}
    write_npz(tmp_path / "best.npz", arrays)
    with np.load(tmp_path / "best.npz", allow_pickle=False) as saved:
        assert set(saved) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(saved[name], array)


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "overlay.png"
    contents = [bytes([number]) * 300_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: [write_atomic(path, content) for _ in range(5)], contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
