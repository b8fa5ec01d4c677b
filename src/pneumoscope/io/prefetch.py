"""Work in threads: a limited number of items at a time, results in the order of the items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_prefetch(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], max_pending: int
) -> Iterator[Result]:
    """Apply ``work`` to each item in the threads of ``pool``, like ``map``.

    Args:
        pool: runs the work.
        work: called with one item.
        items: may be endless. If the iterator raises an error, the results of the items before it come first. If the
            work on an item raises one, it comes in the place of its result, and nothing after it.
        max_pending: items that are taken before the first of their results is needed.

    Yields:
        One result an item, in the order of the items.

    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(ordered_prefetch(pool, abs, [-1, 2, -3], max_pending=2))
    [1, 2, 3]
    """
    pending: deque[Future[Result]] = deque()
    iterator, error_of_items = iter(items), None
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            break
        except Exception as error:
            error_of_items = error
            break
        pending.append(pool.submit(work, item))
        if len(pending) >= max_pending:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
    if error_of_items:
        raise error_of_items
