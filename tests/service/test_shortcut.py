"""Requests that are answered before ASGI sees them: they must not differ from the others, and be no way around them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from service import shortcut
from service.answered import ACCESS_LOG
from service.app import create_app
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
    return sent(app, request_of(url, headers).encode("latin-1"))


def request_of(url: str, headers: dict[str, str] | None = None) -> str:
    lines = {"Host": "x", **(headers or {})}
    return f"GET {url} HTTP/1.1\r\n{''.join(f'{name}: {text}\r\n' for name, text in lines.items())}\r\n"


def sent(app: FastAPI, request: bytes) -> Any:
    async def answer() -> Any:  # on an event loop, where it sets a timer
        return Shortcut(app.state).answer("127.0.0.1", request, b"")

    return asyncio.run(answer())


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


PIECES = [b"Host: x\r\n", b"Range: bytes=0-9\r\n", b"range: bytes=5-\r\n", b"RANGE: bytes=1-2\r\n", b"H", b"ost: x\r\n",
          b"X-Range: bytes=1-2\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\xe4", b"?x", b"%2e",
          b"Connection: keep-alive\r\n", b"User-Agent: \r\n", b"Accept: */*\r\n", b"accept-encoding:gzip\r\n",
          b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Content-Length: 3\r\n\r\nGET",
          b"Transfer-Encoding: chunked\r\n", b"User-Agent: a\r\n b\r\n", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"GET ",
          b"HEAD "]  # fmt: skip
"""What requests are made of, and what they should not be."""


class Parsed:
    """A request as the server's parser understands it."""

    def __init__(self, request: bytes) -> None:
        self.url, self.headers, self.ended = b"", list[tuple[bytes, bytes]](), 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(request)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.ended += 1


@settings(max_examples=1500, deadline=None)
@given(
    pieces=st.lists(st.sampled_from([*PIECES[:4], *PIECES[17:21]]), max_size=3),
    harm=st.lists(st.tuples(st.integers(0, 200), st.sampled_from(PIECES)), max_size=2),
)
def test_what_it_takes_the_parser_understands_alike(
    app: FastAPI,
    client: httpx.Client,
    pieces: list[bytes],
    harm: list[tuple[int, bytes]],  # serves
) -> None:
    request = f"GET {KEY} HTTP/1.1\r\n".encode() + b"".join(pieces) + b"Host: x\r\n\r\n"
    for place, piece in harm:
        request = request[:place] + piece + request[place:]
    answer = sent(app, request)
    if answer is None:
        return
    head, body = answer
    parsed = Parsed(request)
    assert (parsed.parser.get_method(), parsed.parser.get_http_version(), parsed.ended) == (b"GET", "1.1", 1)
    assert parsed.parser.should_keep_alive()
    assert not parsed.parser.should_upgrade()
    assert parsed.url == KEY.encode()
    ranges = [value.decode() for name, value in parsed.headers if name == b"range"]
    assert len(ranges) <= 1
    assert {name for name, _ in parsed.headers} <= {b"host", b"user-agent", b"accept", b"accept-encoding",
                                                    b"connection", b"range"}  # fmt: skip
    usual = client.get(KEY, headers={**USUAL, **({"Range": ranges[0]} if ranges else {})})
    assert (int(head[9:12]), bytes(body)) == (usual.status_code, usual.content)


def connected(client: httpx.Client, room_bytes: int | None = None) -> socket.socket:
    address = urlsplit(str(client.base_url))
    connection = socket.socket()
    connection.settimeout(10)
    if room_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
    connection.connect((address.hostname, address.port))
    return connection


def received(connection: socket.socket, rest: bytes = b"") -> tuple[bytes, bytes, bytes]:
    """Return the head and the body of the next answer, and what came behind it."""
    while (end := rest.find(b"\r\n\r\n")) < 0 or len(rest) < end + 4 + length_of(rest[:end]):
        more = connection.recv(2**16)
        assert more
        rest += more
    start = end + 4
    stop = start + length_of(rest[:end])
    return rest[:end], rest[start:stop], rest[stop:]


def length_of(head: bytes) -> int:
    match = re.search(rb"content-length: (\d+)", head)
    return int(match[1]) if match else 0


