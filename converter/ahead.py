"""Work that is done in threads before its result is asked for, so that nobody waits for a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def ahead[T, R](items: Iterable[T], work: Callable[[T], R], *, most: int) -> Iterator[tuple[T, Future[R]]]:
    """Start work on items before they are reached; close the iterator where it is left early.

    Parameters
    ----------
    items
        Taken only as far as work is started.
    work
        Called in several threads.
    most
        Items that work is started on before they are asked for: so many results are held.

    Yields
    ------
    tuple
        Each item, in order, and its result, or the exception that ended the work on it.
    """
    pool = ThreadPoolExecutor(most, thread_name_prefix="ahead")
    started: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            started.append((item, pool.submit(work, item)))
            if len(started) > most:
                yield started.popleft()
        while started:
            yield started.popleft()
    finally:
        # Who leaves early, because a store does not answer, must not wait for what is waiting for that store.
        pool.shutdown(wait=False, cancel_futures=True)
