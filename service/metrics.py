"""What the service counts, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        self._requests = Counter(
            "voxshelf_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._bytes = Counter("voxshelf_sent_bytes", "Bytes of bodies sent", ["route"], registry=registry)
        self._seconds = Histogram(
            "voxshelf_request_seconds", "Until the last byte", ["route"], registry=registry, buckets=_SECONDS
        )
        self._upstream = Counter(
            "voxshelf_upstream_requests", "Requests to object storage", ["operation", "outcome"], registry=registry
        )
        self._upstream_seconds = Histogram(
            "voxshelf_upstream_seconds", "Until its answer began", ["operation"], registry=registry, buckets=_SECONDS
        )

        self._of_route: dict[tuple[str, str, int], tuple[Counter, Counter, Histogram]] = {}

    def answered(self, route: str, method: str, status: int, sent: int, seconds: float) -> None:
        """Count a request that has been answered."""
        counters = self._of_route.get((route, method, status))
        if counters is None:
            labelled = self._requests.labels(route, method, str(status))
            counters = (labelled, self._bytes.labels(route), self._seconds.labels(route))
            self._of_route[route, method, status] = counters
        counters[0].inc()
        counters[1].inc(sent)
        counters[2].observe(seconds)

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to object storage; tries count one by one."""
        self._upstream.labels(operation, outcome).inc()
        self._upstream_seconds.labels(operation).observe(seconds)

    def page(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)
