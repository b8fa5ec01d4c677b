"""Cached arrays: computed once, resumed after an interruption, never with rows of another array."""

import threading
import time

import numpy as np
import pytest

from pneumoscope.errors import RunError
from pneumoscope.training.cache import cache_key, cached_rows

ROWS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


class Work:
    """Yields ROWS in blocks of three; stops like a killed process before ``stop_at``."""

    def __init__(self, stop_at: int = 99, rows: np.ndarray = ROWS) -> None:
        self.stop_at, self.rows, self.starts, self.made = stop_at, rows, [], 0

    def __call__(self, start):
        self.starts.append(start)
        for first in range(start, len(self.rows), 3):
            if first >= self.stop_at:
                raise KeyboardInterrupt("killed")
            self.made += 1
            yield self.rows[first : first + 3]


def cached(path, work, shape=ROWS.shape, dtype=np.float32):
    return np.array(cached_rows(path, shape, dtype, work))


def test_the_second_time_costs_nothing(tmp_path):
    path = tmp_path / "cache" / "rows.npy"
    first, second = Work(), Work()
    np.testing.assert_array_equal(cached(path, first), ROWS)
    np.testing.assert_array_equal(cached(path, second), ROWS)
    assert (first.starts, second.starts) == ([0], [])
    assert list(path.parent.iterdir()) == [path]


def test_the_array_cannot_be_changed(tmp_path):
    array = cached_rows(tmp_path / "rows.npy", ROWS.shape, np.float32, Work())
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


@pytest.mark.parametrize("stop_at", [3, 6, 9])
def test_an_interrupted_pass_continues_where_it_stopped(tmp_path, stop_at):
    path = tmp_path / "rows.npy"
    with pytest.raises(KeyboardInterrupt, match="killed"):
        cached(path, Work(stop_at))
    assert not path.exists()
    rest = Work()
    np.testing.assert_array_equal(cached(path, rest), ROWS)
    assert rest.starts == [stop_at]
    assert rest.made == -(-(10 - stop_at) // 3)
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_again_and_again_it_ends_the_same(tmp_path):
    path = tmp_path / "rows.npy"
    for stop_at in (0, 3, 3, 6, 9):
        with pytest.raises(KeyboardInterrupt, match="killed"):
            cached(path, Work(stop_at))
    np.testing.assert_array_equal(cached(path, Work()), ROWS)


def test_killed_between_the_last_row_and_the_rename(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, ROWS)
    path.rename(tmp_path / "rows.partial")
    (tmp_path / "rows.done").write_text("10")
    work = Work()
    np.testing.assert_array_equal(cached(path, work), ROWS)
    assert (work.starts, work.made) == ([10], 0)


@pytest.mark.parametrize("mark", ["", "three", "-1", "99"])
def test_a_damaged_count_never_damages_the_array(tmp_path, mark):
    path = tmp_path / "rows.npy"
    with pytest.raises(KeyboardInterrupt, match="killed"):
        cached(path, Work(6))
    (tmp_path / "rows.done").write_text(mark)
    work = Work()
    np.testing.assert_array_equal(cached(path, work), ROWS)
    assert work.starts == [0]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array at all"])
@pytest.mark.parametrize("name", ["rows.npy", "rows.partial"])
def test_a_damaged_file_is_made_again(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "rows.done").write_text("6")
    work = Work()
    np.testing.assert_array_equal(cached(tmp_path / "rows.npy", work), ROWS)
    assert work.starts == [0]


@pytest.mark.parametrize("name", ["rows.npy", "rows.partial"])
@pytest.mark.parametrize("other", [ROWS[:7], ROWS.astype(np.float64), ROWS.reshape(5, 6)])
def test_another_array_under_the_name_is_made_again(tmp_path, name, other):
    with (tmp_path / name).open("wb") as file:
        np.save(file, other)
    (tmp_path / "rows.done").write_text("3")
    work = Work()
    np.testing.assert_array_equal(cached(tmp_path / "rows.npy", work), ROWS)
    assert work.starts == [0]


def test_too_few_rows_are_no_array(tmp_path):
    with pytest.raises(RunError, match=r"expected 12 rows for .*rows.npy, received 10"):
        cached(tmp_path / "rows.npy", Work(), shape=(12, 3))
    assert not (tmp_path / "rows.npy").exists()


def in_threads(call, count):
    """The results of a call in several threads at once."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return results


def test_of_several_trainings_one_computes_and_the_others_wait(tmp_path):
    path, work = tmp_path / "cache" / "rows.npy", Work()

    def slow(start):
        for block in work(start):
            time.sleep(0.05)
            yield block

    results = in_threads(lambda: cached(path, slow), 4)
    assert (len(results), work.made, work.starts) == (4, 4, [0])
    assert all(np.array_equal(result, ROWS) for result in results)
    assert list(path.parent.iterdir()) == [path]


def test_without_locks_two_trainings_may_fill_one_cache(tmp_path, monkeypatch):
    """Both compute the same rows; the second one finds the file in place."""
    monkeypatch.setattr("pneumoscope.training.cache.lock_file", lambda *arguments, **options: None)
    path = tmp_path / "rows.npy"
    begun, both_half_way = threading.Event(), threading.Barrier(2, timeout=10)

    def blocks(start):
        for first in range(start, 10, 3):
            if first == 3:
                begun.set()
            if first == 6:
                both_half_way.wait()
            yield ROWS[first : first + 3]

    results = []
    threads = [threading.Thread(target=lambda: results.append(cached(path, blocks))) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert begun.wait(timeout=10)
    for thread in threads:
        thread.join()
    assert len(results) == 2
    for result in results:
        np.testing.assert_array_equal(result, ROWS)


def test_a_key_depends_on_every_part_and_their_order():
    keys = {cache_key(*parts) for parts in [(), ("a",), ("a", "b"), ("b", "a"), ("ab",), (1, 2), (12,)]}
    assert len(keys) == 7
    assert cache_key(150, "area") == cache_key(150, "area") == "61c70a2e967bed0f"  # the same on every machine


def test_a_changed_key_computes_again(tmp_path):
    for seed in (0, 1):
        rows = np.random.default_rng(seed).normal(size=(10, 3)).astype(np.float32)
        work = Work(rows=rows)
        np.testing.assert_array_equal(cached(tmp_path / f"rows-{cache_key(seed)}.npy", work), rows)
        assert work.starts == [0]


def test_a_key_takes_names_that_are_no_utf_8():
    assert cache_key("r\udcf6ntgen.png") != cache_key("r\udcf7ntgen.png")
