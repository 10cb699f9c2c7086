"""A mirror on a real S3, behind a proxy that counts requests and spoils them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corpus.stores import Store
from tests.faults import Proxy, proxy_of

SUBJECT = "subjects/0001.ome.zarr"
CHUNK = "ct/scale0/ct/c/0/0/0"
BIG = "ct/scale0/ct/c/9/0/0"
BIG_DATA = random.Random(4).randbytes(3 * 2**20 + 2**19)
TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def store(s3: dict[str, str], mirror: Path) -> Iterator[Store]:
    """The mirror's tables and first subject, in a bucket; its other subjects are not there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        store = Store("s3://voxshelf/served")
        for path in [*mirror.glob("*.*"), *(mirror / SUBJECT).rglob("*")]:
            if path.is_file():
                store.put(path.relative_to(mirror).as_posix(), path.read_bytes())
        store.put(f"{SUBJECT}/{BIG}", BIG_DATA)
        yield store


@pytest.fixture(scope="module")
def proxied(s3: dict[str, str]) -> Iterator[Proxy]:
    with proxy_of(s3["AWS_ENDPOINT_URL"]) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def base(store: Store, s3: dict[str, str], proxied: Proxy, serve: Callable[..., Any]) -> Iterator[str]:
    env = {**s3, "AWS_ENDPOINT_URL": proxied.url, "VOXSHELF_SERVE_CATALOG_TTL_S": "3600"}
    with serve(store.url, env) as base:
        assert httpx.get(f"{base}/v1/subjects").status_code == 200
        yield base


@pytest.fixture(scope="module")
def impatient(store: Store, s3: dict[str, str], proxied: Proxy, serve: Callable[..., Any]) -> Iterator[str]:
    """A service that does not wait long, for a bucket that cannot be listed."""
    env = {
        **s3,
        "AWS_ENDPOINT_URL": proxied.url,
        "VOXSHELF_SERVE_CATALOG_TTL_S": "3600",
        "VOXSHELF_SERVE_UPSTREAM_TIMEOUT_S": str(TIMEOUT_S),
        "VOXSHELF_SERVE_UPSTREAM_DENIED_IS_MISSING": "true",
    }
    with serve(store.url, env) as base:
        assert httpx.get(f"{base}/v1/subjects").status_code == 200
        yield base


@pytest.fixture
def proxy(proxied: Proxy) -> Iterator[Proxy]:
    proxied.asked.clear()
    proxied.faults.clear()
    yield proxied
    proxied.plan = lambda *_: None
    proxied.thawed.set()


@pytest.fixture
def client(base: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{base}/zarr/0001.ome.zarr") as client:
        yield client


def counter(base: str, name: str) -> float:
    lines = httpx.get(f"{base}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_every_object_of_a_bucket_is_served_byte_for_byte(client: httpx.Client, mirror: Path) -> None:
    files = [path for path in (mirror / SUBJECT).rglob("*") if path.is_file()]
    for path in files:
        answer = client.get(path.relative_to(mirror / SUBJECT).as_posix())
        assert (answer.status_code, answer.content) == (200, path.read_bytes())


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        (None, 0, len(BIG_DATA)),
        ("bytes=5-2000004", 5, 2000005),
        ("bytes=1000-", 1000, len(BIG_DATA)),
        ("bytes=-1500000", len(BIG_DATA) - 1500000, len(BIG_DATA)),
        ("bytes=100-199", 100, 200),
    ],
)
def test_a_read_is_one_request_to_storage(
    client: httpx.Client, proxy: Proxy, asked: str | None, start: int, stop: int
) -> None:
    answer = client.get(BIG, headers={"Range": asked} if asked else {})
    assert answer.content == BIG_DATA[start:stop]
    assert answer.headers["content-length"] == str(stop - start)
    if asked:
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BIG_DATA)}"
    assert [method for method, *_ in proxy.asked] == ["GET"]


