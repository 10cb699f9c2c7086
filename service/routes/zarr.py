"""Raw keys of subject stores: the bytes exactly as they lie in the mirror."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from corpus import layout
from corpus.errors import NotFoundError, RequestError, StoreError, VoxshelfError
from service import errors
from service.access import Grant
from service.answers import ObjectAnswer, answer_object
from service.dependencies import catalog_of, granted, storage_of, upstream_of
from service.reader import readable_key
from service.settings import ServiceSettings
from service.upstream import Method, Upstream

PREFIX: Final = "/zarr/"
_METHODS = ("GET", "HEAD")
_IMMUTABLE = "public, max-age=31536000, immutable, no-transform"
# A subject's documents change when a volume that was missing is added; its chunks never do.
_REVALIDATE = "no-cache, no-transform"
_ENCODED = (b"%2f", b"%5c", b"%00")


async def _read_object(request: Request, store: str, key: str) -> Response:
    """Answer GET and HEAD of one key of a store."""
    raw_path: bytes = request.scope.get("raw_path") or b""
    if b"%" in raw_path and any(code in raw_path.lower() for code in _ENCODED):
        raise RequestError("request.key", "the key holds an encoded slash, backslash or NUL")
    subject = store.removesuffix(layout.STORE_SUFFIX)
    if subject == store:
        raise NotFoundError("not-found.subject", f"stores are named SUBJECT{layout.STORE_SUFFIX}")
    catalog = await catalog_of(request)
    known = readable_key(catalog, subject, key)
    grant = granted(request, catalog, subject)
    if known is None:
        raise NotFoundError("not-found.key", "there are no such keys in these stores, which are of Zarr version 3")
    return await _answer(request, subject, known, headers_of_key(known, grant))


async def _answer(request: Request, subject: str, key: str, headers: dict[str, str]) -> Response:
    settings: ServiceSettings = request.app.state.settings
    upstream = upstream_of(request)
    if request.scope["query_string"] and request.query_params.get("redirect") == "1":
        return await _redirect(upstream, key, "HEAD" if request.method == "HEAD" else "GET", headers)
    try:
        if settings.accel_prefix and upstream.path_of(key) is not None:
            # A look first: nginx would say 404 also where the whole store has vanished.
            await upstream.open(key, None, body=False)
            return ObjectAnswer(200, {**headers, "X-Accel-Redirect": f"{settings.accel_prefix}/{quote(key)}"}, b"")
        return await answer_object(request, upstream, key, headers)
    except NotFoundError:
        await _require_store(storage_of(request), subject)
        raise


async def _redirect(upstream: Upstream, key: str, method: Method, headers: dict[str, str]) -> Response:
    url = await upstream.presigned(key, method)
    if url is None:
        raise RequestError("request.parameter", "redirect: this mirror does not lie on S3")
    kept = {name: text for name, text in headers.items() if name not in {"Cache-Control", "Content-Type"}}
    return RedirectResponse(url, 307, {**kept, "Cache-Control": "no-store"})


async def _require_store(storage: Upstream, subject: str) -> None:
    """Raise where not only a chunk is missing but the subject's store: that is a fault, and not a chunk of zeros."""
    try:
        await storage.open(f"{layout.store_key(subject)}/zarr.json", None, body=False)
    except NotFoundError as error:
        message = "the store of a listed subject is not there"
        raise StoreError("store.unreachable", message, place=subject) from error


def headers_of_key(key: str, grant: Grant) -> dict[str, str]:
    """Return what every answer with an object of a subject says, whatever its bytes are."""
    document = key.endswith("/zarr.json")
    return {
        **grant.headers(_REVALIDATE if document else _IMMUTABLE),
        "Content-Type": "application/json" if document else "application/octet-stream",
    }


class RawKeys:
    """Answers for keys before the framework looks at a request: its routing takes longer than reading a small range.

    Parameters
    ----------
    app
        The application behind, which gets everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        path: str = scope["path"] if scope["type"] == "http" and scope["method"] in _METHODS else ""
        store, slash, key = path[len(PREFIX) :].partition("/") if path.startswith(PREFIX) else ("", "", "")
        if not (store and slash):
            await self._app(scope, receive, send)
            return
        try:
            answer = await _read_object(Request(scope, receive), store, key)
        except VoxshelfError as error:
            answer = errors.answer(error)
        await answer(scope, receive, send)


async def _read_routed(request: Request) -> Response:
    return await _read_object(request, **request.path_params)


async def _read_store(_request: Request) -> Response:
    raise NotFoundError("not-found.key", "a store has keys, and begins with that of its zarr.json")


# For what the answers above do not take: other methods, which the framework refuses, and a store without a key.
routes = [
    Route(PREFIX + "{store}/{key:path}", _read_routed, methods=_METHODS),
    Route(PREFIX + "{store}", _read_store, methods=_METHODS),
]
