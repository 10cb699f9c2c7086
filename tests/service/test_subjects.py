from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from corpus.catalog import read_catalog
from corpus.stores import Store


def test_the_list_is_the_catalog(client: httpx.Client, mirror: Path) -> None:
    catalog = read_catalog(Store(str(mirror)))
    body = client.get("/v1/subjects").json()
    assert body["total"] == len(catalog.subjects)
    assert body["next"] is None
    listed = [{key: row[key] for key in catalog.subjects[row["subject"]]} for row in body["subjects"]]
    assert listed == list(catalog.subjects.values())


def test_pages_cover_the_list_once(client: httpx.Client) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        body = client.get("/v1/subjects", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [row["subject"] for row in body["subjects"]]
        cursor = body["next"]
        if cursor is None:
            break
    assert seen == ["0001", "0002", "0003", "0004"]


def test_filters(client: httpx.Client) -> None:
    by_license = client.get("/v1/subjects", params={"license": "CC-BY-NC-4.0"}).json()
    assert [row["subject"] for row in by_license["subjects"]] == ["0001"]
    assert client.get("/v1/subjects", params={"has_label": "liver"}).json()["total"] == 4
    assert client.get("/v1/subjects", params={"has_label": "trachea"}).json()["total"] == 0


def test_one_subject_with_its_volumes_and_regions(client: httpx.Client, served: str) -> None:
    body = client.get("/v1/subjects/0001").json()
    assert body["url"] == f"{served}/zarr/0001.ome.zarr"
    assert body["license"]["id"] == "CC-BY-NC-4.0"
    assert "AutoPET Challenge" in body["license"]["attribution"]
    assert {volume["volume"] for volume in body["volumes"]} >= {"ct", "pet", "labels/organs"}
    liver = next(region for region in body["regions"] if region["name"] == "liver")
    assert liver["volume_ml"] > 500
    assert liver["x_min_mm"] < liver["centroid_x_mm"] < liver["x_max_mm"]


def test_an_unknown_subject(client: httpx.Client) -> None:
    answer = client.get("/v1/subjects/9999")
    assert answer.status_code == 404
    assert answer.json().keys() == {"code", "message", "hint"}


def test_the_page_for_people_names_every_subject_and_how_to_read(client: httpx.Client, served: str) -> None:
    page = client.get("/").text
    assert all(f">{subject}</a>" in page for subject in ("0001", "0002", "0003", "0004"))
    assert f"{served}/zarr/0001.ome.zarr" in page
    assert "http" not in page.replace(served, "").replace("https://creativecommons.org", "").partition("</style>")[0]


def test_alive_and_described(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_a_mirror_that_is_not_there_yet_is_503_and_then_served(
    mirror: Path, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    import shutil

    with serve(tmp_path / "mirror") as base:
        assert httpx.get(f"{base}/healthz").status_code == 200
        answer = httpx.get(f"{base}/v1/subjects")
        assert (answer.status_code, answer.json()["code"]) == (503, "layout.not-a-mirror")
        shutil.copytree(mirror, tmp_path / "mirror")
        assert httpx.get(f"{base}/v1/subjects").json()["total"] == 4


def test_answers_to_strangers_do_not_tell_where_the_mirror_lies(client: httpx.Client, mirror: Path) -> None:
    for path in ("/v1/subjects/9999", "/zarr/0001.ome.zarr/nothing", "/zarr/9999.ome.zarr/zarr.json", "/"):
        assert str(mirror) not in json.dumps(client.get(path).text)
