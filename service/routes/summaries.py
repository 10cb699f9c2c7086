"""What the whole mirror holds: labels, licences and statistics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.dependencies import AccessDep, IndexDep
from service.openapi import answers
from service.representations import json_answer
from service.summaries import license_rows

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.head("/labels", include_in_schema=False)
@router.get("/labels", summary="All labels", responses=answers("LabelList"))
def list_labels(request: Request, index: IndexDep) -> Response:
    """Return every label of every family: its value, codes and colour, and how many subjects have it."""
    return json_answer(request, {"labels": index.labels})


@router.head("/licenses", include_in_schema=False)
@router.get("/licenses", summary="All licences", responses=answers("LicenseList"))
def list_licenses(request: Request, index: IndexDep, access: AccessDep) -> Response:
    """Return the licences with their rules: `open`, `acknowledge`, `token` or `deny`."""
    return json_answer(request, {"licenses": license_rows(index.catalog, access)})


@router.head("/stats", include_in_schema=False)
@router.get("/stats", summary="Statistics", responses=answers("Statistics"))
def show_statistics(request: Request, index: IndexDep) -> Response:
    """Return counts over all subjects, whatever their licence."""
    return json_answer(request, index.statistics)
