"""A hosted mirror, asked from outside: ours passes, and each fault of a broken host is named, and no other."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from converter import asking
from converter.asking import Answer, Server
from converter.copying import copy_mirror
from converter.copyplan import CopySettings
from converter.doctor import Check, Diagnosis, diagnose
from converter.probes import PROBES
from corpus.errors import SettingsError, StoreError
from corpus.stores import Store
from tests.conftest import free_port, running

type Spoil = Callable[[BaseHTTPRequestHandler, Callable[[], Answer]], Answer | None]
"""Makes an answer out of what the service would answer, which is asked only when it is called; None for no answer."""


@contextmanager
def broken(served: str, spoil: Spoil) -> Iterator[str]:
    """A web server in front of a sound service that spoils its answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def hand_on(self) -> None:
            answer = spoil(self, self.ask)
            if answer is None:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            length = answer.headers.get("content-length") if self.command == "HEAD" else str(len(answer.body))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def ask(self) -> Answer:
            sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            with closing(http.client.HTTPConnection(urlsplit(served).netloc, timeout=30)) as connection:
                connection.request(self.command, self.path, headers=sent)
                with connection.getresponse() as response:
                    headers = {name.lower(): value for name, value in response.getheaders()}
                    return Answer(response.status, headers, response.read())

        do_GET = do_HEAD = do_OPTIONS = hand_on  # noqa: N815  # the base class finds them by these names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def found(url: str, timeout_s: float = 30, deadline_s: float = 120, **options: Any) -> tuple[Diagnosis, dict[str, str]]:
    """The diagnosis, and what was seen by the name of what failed."""
    noted: list[Check] = []
    diagnosis = diagnose(Server(url, timeout_s, deadline_s=deadline_s), noted.append, **options)
    assert tuple(noted) == diagnosis.checks
    return diagnosis, {check.name: check.seen for check in noted if check.status == "fail"}


def is_chunk(handler: BaseHTTPRequestHandler) -> bool:
    return "/c/" in handler.path


