from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from corpus.errors import CODES
from service.app import create_app
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from tests.service.conftest import ServingApp

METHODS = {"get", "head"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(ServiceSettings("mirror")).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({"components": document["components"], **schema})


def test_every_route_is_described_or_a_page(document: dict[str, Any]) -> None:
    routes: list[Any] = list(create_app(ServiceSettings("mirror")).routes)
    for route in routes:
        routes += getattr(getattr(route, "original_router", None), "routes", [])
    paths = {route.path.replace(":path", "") for route in routes if hasattr(route, "path")}
    pages = {"/", "/search", "/robots.txt", "/sitemap.xml", "/zarr/{store}", "/docs", "/docs/{name}", "/openapi.json"}
    assert paths - pages == set(document["paths"]) - pages
    assert pages <= paths


def test_every_route_has_head_and_says_which_methods_it_has(client: httpx.Client) -> None:
    names = {
        "{subject}": "0001",
        "{volume}": "ct",
        "{extension}": "npy",
        "{store}": "0001.ome.zarr",
        "{key}": "zarr.json",
    }
    paths = [*client.get("/openapi.json").json()["paths"], "/", "/docs", "/robots.txt", "/sitemap.xml", "/openapi.json"]
    for path in paths:
        for name, value in names.items():
            path = path.replace(name, value)  # noqa: PLW2901
        get, head, post = (client.request(method, path) for method in ("GET", "HEAD", "POST"))
        assert (get.status_code, head.status_code, head.content) == (200, 200, b""), path
        if path != "/metrics":  # which counts these requests too
            assert head.headers.get("content-length") in {None, str(len(get.content))}, path
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD, OPTIONS"), path


def test_conditions_and_headers_are_described(document: dict[str, Any]) -> None:
    def described(path: str) -> set[str]:
        return {each["name"] for each in document["paths"][path]["get"]["parameters"]}

    nii = "/v1/subjects/{subject}/{volume}.nii"
    assert {"Range", "If-Range", "If-Match", "If-None-Match", "acknowledge"} <= described(nii)
    assert {"If-Match", "If-None-Match"} <= described("/v1/labels") & described("/v1/subjects.csv")
    assert "acknowledge" in described("/v1/subjects/{subject}/{volume}/thumbnail.png")
    assert "Range" not in described("/v1/labels") | described(f"{nii}.gz")
    assert "Content-Range" in document["paths"][nii]["get"]["responses"]["206"]["headers"]


def test_every_header_of_a_cut_out_is_described(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path, operation in (("ct/cutout.npy", "/cutout.{extension}"), ("ct.nii", ".nii")):
        sent = {name for name in client.get(f"/v1/subjects/0001/{path}").headers if name.startswith("x-voxshelf")}
        known = document["paths"]["/v1/subjects/{subject}/{volume}" + operation]["get"]["responses"]["200"]["headers"]
        assert sent <= {name.lower() for name in known}
        assert sent


def test_every_operation_is_explained(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert method in METHODS
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}
        assert all(parameter.get("description") for parameter in operation.get("parameters", [])), path


def test_every_error_has_the_one_shape_and_an_example_of_the_table(document: dict[str, Any]) -> None:
    seen: set[str] = set()
    for path, _, operation in operations(document):
        bad = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        if path == "/readyz":
            bad.pop("503")  # what it tells is why
        assert "500" in bad, path
        for status, answer in bad.items():
            content = answer["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}, (path, status)
            assert content["examples"], (path, status)
            seen |= set(content["examples"])
            for code, example in content["examples"].items():
                assert example["value"] == {"code": code, "message": CODES[code].meaning, "hint": CODES[code].hint}
        assert ("security" in operation) == path.startswith(("/zarr/", "/v1/subjects/{subject}/")), path
        assert ("401" in bad) == ("403" in bad) == ("security" in operation), path
    assert {"request.licence", "request.acknowledge", "request.token", "not-found.subject", "store.denied"} <= seen
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_examples_of_answers_fit_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for path, _, operation in operations(document):
        content = operation["responses"]["200"].get("content", {}).get("application/json", {})
        if "examples" in content:
            name = content["examples"]["example"]["$ref"].rpartition("/")[2]
            example = document["components"]["examples"][name]["value"]
            assert list(validator(document, content["schema"]).iter_errors(example)) == [], path
            checked += 1
    assert checked >= 8


def test_answers_fit_their_schemas(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/healthz", "/v1/subjects", "/v1/subjects/{subject}", "/v1/labels", "/v1/licenses", "/v1/stats"):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        body = client.get(path.format(subject="0003")).json()
        assert list(validator(document, schema).iter_errors(body)) == [], path
        wrong = {**body, "surprise": 1}
        assert list(validator(document, schema).iter_errors(wrong)) or path == "/healthz"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found.route"),
        ("POST", "/v1/subjects", 405, "request.method"),
        ("GET", "/v1/subjects?limit=0", 422, "request.parameter"),
        ("GET", "/v1/subjects?licence=CC-BY-4.0", 422, "request.parameter"),
        ("GET", "/v1/subjects?cursor=xyz", 422, "request.parameter"),
        ("GET", "/v1/subjects/9999", 404, "not-found.subject"),
        ("GET", "/zarr/0001.ome.zarr/nothing", 404, "not-found.key"),
        ("GET", "/zarr/0001.ome.zarr/a//b", 400, "request.key"),
        ("GET", "/docs/other.js", 404, "not-found.route"),
    ],
)
def test_errors_have_one_shape(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json().keys() == {"code", "message", "hint"}
    assert answer.headers["content-type"] == "application/json"
    assert all(isinstance(text, str) and text for text in answer.json().values())


def test_what_nobody_foresaw_has_the_same_shape_and_tells_nothing(tmp_path: Path, serving_app: ServingApp) -> None:
    app = create_app(ServiceSettings(str(tmp_path)))

    def broken() -> None:
        raise ZeroDivisionError("a secret")

    app.add_api_route("/broken", broken)
    with serving_app(app) as base:
        answer = httpx.get(f"{base}/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "request.unexpected")
    assert "secret" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "*"


def test_the_docs_page_asks_no_other_server(client: httpx.Client) -> None:
    import re

    page = client.get("/docs")
    assert "//" not in re.sub(r"<!doctype html>", "", page.text)
    assert "'self'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
        if not name.startswith("data:"):
            assert client.get(f"/{name}").status_code == 200, name
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text
    assert client.get("/docs/start.js").headers["content-type"].startswith("text/javascript")
