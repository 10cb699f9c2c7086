"""What happened to each request: its id, a line in the access log, its counters, and a plain answer to what is a bug.

A plain ASGI middleware, because the framework's base class for middleware puts every piece of a body through a queue.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.cors import HEADERS
from service.metrics import Metrics

ACCESS_LOG: Final = "voxshelf.access"
"""Logger of the lines, each of them a JSON object."""

_PROCESS: Final = secrets.token_hex(6).encode()
_numbers: Final = itertools.count(1)
_LOG_EVERY_S: Final = 0.1
_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH: Final = 600
KEYS_ROUTE: Final = "/zarr/{store}/{key}"
"""How counters name the keys of stores."""
_log = logging.getLogger(__name__)
_access = logging.getLogger(ACCESS_LOG)


class _Line(msgspec.Struct):
    """A line of the access log. Neither query nor headers: they may hold what is secret."""

    time: datetime
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
        self._lines = _Lines() if log else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            if self._lines is not None:
                self._lines.write()  # the application has ended
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
                answer = errors.bug()
                answer.headers.update(HEADERS)
                await answer(scope, receive, counting)
        finally:
            self._metrics.in_flight.dec()
            client = scope["client"][0] if scope.get("client") else ""
            request = (client, scope["method"], scope["path"])
            self.note(_route_of(scope), request, (status, sent, complete), name, started)

    def note(
        self, route: str, request: tuple[str, str, str], answer: tuple[int, int, bool], name: bytes, started: float
    ) -> None:
        """Count and log a request that has been answered.

        Parameters
        ----------
        route
            The pattern of its path.
        request
            Address of who asked, method, and path.
        answer
            Status, bytes of the body that were sent, and whether that was all of it.
        name
            Its id.
        started
            When it began, by `time.perf_counter`.
        """
        seconds = time.perf_counter() - started
        client, method, path = request
        status, sent, complete = answer
        self._metrics.answered(route, method, status, sent, seconds)
        if self._lines is not None:
            what = (client, method, path[:_LONGEST_PATH], status, sent, complete, round(seconds * 1000, 2))
            self._lines.add(_Line(datetime.now(UTC), name.decode(), *what))

    @staticmethod
    def next_id() -> bytes:
        """Return the id of a request that brought none."""
        return b"%s-%x" % (_PROCESS, next(_numbers))


class _Lines:
    """Lines of the access log on their way: several at once, since writing one costs as much as a small range."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def add(self, line: _Line) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(_LOG_EVERY_S, self.write)
        self._waiting.append(self._encoder.encode(line))

    def write(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            _access.info("%s", b"\n".join(lines).decode())


def _id_of(scope: Scope) -> bytes:
    """Return the id that a proxy gave the request, or a new one."""
    for header, value in scope["headers"]:
        if header == b"x-request-id" and _ID.fullmatch(value):
            return bytes(value)
    return Observed.next_id()


def _route_of(scope: Scope) -> str:
    """Return the route's pattern: a label per path would be one per subject and chunk."""
    if scope["path"].startswith("/zarr/"):
        return KEYS_ROUTE
    return getattr(scope.get("route"), "path", "none")
