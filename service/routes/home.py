"""The landing page."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from corpus import findable, layout
from corpus.catalog import Catalog
from corpus.models import to_json
from service.dependencies import catalog_of
from service.reader import license_of_row

router = APIRouter()

_MOST_ROWS = 200
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .75rem .25rem 0;text-align:left;border-bottom:1px solid #ddd}
pre{background:#f4f4f4;padding:1rem;overflow:auto}a{color:#0645ad}
"""


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def home(request: Request, catalog: Annotated[Catalog, Depends(catalog_of)]) -> str:
    """Return a page for people: what this is, how to read it, and the subjects."""
    base = escape(str(request.base_url).rstrip("/"))
    corpus = catalog.mirror.corpus
    licenses = ", ".join(f"{escape(spdx)}: {count}" for spdx, count in catalog.mirror.licenses.items())
    rows = [_row(base, subject, catalog) for subject in list(catalog.subjects)[:_MOST_ROWS]]
    credits_ = findable.credits_of(catalog.subjects.values())
    # "<" would end the script where a source's name holds a tag.
    linked = to_json(findable.dataset(catalog.mirror, credits_, f"{str(request.base_url).rstrip('/')}/")).decode()
    open_ones = [name for name, row in catalog.subjects.items() if license_of_row(row).is_known]
    example = _example(base, open_ones[0]) if open_ones else "<p>No subject has a known licence, so none is served.</p>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(corpus.name)}</title><style>{_STYLE}</style>
<script type="application/ld+json">{linked.replace("<", chr(92) + "u003c")}</script></head><body>
<h1>{escape(corpus.name)}</h1>
<p>{catalog.mirror.subjects} subjects ({licenses}), release {escape(corpus.release)}. {escape(corpus.citation)}</p>
<h2>Read a region</h2>{example}
<p>The catalogue as JSON: <a href="{base}/v1/subjects">{base}/v1/subjects</a>; the API:
<a href="{base}/openapi.json">{base}/openapi.json</a>.</p>
<h2>Subjects</h2>
<table><tr><th>subject</th><th>license</th><th>volumes</th><th>regions</th><th>MB</th></tr>{"".join(rows)}</table>
</body></html>"""


@router.get("/sitemap.xml", include_in_schema=False)
def sitemap(request: Request, catalog: Annotated[Catalog, Depends(catalog_of)]) -> Response:
    """Return the addresses that search engines should know: the page for people, and each subject that is served."""
    base = str(request.base_url).rstrip("/")
    served = [name for name, row in catalog.subjects.items() if license_of_row(row).is_known]
    addresses = [f"{base}/", *(f"{base}/v1/subjects/{name}" for name in served)]
    return Response(findable.sitemap(addresses), media_type="application/xml")


def _row(base: str, subject: str, catalog: Catalog) -> str:
    row = catalog.subjects[subject]
    volumes = ", ".join(volume["volume"].removeprefix("labels/") for volume in catalog.volumes.get(subject, []))
    cells = [
        f'<a href="{base}/v1/subjects/{escape(subject)}">{escape(subject)}</a>',
        escape(row["license"]),
        escape(volumes),
        str(len(catalog.regions.get(subject, []))),
        f"{row['bytes'] / 1e6:.1f}",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _example(base: str, subject: str) -> str:
    return f"""<pre>import xarray as xr  # pip install xarray zarr fsspec aiohttp

tree = xr.open_datatree("{base}/zarr/{escape(subject)}{layout.STORE_SUFFIX}", engine="zarr", zarr_format=3)
print(tree)</pre>"""
