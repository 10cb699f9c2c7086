"""The catalogue: which subjects there are, and everything about one; as JSON, as CSV, and as pages for people."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from corpus.catalog import SCHEMAS, Row
from service import pages
from service.access import Access, license_of_row
from service.clients import client_lines, store_url
from service.dependencies import AccessDep, CatalogDep, IndexDep
from service.openapi import answers
from service.representations import csv_answer, json_answer, page_answer, wants_page
from service.search import SubjectFilter, SubjectQuery, page_of
from service.settings import Rule

router = APIRouter(prefix="/v1", tags=["catalogue"])

SubjectId = Annotated[str, Path(max_length=64, description="Id of a subject.", examples=["0001"])]
_PAGE: Final = {"text/html": {"schema": {"type": "string"}}}
_LIST: Final = answers("SubjectList", "request.parameter")
_DETAIL: Final = answers("SubjectDetail", "request.parameter", "not-found.subject")
_LIST[200]["content"] |= _PAGE
_DETAIL[200]["content"] |= _PAGE
_CSV: Final = answers(None, "request.parameter")
_CSV[200] = {"description": "All rows, with a header.", "content": {"text/csv": {"schema": {"type": "string"}}}}


@router.head("/subjects.csv", include_in_schema=False)
@router.get("/subjects.csv", summary="List subjects as CSV", responses=_CSV, response_class=Response)
def subjects_csv(request: Request, index: IndexDep, query: Annotated[SubjectFilter, Query()]) -> Response:
    """Return all rows of ``catalog.parquet`` that the filters choose, as one CSV file.

    Lists are joined with `;`, unknown values are empty, and a text that a spreadsheet would run as a formula begins
    with `'`.
    """
    return csv_answer(request, index.find(query), SCHEMAS["catalog"].names, "subjects.csv")


@router.head("/subjects.json", include_in_schema=False)
@router.get(
    "/subjects.json",
    summary="List subjects as JSON",
    responses=answers("SubjectList", "request.parameter"),
)
def subjects_json(
    request: Request, index: IndexDep, access: AccessDep, query: Annotated[SubjectQuery, Query()]
) -> Response:
    """Return what ``/v1/subjects`` returns, as JSON whatever is accepted."""
    body = _subject_list(request, query, index.find(query), access)
    following = body["next"]
    headers = {"Link": f'<{_next_url(request, following)}>; rel="next"'} if following else {}
    return json_answer(request, body, headers)


@router.head("/subjects", include_in_schema=False)
@router.get("/subjects", summary="List subjects", responses=_LIST)
def list_subjects(
    request: Request, index: IndexDep, access: AccessDep, query: Annotated[SubjectQuery, Query()]
) -> Response:
    """Return rows of ``catalog.parquet``, sorted, a page at a time, with the address of each store.

    Give `next` back as `cursor` for the following page. Pages stay in step when a new publication comes between:
    no subject shows twice, and none that was there all along is left out. Browsers get a page for people.
    """
    if not wants_page(request):
        return subjects_json(request, index, access, query)
    body = _subject_list(request, query, index.find(query), access)
    following = _next_url(request, body["next"]) if body["next"] else None
    twin = str(request.url.replace(path=f"{request.url.path}.json"))
    return page_answer(request, pages.subject_list(index, query, body, following), twin)


@router.head("/subjects/{subject}.json", include_in_schema=False)
@router.get(
    "/subjects/{subject}.json",
    summary="Everything about one subject as JSON",
    responses=answers("SubjectDetail", "request.parameter", "not-found.subject"),
)
def subject_json(request: Request, catalog: CatalogDep, access: AccessDep, subject: SubjectId) -> Response:
    """Return what ``/v1/subjects/{subject}`` returns, as JSON whatever is accepted."""
    return json_answer(request, _detail(request, catalog, access, subject))


@router.head("/subjects/{subject}", include_in_schema=False)
@router.get("/subjects/{subject}", summary="Everything about one subject", responses=_DETAIL)
def show_subject(request: Request, catalog: CatalogDep, access: AccessDep, subject: SubjectId) -> Response:
    """Return a subject's rows of all three tables, its licence, and lines to paste. Browsers get a page for people."""
    body = _detail(request, catalog, access, subject)
    if not wants_page(request):
        return json_answer(request, body)
    return page_answer(request, pages.subject(body), str(request.url.replace(path=f"{request.url.path}.json")))


def base_url(request: Request) -> str:
    """Return the address of the service as the asker wrote it, without a slash at the end."""
    return str(request.base_url).rstrip("/")


def _subject_list(request: Request, query: SubjectQuery, rows: list[Row], access: Access) -> dict[str, Any]:
    page, following = page_of(rows, query)
    return {"total": len(rows), "next": following, "subjects": [_with_links(request, row, access) for row in page]}


def _detail(request: Request, catalog: CatalogDep, access: Access, subject: str) -> dict[str, Any]:
    row = _with_links(request, catalog.subject(subject), access)
    license_, volumes = license_of_row(row), catalog.volumes.get(subject, [])
    return {
        **row,
        "license": {
            "id": license_.id,
            "name": license_.name,
            "url": license_.url or None,
            "rule": row["rule"],
            "attribution": row["attribution"],
        },
        "volumes": volumes,
        "regions": catalog.regions.get(subject, []),
        "clients": client_lines(base_url(request), subject, volumes, license_.id, row["rule"]),
    }


def _with_links(request: Request, row: Row, access: Access) -> Row:
    rule = access.rule(license_of_row(row))
    url = None if rule is Rule.DENY else store_url(base_url(request), row["subject"])
    return {**row, "rule": rule, "url": url}


def _next_url(request: Request, cursor: str) -> str:
    parameters = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{base_url(request)}{request.url.path}?{urlencode([*parameters, ('cursor', cursor)])}"
