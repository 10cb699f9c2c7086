from __future__ import annotations

import json
import re

import httpx


def test_the_page_for_people_holds_the_data_set_for_search_engines(client: httpx.Client, served: str) -> None:
    (told,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', client.get("/").text, re.DOTALL)
    document = json.loads(told)
    assert (document["@type"], document["url"]) == ("Dataset", f"{served}/")
    assert "AutoPET Challenge" in {source["name"] for source in document["creator"]}
    assert len(document["license"]) == 2
