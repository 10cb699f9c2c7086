"""The landing page."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from corpus import findable
from corpus.models import to_json
from service import pages
from service.access import license_of_row
from service.clients import store_url
from service.dependencies import AccessDep, CatalogDep
from service.representations import page_answer
from service.settings import Rule

router = APIRouter()

_MOST_ROWS = 200


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
def home(request: Request, catalog: CatalogDep, access: AccessDep) -> Response:
    """Return a page for people: what this is, how to read it, and the first subjects."""
    base = str(request.base_url).rstrip("/")
    corpus = catalog.mirror.corpus
    licenses = ", ".join(f"{escape(spdx)}: {count}" for spdx, count in catalog.mirror.licenses.items())
    open_ones = (name for name, row in catalog.subjects.items() if access.rule(license_of_row(row)) is Rule.OPEN)
    shown = list(catalog.subjects.values())[:_MOST_ROWS]
    rows = (
        [
            pages.link(f"{base}/v1/subjects/{row['subject']}", row["subject"]),
            row["license"],
            row["indication"],
            ["ct"] * row["has_ct"] + ["pet"] * row["has_pet"] + row["families_present"],
            row["bytes"] / 1e6,
        ]
        for row in shown
    )
    linked = to_json(findable.dataset(catalog.mirror, findable.credits_of(catalog.subjects.values()), f"{base}/"))
    # "<" would end the script where a source's name holds a tag.
    body = f"""<script type="application/ld+json">{linked.decode().replace("<", chr(92) + "u003c")}</script>
<h1>{escape(corpus.name)}</h1>
<p>{catalog.mirror.subjects} subjects ({licenses}), release {escape(corpus.release)}. {escape(corpus.citation)}</p>
<h2>Read a region</h2>{_example(base, next(open_ones, None))}
<p>{pages.link(f"{base}/v1/subjects", "Search the subjects")}, or take them as
{pages.link(f"{base}/v1/subjects.json", "JSON")} or {pages.link(f"{base}/v1/subjects.csv", "CSV")};
{pages.link(f"{base}/docs", "the API")}.</p>
<h2>Subjects</h2>
{pages.table(["subject", "license", "indication", "volumes", "MB"], rows)}"""
    return page_answer(request, pages.page(corpus.name, body), f"{base}/v1/subjects.json")


@router.head("/search", include_in_schema=False)
@router.get("/search", include_in_schema=False)
def search(request: Request) -> Response:
    """Lead from the form of the list to the list: forms send their empty fields too, which the API would refuse."""
    filled = [(name, value) for name, value in request.query_params.multi_items() if value]
    return RedirectResponse(f"v1/subjects?{urlencode(filled)}", 303)


@router.head("/robots.txt", include_in_schema=False)
@router.get("/robots.txt", include_in_schema=False)
def robots(request: Request) -> Response:
    """Ask crawlers to read pages and tables, and to leave terabytes of voxels alone."""
    lines = [
        "User-agent: *",
        "Disallow: /zarr/",
        "Disallow: /v1/subjects/*/",
        f"Sitemap: {request.base_url}sitemap.xml",
    ]
    return Response("\n".join([*lines, ""]), media_type="text/plain")


@router.head("/sitemap.xml", include_in_schema=False)
@router.get("/sitemap.xml", include_in_schema=False)
def sitemap(request: Request, catalog: CatalogDep, access: AccessDep) -> Response:
    """Return the addresses that search engines should know: the page for people, and each subject that is open."""
    base = str(request.base_url).rstrip("/")
    served = [name for name, row in catalog.subjects.items() if access.rule(license_of_row(row)) is Rule.OPEN]
    addresses = [f"{base}/", *(f"{base}/v1/subjects/{name}" for name in served)]
    return Response(findable.sitemap(addresses), media_type="application/xml")


def _example(base: str, subject: str | None) -> str:
    if subject is None:
        return "<p>No subject is open to everyone; the page of each says what it takes to read it.</p>"
    return f"""<pre>import xarray as xr  # pip install xarray zarr fsspec aiohttp

tree = xr.open_datatree("{escape(store_url(base, subject))}", engine="zarr", zarr_format=3)
print(tree)</pre>"""
