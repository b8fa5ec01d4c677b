"""Prefetching in threads: order, limit and errors."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from pneumoscope.io.prefetch import ordered_prefetch


@pytest.mark.parametrize("max_pending", [1, 2, 50])
def test_results_are_in_the_order_of_the_items(max_pending):
    with ThreadPoolExecutor(3) as pool:
        assert list(ordered_prefetch(pool, str, range(20), max_pending)) == [str(item) for item in range(20)]


def test_an_endless_iterator_is_taken_up_to_the_limit():
    taken = []
    items = (taken.append(item) or item for item in itertools.count())
    with ThreadPoolExecutor(2) as pool:
        results = ordered_prefetch(pool, lambda item: item, items, 4)
        for count in range(10):
            assert next(results) == count
            assert len(taken) == count + 4


def test_results_come_before_an_error_of_the_items():
    def items():
        yield from (1, 2, 3)
        raise OSError("no more")

    results = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(OSError, match="no more"):
        results.extend(ordered_prefetch(pool, abs, items(), 8))
    assert results == [1, 2, 3]


@pytest.mark.parametrize("max_pending", [1, 3, 20])
def test_an_error_of_the_work_comes_in_its_place(max_pending):
    """Later results must not come before it: they would take the place of the one that is missing."""

    def work(item):
        if item == 4:
            raise OSError("full")
        return item

    results = []
    with ThreadPoolExecutor(3) as pool, pytest.raises(OSError, match="full"):
        results.extend(ordered_prefetch(pool, work, range(10), max_pending))
    assert results == [0, 1, 2, 3]
