from __future__ import annotations

import json
import re
from pathlib import Path

import httpx


def test_the_page_for_people_holds_the_data_set_for_search_engines(client: httpx.Client, served: str) -> None:
    (told,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', client.get("/").text, re.DOTALL)
    document = json.loads(told)
    assert (document["@type"], document["url"]) == ("Dataset", f"{served}/")
    assert "AutoPET Challenge" in {source["name"] for source in document["creator"]}
    assert len(document["license"]) == 2


def test_the_documents_and_the_sitemap_are_served(client: httpx.Client, served: str, mirror: Path) -> None:
    for key in ("dataset.jsonld", "CITATION.cff", "ATTRIBUTION.txt", "croissant.json"):
        assert client.get(f"/{key}").content == (mirror / key).read_bytes()
    assert client.get("/dataset.jsonld").headers["content-type"] == "application/ld+json"
    assert f"<loc>{served}/v1/subjects/0001</loc>" in client.get("/sitemap.xml").text
