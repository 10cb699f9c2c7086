"""ETags of answers that are made on the spot, and what requests say of them."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.requests import Request

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


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the request's ``If-None-Match`` names the tag, so that 304 is the answer."""
    condition = request.headers.get("if-none-match")
    if condition is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag.removeprefix("W/") in tags or "*" in tags


def wanted_range(request: Request, etag: str) -> ByteRange | None:
    """Return the range that a GET request asks for; None for the whole, also where ``If-Range`` means other bytes."""
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    return parse_range(request.headers.get("range"))
