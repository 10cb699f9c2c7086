from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest
import zarr

from corpus.catalog import MirrorRecord, record_of, table_bytes
from corpus.errors import RequestError, SettingsError
from corpus.models import to_json
from service.access import Access, Grant, Visitor
from service.settings import Rule, ServiceSettings, Token

if TYPE_CHECKING:
    from tests.service.conftest import Serving

TOKEN = "correct-horse-battery-staple"
OTHER = "for-another-licence"
TOKENS = (
    Token("lab", hashlib.sha256(TOKEN.encode()).hexdigest(), ("CC-BY-NC-4.0", "CC-BY-4.0")),
    Token("other", hashlib.sha256(OTHER.encode()).hexdigest(), ("CC-BY-4.0",)),
)
CHUNK = "ct/scale0/ct/c/0/0/0"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ACKNOWLEDGED = {"X-Voxshelf-Acknowledge": "CC-BY-NC-4.0"}


def relicensed(mirror: Path, folder: Path, subject: str, license_id: str) -> Path:
    """A copy of a mirror, published with another licence for one subject."""
    copy = folder / "mirror"
    shutil.copytree(mirror, copy)
    table = pq.ParquetFile(copy / "catalog.parquet").read(use_threads=False)
    rows = [{**row, **({"license": license_id} if row["subject"] == subject else {})} for row in table.to_pylist()]
    table = type(table).from_pylist(rows, table.schema)
    data = table_bytes(table)
    (copy / "catalog.parquet").write_bytes(data)
    record = msgspec.json.decode((copy / "mirror.json").read_bytes(), type=MirrorRecord)
    tables = {**record.tables, "catalog": record_of("catalog", data, table)}
    (copy / "mirror.json").write_bytes(to_json(msgspec.structs.replace(record, tables=tables)))
    return copy


