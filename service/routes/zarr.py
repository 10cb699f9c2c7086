"""Raw keys of subject stores: the bytes exactly as they lie in the mirror."""

from __future__ import annotations

from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from corpus import layout
from corpus.errors import NotFoundError, RequestError, StoreError
from corpus.licenses import License
from service.dependencies import catalog_of, upstream_of
from service.ranges import parse_range
from service.reader import readable_key
from service.upstream import Opened, Upstream

_IMMUTABLE = "public, max-age=31536000, immutable, no-transform"
# A subject's documents change when a volume that was missing is added; its chunks never do.
_REVALIDATE = "no-cache, no-transform"


async def read_object(request: Request) -> Response:
    """Answer GET and HEAD of one key."""
    raw_path: bytes = request.scope.get("raw_path") or b""
    if any(code in raw_path.lower() for code in (b"%2f", b"%5c", b"%00")):
        raise RequestError("request.key", "the key holds an encoded slash, backslash or NUL")
    subject = request.path_params["store"].removesuffix(layout.STORE_SUFFIX)
    if not request.path_params["store"].endswith(layout.STORE_SUFFIX):
        raise NotFoundError("not-found.subject", f"stores are named SUBJECT{layout.STORE_SUFFIX}")
    found = readable_key(await catalog_of(request), subject, request.path_params["key"])
    if found is None:
        raise NotFoundError("not-found.key", "this is Zarr version 3; there are no keys of version 2")
    key, license_ = found
    upstream = upstream_of(request)
    wanted = parse_range(request.headers.get("range")) if request.method == "GET" else None
    conditions = [request.headers.get("if-none-match"), request.headers.get("if-range")]
    if any(conditions):
        # Only browsers and caches send these; for them a look at the object comes first.
        whole = await upstream.open(key, None, body=False)
        if _is_unchanged(conditions[0], whole.etag):
            return Response(status_code=304, headers=_headers(key, whole, license_))
        if conditions[1] not in {None, whole.etag, format_datetime(whole.modified, usegmt=True)}:
            wanted = None
    try:
        opened = await upstream.open(key, wanted, body=request.method == "GET")
    except NotFoundError:
        await _require_store(upstream, subject)
        raise
    headers = {**_headers(key, opened, license_), "Content-Length": str(opened.stop - opened.start)}
    if wanted:
        headers["Content-Range"] = f"bytes {opened.start}-{opened.stop - 1}/{opened.size}"
    media_type = "application/json" if key.endswith("/zarr.json") else "application/octet-stream"
    return StreamingResponse(opened.pieces, 206 if wanted else 200, headers, media_type)


async def _require_store(upstream: Upstream, subject: str) -> None:
    """Raise where not only a chunk is missing but the subject's store: that is a fault, and not a chunk of zeros."""
    try:
        await upstream.open(f"{layout.store_key(subject)}/zarr.json", None, body=False)
    except NotFoundError as error:
        message = "the store of a listed subject is not there"
        raise StoreError("store.unreachable", message, place=subject) from error


def _headers(key: str, opened: Opened, license_: License) -> dict[str, str]:
    return {
        "ETag": opened.etag,
        "Last-Modified": format_datetime(opened.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": _REVALIDATE if key.endswith("/zarr.json") else _IMMUTABLE,
        "Link": f'<{license_.url}>; rel="license"',
    }


def _is_unchanged(condition: str | None, etag: str) -> bool:
    if condition is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or "*" in tags


routes = [Route("/zarr/{store}/{key:path}", read_object, methods=["GET", "HEAD"])]
