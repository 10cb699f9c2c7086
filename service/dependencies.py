"""What routes get handed: the reader and the upstream of the application they belong to."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request

from corpus.catalog import Catalog
from service.reader import Reader
from service.upstream import Upstream


async def catalog_of(request: Request) -> Catalog:
    """Return the tables; reading them, when they are stale, does not hold up other requests."""
    reader: Reader = request.app.state.reader
    known = reader.known()
    return known if known is not None else await anyio.to_thread.run_sync(reader.catalog)


def upstream_of(request: Request) -> Upstream:
    """Return where objects come from."""
    upstream: Upstream = request.app.state.upstream
    return upstream
