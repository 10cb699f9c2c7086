"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.answered import SECONDS, Answered


class Metrics:
    """The counters of one application; a registry of their own, so that two in a process do not meet.

    Parameters
    ----------
    answered
        The answered requests, which are shown too.

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

    def __init__(self, answered: Answered) -> None:
        self.registry = registry = CollectorRegistry()
        self.in_flight = Gauge("voxshelf_requests_in_flight", "Requests under way", registry=registry)
        self.cache = Counter("voxshelf_cache", "Reads that the cache is for", ["outcome"], registry=registry)
        self.cut = Counter("voxshelf_cut_answers", "Answers that ended before their last byte", registry=registry)
        self.limited = Counter("voxshelf_limited", "Requests refused by a limit", ["limit"], registry=registry)
        self.subjects = Gauge("voxshelf_subjects", "Subjects in the tables in use", registry=registry)
        registry.register(answered)
        self._upstream = Counter(
            "voxshelf_upstream_requests",
            "Requests to object storage, and reads of a folder that waited",
            ["operation", "outcome"],
            registry=registry,
        )
        self._upstream_seconds = Histogram(
            "voxshelf_upstream_seconds", "Until its answer began", ["operation"], registry=registry, buckets=SECONDS
        )

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to object storage, where tries count one by one, or a read of a folder."""
        self._upstream.labels(operation, outcome).inc()
        self._upstream_seconds.labels(operation).observe(seconds)

    def page(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)
