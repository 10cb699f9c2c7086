"""What Prometheus is told of answered requests: the same as by counters of its own library."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from service.metrics import _SECONDS, Metrics

ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["/zarr/{store}/{key}", "none"]),
        st.sampled_from(["GET", "HEAD"]),
        st.sampled_from([200, 206, 404]),
        st.integers(0, 2**40),
        st.sampled_from([0.0, *_SECONDS, 31.0]) | st.floats(0, 100),
    ),
    max_size=20,
)


@given(answers=ANSWERS)
def test_answers_are_told_as_the_library_would(answers: list[tuple[str, str, int, int, float]]) -> None:
    registry = CollectorRegistry()
    requests = Counter("voxshelf_requests", "-", ["route", "method", "status"], registry=registry)
    sent = Counter("voxshelf_sent_bytes", "-", ["route"], registry=registry)
    seconds = Histogram("voxshelf_request_seconds", "-", ["route"], registry=registry, buckets=_SECONDS)
    metrics = Metrics()
    for route, method, status, count, took_s in answers:
        metrics.answered(route, method, status, count, took_s)
        requests.labels(route, method, str(status)).inc()
        sent.labels(route).inc(count)
        seconds.labels(route).observe(took_s)
    wanted = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith(("voxshelf_requests_total", "voxshelf_sent_bytes", "voxshelf_request_seconds"))
    }
    assert found == wanted
