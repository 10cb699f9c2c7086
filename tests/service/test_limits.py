from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.limits import _network
from tests.service.conftest import StartService
from tests.service.test_operation import KEY, SlowReader, big_mirror

__all__ = ["big_mirror"]  # a fixture


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("2001:db8::9:9:9:9", "2001:db8::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_whose_address_it_is(address: str, network: str) -> None:
    assert _network(address) == network


def test_more_than_a_client_may_have_under_way_waits_and_is_then_refused(
    big_mirror: Path, service: StartService
) -> None:
    with service(big_mirror, client_requests=2, client_wait_s=1) as started, ExitStack() as stack:
        slow = [stack.enter_context(SlowReader(started.base, KEY)) for _ in range(2)]
        begun = time.monotonic()
        answer = httpx.get(f"{started.base}/v1/subjects")
        assert (answer.status_code, answer.json()["code"]) == (429, "request.rate")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert time.monotonic() - begun >= 1
        assert httpx.get(f"{started.base}/healthz").status_code == 200
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(httpx.get, f"{started.base}/v1/subjects")
            time.sleep(0.3)
            slow[0].socket.close()
            assert waiting.result().status_code == 200
        # Another client is not held up by this one: here told apart by what the trusted proxy says.
        stack.enter_context(SlowReader(started.base, KEY))
        other = httpx.get(f"{started.base}/v1/subjects", headers={"X-Forwarded-For": "192.0.2.9"})
        assert other.status_code == 200
        assert 'voxshelf_limited_total{limit="request.rate"} 1.0' in httpx.get(f"{started.base}/metrics").text


def test_many_small_ranges_at_once_are_never_refused(big_mirror: Path, service: StartService) -> None:
    with service(big_mirror, client_requests=4) as started, httpx.Client(base_url=started.base) as client:
        with ThreadPoolExecutor(16) as pool:
            ranges = [{"Range": f"bytes={at}-{at + 9}"} for at in range(300)]
            statuses = set(pool.map(lambda each: client.get(KEY, headers=each).status_code, ranges))
        assert statuses == {206}


def test_bytes_a_second_of_a_client(big_mirror: Path, service: StartService) -> None:
    # Ten seconds' worth at once, which the first answer overdraws by two seconds' and a half.
    with service(big_mirror, client_bytes_per_s=2 * 10**6, client_wait_s=0.2) as started:
        assert len(httpx.get(started.base + KEY).content) > 25 * 10**6
        refused = httpx.get(f"{started.base}/v1/subjects")
        assert (refused.status_code, refused.json()["code"]) == (429, "request.rate")
        deadline = time.monotonic() + 10
        while httpx.get(f"{started.base}/v1/subjects").status_code != 200:
            assert time.monotonic() < deadline


def test_more_than_the_service_takes_at_once(big_mirror: Path, service: StartService) -> None:
    with service(big_mirror, most_requests=1) as started:
        with SlowReader(started.base, KEY):
            answer = httpx.get(f"{started.base}/v1/subjects")
            assert (answer.status_code, answer.json()["code"]) == (503, "request.busy")
            assert answer.headers["retry-after"]
            assert httpx.get(f"{started.base}/readyz").status_code == 200
        time.sleep(0.5)
        assert httpx.get(f"{started.base}/v1/subjects").status_code == 200
