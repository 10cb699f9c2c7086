"""What routes get handed: the tables and the upstream of their application, and leave to read a subject."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from corpus.catalog import Catalog
from service.access import ACKNOWLEDGE_PARAMETER, Access, Grant, Visitor, license_of_row
from service.pool import Pool
from service.reader import Reader
from service.search import Index
from service.settings import Rule
from service.upstream import Upstream


async def catalog_of(request: Request) -> Catalog:
    """Return the tables; reading them, when they are stale, does not hold up other requests."""
    reader: Reader = request.app.state.reader
    return await reader.current()


def upstream_of(request: Request) -> Upstream:
    """Return where objects come from."""
    upstream: Upstream = request.app.state.upstream
    return upstream


def storage_of(request: Request) -> Upstream:
    """Return where objects lie, past all memory of them: for questions whether something is there at this moment."""
    storage: Upstream = request.app.state.storage
    return storage


def granted(request: Request, catalog: Catalog, subject: str) -> Grant:
    """Return leave to read a subject's data: every route that gives any asks here, and answers with its headers.

    Raises
    ------
    NotFoundError
        The mirror does not list the subject.
    RequestError
        The rule of its licence is not met.
    """
    access, row = access_of(request), catalog.subject(subject)
    if access.rule(license_of_row(row)) is Rule.OPEN:
        return access.grant_to_anybody(row)  # whatever the request says
    return access.grant(row, Visitor.of(request.headers, request.query_params.getlist(ACKNOWLEDGE_PARAMETER)))


def access_of(request: Request) -> Access:
    """Return the operator's rules."""
    access: Access = request.app.state.access
    return access


CatalogDep = Annotated[Catalog, Depends(catalog_of)]


async def _access(request: Request) -> Access:
    # Declared async, since the framework would take a thread for a plain function.
    return access_of(request)


AccessDep = Annotated[Access, Depends(_access)]


def index_of(request: Request, catalog: CatalogDep) -> Index:
    """Return the tables prepared for searching; they are prepared once for each publication."""
    state = request.app.state
    held: Index | None = getattr(state, "index", None)
    # Two requests that meet a new publication at once may both prepare it: the same, twice.
    if held is None or held.catalog is not catalog:
        held = state.index = Index(catalog)
    return held


IndexDep = Annotated[Index, Depends(index_of)]


async def _granted(request: Request, catalog: CatalogDep, subject: str) -> Grant:
    return granted(request, catalog, subject)


GrantDep = Annotated[Grant, Depends(_granted)]
"""Leave to read the subject that a route's path names: ``/v1/subjects/{subject}/...``."""


def pool_of(request: Request) -> Pool:
    """Return where voxels are decoded."""
    pool: Pool = request.app.state.pool
    return pool
