"""Answers of the catalogue: JSON with an ETag, CSV, and pages for people."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from corpus.catalog import Row
from service.conditions import is_unchanged

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
# A page gets no script and loads nothing.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"


def wants_page(request: Request) -> bool:
    """Whether HTML is preferred to JSON: browsers name it first, and scripts do not name it at all."""
    accepted = [part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
    named = [kind for kind in accepted if kind in {"text/html", "application/json"}]
    return named[:1] == ["text/html"]


def json_answer(request: Request, value: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a value as JSON, or 304 where the asker has it already."""
    return _answer(request, msgspec.json.encode(value), "application/json", headers)


def page_answer(request: Request, page: str, twin: str) -> Response:
    """Return a page for people; `twin` is the address of the same as JSON."""
    link = f'<{twin}>; rel="alternate"; type="application/json"'
    return _answer(request, page.encode(), "text/html", {"Link": link, "Content-Security-Policy": _POLICY})


def _answer(request: Request, body: bytes, media_type: str, headers: dict[str, str] | None) -> Response:
    # The catalogue changes with a publication, and links in it go by the address that was asked.
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept", **(headers or {})}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type)


def csv_answer(request: Request, rows: Iterable[Row], columns: list[str], name: str) -> Response:
    """Return rows as a CSV file with a header, or 304 where the asker has it already.

    Lists are joined with ``;``, unknown values are empty. Source: RFC 4180.
    """
    text = io.StringIO()
    csv.writer(text).writerows([columns, *([_cell(row.get(column)) for column in columns] for row in rows)])
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return _answer(request, text.getvalue().encode(), "text/csv", headers)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = ";".join(map(str, value))
    # A spreadsheet runs a text that begins like a formula. https://owasp.org/www-community/attacks/CSV_Injection
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
