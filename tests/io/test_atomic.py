"""Atomic writes: the old file or the new one, never a part."""

import hashlib
import os
import random
import subprocess
import sys
import time
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


def test_what_a_killed_process_left_is_deleted_later(tmp_path):
    names = ".0123456789abcdef.partial", ".fedcba9876543210.partial", "0123456789abcdef.partial", ".other.partial"
    for name in names:
        (tmp_path / name).write_bytes(b"a part")
        os.utime(tmp_path / name, (1, 1))
    os.utime(tmp_path / names[1])  # of a process that may still write
    write_atomic(tmp_path / "report.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "report.json"}


KILLED = """
import hashlib, os, sys
from pathlib import Path
from pneumoscope.io.atomic import write_atomic
for number in range(10**9):
    body = os.urandom(200_000)
    write_atomic(Path(sys.argv[1]) / f"{number % 3}.bin", hashlib.sha256(body).digest() + body)
"""


def test_every_file_is_whole_although_its_writers_are_killed(tmp_path):
    chance = random.Random(0)

    def begin():
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])

    writers = [begin() for _ in range(3)]
    try:
        for _ in range(12):
            time.sleep(0.1 + 0.2 * chance.random())
            victim = writers.pop(chance.randrange(len(writers)))
            victim.kill()
            victim.wait()
            writers.append(begin())
            for path in tmp_path.glob("*.bin"):
                content = path.read_bytes()
                assert hashlib.sha256(content[32:]).digest() == content[:32], path
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert len(list(tmp_path.glob("*.bin"))) == 3


def test_a_file_that_is_open_elsewhere_is_replaced_a_moment_later(tmp_path, monkeypatch):
    """As on Windows, where the system refuses to replace a file that is open."""
    path, refusals = tmp_path / "report.json", [PermissionError(13, "open elsewhere")] * 3
    real = os.replace

    def replace(source, target):
        if refusals:
            raise refusals.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError):
        write_atomic(path, b"at once, as on other systems")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("pneumoscope.io.atomic._REPLACE_TRIES", 20)
    write_atomic(path, b"new")
    assert (path.read_bytes(), refusals) == (b"new", [])
