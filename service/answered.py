"""Answered requests: noted one by one, counted for Prometheus and logged several at once.

To count and to log a request at once takes as long as a seventh of a small range, most of it waiting for memory that
the range has driven out of the processor's caches. To note one is to append to a list.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

import msgspec
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

ACCESS_LOG: Final = "voxshelf.access"
"""Logger of the lines, each of them a JSON object."""
SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Steps in which the time of requests is counted."""

_PROCESS: Final = secrets.token_hex(6).encode()
_LOG_EVERY_S: Final = 0.1
_MOST_NOTED: Final = 1000
_LONGEST_PATH: Final = 600
_access = logging.getLogger(ACCESS_LOG)
_numbers = itertools.count(1)

type Request = tuple[str, str, str]
"""Address of who asked, method, and path."""
type Answer = tuple[int, int, bool]
"""Status, bytes of the body that were sent, and whether that was all of it."""


class _Line(msgspec.Struct):
    """A line of the access log. Neither query nor headers: they may hold what is secret."""

    time: datetime
    id: str
    client: str
    method: str
    path: str
    status: int
    sent: int
    complete: bool
    ms: float


class _Route:
    """What was answered under a pattern of paths; seconds in steps of `SECONDS`, and above."""

    def __init__(self) -> None:
        self.sent = 0
        self.seconds = 0.0
        self.steps = [0] * (len(SECONDS) + 1)


class Answered(Collector):
    """The answered requests of one application.

    Plain numbers, because the library's own counters take a lock each.

    Parameters
    ----------
    log
        Whether each request is logged.
    """

    def __init__(self, *, log: bool) -> None:
        self._log = log
        self._noted: deque[tuple[str, Request, Answer, bytes, float, float]] = deque()
        self._due = False
        # Metrics may be shown by a thread of their own.
        self._settling = threading.Lock()
        self._encoder = msgspec.json.Encoder()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._routes: dict[str, _Route] = {}

    def note(self, route: str, request: Request, answer: Answer, name: bytes, started: float) -> None:
        """Note a request that has just been answered; its line in the log appears within a tenth of a second.

        Parameters
        ----------
        route
            The pattern of its path.
        request, answer
            What was asked, and what was sent.
        name
            Its id.
        started
            When it began, by `time.perf_counter`.
        """
        self._noted.append((route, request, answer, name, started, time.perf_counter()))
        if len(self._noted) >= _MOST_NOTED:
            self.settle()
        elif self._log and not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_LOG_EVERY_S, self._in_time)

    def settle(self) -> None:
        """Count and log what was noted."""
        with self._settling:
            clock = time.time() - time.perf_counter()
            lines = []
            while self._noted:
                route, request, answer, name, started, ended = self._noted.popleft()
                self._count(route, request[1], answer, ended - started)
                if self._log:
                    lines.append(_line(request, answer, name, (clock + ended, ended - started)))
            if lines:
                _access.info("%s", self._encoder.encode_lines(lines).decode().removesuffix("\n"))

    def collect(self) -> Iterator[Metric]:
        """Yield counters as Prometheus knows them."""
        self.settle()
        requests = CounterMetricFamily("voxshelf_requests", "Requests answered", labels=["route", "method", "status"])
        for (route, method, status), count in list(self._requests.items()):
            requests.add_metric([route, method, str(status)], count)
        sent = CounterMetricFamily("voxshelf_sent_bytes", "Bytes of bodies sent", labels=["route"])
        seconds = HistogramMetricFamily("voxshelf_request_seconds", "Until the last byte", labels=["route"])
        for route, found in list(self._routes.items()):
            sent.add_metric([route], found.sent)
            bounds = [*map(floatToGoString, SECONDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(list(found.steps)), strict=True))
            seconds.add_metric([route], buckets, found.seconds)
        yield from (requests, sent, seconds)

    def _in_time(self) -> None:
        self._due = False
        self.settle()

    def _count(self, route: str, method: str, answer: Answer, seconds: float) -> None:
        status, sent, _ = answer
        self._requests[route, method, status] += 1
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = _Route()
        found.sent += sent
        found.seconds += seconds
        found.steps[bisect_left(SECONDS, seconds)] += 1


def new_id() -> bytes:
    """Return the id of a request that brought none."""
    return b"%s-%x" % (_PROCESS, next(_numbers))


def _line(request: Request, answer: Answer, name: bytes, times_s: tuple[float, float]) -> _Line:
    client, method, path = request
    ended, took = times_s
    what = (client, method, path[:_LONGEST_PATH], *answer, round(took * 1000, 2))
    return _Line(datetime.fromtimestamp(ended, UTC), name.decode(), *what)
