"""What happened to each request: its id, a line in the access log, its counters, and a plain answer to what is a bug.

A plain ASGI middleware, because the framework's base class for middleware puts every piece of a body through a queue.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.cors import HEADERS
from service.metrics import Metrics

ACCESS_LOG: Final = "voxshelf.access"
"""Logger of the lines, each of them a JSON object."""

_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH: Final = 600
_log = logging.getLogger(__name__)
_access = logging.getLogger(ACCESS_LOG)
_bug: Final = {"code": "unexpected", "message": "the service has a bug", "hint": "Please report the request id."}


class _Line(msgspec.Struct):
    """A line of the access log. Neither query nor headers: they may hold what is secret."""

    time: str
    id: str
    client: str
    method: str
    path: str
    status: int
    sent: int
    complete: bool
    ms: float


class Observed:
    """Observes requests.

    Parameters
    ----------
    app
        The application behind.
    metrics
        The counters.
    log
        Whether each request is logged.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        name = _id_of(scope)
        status, sent, complete = 0, 0, False

        async def counting(message: Message) -> None:
            nonlocal status, sent, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", name)]
            else:
                sent += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, counting)
        except Exception:  # noqa: BLE001  # a bug must not cost the reader an answer, nor the log its line
            _log.exception("request %s", name.decode())
            if not status:
                await JSONResponse(_bug, 500, {**HEADERS, "Cache-Control": "no-store"})(scope, receive, counting)
        finally:
            self._metrics.in_flight.dec()
            seconds = time.perf_counter() - started
            self._metrics.answered(_route_of(scope), scope["method"], status, sent, seconds)
            if self._log:
                self._write(scope, _Line(_now(), name.decode(), "", "", "", status, sent, complete, seconds * 1000))

    def _write(self, scope: Scope, line: _Line) -> None:
        client = scope.get("client")
        line.client = client[0] if client else ""
        line.method = scope["method"]
        line.path = scope["path"][:_LONGEST_PATH]
        line.ms = round(line.ms, 2)
        _access.info("%s", self._encoder.encode(line).decode())


def _id_of(scope: Scope) -> bytes:
    """Return the id that a proxy gave the request, or a new one."""
    for header, value in scope["headers"]:
        if header == b"x-request-id" and _ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(8).encode()


def _route_of(scope: Scope) -> str:
    """Return the route's pattern: a label per path would be one per subject and chunk."""
    return getattr(scope.get("route"), "path", "none")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
