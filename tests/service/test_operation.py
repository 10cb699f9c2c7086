"""How the process behaves: readiness, counters, the log, slow readers, and the end."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.answered import Answered
from service.metrics import Metrics
from service.observation import Observed
from tests.conftest import free_port
from tests.service.conftest import Service, StartService

KEY = "/zarr/0001.ome.zarr/ct/scale0/ct/c/9/9/9"
DATA = random.Random(5).randbytes(24 * 2**20)


@pytest.fixture(scope="module")
def big_mirror(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the mirror with one object that no socket's buffer holds."""
    folder = tmp_path_factory.mktemp("big") / "mirror"
    shutil.copytree(mirror, folder)
    path = folder / "subjects/0001.ome.zarr/ct/scale0/ct/c/9/9/9"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return folder


@pytest.fixture(scope="module")
def running(big_mirror: Path, service: StartService) -> Iterator[Service]:
    with service(big_mirror) as started:
        yield started


class SlowReader(AbstractContextManager["SlowReader"]):
    """A connection that takes only what it is told to."""

    def __init__(self, base: str, key: str) -> None:
        address = urlsplit(base)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.settimeout(20)
        self.socket.connect((address.hostname, address.port))
        self.socket.sendall(f"GET {key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        self.head = head.decode()

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def rest(self) -> bytes:
        data = b""
        while piece := self.socket.recv(2**20):
            data += piece
        return data


def memory_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def lines(service: Service) -> list[dict[str, object]]:
    time.sleep(0.5)  # lines are written several at once
    return [json.loads(line) for line in service.out.read_text().splitlines()]


def test_ready_where_there_is_a_mirror(running: Service) -> None:
    answer = httpx.get(f"{running.base}/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "catalog": "ok", "storage": "ok"})


def test_not_ready_says_why_and_not_where(tmp_path: Path, service: StartService) -> None:
    with service(tmp_path / "nothing") as started:
        answer = httpx.get(f"{started.base}/readyz")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert answer.json()["catalog"].startswith("layout.not-a-mirror: ")
        assert str(tmp_path) not in answer.text + httpx.get(f"{started.base}/v1/subjects").text
        assert str(tmp_path) in started.err.read_text()


def test_counters_are_those_of_what_was_sent(running: Service) -> None:
    def sent() -> float:
        text = httpx.get(f"{running.base}/metrics").text
        name = 'voxshelf_sent_bytes_total{route="/zarr/{store}/{key}"} '
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    before = sent()
    assert httpx.get(running.base + KEY, headers={"Range": "bytes=0-12345"}).status_code == 206
    assert sent() == before + 12346
    text = httpx.get(f"{running.base}/metrics").text
    assert "voxshelf_subjects 4.0" in text
    assert 'voxshelf_requests_total{method="GET",route="/zarr/{store}/{key}",status="206"}' in text


def test_counters_on_a_port_of_their_own(mirror: Path, service: StartService) -> None:
    port = free_port()
    with service(mirror, metrics_port=port) as started:
        assert httpx.get(f"{started.base}/metrics").status_code == 404
        assert "voxshelf_requests_in_flight" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_a_line_for_each_request_and_no_secret_in_it(running: Service) -> None:
    headers = {"Authorization": "Bearer hush-hush", "X-Request-Id": "from-the-proxy.1"}
    answer = httpx.get(f"{running.base}{KEY}?token=hush-hush", headers={**headers, "Range": "bytes=0-9"})
    assert answer.headers["x-request-id"] == "from-the-proxy.1"
    other = httpx.get(f"{running.base}/v1/subjects/9999", headers={"X-Request-Id": 'no"good'})
    made = other.headers["x-request-id"]
    assert made
    assert made != 'no"good'
    found = {line["id"]: line for line in lines(running)}
    line = found["from-the-proxy.1"]
    assert {line[name] for name in ("method", "path", "client")} == {"GET", KEY, "127.0.0.1"}
    assert (line["status"], line["sent"], line["complete"]) == (206, 10, True)
    assert found[made]["status"] == 404
    assert "hush-hush" not in running.out.read_text() + running.err.read_text()


def test_slow_readers_hold_little_memory_and_nobody_up(running: Service) -> None:
    httpx.get(running.base + KEY)
    before = memory_bytes(running)
    with ExitStack() as stack:
        slow = [stack.enter_context(SlowReader(running.base, KEY)) for _ in range(12)]
        time.sleep(1)
        assert memory_bytes(running) - before < len(slow) * 4 * 2**20  # of 24 MiB that each of them asked for
        assert httpx.get(running.base + KEY).content == DATA
        assert [reader.rest() == DATA for reader in slow[:2]] == [True, True]


def test_a_reader_that_takes_nothing_is_dropped(big_mirror: Path, service: StartService) -> None:
    with service(big_mirror, reader_stall_s=1) as started, SlowReader(started.base, KEY):
        deadline = time.monotonic() + 20
        while not any(line["path"] == KEY for line in lines(started)):
            assert time.monotonic() < deadline, "it is still there"
        assert [line["complete"] for line in lines(started) if line["path"] == KEY] == [False]


def test_the_end_waits_for_readers(big_mirror: Path, service: StartService) -> None:
    with service(big_mirror) as started, SlowReader(started.base, KEY) as reader:
        started.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert started.process.poll() is None
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{started.base}/healthz")
        assert reader.rest() == DATA
        assert started.process.wait(timeout=10) in {0, -signal.SIGTERM}
        assert [line["complete"] for line in lines(started) if line["path"] == KEY] == [True]


def test_the_end_does_not_wait_for_ever(big_mirror: Path, service: StartService) -> None:
    with service(big_mirror, shutdown_s=1) as started, SlowReader(started.base, KEY) as reader:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(timeout=10)
        assert len(reader.rest()) < len(DATA)


def test_a_bug_is_answered_and_readable_for_pages_of_other_origins() -> None:
    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    answered = Answered(log=True)
    asyncio.run(Observed(broken, Metrics(answered), answered)(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    headers = dict(sent[0]["headers"])  # type: ignore[call-overload]
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"x-request-id"]
