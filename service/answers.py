"""Answers that are the bytes of an object: conditions, ranges and headers, and then the stream.

Source: RFC 9110, sections 13 (conditions) and 14 (ranges).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corpus.errors import RequestError, VoxshelfError
from service.conditions import means_bytes, names, names_bytes
from service.ranges import ByteRange, parse_range
from service.upstream import Content, Opened, Upstream

_log = logging.getLogger(__name__)


class ObjectAnswer(Response):
    """An answer whose body comes in pieces, and which ends short of its Content-Length when a piece cannot be had.

    Parameters
    ----------
    status_code
        Of the answer.
    headers
        All of them.
    content
        The body.
    """

    def __init__(self, status_code: int, headers: Mapping[str, str], content: Content) -> None:
        # Not the parent's: it would copy the headers twice, and wants the whole body.
        self.status_code = status_code
        self.background = None
        self.raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if isinstance(self._content, bytes | memoryview):
            await send({"type": "http.response.body", "body": self._content})
            return
        try:
            if await self._stream(self._content, receive, send):
                await send({"type": "http.response.body", "body": b""})
        except VoxshelfError as error:
            # The status is long gone. Without its last message the server closes the connection, and the reader sees
            # fewer bytes than Content-Length: an error for every client, where a wrong ending would be silence.
            scope["app"].state.metrics.cut.inc()
            _log.error("an answer was cut: %s", error)

    async def _stream(self, content: AsyncIterator[bytes], receive: Receive, send: Send) -> bool:
        """Send the pieces; whether the reader stayed to the end."""
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            async with aclosing(cast("Any", content)) as pieces:
                async for piece in pieces:
                    if gone.done():
                        return False
                    # Returns when the connection has taken most of it, so that a slow reader holds two pieces.
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()
        return True


async def answer_object(request: Request, upstream: Upstream, key: str, headers: Mapping[str, str]) -> Response:
    """Return the answer to GET or HEAD of an object.

    Parameters
    ----------
    request
        Its method, ``Range`` and conditions are followed.
    upstream
        Where the object comes from.
    key
        Of the object.
    headers
        What is to be said beside the object's own headers.

    Raises
    ------
    NotFoundError, StoreError
        As `Upstream.open` does.
    RequestError
        The range lies outside the object, or ``If-Match`` or ``If-Unmodified-Since`` mean other bytes.
    """
    # A plain dictionary, with the first of each: the framework's searches all of them anew for each that is asked for.
    asked = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}
    body = request.method == "GET"
    wanted = parse_range(asked.get("range")) if body else None
    if "if-none-match" in asked or "if-modified-since" in asked:
        # Only browsers and caches send these, mostly of what has not changed: a look costs them no body.
        seen = await upstream.open(key, None, body=False)
        _require_match(asked, seen, key)  # goes before the others: RFC 9110, section 13.2.2
        if _is_unchanged(asked, seen):
            return ObjectAnswer(304, {**about_object(seen), **headers}, b"")
    try:
        opened, ranged = await _opened(upstream, key, wanted, asked.get("if-range"), body=body)
    except RequestError:
        if "if-match" in asked or "if-unmodified-since" in asked:  # the range was meant for other bytes
            _require_match(asked, await upstream.open(key, None, body=False), key)
        raise
    _require_match(asked, opened, key)
    about = {**about_object(opened), "Content-Length": str(opened.stop - opened.start)}
    if ranged:
        about["Content-Range"] = f"bytes {opened.start}-{opened.stop - 1}/{opened.size}"
    about |= headers
    return ObjectAnswer(206 if ranged else 200, about, opened.content if body else b"")


async def _opened(
    upstream: Upstream, key: str, wanted: ByteRange | None, if_range: str | None, *, body: bool
) -> tuple[Opened, bool]:
    """Open a range of an object, or all of it where the range was meant for other bytes; and which of the two."""
    if wanted is None:
        return await upstream.open(key, None, body=body), False
    try:
        opened = await upstream.open(key, wanted, body=body)
    except RequestError:
        # The bytes that the range was meant for may have been longer.
        if if_range is None or _holds(if_range, await upstream.open(key, None, body=False)):
            raise
    else:
        if _holds(if_range, opened):
            return opened, True
    return await upstream.open(key, None, body=body), False


def about_object(opened: Opened) -> dict[str, str]:
    """Return what every answer says about an object, whatever part of it was asked for."""
    return {
        "ETag": opened.etag,
        "Last-Modified": _http_date(opened.modified),
        "Accept-Ranges": "bytes",
    }


def _holds(if_range: str | None, opened: Opened) -> bool:
    return if_range is None or means_bytes(if_range, opened.etag, _http_date(opened.modified))


def _require_match(asked: Mapping[str, str], opened: Opened, key: str) -> None:
    if "if-match" in asked:
        same = names_bytes(asked["if-match"], opened.etag)
    else:
        same = not _is_later(opened, asked.get("if-unmodified-since"))
    if not same:
        raise RequestError("request.precondition", "the object has other bytes by now", place=key)


def _is_unchanged(asked: Mapping[str, str], opened: Opened) -> bool:
    if "if-none-match" in asked:
        return names(asked["if-none-match"], opened.etag)
    return not _is_later(opened, asked["if-modified-since"], unknown=True)


def _is_later(opened: Opened, date: str | None, *, unknown: bool = False) -> bool:
    """Whether an object was changed after a date; `unknown` where the date is none."""
    since = None if date is None else _date(date)
    return unknown if since is None else opened.modified.replace(microsecond=0) > since


@lru_cache(maxsize=4096)
def _http_date(date: datetime) -> str:
    return format_datetime(date, usegmt=True)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
