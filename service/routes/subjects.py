"""The catalogue as JSON: which subjects there are, and everything about one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from corpus import layout
from corpus.catalog import Catalog, Row
from service.dependencies import catalog_of
from service.reader import license_of_row

router = APIRouter(prefix="/v1", tags=["catalogue"])

CatalogDep = Annotated[Catalog, Depends(catalog_of)]


@router.get("/subjects", summary="List subjects")
def list_subjects(
    request: Request,
    catalog: CatalogDep,
    license_id: Annotated[str | None, Query(alias="license", description="Only this SPDX id.")] = None,
    has_label: Annotated[str | None, Query(description="Only subjects whose maps hold this label.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most subjects in one answer.")] = 100,
    cursor: Annotated[str | None, Query(description="The `next` of the answer before.")] = None,
) -> dict[str, Any]:
    """Return rows of ``catalog.parquet``, by subject, with the address of each store."""
    rows = [
        row
        for subject, row in catalog.subjects.items()
        if (license_id is None or row["license"] == license_id)
        and (has_label is None or any(region["name"] == has_label for region in catalog.regions.get(subject, [])))
    ]
    total = len(rows)
    if cursor is not None:
        rows = [row for row in rows if row["subject"] > cursor]
    page = rows[:limit]
    following = page[-1]["subject"] if len(rows) > limit else None
    return {"total": total, "next": following, "subjects": [_with_links(request, row) for row in page]}


@router.get("/subjects/{subject}", summary="Everything about one subject")
def show_subject(request: Request, catalog: CatalogDep, subject: str) -> dict[str, Any]:
    """Return a subject's rows of all three tables, its licence, and lines to paste into a notebook."""
    row = _with_links(request, catalog.subject(subject))
    license_ = license_of_row(row)
    return {
        **row,
        "license": {"id": license_.id, "name": license_.name, "url": license_.url, "attribution": row["attribution"]},
        "volumes": catalog.volumes.get(subject, []),
        "regions": catalog.regions.get(subject, []),
    }


def _with_links(request: Request, row: Row) -> Row:
    if not license_of_row(row).is_known:
        return {**row, "url": None, "python": None}
    url = f"{str(request.base_url).rstrip('/')}/zarr/{row['subject']}{layout.STORE_SUFFIX}"
    line = f'xr.open_datatree("{url}", engine="zarr", zarr_format=3)'
    return {**row, "url": url, "python": f"import xarray as xr; tree = {line}"}
