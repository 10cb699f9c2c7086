"""The description of the API for people: Swagger UI, from files of a package, so that no CDN is asked."""

from __future__ import annotations

from importlib import resources
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from corpus.errors import NotFoundError

router = APIRouter(include_in_schema=False)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>voxshelf: the API</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"><p>Without scripts, read <a href="openapi.json">openapi.json</a>.</p></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>"""
_START: Final = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], defaultModelsExpandDepth: 0
});
"""
_POLICY: Final = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'"
_FILES: Final = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_CACHE: Final = {"Cache-Control": "public, max-age=86400"}


@router.head("/docs")
@router.get("/docs")
def docs() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY, **_CACHE})


@router.head("/docs/{name}")
@router.get("/docs/{name}")
def docs_file(name: str) -> Response:
    """Return a script or a style of the page."""
    if name == "start.js":
        return Response(_START, headers=_CACHE, media_type="text/javascript")
    if name not in _FILES:
        raise NotFoundError("not-found.route", "the page has no such file")
    data = resources.files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(data, headers=_CACHE, media_type=_FILES[name])
