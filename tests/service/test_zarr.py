from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.conftest import StartService

SUBJECT = "0001"
CHUNK = "ct/scale0/ct/c/0/0/0"


@pytest.fixture(scope="module")
def chunk(mirror: Path) -> bytes:
    return (mirror / "subjects" / f"{SUBJECT}.ome.zarr" / CHUNK).read_bytes()


def url(key: str, subject: str = SUBJECT) -> str:
    return f"/zarr/{subject}.ome.zarr/{key}"


def raw_get(base: str, target: str) -> bytes:
    """A request whose path no client library tidies up first."""
    address = urlsplit(base)
    with socket.create_connection((address.hostname, address.port)) as connection:  # type: ignore[arg-type]
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


def test_every_object_of_a_subject_is_served_byte_for_byte(client: httpx.Client, mirror: Path) -> None:
    store = mirror / "subjects" / f"{SUBJECT}.ome.zarr"
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        answer = client.get(url(path.relative_to(store).as_posix()))
        assert answer.status_code == 200
        assert answer.content == path.read_bytes()


def test_what_is_no_key_goes_to_the_framework(client: httpx.Client) -> None:
    refused = client.post(url(CHUNK))
    assert (refused.status_code, refused.json()["code"]) == (405, "request.method")
    for path in ("/zarr/", f"/zarr//{CHUNK}"):
        missing = client.get(path)
        assert (missing.status_code, missing.json()["code"]) == (404, "not-found.route")


def test_headers_of_a_chunk(client: httpx.Client, chunk: bytes) -> None:
    headers = client.get(url(CHUNK), headers={"Accept-Encoding": "gzip, deflate"}).headers
    assert headers["content-length"] == str(len(chunk))
    assert headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in headers
    assert headers["etag"].startswith('"')
    assert headers["last-modified"].endswith(" GMT")
    assert headers["content-type"] == "application/octet-stream"
    assert "immutable" in headers["cache-control"]
    assert headers["link"] == '<https://creativecommons.org/licenses/by-nc/4.0/>; rel="license"'
    assert headers["x-content-type-options"] == "nosniff"


def test_documents_are_revalidated_since_a_volume_may_be_added(client: httpx.Client) -> None:
    headers = client.get(url("zarr.json")).headers
    assert headers["content-type"] == "application/json"
    assert "no-cache" in headers["cache-control"]


@pytest.mark.parametrize(
    ("header", "start", "stop"), [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-516", -516, None)]
)
def test_ranges(client: httpx.Client, chunk: bytes, header: str, start: int, stop: int | None) -> None:
    answer = client.get(url(CHUNK), headers={"Range": header})
    expected = chunk[start:stop]
    first = start if start >= 0 else len(chunk) + start
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(chunk)}"
    assert answer.headers["content-length"] == str(len(expected))


def test_a_suffix_longer_than_the_object_is_all_of_it(client: httpx.Client, chunk: bytes) -> None:
    answer = client.get(url(CHUNK), headers={"Range": "bytes=-99999999"})
    assert (answer.status_code, answer.content) == (206, chunk)


