"""Requests that are answered before ASGI sees them: they must not differ from the others, and be no way around them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.observation import ACCESS_LOG
from service.settings import Rule, ServiceSettings
from service.shortcut import Shortcut, protocol_of
from tests.service.conftest import ServingApp

KEY = "/zarr/0001.ome.zarr/ct/scale0/ct/c/0/0/0"
ITS_OWN = {"date", "x-request-id"}
RANGES = st.from_regex(r"bytes=[0-9]{0,6}-[0-9]{0,6}", fullmatch=True)
USUAL = {"X-Unusual": "so that it takes the usual way"}


@pytest.fixture(scope="module")
def app(mirror: Path) -> FastAPI:
    # Without the log, whose lines are written by the server's event loop: tests ask the shortcut outside of it, too.
    return create_app(ServiceSettings(str(mirror), catalog_ttl_s=3600, access_log=False))


@pytest.fixture(scope="module")
def client(app: FastAPI, serving_app: ServingApp) -> Iterator[httpx.Client]:
    with serving_app(app) as base, httpx.Client(base_url=base, trust_env=False) as client:
        client.get("/v1/subjects")  # the tables are read
        client.get(KEY)  # and where they lie is known
        yield client


@pytest.fixture(scope="module")
def size(mirror: Path) -> int:
    return (mirror / "subjects" / KEY.removeprefix("/zarr/")).stat().st_size


def asked(app: FastAPI, url: str, headers: dict[str, str] | None = None) -> Any:
    lines = [(name.lower().encode(), text.encode()) for name, text in (headers or {}).items()]
    return Shortcut(app.state).answer("127.0.0.1", url.encode(), lines)


def both(client: httpx.Client, url: str, headers: dict[str, str]) -> tuple[httpx.Response, httpx.Response]:
    return client.get(url, headers=headers), client.get(url, headers={**headers, **USUAL})


def compared(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    headers = [(name, text) for name, text in answer.headers.multi_items() if name not in ITS_OWN]
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-99"}, {"Range": "bytes=-516"}, {"Range": "bytes=7-"}])
def test_small_ranges_take_it(app: FastAPI, client: httpx.Client, headers: dict[str, str]) -> None:  # serves
    assert asked(app, KEY, headers)


def test_requests_over_a_connection_take_it(
    app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise whatever compares both ways would compare one with itself."""
    passed: list[str] = []
    usual = app.middleware_stack
    assert usual is not None

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])
        await usual(scope, receive, send)

    monkeypatch.setattr(app, "middleware_stack", watched)
    assert client.get(KEY, headers={"Range": "bytes=0-9"}).status_code == 206
    assert not passed
    assert client.get(KEY, headers={"Range": "bytes=0-9", **USUAL}).status_code == 206
    assert passed == [KEY]


@settings(max_examples=150, deadline=None)
@given(text=RANGES | st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True))
def test_any_range_is_answered_as_in_the_usual_way(client: httpx.Client, text: str) -> None:
    ours, usual = both(client, KEY, {"Range": text})
    assert compared(ours) == compared(usual)


@pytest.mark.parametrize(
    "url",
    [
        KEY,
        KEY.replace("/0/0/0", "/9/9/9"),
        KEY.replace("0001", "0999"),
        KEY.replace(".ome.zarr", ""),
        KEY.replace("/c/", "/c//"),
        KEY.replace("/c/", "/../c/"),
        KEY.replace("/c/", "/%2e/c/"),
        KEY + "?redirect=1",
        KEY + "?x",
        "/zarr/0001.ome.zarr/zarr.json",
        "/zarr/0001.ome.zarr/c/.zarray",
        "/zarr/c/0",
        "/v1/c/0",
    ],
)
@pytest.mark.parametrize("range_", [None, "bytes=3-9", "bytes=99999999-"])
def test_any_path_is_answered_as_in_the_usual_way(client: httpx.Client, url: str, range_: str | None) -> None:
    ours, usual = both(client, url, {"Range": range_} if range_ else {})
    if ours.is_error:  # they tell the id of the request
        assert (ours.status_code, ours.json()) == (usual.status_code, usual.json())
    else:
        assert compared(ours) == compared(usual)


@pytest.mark.parametrize(
    "header", ["Authorization", "If-Match", "If-None-Match", "If-Range", "X-Forwarded-For", "X-Request-Id", "Expect"]
)
def test_who_asks_for_more_takes_the_usual_way(app: FastAPI, client: httpx.Client, header: str) -> None:  # serves
    assert asked(app, KEY, {"Range": "bytes=0-9", header: "x"}) is None


