"""What routes get handed: the reader and the upstream of the application they belong to."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from corpus.catalog import Catalog
from service.access import Grant, grant
from service.pool import Pool
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


CatalogDep = Annotated[Catalog, Depends(catalog_of)]


async def _granted(catalog: CatalogDep, subject: str) -> Grant:
    return grant(catalog.subject(subject))


GrantDep = Annotated[Grant, Depends(_granted)]
"""Leave to read the subject that a route's path names: ``/v1/subjects/{subject}/...``."""


def pool_of(request: Request) -> Pool:
    """Return where voxels are decoded."""
    pool: Pool = request.app.state.pool
    return pool
