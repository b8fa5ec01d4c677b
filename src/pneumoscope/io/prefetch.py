"""Work that runs ahead in threads by a bounded number of items and comes back in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def ordered_prefetch(pool: ThreadPoolExecutor, work: Callable, items: Iterable, ahead: int) -> Iterator:
    """``map`` that keeps the order and takes at most ``ahead`` items before their turn; items may be endless.

    Where ``items`` raises an error, the results of those before it come first.
    """
    pending: deque[Future] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
    except Exception:
        yield from (one.result() for one in pending)
        raise
    while pending:
        yield pending.popleft().result()
