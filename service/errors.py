"""Errors as HTTP answers: one table of statuses, one shape for all."""

from __future__ import annotations

import logging
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from corpus.errors import CODES, RequestError, VoxshelfError
from service.cors import METHODS

STATUS: Final[dict[str, int]] = {
    "not-found": 404,
    "not-found.withdrawn": 410,
    "request": 400,
    "request.range": 416,
    "request.licence": 403,
    "request.acknowledge": 403,
    "request.token": 401,
    "request.token-unknown": 401,
    "request.token-licence": 403,
    "request.parameter": 422,
    "request.unexpected": 500,
    "request.method": 405,
    "request.precondition": 412,
    "request.rate": 429,
    "request.busy": 503,
    "request.too-large": 413,
    "store": 503,
    "store.denied": 502,
    "store.timeout": 504,
    "layout": 503,
    "layout.voxels": 502,
    "settings": 500,
    "source": 500,
}
"""HTTP status of an error's code, or else of its kind. A store that fails is never 404: readers take a missing chunk
for zeros, and a CT would turn into air without anyone noticing. For the same reason a chunk of a subject that is not
listed is 410: a notebook may hold it open."""

_RETRY_AFTER_S: Final = 2
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
CHALLENGES: Final = {
    "request.token": 'Bearer realm="voxshelf"',
    "request.token-unknown": 'Bearer realm="voxshelf", error="invalid_token"',
    "request.token-licence": 'Bearer realm="voxshelf", error="insufficient_scope"',
}
"""``WWW-Authenticate`` of an error's code. Source: RFC 6750, section 3."""
_INSIDE: Final = frozenset({"store", "layout", "settings", "source"})
_log = logging.getLogger(__name__)


def status_of(error: VoxshelfError) -> int:
    """Return the HTTP status of an error."""
    return STATUS.get(error.code, STATUS[error.kind])


def answer(error: VoxshelfError, retry_after_s: int = _RETRY_AFTER_S) -> Response:
    """Return the answer to a request that an error ended."""
    status = status_of(error)
    headers = {"Cache-Control": "no-store"}
    if status == 416:
        headers["Content-Range"] = f"bytes */{error.place}"
    if status in _TRY_AGAIN:
        headers["Retry-After"] = str(retry_after_s)
    if error.code in CHALLENGES:
        headers["WWW-Authenticate"] = CHALLENGES[error.code]
    message = error.message
    if error.kind in _INSIDE:
        # Place and message may name the operator's bucket or folder: they are for the log, not for strangers.
        _log.warning("answered %d: %s", status, error)
        message = CODES[error.code].meaning
    return JSONResponse({"code": error.code, "message": message, "hint": error.hint}, status, headers)


async def on_error(_request: Request, error: Exception) -> Response:
    """Exception handler for `VoxshelfError`."""
    if not isinstance(error, VoxshelfError):
        raise error
    return answer(error)


def bug() -> Response:
    """Return the answer to what nobody expected; only the log says what it was."""
    code = CODES["request.unexpected"]
    body = {"code": "request.unexpected", "message": code.meaning, "hint": code.hint}
    return JSONResponse(body, 500, {"Cache-Control": "no-store"})


async def on_bug(_request: Request, _error: Exception) -> Response:
    """Exception handler for all other errors."""
    return bug()


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Exception handler for what the framework itself raises: no such route, or a wrong method."""
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not-found.route", 405: "request.method"}.get(error.status_code, "request.parameter")
    body = {"code": code, "message": str(error.detail), "hint": CODES[code].hint}
    headers = {**(error.headers or {}), "Cache-Control": "no-store"}
    if error.status_code == 405:
        headers["Allow"] = METHODS  # the framework names those of one of the routes of the path
    return JSONResponse(body, error.status_code, headers)


async def on_invalid(_request: Request, error: Exception) -> Response:
    """Exception handler for parameters that do not fit their description."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or "parameters"
    return answer(RequestError("request.parameter", f"{name}: {first['msg']}"))
