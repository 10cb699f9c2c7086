"""What the service counts, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Count
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Metrics:
    """The counters of one application; a registry of their own, so that two in a process do not meet.

    Attributes
    ----------
    registry
        For an HTTP server that shows them.
    in_flight
        Requests under way.
    cache
        Reads of documents and shard indices, by ``hit`` or ``miss``.
    cut
        Answers that ended before their last byte.
    limited
        Requests that were refused, by the limit.
    subjects
        Subjects that the tables in use list.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.in_flight = Gauge("voxshelf_requests_in_flight", "Requests under way", registry=registry)
        self.cache = Counter("voxshelf_cache", "Reads that the cache is for", ["outcome"], registry=registry)
        self.cut = Counter("voxshelf_cut_answers", "Answers that ended before their last byte", registry=registry)
        self.limited = Counter("voxshelf_limited", "Requests refused by a limit", ["limit"], registry=registry)
        self.subjects = Gauge("voxshelf_subjects", "Subjects in the tables in use", registry=registry)
        self._answered = _Answered()
        registry.register(self._answered)
        self._upstream = Counter(
            "voxshelf_upstream_requests", "Requests to object storage", ["operation", "outcome"], registry=registry
        )
        self._upstream_seconds = Histogram(
            "voxshelf_upstream_seconds", "Until its answer began", ["operation"], registry=registry, buckets=_SECONDS
        )

    def answered(self, route: str, method: str, status: int, sent: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self._answered.add(route, method, status, sent, seconds)

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to object storage; tries count one by one."""
        self._upstream.labels(operation, outcome).inc()
        self._upstream_seconds.labels(operation).observe(seconds)

    def page(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)


class _Route:
    """What was answered under a pattern of paths; seconds in steps of `_SECONDS`, and above."""

    def __init__(self) -> None:
        self.sent = 0
        self.seconds = 0.0
        self.steps = [0] * (len(_SECONDS) + 1)


class _Answered(Collector):
    """Answered requests as plain numbers, changed on the event loop alone: the library's counters take a lock each."""

    def __init__(self) -> None:
        self._requests: Count[tuple[str, str, int]] = Count()
        self._routes: dict[str, _Route] = {}

    def add(self, route: str, method: str, status: int, sent: int, seconds: float) -> None:
        self._requests[route, method, status] += 1
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = _Route()
        found.sent += sent
        found.seconds += seconds
        found.steps[bisect_left(_SECONDS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield them as Prometheus knows them; also in a thread that shows them on a port of their own."""
        requests = CounterMetricFamily("voxshelf_requests", "Requests answered", labels=["route", "method", "status"])
        for (route, method, status), count in list(self._requests.items()):
            requests.add_metric([route, method, str(status)], count)
        sent = CounterMetricFamily("voxshelf_sent_bytes", "Bytes of bodies sent", labels=["route"])
        seconds = HistogramMetricFamily("voxshelf_request_seconds", "Until the last byte", labels=["route"])
        for route, found in list(self._routes.items()):
            sent.add_metric([route], found.sent)
            bounds = [*map(floatToGoString, _SECONDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(list(found.steps)), strict=True))
            seconds.add_metric([route], buckets, found.seconds)
        yield from (requests, sent, seconds)
