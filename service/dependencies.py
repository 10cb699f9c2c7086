"""What routes get handed: the reader and the upstream of the application they belong to."""

from __future__ import annotations

from starlette.requests import Request

from corpus.catalog import Catalog
from service.reader import Reader
from service.upstream import Upstream


async def catalog_of(request: Request) -> Catalog:
    """Return the tables; reading them, when they are stale, does not hold up other requests."""
    reader: Reader = request.app.state.reader
    return await reader.current()


def upstream_of(request: Request) -> Upstream:
    """Return where objects come from."""
    upstream: Upstream = request.app.state.upstream
    return upstream