def missing_is_403(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    return answer._replace(status=403) if answer.status == 404 else answer


def no_suffix(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    if (handler.headers.get("Range") or "").startswith("bytes=-"):
        del handler.headers["Range"]
    return ask()


def no_ranges(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    del handler.headers["Range"]
    return ask()


def gzipped(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    if not is_chunk(handler) or "gzip" not in (handler.headers.get("Accept-Encoding") or "") or answer.status != 200:
        return answer
    return Answer(200, {**answer.headers, "content-encoding": "gzip"}, gzip.compress(answer.body))


def no_head(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    if handler.command == "HEAD" and is_chunk(handler):
        answer.headers["content-length"] = "0"
    return answer


def weak_etag(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    if "etag" in answer.headers:
        answer.headers["etag"] = f"W/{answer.headers['etag']}"
    return answer


def odd_date(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    return answer._replace(headers={**answer.headers, "last-modified": "yesterday"})


def without(*names: str) -> Spoil:
    def spoil(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
        answer = ask()
        return answer._replace(headers={name: text for name, text in answer.headers.items() if name not in names})

    return spoil


def no_options(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    return Answer(405, {}, b"") if handler.command == "OPTIONS" else ask()


def kept_for_ever(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    return answer._replace(headers={**answer.headers, "cache-control": "public, max-age=31536000"})


def all_is_text(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    return answer._replace(headers={**answer.headers, "content-type": "text/plain"})


def records_are_shown(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    return Answer(200, {}, b"{}") if "/.voxshelf/" in handler.path else ask()


def another_licence(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    if handler.path.endswith("0001.ome.zarr/zarr.json") and handler.command == "GET":
        return answer._replace(body=answer.body.replace(b'"CC-BY-NC-4.0"', b'"CC-BY-4.0"'))
    return answer


def other_voxels(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    if not handler.path.endswith("0004.ome.zarr/zarr.json"):
        return answer
    root = json.loads(answer.body)
    root["consolidated_metadata"]["metadata"]["pet"]["attributes"]["voxshelf"]["array_sha256"] = "0" * 64
    del root["consolidated_metadata"]["metadata"]["ct/labels/ribs"]
    return answer._replace(body=json.dumps(root).encode())


def lost_store(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    return Answer(404, {}, b"") if "0003.ome.zarr" in handler.path else ask()


def no_chunks(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    return Answer(500, {}, b"") if is_chunk(handler) else ask()


def cut_chunks(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer | None:
    answer = ask()
    if not is_chunk(handler) or handler.command != "GET":
        return answer
    handler.send_response_only(200)
    handler.send_header("Content-Length", str(len(answer.body)))
    handler.end_headers()
    handler.wfile.write(answer.body[:-1])
    return None


def odd_members(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
    answer = ask()
    if not handler.path.endswith("0002.ome.zarr/zarr.json"):
        return answer
    root = json.loads(answer.body)
    root["consolidated_metadata"]["metadata"]["ct"] = {}
    return answer._replace(body=json.dumps(root).encode())


def hangs_up(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer | None:
    return None if handler.headers.get("Range") == "bytes=-20" else ask()


def test_our_service_passes(served: str) -> None:
    diagnosis, wrong = found(served, everything=True)
    assert wrong == {}
    assert diagnosis.is_sound
    assert (diagnosis.host, diagnosis.subjects, diagnosis.looked_at) == ("the service of voxshelf", 4, 4)
    assert [check.name for check in diagnosis.checks] == [
        *("tables", "licenses", "chunks"),
        *(probe.name for probe in PROBES),
        "stores",
    ]


@pytest.mark.parametrize(
    ("spoil", "names", "seen"),
    [
        (missing_is_403, {"missing-key"}, "gives 403"),
        (no_suffix, {"suffix-range"}, "status 200"),
        (no_ranges, {"range", "suffix-range", "range-behind-the-end"}, "and not 206"),
        (gzipped, {"no-compression"}, "Content-Encoding: gzip"),
        (no_head, {"head"}, "Content-Length is 0"),
        (weak_etag, {"etag"}, 'ETag is W/"'),
        (without("etag"), {"etag"}, "ETag is None"),
        (odd_date, {"last-modified"}, "yesterday"),
        (without("access-control-allow-origin"), {"cors", "cors-preflight"}, "Allow-Origin"),
        (without("access-control-expose-headers"), {"cors"}, "content-range, etag"),
        (without("access-control-allow-headers"), {"cors-preflight"}, "without range"),
        (no_options, {"cors-preflight"}, "405"),
        (without("cache-control"), {"cache-chunks", "cache-documents"}, "''"),
        (kept_for_ever, {"cache-documents"}, "mirror.json"),
        (all_is_text, {"content-type"}, "text/plain"),
        (records_are_shown, {"private"}, ".voxshelf/settings.json"),
        (another_licence, {"stores"}, "0001: the store says CC-BY-4.0, the table CC-BY-NC-4.0"),
        (other_voxels, {"stores"}, "0004: the voxels of pet are not those"),
        (other_voxels, {"stores"}, "the table lists labels/ribs, the store does not have it"),
        (lost_store, {"stores"}, "0003: its root document gives 404"),
        (no_chunks, {"chunks"}, "status 500"),
        (cut_chunks, {"chunks"}, "IncompleteRead"),
        (odd_members, {"stores"}, "not one of a mirror"),
        (hangs_up, {"suffix-range"}, "store.unreachable"),
    ],
)
def test_each_fault_is_named_and_no_other(served: str, spoil: Spoil, names: set[str], seen: str) -> None:
    with broken(served, spoil) as url:
        diagnosis, wrong = found(url)
    assert set(wrong) == names
    assert any(seen in text for text in wrong.values()), wrong
    assert not diagnosis.is_sound
    failed = [check for check in diagnosis.checks if check.status == "fail"]
    assert all(check.why and check.remedy for check in failed)


def test_a_host_that_says_nothing_is_named_and_not_waited_for(served: str) -> None:
    thawed = threading.Event()

    def frozen(_: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> None:
        thawed.wait(60)

    with broken(served, frozen) as url:
        diagnosis, wrong = found(url, timeout_s=0.3)
        thawed.set()
    assert set(wrong) == {"tables"}
    assert "no answer" in wrong["tables"]
    # Nothing else can be asked, and none of it is called right.
    assert {check.status for check in diagnosis.checks[1:]} == {"skip"}


def test_a_host_that_drips_is_named_and_not_waited_for(served: str) -> None:
    ended = threading.Event()

    def dripping(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer | None:
        if not is_chunk(handler):
            return ask()
        handler.send_response_only(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with suppress(OSError):
            while not ended.wait(0.1):
                handler.wfile.write(b".")
        return None

    with broken(served, dripping) as url:
        diagnosis, wrong = found(url, deadline_s=2)
        ended.set()
    assert set(wrong) == {"chunks", "stores"}
    assert "the last 3 questions got no answer in time" in wrong["chunks"]
    assert "4 of 4 subjects not asked for" in wrong["stores"]
    assert diagnosis.looked_at == 0


def test_one_slow_answer_is_told_with_its_deadline(served: str) -> None:
    ended = threading.Event()

    def slow_head(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer | None:
        if handler.command != "HEAD" or not is_chunk(handler):
            return ask()
        with suppress(OSError):
            while not ended.wait(0.1):
                handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    with broken(served, slow_head) as url:
        diagnosis, wrong = found(url, deadline_s=2)
        ended.set()
    assert set(wrong) == {"head", "content-type"}
    assert "the answer was not complete after 2 s" in wrong["head"]
    assert diagnosis.looked_at == 4, "what follows is asked all the same"


def test_a_host_that_freezes_midway_is_given_up_and_says_how_many_were_not_asked(served: str) -> None:
    midway, thawed = threading.Event(), threading.Event()

    def freezing(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer | None:
        if "/.voxshelf/" in handler.path:
            midway.set()  # the last probe; what comes then are the subjects
        if midway.is_set() and handler.path.startswith("/zarr/"):
            thawed.wait(60)
            return None
        return ask()

    with broken(served, freezing) as url:
        diagnosis, wrong = found(url, timeout_s=2, everything=True)
        thawed.set()
    assert set(wrong) == {"stores"}
    assert wrong["stores"].count("no answer in 2 s") == 3
    assert "1 of 4 subjects not asked for: the last 3 questions got no answer in time" in wrong["stores"]
    assert diagnosis.looked_at == 0


@pytest.fixture(scope="module")
def copy(phantom_mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder with what anybody may read of the mirror."""
    folder = tmp_path_factory.mktemp("copy")
    copy_mirror(Store(str(phantom_mirror)), Store(str(folder)), CopySettings(), lambda _: None)
    return folder


STATIC = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]


def test_a_folder_on_a_server_without_ranges_is_named_for_that(copy: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([*STATIC, "--directory", str(copy), str(port)], f"{url}/mirror.json", tmp_path / "log"):
        diagnosis, wrong = found(url, everything=True)
    assert (diagnosis.host, diagnosis.subjects, diagnosis.looked_at) == ("a bucket or folder", 4, 4)
    unset = {"etag", "cors", "cors-preflight", "cache-chunks", "cache-documents"}
    assert set(wrong) == {"range", "suffix-range", "range-behind-the-end", *unset}
    assert all("status 200" in wrong[name] for name in ("range", "suffix-range"))


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="there is no nginx")
def test_a_folder_on_nginx_lacks_nothing_but_the_time_for_chunks(copy: Path, tmp_path: Path) -> None:
    port, script = free_port(), Path(__file__).parents[1] / "conformance/peers/nginx.py"
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, str(script), str(copy), str(port)], f"{url}/mirror.json", tmp_path / "log"):
        _, wrong = found(url, everything=True)
    assert wrong == {"cache-chunks": "Cache-Control of a chunk is 'public, max-age=3600, no-transform'"}


def test_tables_that_are_not_the_committed_ones_are_named(served: str) -> None:
    def old_table(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
        answer = ask()
        return answer._replace(body=answer.body[:-1]) if handler.path == "/regions.parquet" else answer

    with broken(served, old_table) as url:
        _, wrong = found(url)
    assert set(wrong) == {"tables"}
    assert "regions.parquet" in wrong["tables"]


def test_redirects_are_followed_as_readers_do(served: str) -> None:
    def moved(handler: BaseHTTPRequestHandler, _: Callable[[], Answer]) -> Answer:
        return Answer(307, {"location": f"{served}{handler.path}"}, b"")

    with broken(served, moved) as url:
        assert Server(url, 30).get("mirror.json") == Server(served, 30).get("mirror.json")
    with broken(
        served, lambda handler, ask: ask() if handler.path == "/new" else Answer(301, {"location": "new"}, b"")
    ) as url:
        assert Server(url, 30).ask("GET", "mirror.json").status == 404  # relative to the place that was asked for
    with broken(served, lambda handler, _: Answer(302, {"location": f"http://{handler.headers['Host']}/"}, b"")) as url:
        assert "redirects" in found(url)[1]["tables"]


def test_a_token_is_not_told_to_another_host(served: str) -> None:
    told: list[str | None] = []

    def listen(handler: BaseHTTPRequestHandler, ask: Callable[[], Answer]) -> Answer:
        told.append(handler.headers.get("Authorization"))
        return ask()

    with broken(served, listen) as other:
        with broken(served, lambda handler, _: Answer(307, {"location": other + handler.path}, b"")) as url:
            Server(url, 30, {"Authorization": "Bearer secret"}).get("mirror.json")
        Server(other, 30, {"Authorization": "Bearer secret"}).get("mirror.json")
    assert told == [None, "Bearer secret"]


@pytest.mark.parametrize(
    "url", ["mirror", "s3://bucket/mirror", "http://", "ftp://host/mirror", "http://host:abc", "http://a..b"]
)
def test_only_web_servers_are_asked(url: str) -> None:
    with pytest.raises(SettingsError, match="web server"):
        Server(url, 1)


def test_the_command_prints_what_mends_it_and_ends_with_1(served: str, voxshelf: Callable[..., Any]) -> None:
    sound = voxshelf("doctor", served)
    assert "0 wrong" in sound.stdout
    with broken(served, missing_is_403) as url:
        done = voxshelf("doctor", url, status=1)
    assert "FAIL missing-key" in done.stdout
    assert "s3:ListBucket" in done.stdout


def test_an_answer_without_end_is_not_kept(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_MOST_BYTES", 100)
    with pytest.raises(StoreError, match="more than 100 bytes"):
        Server(served, 20).ask("GET", "mirror.json")
