"""The raw routes of `zarr` in the OpenAPI document, which the framework leaves out."""

from __future__ import annotations

from typing import Any, Final

from corpus import layout
from service.access import ACKNOWLEDGE_PARAMETER, ATTRIBUTION_HEADER
from service.openapi import CATALOGUE_CODES, LICENCE_CODES, Answers, errors

_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
_BODIES: Final = {"application/octet-stream": _BYTES, "application/json": {"schema": {}}}
_HEADERS: Final[dict[str, Any]] = {
    name: {"required": required, "schema": {"type": "string"}, "description": text}
    for name, required, text in (
        ("ETag", True, "Strong: the same for the same bytes only."),
        ("Last-Modified", True, "When the object was written."),
        ("Accept-Ranges", True, "`bytes`."),
        ("Cache-Control", True, "Chunks are immutable; documents are to be revalidated."),
        ("Link", False, 'The licence of the subject, `rel="license"`.'),
        (ATTRIBUTION_HEADER, False, "The line to give with the data; percent-encoded UTF-8 where it is not ASCII."),
    )
}


def _parameter(place: str, name: str, text: str, example: str | None = None) -> dict[str, Any]:
    found = {"in": place, "name": name, "description": text, "schema": {"type": "string"}, "required": place == "path"}
    return found if example is None else {**found, "example": example}


def _operation(method: str) -> dict[str, Any]:
    content = {"content": _BODIES} if method == "get" else {}
    ranged = {"Content-Range": {"required": True, "schema": {"type": "string"}}}
    partial: Answers = {
        206: {"description": "The range that was asked for.", "headers": {**_HEADERS, **ranged}, **content}
    }
    documented = errors(
        "request.key",
        *LICENCE_CODES,
        "not-found.subject",
        "not-found.key",
        "not-found.withdrawn",
        *(["request.range"] if method == "get" else []),
        "request.parameter",
        "request.precondition",
        *CATALOGUE_CODES,
    )
    answers: Answers = {
        200: {"description": "The object.", "headers": _HEADERS, **content},
        **(partial if method == "get" else Answers()),
        307: {"description": "With `redirect=1`: a presigned URL of S3, in `Location`."},
        304: {"description": "The object is the one that `If-None-Match` names.", "headers": _HEADERS},
        **documented,
    }
    parameters = [
        _parameter("path", "store", "Name of a subject's store.", f"0001{layout.STORE_SUFFIX}"),
        _parameter("path", "key", "Key in the store; it may hold slashes.", "zarr.json"),
        _parameter("query", ACKNOWLEDGE_PARAMETER, "SPDX ids of licences that are accepted, instead of the header."),
        _parameter("query", "redirect", "`1` for a presigned URL of S3, which not every client follows."),
        _parameter("header", "Range", "`bytes=a-b`, `bytes=a-` or `bytes=-N`; several ranges give the whole object."),
        _parameter("header", "If-None-Match", "ETags that are at hand."),
        _parameter("header", "If-Modified-Since", "A date; looked at without `If-None-Match` only."),
        _parameter("header", "If-Match", "ETags of the bytes that are wanted; 412 for others."),
        _parameter("header", "If-Unmodified-Since", "A date; looked at without `If-Match` only; 412 if it is past."),
        _parameter("header", "If-Range", "The range only if the object is this one, otherwise the whole."),
    ]
    return {
        "tags": ["data"],
        "summary": "One object of a subject's store" if method == "get" else "Its headers",
        "description": "The bytes exactly as they lie in the mirror: a Zarr document, or a chunk (shard).",
        "operationId": f"{method}_object",
        "parameters": parameters,
        "responses": {str(status): answer for status, answer in answers.items()},
    }


PATHS: Final = {"/zarr/{store}/{key}": {method: _operation(method) for method in ("get", "head")}}
"""The routes in the OpenAPI document, which the framework leaves out."""
