"""A web server in front of a real S3 that hands requests on, or spoils them: what networks and busy stores do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = str | None
"""None hands the request on; a status such as "503" answers with it; "drop" closes the connection without an answer,
"cut" in the middle of the body; "stall" says nothing for a while and closes it then; "freeze" says nothing until the
proxy is thawed, and goes on as if nothing had been."""
STALL_S = 3.0
_BODY = "<?xml version='1.0'?><Error><Code>{}</Code><Message>injected</Message></Error>"
_CODES = {"403": "AccessDenied", "503": "ServiceUnavailable", "500": "InternalError", "429": "TooManyRequests"}


class Proxy:
    """Hands requests on to `target`; `plan` says what happens to each, by method and path."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.plan: Callable[[str, str], Fault] = lambda *_: None
        self.faults: list[tuple[str, str, str]] = []
        self.asked: list[tuple[str, str, str]] = []
        self.thawed = threading.Event()
        self._lock = threading.Lock()
        self.url = ""

    def decide(self, method: str, path: str) -> Fault:
        with self._lock:
            fault = self.plan(method, path)
            if fault is not None:
                self.faults.append((fault, method, path))
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def hand_on(self) -> None:
        proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.decide(self.command, self.path)
        proxy.asked.append((self.command, self.path, self.headers.get("Range", "")))
        if fault == "freeze":
            proxy.thawed.wait()
            fault = None
        if fault is not None and fault != "cut":
            self._spoil(fault)
            return
        status, headers, data = self._ask(proxy.target, body)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.end_headers()
        if fault == "cut":
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    def _ask(self, target: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(target, timeout=60)
        try:
            # The signature covers Host, which stays the proxy's.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection"}:
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        headers = answer.getheaders()
        if answer.status != 204 and not answer.getheader("Content-Length"):
            headers.append(("Content-Length", str(len(data))))
        return answer.status, headers, data

    def _spoil(self, fault: str) -> None:
        if fault in {"drop", "stall"}:
            time.sleep(STALL_S if fault == "stall" else 0)
            self.close_connection = True
            return
        data = b"" if self.command == "HEAD" else _BODY.format(_CODES[fault]).encode()
        self.send_response_only(int(fault))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = hand_on  # noqa: N815  # http.server's names


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, *_: object) -> None:
        pass  # clients go away, above all from connections that were spoilt


@contextmanager
def proxy_of(target: str) -> Iterator[Proxy]:
    """A proxy that listens while a block runs."""
    proxy = Proxy(target)
    server = _Server(proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        proxy.thawed.set()
        server.shutdown()
        thread.join()
        server.server_close()