def test_requests_sent_at_once_are_answered_in_order(client: httpx.Client, mirror: Path) -> None:
    whole = (mirror / "subjects" / KEY.removeprefix("/zarr/")).read_bytes()
    requests = []
    for number in range(60):
        unusual = {"X-Unusual": "1"} if number % 3 == 1 else {}
        requests.append(request_of(KEY, {"Range": f"bytes={number}-{number + 20000}", **unusual}))
    with connected(client) as connection:
        connection.sendall("".join(requests).encode())
        time.sleep(0.5)  # answers fill what the connection holds, and wait
        rest = b""
        for number in range(60):
            head, body, rest = received(connection, rest)
            assert head.startswith(b"HTTP/1.1 206 ")
            assert body == whole[number : number + 20001]


@pytest.mark.parametrize("cut", [1, 3, 30, 70, 90])
def test_a_request_may_come_in_parts(client: httpx.Client, cut: int) -> None:
    request = request_of(KEY, {"Range": "bytes=0-9"}).encode()
    with connected(client) as connection:
        for part in (request[:cut], request[cut:], request):
            connection.sendall(part)
            time.sleep(0.05)
        first, body, rest = received(connection)
        second, again, rest = received(connection, rest)
        assert (first[:13], body, rest) == (second[:13], again, b"") == (b"HTTP/1.1 206 ", body, b"")


def test_the_body_of_another_request_is_no_request(client: httpx.Client) -> None:
    inner = request_of(KEY, {"Range": "bytes=0-9"}).encode()
    outer = f"POST {KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * len(inner)}\r\n\r\n".encode()
    with connected(client) as connection:
        for part in (outer, inner, inner, inner):
            connection.sendall(part)
            time.sleep(0.1)
        head, _, rest = received(connection)
        assert head.startswith(b"HTTP/1.1 405 ")
        head, body, rest = received(connection, rest)
        assert (head[:13], len(body), rest) == (b"HTTP/1.1 206 ", 10, b"")


def test_a_connection_stays_as_long_as_it_is_used(
    app: FastAPI,
    client: httpx.Client,
    serving_app: ServingApp,  # serves
) -> None:
    request = request_of(KEY, {"Range": "bytes=0-9"}).encode()
    with serving_app(app, 1) as base, httpx.Client(base_url=base) as other, connected(other) as connection:
        for _ in range(7):
            connection.sendall(request)
            assert received(connection)[0].startswith(b"HTTP/1.1 206 ")
            time.sleep(0.3)
        begun = time.monotonic()
        assert connection.recv(1) == b""
        assert 0.3 < time.monotonic() - begun < 3


@pytest.mark.parametrize("key", ["zarr.json", "ct/scale0/ct/zarr.json", "ct/scale0/x/c/0"])
def test_documents_and_coordinates_take_it_with_their_own_headers(app: FastAPI, client: httpx.Client, key: str) -> None:
    url = f"/zarr/0001.ome.zarr/{key}"
    assert asked(app, url)
    ours, usual = both(client, url, {})
    assert compared(ours) == compared(usual)
    assert ("immutable" in ours.headers["cache-control"]) is not key.endswith("zarr.json")


def test_a_bug_in_it_costs_nobody_an_answer(
    app: FastAPI,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,  # serves
) -> None:
    monkeypatch.setattr(Shortcut, "answer", lambda *_: 1 / 0)
    assert client.get(KEY, headers={"Range": "bytes=0-9"}).status_code == 206


@pytest.mark.parametrize("key", ["0999.ome.zarr/zarr.json", "0999.ome.zarr/ct/c/0", "0001.ome.zarr/ct/../c"])
def test_what_is_not_there_is_no_bug_in_it(app: FastAPI, client: httpx.Client, key: str) -> None:  # serves
    assert asked(app, f"/zarr/{key}") is None


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


@pytest.fixture
def own(mirror: Path, tmp_path: Path, serving_app: ServingApp) -> Iterator[tuple[FastAPI, httpx.Client, Path]]:
    """Serve a mirror that may be changed; and the files of a level of its CT."""
    shutil.copytree(mirror, tmp_path / "mirror")
    app = create_app(ServiceSettings(str(tmp_path / "mirror"), catalog_ttl_s=3600))
    with serving_app(app) as base, httpx.Client(base_url=base, trust_env=False) as client:
        client.get("/v1/subjects")
        client.get(KEY)
        yield app, client, tmp_path / "mirror" / "subjects" / "0001.ome.zarr"


