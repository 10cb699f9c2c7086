"""What happened to each request: its id, a line in the access log, its counters, and a plain answer to what is a bug.

A plain ASGI middleware, because the framework's base class for middleware puts every piece of a body through a queue.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.answered import Answered, new_id
from service.cors import HEADERS
from service.metrics import Metrics

_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
KEYS_ROUTE: Final = "/zarr/{store}/{key}"
"""How counters name the keys of stores."""
_log = logging.getLogger(__name__)


class Observed:
    """Observes requests.

    Parameters
    ----------
    app
        The application behind.
    metrics
        The counters.
    answered
        Where answered requests are noted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, answered: Answered) -> None:
        self._app = app
        self._metrics = metrics
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            self._answered.settle()  # the application has ended
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
            self._answered.note(_route_of(scope), request, (status, sent, complete), name, started)


def _id_of(scope: Scope) -> bytes:
    """Return the id that a proxy gave the request, or a new one."""
    for header, value in scope["headers"]:
        if header == b"x-request-id" and _ID.fullmatch(value):
            return bytes(value)
    return new_id()


def _route_of(scope: Scope) -> str:
    """Return the route's pattern: a label per path would be one per subject and chunk."""
    if scope["path"].startswith("/zarr/"):
        return KEYS_ROUTE
    return getattr(scope.get("route"), "path", "none")
