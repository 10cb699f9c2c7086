"""An HTTP and S3 upstream of a folder that fails on demand.

It speaks what a reading server needs of both: GET and HEAD with ranges and conditions, and S3's listing, under the
bucket ``/conformance``. Signatures are not looked at. Faults are switched by the process that owns it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "conformance"


class Fault:
    """What goes wrong with requests of matching keys.

    Parameters
    ----------
    kind
        ``403`` and other numbers: that status; ``cut``: half of the body, then the end; ``freeze``: no answer until
        the fault is over; ``stall``: half of the body, then nothing until the fault is over; ``change``: half of the
        body and the end, and from then on the object is another one, of the same size with another ETag.
    key
        End of the keys that it happens to.
    times
        For how many requests.
    """

    def __init__(self, kind: str, key: str, times: int = 10**9) -> None:
        self.kind, self.key, self.times = kind, key, times
        self.over = threading.Event()
        self.seen = 0
        self._lock = threading.Lock()

    def strikes(self, key: str) -> bool:
        """Return whether a request is hit, and count it."""
        if not key.endswith(self.key):
            return False
        with self._lock:
            self.seen += 1
            return self.seen <= self.times


class Upstream:
    """The server, in threads of this process, on a port of its own.

    Parameters
    ----------
    root
        Folder whose files are its objects.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fault: Fault | None = None
        self.changed: set[str] = set()
        handler = type("Handler", (_Handler,), {"upstream": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/{BUCKET}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def failing(self, kind: str, key: str, times: int = 10**9) -> Iterator[Fault]:
        """Let a fault happen for the length of a block."""
        self.fault = fault = Fault(kind, key, times)
        try:
            yield fault
        finally:
            self.fault = None
            fault.over.set()
            self.changed.clear()

    def keys_of(self, end: str) -> list[str]:
        """Return the keys of the files whose path ends so."""
        keys = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return [key for key in keys if key.endswith(end)]

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


def other(body: bytes) -> bytes:
    """Return what an object becomes when it changes: as long, and different in each byte."""
    return bytes(byte ^ 0x55 for byte in body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve one connection; a client that hangs up is no news."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        """Close it, also where the client did."""
        with contextlib.suppress(ConnectionError):
            super().finish()

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with the object, or with a listing."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in query:
            self._list(query)
            return
        self._answer()

    def _answer(self) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        path = self.upstream.root / key
        fault = self.upstream.fault
        struck = fault is not None and fault.strikes(key)
        if struck and fault is not None and fault.kind.isdigit():
            self._refuse(int(fault.kind))
            return
        if struck and fault is not None and fault.kind == "freeze":
            fault.over.wait(120)
        try:
            body = None if ".." in key else path.read_bytes()
        except (OSError, ValueError):  # no file of that name, or none that can be
            body = None
        if body is None:
            self._refuse(404)
            return
        if key in self.upstream.changed:
            body = other(body)
        self._send_object(body, path, fault.kind if struck and fault is not None else "", key)

    def _send_object(self, whole: bytes, path: Path, fault: str, key: str) -> None:
        etag = f'"{hashlib.md5(whole, usedforsecurity=False).hexdigest()}"'
        if self.headers.get("If-Match", etag) not in {etag, "*"}:
            self._refuse(412)
            return
        tags = {tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")}
        if tags & {etag, "*"}:
            self._refuse(304, {"ETag": etag})
            return
        part = self._range(len(whole), etag)
        start, stop = part or (0, len(whole))
        if part and start >= stop:
            self._refuse(416, {"Content-Range": f"bytes */{len(whole)}"})
            return
        body = whole[start:stop]
        self.send_response(206 if part else 200)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json" if key.endswith(".json") else "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            **({"Content-Range": f"bytes {start}-{stop - 1}/{len(whole)}"} if part else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault not in {"cut", "stall", "change"}:
            self.wfile.write(body)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if fault == "stall" and self.upstream.fault is not None:
            self.upstream.fault.over.wait(120)
        if fault == "change":
            self.upstream.changed.add(key)
        self.close_connection = True

    def _range(self, size: int, etag: str) -> tuple[int, int] | None:
        """Return the half-open range that is asked for; None for the whole."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None or match.groups() == ("", "") or self.headers.get("If-Range", etag) != etag:
            return None
        first, last = match.groups()
        if not first:
            return max(0, size - int(last)), size
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last) + 1 if last else size, size)

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        code = {404: "NoSuchKey", 403: "AccessDenied", 429: "SlowDown", 503: "SlowDown"}.get(status, "InternalError")
        empty = self.command == "HEAD" or status == 304
        body = b"" if empty else f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _list(self, query: dict[str, Any]) -> None:
        prefix = query.get("prefix", [""])[0]
        root = self.upstream.root
        keys = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        found = [key for key in keys if key.startswith(prefix)][:1000]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{(root / key).stat().st_size}</Size>"
            f"<LastModified>2026-01-01T00:00:00Z</LastModified><ETag>x</ETag></Contents>"
            for key in found
        )
        text = f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(found)}</KeyCount>{rows}</ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
