"""What requests say of ETags; and ETags, and headers alone, of answers that are made on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from corpus.errors import RequestError
from service.ranges import ByteRange, parse_range

REVALIDATE: Final = "no-cache, no-transform"
"""Kept by caches, and looked at again each time: a mirror may convert a subject anew, or withdraw it."""


def etag_of(*parts: Any) -> str:
    """Return the strong ETag of an answer that follows from these values: rows of the tables, and parameters.

    The rows name the digests of the voxels and of the source, so that what a tag stands for never changes; the version
    of voxshelf is part of it, since the next one may draw or compress otherwise.
    """
    encoded = msgspec.json.encode((version("voxshelf"), *parts), order="sorted")
    return f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'


def names(condition: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` names a tag: weakly, as RFC 9110 section 13.1.2 asks."""
    return "*" in (tags := _tags(condition)) or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}


def names_bytes(condition: str, etag: str) -> bool:
    """Whether an ``If-Match`` names a tag: strongly, as RFC 9110 section 13.1.1 asks, so that no weak tag is named."""
    return "*" in (tags := _tags(condition)) or (etag in tags and not etag.startswith("W/"))


def means_bytes(if_range: str, etag: str, modified: str | None = None) -> bool:
    """Whether an ``If-Range`` means the bytes that have this tag and date (RFC 9110 section 13.1.5)."""
    return if_range in {etag, modified} and not if_range.startswith("W/")


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the request's ``If-None-Match`` names the tag, so that 304 is the answer.

    Raises
    ------
    RequestError
        ``If-Match`` names others only, and it is decided first (RFC 9110 section 13.2.2).
    """
    if not names_bytes(request.headers.get("if-match", "*"), etag):
        raise RequestError("request.precondition", "the answer is another one by now")
    condition = request.headers.get("if-none-match")
    return condition is not None and names(condition, etag)


def headers_alone(headers: Mapping[str, str], media_type: str) -> Response:
    """Return the answer to a HEAD request whose body nobody makes.

    The framework would add the length of the empty body, and the one that counts is GET's (RFC 9110 section 8.6).
    """
    answer = Response(headers=headers, media_type=media_type)
    if "Content-Length" not in headers:
        del answer.headers["Content-Length"]
    return answer


def wanted_range(request: Request, etag: str) -> ByteRange | None:
    """Return the range that a GET request asks for; None for the whole, also where ``If-Range`` means other bytes."""
    if request.method != "GET" or not means_bytes(request.headers.get("if-range", etag), etag):
        return None
    return parse_range(request.headers.get("range"))


def _tags(condition: str) -> list[str]:
    return [tag.strip() for tag in condition.split(",")]
