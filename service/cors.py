"""Cross-origin headers on every answer, errors and refusals included.

A plain ASGI middleware, because the framework's own adds nothing to answers without an ``Origin`` header (which a
shared cache may then hand to a browser), and because one that wraps bodies would buffer the stream.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import ACKNOWLEDGE_HEADER, ATTRIBUTION_HEADER

METHODS: Final = "GET, HEAD, OPTIONS"
"""Of every route."""
HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, "
    "Last-Modified, Link, Retry-After, WWW-Authenticate, X-Request-Id, X-Voxshelf-Affine, X-Voxshelf-Byte-Identical, "
    "X-Voxshelf-Dtype, "
    "X-Voxshelf-Inter, X-Voxshelf-Level, X-Voxshelf-Shape, X-Voxshelf-Slope, X-Voxshelf-Spacing-Mm, X-Voxshelf-Start, "
    f"X-Voxshelf-Units, {ATTRIBUTION_HEADER}",
    "X-Content-Type-Options": "nosniff",
}
_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": "Authorization, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "If-Unmodified-Since, Range, "
    f"{ACKNOWLEDGE_HEADER}",
    "Access-Control-Max-Age": "86400",
    "Allow": METHODS,
}


class CrossOrigin:
    """Lets pages of any origin read everything, and answers preflight requests.

    Parameters
    ----------
    app
        The application behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_RAW]
            await send(message)

        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)
