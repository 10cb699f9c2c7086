from __future__ import annotations

import csv
import html
import io
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from corpus.catalog import read_catalog
from corpus.stores import Store
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from tests.service.conftest import Serving


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


def test_a_parameter_that_does_not_exist_is_refused_since_it_would_widen_the_choice(client: httpx.Client) -> None:
    for path in ("/v1/subjects", "/v1/subjects.csv"):
        answer = client.get(path, params={"licence": "CC-BY-4.0"})
        assert (answer.status_code, answer.json()["code"]) == (422, "request.parameter")
        assert "licence" in answer.json()["message"]


def test_the_next_page_has_an_address_of_its_own(client: httpx.Client) -> None:
    first = client.get("/v1/subjects", params={"limit": 3, "license": "CC-BY-4.0", "sort": "-bytes"})
    assert "next" not in first.links
    first = client.get("/v1/subjects", params={"limit": 2, "license": "CC-BY-4.0", "sort": "-bytes"})
    second = client.get(first.links["next"]["url"])
    rows = first.json()["subjects"] + second.json()["subjects"]
    assert second.json()["next"] is None
    assert [row["bytes"] for row in rows] == sorted((row["bytes"] for row in rows), reverse=True)
    assert len({row["subject"] for row in rows}) == 3


def test_csv_holds_all_rows(client: httpx.Client, mirror: Path) -> None:
    answer = client.get("/v1/subjects.csv", params={"license": "CC-BY-4.0"})
    assert answer.headers["content-type"].startswith("text/csv")
    again = client.get(
        "/v1/subjects.csv", params={"license": "CC-BY-4.0"}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    catalog = read_catalog(Store(str(mirror)))
    assert [row["subject"] for row in rows] == ["0002", "0003", "0004"]
    for row in rows:
        expected = catalog.subjects[row["subject"]]
        assert row["families_present"] == ";".join(expected["families_present"])
        assert row["age_years"] == ("" if expected["age_years"] is None else str(expected["age_years"]))


@pytest.mark.parametrize("path", ["/v1/subjects", "/v1/subjects/0001", "/v1/labels", "/v1/licenses", "/v1/stats", "/"])
def test_an_unchanged_answer_is_not_sent_again_and_head_is_get(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == answer.headers["etag"]
    stale = client.get(path, headers={"If-Match": '"other"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "request.precondition")


def test_a_filter_that_stands_twice_is_refused_and_a_list_is_not(client: httpx.Client) -> None:
    assert client.get("/v1/subjects?limit=2&limit=1").status_code == 422
    assert client.get("/v1/subjects.csv?age_min=1&age_min=2").status_code == 422
    assert client.get("/v1/subjects?license=CC-BY-4.0&license=CC0-1.0").status_code == 200


def test_crawlers_are_kept_from_voxels_and_led_to_pages(client: httpx.Client) -> None:
    from urllib.robotparser import RobotFileParser

    robots = RobotFileParser()
    robots.parse(client.get("/robots.txt").text.splitlines())
    assert [robots.can_fetch("x", path) for path in ("/", "/v1/subjects/0001", "/zarr/0001.ome.zarr/zarr.json")] == [
        True,
        True,
        False,
    ]
    (sitemap,) = robots.site_maps() or []
    assert client.get(sitemap).headers["content-type"] == "application/xml"


@pytest.mark.parametrize("path", ["/v1/subjects", "/v1/subjects/0001"])
def test_one_address_two_faces(client: httpx.Client, path: str) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    page = client.get(path, headers=browser)
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["vary"] == "Accept"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    twin = client.get(page.links["alternate"]["url"], headers=browser)
    assert twin.json() == client.get(path).json()
    for accepted in ("*/*", "application/json", "application/json, text/html"):
        assert client.get(path, headers={"Accept": accepted}).headers["content-type"] == "application/json"


def test_the_page_of_the_list_filters(client: httpx.Client) -> None:
    client.headers["Accept"] = "text/html"
    answer = client.get("/search", params={"license": "CC-BY-4.0", "sex": "", "age_min": "", "q": "", "sort": "-bytes"})
    assert answer.status_code == 303
    page = client.get(answer.headers["location"], params=None)
    assert page.status_code == 200
    assert "3 subjects" in page.text
    assert '<option value="CC-BY-4.0" selected>' in page.text
    assert ">0001</a>" not in page.text
    assert client.get("/v1/subjects", params={"limit": 2}).text.count("Next page") == 1


def test_the_page_of_a_subject_holds_what_the_json_holds(client: httpx.Client) -> None:
    body = client.get("/v1/subjects/0001").json()
    page = client.get("/v1/subjects/0001", headers={"Accept": "text/html"}).text
    for line in body["clients"].values():
        assert html.escape(line) in page
    for region in body["regions"]:
        assert f"<td>{region['name']}</td>" in page
    assert body["license"]["url"] in page


def test_what_a_visitor_writes_is_never_markup(client: httpx.Client) -> None:
    client.headers["Accept"] = "text/html"
    evil = '"><script>alert(1)</script>'
    for name in ("q", "license", "has_label", "institution"):
        page = client.get("/v1/subjects", params={name: evil})
        assert page.status_code == 200
        assert "<script" not in page.text
    host = client.get("/v1/subjects/0001", headers={"Host": 'x"><script>'})
    assert "<script" not in host.text


def test_labels_licences_and_statistics(client: httpx.Client, mirror: Path) -> None:
    catalog = read_catalog(Store(str(mirror)))
    labels = {(label["family"], label["name"]): label for label in client.get("/v1/labels").json()["labels"]}
    assert len(labels) == 131
    assert labels["organs", "trachea"]["subjects"] == 0
    liver = labels["organs", "liver"]
    assert (liver["subjects"], liver["display"], liver["snomed_ct"]) == (4, "Liver", "10200004")
    whole = [
        row["volume_ml"]
        for rows in catalog.regions.values()
        for row in rows
        if row["name"] == "liver" and not row["touches_edge"]
    ]
    assert liver["volume_ml_median"] == statistics.median(whole)
    licenses = {entry["id"]: entry for entry in client.get("/v1/licenses").json()["licenses"]}
    assert (licenses["CC-BY-4.0"]["subjects"], licenses["CC-BY-4.0"]["rule"]) == (3, "open")
    assert (licenses["unknown"]["subjects"], licenses["unknown"]["rule"]) == (0, "deny")
    counts = client.get("/v1/stats").json()
    assert (counts["subjects"], counts["volumes"]) == (4, 36)
    assert counts["regions"] == sum(len(rows) for rows in catalog.regions.values())
    assert counts["sexes"] == {"F": 2, "M": 2}
    assert counts["age_years"]["known"] == 3


def test_a_new_publication_is_searched_without_a_restart(mirror: Path, tmp_path: Path, serving: Serving) -> None:
    from tests.service.test_access import relicensed

    newer = relicensed(mirror, tmp_path, "0002", "unknown")
    shutil.copytree(mirror, tmp_path / "live")
    with serving(ServiceSettings(str(tmp_path / "live"), catalog_ttl_s=0)) as base:
        assert httpx.get(f"{base}/v1/subjects", params={"license": "unknown"}).json()["total"] == 0
        for name in ("catalog.parquet", "mirror.json"):
            shutil.copy(newer / name, tmp_path / "live" / name)
        assert httpx.get(f"{base}/v1/subjects", params={"license": "unknown"}).json()["total"] == 1
        assert httpx.get(f"{base}/v1/stats").json()["licenses"]["unknown"] == 1


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
    with serve(tmp_path / "mirror") as base:
        assert httpx.get(f"{base}/healthz").status_code == 200
        answer = httpx.get(f"{base}/v1/subjects")
        assert (answer.status_code, answer.json()["code"]) == (503, "layout.not-a-mirror")
        shutil.copytree(mirror, tmp_path / "mirror")
        assert httpx.get(f"{base}/v1/subjects").json()["total"] == 4


def test_answers_to_strangers_do_not_tell_where_the_mirror_lies(client: httpx.Client, mirror: Path) -> None:
    for path in ("/v1/subjects/9999", "/zarr/0001.ome.zarr/nothing", "/zarr/9999.ome.zarr/zarr.json", "/"):
        assert str(mirror) not in json.dumps(client.get(path).text)