def test_a_range_past_the_end(client: httpx.Client, chunk: bytes) -> None:
    answer = client.get(url(CHUNK), headers={"Range": f"bytes={len(chunk)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(chunk)}"
    assert answer.json()["code"] == "request.range"


def test_several_ranges_are_answered_with_the_whole(client: httpx.Client, chunk: bytes) -> None:
    answer = client.get(url(CHUNK), headers={"Range": "bytes=0-1,5-6"})
    assert (answer.status_code, answer.content) == (200, chunk)


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    get, head = client.get(url(CHUNK)), client.head(url(CHUNK))
    assert (head.status_code, head.content) == (200, b"")
    same = ("content-length", "etag", "last-modified", "content-type", "accept-ranges", "link", "cache-control")
    assert {name: head.headers[name] for name in same} == {name: get.headers[name] for name in same}


def test_an_unchanged_object_is_not_sent_again(client: httpx.Client) -> None:
    etag = client.head(url(CHUNK)).headers["etag"]
    answer = client.get(url(CHUNK), headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag
    assert client.get(url(CHUNK), headers={"If-None-Match": '"other"'}).status_code == 200


def test_bytes_that_were_changed_since_are_not_given(client: httpx.Client, chunk: bytes) -> None:
    modified = client.head(url(CHUNK)).headers["last-modified"]
    past, now = "Mon, 01 Jan 2001 00:00:00 GMT", {"If-Unmodified-Since": modified}
    stale = client.get(url(CHUNK), headers={"If-Unmodified-Since": past, "Range": "bytes=0-9"})
    assert (stale.status_code, stale.json()["code"]) == (412, "request.precondition")
    assert client.get(url(CHUNK), headers={"If-Unmodified-Since": past, "Range": "bytes=99999999-"}).status_code == 412
    assert client.get(url(CHUNK), headers={**now, "Range": "bytes=0-9"}).content == chunk[:10]
    # RFC 9110 section 13.1.4: ignored beside If-Match, and where it is no date.
    assert client.get(url(CHUNK), headers={"If-Unmodified-Since": past, "If-Match": "*"}).status_code == 200
    assert client.get(url(CHUNK), headers={"If-Unmodified-Since": "yesterday"}).status_code == 200


def test_a_store_without_a_key_is_404_and_leads_nowhere(client: httpx.Client) -> None:
    answer = client.get("/zarr/0001.ome.zarr", follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found.key")


def test_a_range_of_other_bytes_is_answered_with_the_whole(client: httpx.Client, chunk: bytes) -> None:
    etag = client.head(url(CHUNK)).headers["etag"]
    same = client.get(url(CHUNK), headers={"Range": "bytes=0-9", "If-Range": etag})
    assert (same.status_code, same.content) == (206, chunk[:10])
    other = client.get(url(CHUNK), headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, chunk)


@pytest.mark.parametrize(
    "key", ["nothing", "ct/scale0/ct/c/9/9/9", ".zgroup", ".zattrs", "ct/.zarray", ".zmetadata", "ct", "zarr.json/x"]
)
def test_missing_keys_are_404_and_never_403(client: httpx.Client, key: str) -> None:
    answer = client.get(url(key))
    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found.key"


def test_a_chunk_of_a_subject_that_is_not_listed_is_never_taken_for_zeros(client: httpx.Client) -> None:
    # A notebook may hold a subject open that was withdrawn: 404 would be air.
    answer = client.get(url(CHUNK, "9999"))
    assert (answer.status_code, answer.json()["code"]) == (410, "not-found.withdrawn")


def test_a_listed_subject_without_its_store_is_a_fault_and_not_zeros(
    mirror: Path, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    shutil.copytree(mirror, tmp_path / "mirror")
    with serve(f"file://{tmp_path}/mirror") as base:
        missing = base + url("ct/scale0/ct/c/9/9/9")
        assert httpx.get(missing).status_code == 404
        (tmp_path / "mirror/subjects").rename(tmp_path / "gone")
        assert httpx.get(missing).status_code == 503


def test_an_unknown_subject_is_404(client: httpx.Client) -> None:
    assert client.get(url("zarr.json", "9999")).json()["code"] == "not-found.subject"
    assert client.get("/zarr/0001/zarr.json").status_code == 404


@pytest.mark.parametrize(
    "key",
    [
        "../../mirror.json",
        "ct/../zarr.json",
        "ct//zarr.json",
        "./zarr.json",
        "..%2f..%2fmirror.json",
        "%2e%2e/%2e%2e/mirror.json",
        "ct%5czarr.json",
        "ct%00",
        "x" * 10_000,
    ],
)
def test_keys_that_climb_or_lie_are_refused(served: str, key: str) -> None:
    status = raw_get(served, f"/zarr/{SUBJECT}.ome.zarr/{key}").split(b" ", 2)[1]
    assert status in {b"400", b"404"}


def test_every_status_can_be_read_by_a_page_of_another_origin(client: httpx.Client) -> None:
    answers = [
        client.get(url(CHUNK), headers={"Range": "bytes=0-1"}),
        client.get(url(CHUNK), headers={"Range": "bytes=99999999-"}),
        client.get(url(CHUNK), headers={"If-None-Match": "*"}),
        client.get(url("nothing")),
        client.post(url("nothing")),
        client.get("/nowhere"),
        client.get("/v1/subjects", params={"limit": 0}),
    ]
    assert [answer.status_code for answer in answers] == [206, 416, 304, 404, 405, 404, 422]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Content-Range" in answer.headers["access-control-expose-headers"]


def test_preflight_allows_ranges(client: httpx.Client) -> None:
    asked = {
        "Origin": "https://x.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
    }
    answer = client.options(url(CHUNK), headers=asked)
    assert answer.status_code == 204
    assert "Range" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "86400"


def test_a_store_that_cannot_be_read_is_never_taken_for_a_missing_chunk(
    mirror: Path, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    # A reader takes 404 for zeros: a fault must look like one. Here the bucket is there, and its server is not.
    shutil.copytree(mirror, tmp_path / "mirror")
    shard = tmp_path / "mirror" / "subjects" / f"{SUBJECT}.ome.zarr" / CHUNK
    shard.unlink()
    shard.symlink_to(shard)  # opening it fails with ELOOP, for root too
    with serve(tmp_path / "mirror") as base:
        answer = httpx.get(base + url(CHUNK))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["code"] == "store.unreachable"


def test_bytes_that_nginx_sends(mirror: Path, service: StartService) -> None:
    with service(mirror, accel_prefix="/stored") as started:
        answer = httpx.get(started.base + url(CHUNK))
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["x-accel-redirect"] == f"/stored/subjects/{SUBJECT}.ome.zarr/{CHUNK}"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert 'rel="license"' in answer.headers["link"]
        for key, status in (("ct/scale0/ct/c/9/9/9", 404), ("ct//x", 400), (".zgroup", 404)):
            refused = httpx.get(started.base + url(key))
            assert refused.status_code == status
            assert "x-accel-redirect" not in refused.headers
        assert "x-accel-redirect" not in httpx.get(started.base + url(CHUNK, "9999")).headers


def test_a_folder_has_no_presigned_urls(client: httpx.Client) -> None:
    answer = client.get(url(CHUNK), params={"redirect": "1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request.parameter")


def test_conditions_of_caches_and_of_readers_that_come_back(client: httpx.Client, chunk: bytes) -> None:
    headers = client.head(url(CHUNK)).headers
    etag, date = headers["etag"], headers["last-modified"]
    assert client.get(url(CHUNK), headers={"If-Modified-Since": date}).status_code == 304
    since = "Mon, 01 Jan 2001 00:00:00 GMT"
    assert client.get(url(CHUNK), headers={"If-Modified-Since": since}).content == chunk
    assert client.get(url(CHUNK), headers={"If-Modified-Since": "yesterday"}).content == chunk
    assert client.get(url(CHUNK), headers={"If-None-Match": '"other"', "If-Modified-Since": date}).status_code == 200
    assert client.get(url(CHUNK), headers={"If-None-Match": f'"other", W/{etag}'}).status_code == 304
    assert client.head(url(CHUNK), headers={"If-None-Match": etag}).status_code == 304
    assert client.get(url(CHUNK), headers={"If-Match": f'"other", {etag}'}).content == chunk
    assert client.get(url(CHUNK), headers={"If-Match": "*"}).content == chunk
    first = {"If-Match": '"other"', "If-None-Match": etag}
    assert client.get(url(CHUNK), headers=first).status_code == 412
    assert client.get(url(CHUNK), headers={"If-Match": '"other"', "Range": "bytes=999999999-"}).status_code == 412
    changed = client.get(url(CHUNK), headers={"If-Match": '"other"', "Range": "bytes=0-9"})
    assert (changed.status_code, changed.json()["code"]) == (412, "request.precondition")
    dated = client.get(url(CHUNK), headers={"Range": "bytes=0-9", "If-Range": date})
    assert (dated.status_code, dated.content) == (206, chunk[:10])
    past = {"Range": f"bytes={len(chunk)}-", "If-Range": '"other"'}
    assert client.get(url(CHUNK), headers=past).content == chunk
