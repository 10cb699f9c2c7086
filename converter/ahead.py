"""Work that is done in threads before its result is asked for, so that nobody waits for a network."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

_LOOK_S: Final = 0.1
"""How often a thread whose items nobody takes looks whether somebody still will."""


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


def beside[T](items: Iterable[T], *, most: int, name: str) -> Generator[T, None, None]:
    """Take items in a thread of their own, ahead of the caller; close the generator where it is left early.

    Parameters
    ----------
    items
        Taken in that thread alone, from the first time that the caller asks.
    most
        Items that wait for the caller; one more is in the thread's hand.
    name
        Of the thread.

    Yields
    ------
    object
        Each item, in order. What taking one of them raises is raised here.
    """
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=most)
    abandoned = threading.Event()

    def take() -> None:
        try:
            for item in items:
                if not _put(ready, item, abandoned):
                    return
            _put(ready, _End(), abandoned)
        except Exception as error:  # noqa: BLE001  # handed to the caller, who raises it
            _put(ready, _End(error), abandoned)

    thread = threading.Thread(target=take, name=name, daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        abandoned.set()
        thread.join()


class _End:
    """Behind the last item."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


def _put[T](ready: queue.Queue[T], item: T, abandoned: threading.Event) -> bool:
    while not abandoned.is_set():
        try:
            ready.put(item, timeout=_LOOK_S)
        except queue.Full:
            continue
        return True
    return False