@pytest.fixture(scope="module")
def four_rules(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0001 is CC-BY-NC-4.0, 0002 is unknown, the others are CC-BY-4.0."""
    return relicensed(mirror, tmp_path_factory.mktemp("rules"), "0002", "unknown")


def by_rule(mirror: Path, rule: Rule) -> ServiceSettings:
    return ServiceSettings(str(mirror), license_rules={"CC-BY-NC-4.0": rule}, tokens=TOKENS)


@pytest.fixture(scope="module", params=list(Rule))
def ruled(request: pytest.FixtureRequest, four_rules: Path, serving: Serving) -> Iterator[tuple[Rule, str]]:
    with serving(by_rule(four_rules, request.param)) as base:
        yield request.param, base


def data_paths(base: str, subject: str) -> list[str]:
    """One address of each route that gives data of a subject."""
    described = httpx.get(f"{base}/openapi.json").json()["paths"]
    values = {"store": f"{subject}.ome.zarr", "key": CHUNK, "subject": subject, "volume": "ct", "extension": "npy"}
    guarded = [path for path, operations in described.items() if operations["get"].get("security")]
    assert len(guarded) >= 7
    return [*(path.format(**values) for path in guarded), f"/zarr/{subject}.ome.zarr/zarr.json"]


ANSWERS: dict[Rule, dict[str, int]] = {
    Rule.OPEN: {"nothing": 200, "acknowledged": 200, "token": 200, "wrong token": 200, "other token": 200},
    Rule.ACKNOWLEDGE: {"nothing": 403, "acknowledged": 200, "token": 200, "wrong token": 401, "other token": 403},
    Rule.TOKEN: {"nothing": 401, "acknowledged": 401, "token": 200, "wrong token": 401, "other token": 403},
    Rule.DENY: {"nothing": 403, "acknowledged": 403, "token": 403, "wrong token": 403, "other token": 403},
}
SENT: dict[str, dict[str, str]] = {
    "nothing": {},
    "acknowledged": ACKNOWLEDGED,
    "token": BEARER,
    "wrong token": {"Authorization": "Bearer guess"},
    "other token": {"Authorization": f"bearer {OTHER}"},
}


@pytest.mark.parametrize("sent", list(SENT))
def test_every_data_route_keeps_the_rule_with_get_and_head(ruled: tuple[Rule, str], sent: str) -> None:
    rule, base = ruled
    for path in data_paths(base, "0001"):
        get = httpx.get(base + path, headers=SENT[sent])
        assert get.status_code == ANSWERS[rule][sent], (path, get.text[:200])
        head = httpx.head(base + path, headers=SENT[sent])
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert ("www-authenticate" in get.headers) == (get.status_code == 401 or "token" in get.text[:40])
        if get.status_code != 200:
            assert get.json().keys() == {"code", "message", "hint"}
            assert get.headers["cache-control"] == "no-store"


def test_what_only_some_may_read_stays_out_of_shared_caches(ruled: tuple[Rule, str]) -> None:
    rule, base = ruled
    url = f"{base}/zarr/0001.ome.zarr/{CHUNK}"
    answer = httpx.get(url, headers={**BEARER, **ACKNOWLEDGED})
    if rule is Rule.DENY:
        return
    assert ("public" in answer.headers["cache-control"]) == (rule is Rule.OPEN)
    assert ("private" in answer.headers["cache-control"]) == (rule is not Rule.OPEN)
    assert ("vary" in answer.headers) == (rule is not Rule.OPEN)
    unchanged = httpx.get(url, headers={**BEARER, **ACKNOWLEDGED, "If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304
    assert unchanged.headers["cache-control"] == answer.headers["cache-control"]


def test_a_304_needs_leave_too(ruled: tuple[Rule, str]) -> None:
    rule, base = ruled
    answer = httpx.get(f"{base}/zarr/0001.ome.zarr/{CHUNK}", headers={"If-None-Match": "*"})
    assert answer.status_code == (304 if rule is Rule.OPEN else ANSWERS[rule]["nothing"])


def test_licence_and_attribution_go_with_the_data(ruled: tuple[Rule, str]) -> None:
    _, base = ruled
    for path in data_paths(base, "0003"):
        headers = httpx.get(base + path).headers
        assert headers["link"] == '<https://creativecommons.org/licenses/by/4.0/>; rel="license"'
        assert "Careggi" in headers["x-voxshelf-attribution"]


def test_rules_are_about_data_and_the_listing_stays(ruled: tuple[Rule, str]) -> None:
    _, base = ruled
    listed = httpx.get(f"{base}/v1/subjects").json()["subjects"]
    assert [row["subject"] for row in listed] == ["0001", "0002", "0003", "0004"]
    assert httpx.get(f"{base}/v1/subjects/0001").status_code == 200


def test_an_unknown_licence_is_denied_unless_the_operator_says_otherwise(four_rules: Path, serving: Serving) -> None:
    key = "/zarr/0002.ome.zarr/zarr.json"
    with serving(ServiceSettings(str(four_rules), tokens=TOKENS)) as base:
        for headers in ({}, BEARER, {"X-Voxshelf-Acknowledge": "unknown"}):
            assert httpx.get(base + key, headers=headers).json()["code"] == "request.licence"
    with serving(ServiceSettings(str(four_rules), license_rules={"unknown": Rule.OPEN})) as base:
        answer = httpx.get(base + key)
        assert answer.status_code == 200
        assert "link" not in answer.headers


def test_plain_clients_send_what_a_rule_asks_for(four_rules: Path, serving: Serving) -> None:
    for rule, headers in ((Rule.ACKNOWLEDGE, ACKNOWLEDGED), (Rule.TOKEN, BEARER)):
        with serving(by_rule(four_rules, rule)) as base:
            url = f"{base}/zarr/0001.ome.zarr"
            group = zarr.open_group(url, mode="r", zarr_format=3, storage_options={"headers": headers})
            array: Any = group["ct/scale0/ct"]
            assert array[0].shape == array.shape[1:]
    with serving(by_rule(four_rules, Rule.ACKNOWLEDGE)) as base:
        address = f"{base}/zarr/0001.ome.zarr/zarr.json"
        assert httpx.get(address, params={"acknowledge": "CC-BY-4.0,CC-BY-NC-4.0"}).status_code == 200
        assert httpx.get(address, params={"acknowledge": "CC-BY-4.0"}).status_code == 403
        assert "CC-BY-NC-4.0" in httpx.get(address).json()["hint"]


def test_a_preflight_is_answered_without_leave_and_allows_the_headers(ruled: tuple[Rule, str]) -> None:
    _, base = ruled
    asked = {"Origin": "https://x.org", "Access-Control-Request-Method": "GET"}
    answer = httpx.options(f"{base}/zarr/0001.ome.zarr/{CHUNK}", headers=asked)
    assert answer.status_code == 204
    allowed = answer.headers["access-control-allow-headers"]
    assert "Authorization" in allowed
    assert "X-Voxshelf-Acknowledge" in allowed
    exposed = httpx.get(f"{base}/healthz").headers["access-control-expose-headers"]
    assert "X-Voxshelf-Attribution" in exposed


def test_tokens_are_never_logged(four_rules: Path, serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("uvicorn.access", "uvicorn")]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    settings = by_rule(four_rules, Rule.TOKEN)
    with serving(settings) as base:
        for token in (TOKEN, OTHER, "guess-of-a-stranger"):
            httpx.get(f"{base}/zarr/0001.ome.zarr/{CHUNK}", headers={"Authorization": f"Bearer {token}"})
    for logger in loggers:
        logger.removeHandler(caplog.handler)
    server_lines = [record.getMessage() for record in caplog.records if record.name.split(".")[0] != "httpcore"]
    assert any("0001.ome.zarr" in line for line in server_lines)
    assert not any(token in line for line in server_lines for token in (TOKEN, OTHER, "guess-of-a-stranger"))
    assert TOKEN not in repr(settings)


ROW = {"subject": "0001", "license": "CC-BY-NC-4.0", "attribution": "Phantom"}


def test_a_licence_that_is_none_of_ours_is_unknown() -> None:
    with pytest.raises(RequestError, match=r"request\.licence"):
        Access(ServiceSettings("m")).grant({**ROW, "license": "LicenseRef-mine"}, Visitor())


@pytest.mark.parametrize(
    "settings",
    [
        ServiceSettings("m", license_rules={"CC-BY-NC": Rule.DENY}),
        ServiceSettings("m", tokens=(Token("x", "0" * 64, ("CC-BY-NC",)),)),
        ServiceSettings("m", tokens=(Token("x", TOKEN, ("CC-BY-NC-4.0",)),)),
    ],
    ids=["typo in a rule", "typo in a token", "the token itself"],
)
def test_settings_that_would_leave_something_open_are_refused(settings: ServiceSettings) -> None:
    with pytest.raises(SettingsError, match=r"settings\.option"):
        Access(settings)


def test_attribution_is_a_header_that_any_client_can_read() -> None:
    grant: Grant = Access(ServiceSettings("m")).grant({**ROW, "attribution": "Klinik Köln (DE)\r\nX: 1"}, Visitor())
    assert grant.headers("no-cache")["X-Voxshelf-Attribution"] == "Klinik K%C3%B6ln (DE)%0D%0AX: 1"