def test_a_file_that_was_answered_from_may_change(own: tuple[FastAPI, httpx.Client, Path]) -> None:
    """It stays open between requests, and must not be taken for what its path names by then."""
    _, client, store = own
    file = store / KEY.removeprefix("/zarr/0001.ome.zarr/")
    answers = []

    def look() -> None:
        for _ in range(2):
            ours, usual = both(client, KEY, {"Range": "bytes=0-9"})
            assert compared(ours) == compared(usual)
            answers.append(ours)

    look()
    new = file.with_name("new")
    new.write_bytes(b"replaced" + file.read_bytes()[8:])
    new.replace(file)
    look()
    with file.open("r+b") as writing:
        writing.write(b"overwritten")
    look()
    file.unlink()
    assert client.get(KEY, headers={"Range": "bytes=0-9"}).status_code == 404
    assert [answer.content for answer in answers[2:]] == [b"replaced" + answers[0].content[8:]] * 2 + [
        b"overwritte"
    ] * 2
    assert len({answer.headers["etag"] for answer in answers}) == 3


def held_open(store: Path) -> set[str]:
    names = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.add(str(link.readlink()))
    return {name for name in names if name.startswith(str(store))}


def test_few_files_stay_open(own: tuple[FastAPI, httpx.Client, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    app, client, store = own
    monkeypatch.setattr(shortcut, "_MOST_FILES", 3)
    files = [path for path in store.rglob("*") if path.is_file()][:10]
    for path in files:
        answer = client.get(f"/zarr/0001.ome.zarr/{path.relative_to(store)}", headers={"Range": "bytes=0-9"})
        assert answer.content == path.read_bytes()[:10]
        assert str(path) in held_open(store)
        assert len(held_open(store)) <= 3
    app.state.reader._announced = app.state.reader._catalog = copy(app.state.reader._catalog)  # another publication
    client.get(KEY)
    assert held_open(store) == {str(store / KEY.removeprefix("/zarr/0001.ome.zarr/"))}


def test_files_that_are_held_leave_room_for_connections(
    own: tuple[FastAPI, httpx.Client, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _, store = own
    monkeypatch.setattr("service.shortcut.resource.getrlimit", lambda _: (20, 20))
    files = [path for path in store.rglob("*") if path.is_file()][:10]

    async def asked_for_all() -> int:
        held = Shortcut(app.state)
        for path in files:
            request = request_of(f"/zarr/0001.ome.zarr/{path.relative_to(store)}").encode()
            assert held.answer("127.0.0.1", request, b"")
        return len(held._holding)

    assert asyncio.run(asked_for_all()) <= 4


def test_files_are_closed_although_nobody_reads_any_more(
    own: tuple[FastAPI, httpx.Client, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was withdrawn may not stay on the disk for as long as nobody asks."""
    _, client, store = own
    monkeypatch.setattr(shortcut, "_LONGEST_HELD_S", 1.0)
    for _ in range(2):  # closed, opened anew, and closed again
        client.get(KEY)
        assert held_open(store)
        deadline = time.monotonic() + 20
        while held_open(store) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not held_open(store)


def test_what_a_slow_reader_has_not_taken_stays_what_it_was(own: tuple[FastAPI, httpx.Client, Path]) -> None:
    """Answers share one buffer until they are sent, and this one is sent in parts."""
    _, client, store = own
    file = store / KEY.removeprefix("/zarr/0001.ome.zarr/")
    whole = bytes(range(256)) * 4000
    file.write_bytes(whole)
    with connected(client, room_bytes=2**15) as slow, connected(client) as other:
        for _ in range(8):
            slow.sendall(request_of(KEY).encode())
            time.sleep(0.05)  # one by one, until the connection holds no more
        for _ in range(20):
            other.sendall(request_of(KEY, {"Range": "bytes=100-"}).encode())
            assert received(other)[1] == whole[100:]
        rest = b""
        for _ in range(8):
            _, body, rest = received(slow, rest)
            assert body == whole


@pytest.mark.parametrize("text", ["Bytes=0-9", "bytes=0-9 ", "bytes= 0-9", "bytes=+0-9", "bytes=0_0-9", "bytes=9-0"])
def test_ranges_that_are_written_rarely_take_the_usual_way(app: FastAPI, client: httpx.Client, text: str) -> None:
    assert asked(app, KEY, {"Range": text}) is None