def test_a_range_past_the_end_names_the_size(client: httpx.Client) -> None:
    answer = client.get(BIG, headers={"Range": f"bytes={len(BIG_DATA)}-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "request.range")
    assert answer.headers["content-range"] == f"bytes */{len(BIG_DATA)}"


@pytest.mark.parametrize(
    "key",
    [
        *(".zgroup", ".zattrs", "ct/.zarray", ".zmetadata", "ct//c", "%2e%2e/%2e%2e/mirror.json"),
        *("a%5cb", "a%00b", "a%2fb", "x" * 10_000, "ct/%C3%A9", "a%252e%252e/b"),
    ],
)
def test_keys_that_cannot_be_are_refused_without_asking_storage(client: httpx.Client, proxy: Proxy, key: str) -> None:
    answer = client.get(httpx.URL(f"{client.base_url}{key}"))
    assert answer.status_code in {400, 404}
    assert proxy.asked == []
    client.get("ct/scale0/ct/c/8/8/8")  # a key that may be
    assert len(proxy.asked) >= 1


@pytest.mark.parametrize(
    ("fault", "status", "code", "tries"),
    [
        ("403", 502, "store.denied", 1),
        ("429", 503, "store.unreachable", 3),
        ("500", 503, "store.unreachable", 3),
        ("503", 503, "store.unreachable", 3),
        ("drop", 503, "store.unreachable", 3),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_fault_of_storage_is_told_and_never_a_missing_chunk(
    client: httpx.Client, proxy: Proxy, method: str, fault: str, status: int, code: str, tries: int
) -> None:
    key = "ct/scale0/ct/c/5/5/5"  # nothing of it is known yet
    proxy.plan = lambda *_: fault
    answer = client.request(method, key)
    assert answer.status_code == status
    assert answer.headers["retry-after"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-store"
    assert method == "HEAD" or answer.json()["code"] == code
    assert len(proxy.asked) == tries


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "cut"])
def test_a_fault_that_passes_is_not_noticed(client: httpx.Client, proxy: Proxy, fault: str) -> None:
    left = iter([fault, fault])
    proxy.plan = lambda *_: next(left, None)
    answer = client.get(BIG, headers={"Range": "bytes=1000-200999"})
    assert (answer.status_code, answer.content) == (206, BIG_DATA[1000:201000])
    assert len(proxy.asked) == 3


def test_a_missing_chunk_of_a_store_that_is_there_is_404(client: httpx.Client) -> None:
    answer = client.get("ct/scale0/ct/c/7/7/7")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found.key")


def test_a_store_that_is_not_there_is_a_fault(base: str) -> None:
    assert httpx.get(f"{base}/zarr/0002.ome.zarr/{CHUNK}").status_code == 503


def test_frozen_storage_gives_504_in_time_and_then_all_is_well(impatient: str, proxy: Proxy) -> None:
    url = f"{impatient}/zarr/0001.ome.zarr/{BIG}"
    proxy.thawed.clear()
    proxy.plan = lambda *_: "freeze"
    started = time.monotonic()
    answer = httpx.get(url, headers={"Range": "bytes=0-9"}, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (504, "store.timeout")
    assert time.monotonic() - started < 5 * TIMEOUT_S
    assert httpx.get(f"{impatient}/healthz").status_code == 200
    ready = httpx.get(f"{impatient}/readyz", timeout=30)
    assert (ready.status_code, ready.json()["catalog"]) == (503, "ok")
    assert ready.json()["storage"].startswith("store.timeout")
    proxy.plan = lambda *_: None
    proxy.thawed.set()
    assert httpx.get(url, headers={"Range": "bytes=0-9"}).content == BIG_DATA[:10]


def test_a_body_that_breaks_off_goes_on_where_it_stopped(client: httpx.Client, proxy: Proxy) -> None:
    left = iter(["cut"])
    proxy.plan = lambda *_: next(left, None)
    answer = client.get(BIG)
    assert (answer.status_code, answer.content) == (200, BIG_DATA)
    (first, rest) = (asked for *_, asked in proxy.asked)
    start, _, last = rest.removeprefix("bytes=").partition("-")
    assert (first, last) == ("", str(len(BIG_DATA) - 1))
    assert 2**20 <= int(start) <= len(BIG_DATA) // 2


def received(client: httpx.Client, key: str) -> tuple[bytes, bool]:
    """The body as far as it came, and whether it ended as it should."""
    data = b""
    with client.stream("GET", key) as answer:
        assert answer.headers["content-length"] == str(len(BIG_DATA))
        try:
            for piece in answer.iter_raw():
                data += piece
        except httpx.RemoteProtocolError:
            return data, False
    return data, True


def test_a_body_that_breaks_off_for_good_ends_short_and_not_in_silence(
    base: str, client: httpx.Client, proxy: Proxy
) -> None:
    before = counter(base, "voxshelf_cut_answers_total")
    proxy.plan = lambda *_: "cut"
    data, whole = received(client, BIG)
    assert not whole
    assert 0 < len(data) < len(BIG_DATA)
    assert BIG_DATA.startswith(data)
    assert counter(base, "voxshelf_cut_answers_total") == before + 1


def test_an_object_that_changes_within_a_body_never_mixes_bytes(
    client: httpx.Client, proxy: Proxy, store: Store
) -> None:
    other = bytes(255 - byte for byte in BIG_DATA)

    def change(*_: str) -> str | None:
        if len(proxy.asked) > 0:
            store.put(f"{SUBJECT}/{BIG}", other)
            return None
        return "cut"

    proxy.plan = change
    try:
        data, whole = received(client, BIG)
    finally:
        proxy.plan = lambda *_: None
        store.put(f"{SUBJECT}/{BIG}", BIG_DATA)
    assert not whole
    assert BIG_DATA.startswith(data)
    assert len(proxy.asked) == 2


def test_conditions(client: httpx.Client) -> None:
    etag = client.head(BIG).headers["etag"]
    assert client.get(BIG, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(BIG, headers={"If-Match": '"other"'}).status_code == 412
    assert client.get(BIG, headers={"If-Match": etag, "Range": "bytes=0-1"}).status_code == 206
    whole = client.get(BIG, headers={"If-Range": '"other"', "Range": "bytes=0-1"})
    assert (whole.status_code, whole.content) == (200, BIG_DATA)
    past = {"If-Range": '"other"', "Range": f"bytes={len(BIG_DATA)}-"}
    assert client.get(BIG, headers=past).content == BIG_DATA
    assert client.get(BIG, headers={**past, "If-Range": etag}).status_code == 416
    assert client.get(BIG, headers={"If-Match": '"other"', "Range": past["Range"]}).status_code == 412
    assert client.get(BIG, headers={"If-Match": etag, "Range": past["Range"]}).status_code == 416


def test_a_read_of_known_bytes_is_one_request_as_well(client: httpx.Client, proxy: Proxy, store: Store) -> None:
    fresh = BIG.replace("/9/", "/8/")  # of which nothing is in memory, and a range in the middle leaves nothing there
    store.put(f"{SUBJECT}/{fresh}", BIG_DATA)
    etag = client.get(fresh, headers={"Range": "bytes=5-9"}).headers["etag"]
    proxy.asked.clear()
    answer = client.get(fresh, headers={"If-Match": etag, "Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (206, BIG_DATA[:2])
    assert [method for method, *_ in proxy.asked] == ["GET"]


def test_the_index_of_a_shard_is_asked_for_once(base: str, client: httpx.Client, proxy: Proxy, mirror: Path) -> None:
    data = (mirror / SUBJECT / "pet/scale0/pet/c/0/0/0").read_bytes()
    hits = counter(base, 'voxshelf_cache_total{outcome="hit"}')
    for size in (516, 516, 20):
        answer = client.get("pet/scale0/pet/c/0/0/0", headers={"Range": f"bytes=-{size}"})
        assert (answer.status_code, answer.content) == (206, data[-size:])
    assert len(proxy.asked) <= 1  # none where another test has read the whole of it
    assert counter(base, 'voxshelf_cache_total{outcome="hit"}') >= hits + 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_is_signed_for_its_method(client: httpx.Client, proxy: Proxy, mirror: Path, method: str) -> None:
    answer = client.request(method, f"{CHUNK}?redirect=1")
    assert answer.status_code == 307
    assert answer.headers["cache-control"] == "no-store"
    assert 'rel="license"' in answer.headers["link"]
    assert proxy.asked == []
    target = answer.headers["location"]
    assert httpx.request(method, target).status_code == 200
    if method == "GET":
        assert httpx.get(target).content == (mirror / SUBJECT / CHUNK).read_bytes()
    assert httpx.request("GET" if method == "HEAD" else "HEAD", target).status_code == 403


def test_who_may_not_read_gets_no_redirect(base: str, proxy: Proxy) -> None:
    answer = httpx.get(f"{base}/zarr/9999.ome.zarr/{CHUNK}?redirect=1")
    assert answer.status_code == 410
    assert proxy.asked == []


def test_tries_and_bytes_are_counted(base: str, client: httpx.Client, proxy: Proxy) -> None:
    before = counter(base, 'voxshelf_sent_bytes_total{route="/zarr/{store}/{key}"}')
    tries = counter(base, 'voxshelf_upstream_requests_total{operation="get"')
    left = iter(["503"])
    proxy.plan = lambda *_: next(left, None)
    client.get(BIG, headers={"Range": "bytes=0-99"})
    assert counter(base, 'voxshelf_sent_bytes_total{route="/zarr/{store}/{key}"}') == before + 100
    assert counter(base, 'voxshelf_upstream_requests_total{operation="get"') == tries + 2


def test_denied_is_missing_only_where_the_operator_says_so(base: str, impatient: str, proxy: Proxy) -> None:
    proxy.plan = lambda _, path: "403" if "/c/" in path else None
    key = "zarr/0001.ome.zarr/ct/scale0/ct/c/6/6/6"
    assert httpx.get(f"{impatient}/{key}").status_code == 404
    assert httpx.get(f"{base}/{key}").status_code == 502
