"""For who runs the service: is it alive, can it serve, and what does it do."""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from corpus import layout
from corpus.errors import CODES, VoxshelfError
from service.dependencies import catalog_of, storage_of
from service.metrics import Metrics
from service.openapi import answers, errors

router = APIRouter(tags=["operation"])

_FRESH_S: Final = 5.0
_READY: Final = answers("Readiness", tables=False)
_READY[503] = {**_READY[200], "description": "No, and why."}
_PAGE: Final = errors() | {200: {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Is the process alive", response_model=None, responses=answers("Status", tables=False))
async def alive() -> dict[str, str]:
    """Answer as long as the process can; says nothing about the mirror."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Can it serve the mirror", responses=_READY)
async def ready(request: Request) -> Response:
    """Answer 200 when the tables are at hand and object storage answers, else 503 with the reason."""
    state = request.app.state
    checked_s, checks = getattr(state, "ready", (-_FRESH_S, {}))
    if time.monotonic() - checked_s > _FRESH_S:
        # Many may ask; storage is asked once in a while.
        checks = {"catalog": await _catalog_check(request), "storage": await _storage_check(request)}
        state.ready = (time.monotonic(), checks)
    is_ready = all(check == "ok" for check in checks.values())
    headers = {"Cache-Control": "no-store"} if is_ready else {"Cache-Control": "no-store", "Retry-After": "5"}
    return JSONResponse({"ready": is_ready, **checks}, 200 if is_ready else 503, headers)


async def _catalog_check(request: Request) -> str:
    try:
        await catalog_of(request)
    except VoxshelfError as error:
        return _reason(error)
    return "ok"


async def _storage_check(request: Request) -> str:
    try:
        await storage_of(request).open(layout.MIRROR_JSON, None, body=False)
    except VoxshelfError as error:
        return _reason(error)
    return "ok"


def _reason(error: VoxshelfError) -> str:
    # Strangers may read this too: the code and what it means, and no place.
    return f"{error.code}: {CODES[error.code].meaning}"


async def metrics(request: Request) -> Response:
    """Return the counters for Prometheus."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


public_metrics = APIRouter(tags=["operation"])
"""``/metrics`` beside the other routes, for who has no port of its own for it."""
public_metrics.add_api_route("/metrics", metrics, methods=["HEAD"], include_in_schema=False)
public_metrics.add_api_route(
    "/metrics", metrics, methods=["GET"], summary="Counters for Prometheus", responses=_PAGE, response_class=Response
)