@pytest.mark.parametrize("rule", [Rule.ACKNOWLEDGE, Rule.TOKEN, Rule.DENY])
def test_it_is_for_what_everybody_may_read(mirror: Path, serving_app: ServingApp, rule: Rule) -> None:
    app = create_app(ServiceSettings(str(mirror), license_rules={"CC-BY-NC-4.0": rule}))
    with serving_app(app) as base:
        for _ in range(2):
            assert httpx.get(base + KEY, trust_env=False).status_code in {401, 403}
        assert asked(app, KEY) is None


def test_stale_tables_are_looked_at_first(mirror: Path, serving_app: ServingApp) -> None:
    app = create_app(ServiceSettings(str(mirror), catalog_ttl_s=0.2))
    assert asked(app, KEY) is None
    with serving_app(app) as base:
        assert httpx.get(base + KEY, trust_env=False).status_code == 200
        time.sleep(0.3)
        assert asked(app, KEY) is None


def test_a_client_over_its_limit_waits_like_any_other(mirror: Path, serving_app: ServingApp, size: int) -> None:
    app = create_app(ServiceSettings(str(mirror), client_bytes_per_s=size / 100, client_wait_s=0.1))
    with serving_app(app) as base, httpx.Client(base_url=base, trust_env=False) as client:
        statuses = [client.get(KEY).status_code for _ in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


def test_requests_are_counted(app: FastAPI, client: httpx.Client) -> None:
    def counted() -> tuple[float, float]:
        value = app.state.metrics.registry.get_sample_value
        route = {"route": "/zarr/{store}/{key}"}
        requests = value("voxshelf_requests_total", {**route, "method": "GET", "status": "206"}) or 0.0
        return requests, value("voxshelf_sent_bytes_total", route) or 0.0

    before = counted()
    client.get(KEY, headers={"Range": "bytes=0-99"})
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 100]


def test_requests_sent_at_once_are_answered_in_order(client: httpx.Client, mirror: Path) -> None:
    whole = (mirror / "subjects" / KEY.removeprefix("/zarr/")).read_bytes()
    address = urlsplit(str(client.base_url))
    requests = []
    for number in range(60):
        unusual = "X-Unusual: 1\r\n" if number % 3 == 1 else ""
        requests.append(f"GET {KEY} HTTP/1.1\r\nHost: x\r\nRange: bytes={number}-{number + 20000}\r\n{unusual}\r\n")
    with socket.create_connection((address.hostname, address.port)) as connection:  # type: ignore[arg-type]
        connection.sendall("".join(requests).encode())
        time.sleep(0.5)  # answers fill what the connection holds, and wait
        answers = b""
        for number in range(60):
            body = whole[number : number + 20001]
            while (end := answers.find(b"\r\n\r\n")) < 0 or len(answers) < end + 4 + len(body):
                more = connection.recv(2**16)
                assert more
                answers += more
            assert answers.startswith(b"HTTP/1.1 206 ")
            assert answers[end + 4 : end + 4 + len(body)] == body
            answers = answers[end + 4 + len(body) :]


@pytest.mark.parametrize("key", ["zarr.json", "ct/scale0/ct/zarr.json", "ct/scale0/x/c/0"])
def test_documents_and_coordinates_take_it_with_their_own_headers(app: FastAPI, client: httpx.Client, key: str) -> None:
    url = f"/zarr/0001.ome.zarr/{key}"
    assert asked(app, url)
    ours, usual = both(client, url, {})
    assert compared(ours) == compared(usual)
    assert ("immutable" in ours.headers["cache-control"]) is not key.endswith("zarr.json")


def test_behind_nginx_there_is_none(mirror: Path) -> None:
    """It sends the bytes itself."""
    assert protocol_of(create_app(ServiceSettings(str(mirror), accel_prefix="/raw"))) == "auto"


def test_requests_are_logged(mirror: Path, serving_app: ServingApp, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(ServiceSettings(str(mirror)))
    with caplog.at_level("INFO", ACCESS_LOG), serving_app(app) as base:
        httpx.get(base + KEY, trust_env=False)
        httpx.get(base + KEY, headers={"Connection": "keep-alive", "Range": "bytes=0-99"}, trust_env=False)
        httpx.get(base + KEY, headers=USUAL, trust_env=False)
    lines = [
        json.loads(line)
        for record in caplog.records
        if record.name == ACCESS_LOG
        for line in record.message.split("\n")
    ]
    assert [(line["path"], line["status"], line["complete"]) for line in lines] == [
        (KEY, 200, True),
        (KEY, 206, True),
        (KEY, 200, True),
    ]
    assert lines[1]["sent"] == 100
    assert lines[1].keys() == lines[2].keys()
