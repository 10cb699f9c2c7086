"""What is told of answered requests: to Prometheus the same as by counters of its own library, and a line for each."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from service import answered as module
from service.answered import ACCESS_LOG, SECONDS, Answered
from service.metrics import Metrics

ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["/zarr/{store}/{key}", "none"]),
        st.sampled_from(["GET", "HEAD"]),
        st.sampled_from([200, 206, 404]),
        st.integers(0, 2**40),
        st.sampled_from([0.0, *SECONDS, 31.0]) | st.floats(0, 100),
    ),
    max_size=20,
)


@given(answers=ANSWERS)
def test_answers_are_told_as_the_library_would(answers: list[tuple[str, str, int, int, float]]) -> None:
    registry = CollectorRegistry()
    requests = Counter("voxshelf_requests", "-", ["route", "method", "status"], registry=registry)
    sent = Counter("voxshelf_sent_bytes", "-", ["route"], registry=registry)
    seconds = Histogram("voxshelf_request_seconds", "-", ["route"], registry=registry, buckets=SECONDS)
    answered = Answered(log=False)
    metrics = Metrics(answered)
    for route, method, status, count, took_s in answers:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "time", SimpleNamespace(perf_counter=lambda took_s=took_s: took_s, time=time.time))
            answered.note(route, ("192.0.2.1", method, "/"), (status, count, True), b"1", 0.0)
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


def requests_of(answered: Answered) -> float:
    (requests, *_) = answered.collect()
    return sum(sample.value for sample in requests.samples if sample.name.endswith("_total"))


def note(answered: Answered, number: int) -> None:
    answered.note("/", ("192.0.2.1", "GET", f"/{number}"), (200, number, True), b"%d" % number, time.perf_counter())


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(line) for record in caplog.records for line in record.getMessage().split("\n")]


def test_each_is_logged_once_in_order_and_soon(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        for number in range(2500):
            note(answered, number)
        await asyncio.sleep(0.5)  # the last of them wait for time
        note(answered, 2500)
        await asyncio.sleep(0.5)

    answered = Answered(log=True)
    begun = time.time()
    with caplog.at_level("INFO", ACCESS_LOG):
        asyncio.run(run())
    lines = lines_of(caplog)
    assert [line["path"] for line in lines] == [f"/{number}" for number in range(2501)]
    assert [line["id"] for line in lines] == [str(number) for number in range(2501)]
    assert requests_of(answered) == 2501
    first, last = (module.datetime.fromisoformat(str(lines[at]["time"])).timestamp() for at in (0, -1))
    assert begun - 0.01 < first < last - 0.4 < time.time()


def test_few_are_held_without_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but their number settles them there."""
    answered = Answered(log=False)
    settled: list[int] = []
    settle = answered.settle
    monkeypatch.setattr(answered, "settle", lambda: (settled.append(1), settle()))
    for number in range(5000):
        note(answered, number)
    assert len(settled) == 5
    assert requests_of(answered) == 5000


def test_none_is_lost_to_who_looks_at_the_same_time() -> None:
    """Metrics may be shown by a thread of their own."""
    answered, seen = Answered(log=False), [0.0]

    def look() -> None:
        while seen[-1] < 50_000:
            seen.append(requests_of(answered))

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(50_000):
        note(answered, number)
    looking.join(60)
    assert not looking.is_alive()
    assert seen == sorted(seen)
    assert requests_of(answered) == 50_000
