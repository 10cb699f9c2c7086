"""A mirror that is published anew while it is served."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import httpx
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from tests.service.conftest import StartService

TABLES = ("catalog.parquet", "volumes.parquet", "regions.parquet")


@pytest.fixture(scope="module")
def publications(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mirror of one subject, and the same mirror after a second run with two."""
    first, second = (tmp_path_factory.mktemp("publications") / name for name in ("first", "second"))
    for subjects, folder in ((["0001"], first), (["0002"], second)):
        if folder == second:
            shutil.copytree(first, second)
        settings = ConvertSettings(
            workers=0, corpus=read_corpus(str(corpus)), subjects=subjects, roles=["ct", "organs"]
        )
        assert not convert(str(corpus), str(folder), settings, lambda _: None).failures
    return first, second


def listed(base: str) -> list[str]:
    return [row["subject"] for row in httpx.get(f"{base}/v1/subjects").json()["subjects"]]


def documents(base: str) -> dict[str, bytes]:
    return {name: httpx.get(f"{base}/{name}").content for name in (*TABLES, "croissant.json", "mirror.json")}


def is_whole(found: dict[str, bytes]) -> bool:
    records = json.loads(found["mirror.json"])["tables"].values()
    return all(hashlib.sha256(found[each["key"]]).hexdigest() == each["sha256"] for each in records)


def test_a_publication_shows_when_it_is_whole_and_not_before(
    publications: tuple[Path, Path], tmp_path: Path, service: StartService
) -> None:
    first, second = publications
    mirror = tmp_path / "mirror"
    shutil.copytree(first, mirror)
    chunk = "zarr/0002.ome.zarr/ct/scale0/ct/c/0/0/0"
    with service(mirror, catalog_ttl_s=0.2) as started:
        before = documents(started.base)
        assert listed(started.base) == ["0001"]
        assert is_whole(before)
        assert httpx.get(f"{started.base}/{chunk}").status_code == 410
        shutil.copytree(second / "subjects", mirror / "subjects", dirs_exist_ok=True)
        for name in ("labels.json", "croissant.json", *TABLES):  # as `publish` does it: mirror.json is last
            (tmp_path / "new").write_bytes((second / name).read_bytes())
            (tmp_path / "new").replace(mirror / name)
            time.sleep(0.3)
            assert listed(started.base) == ["0001"]
            assert documents(started.base) == before
        shutil.copy(second / "mirror.json", tmp_path / "new")
        (tmp_path / "new").replace(mirror / "mirror.json")
        time.sleep(0.3)
        assert listed(started.base) == ["0001", "0002"]
        after = documents(started.base)
        assert is_whole(after)
        for name in ("catalog.parquet", "croissant.json"):
            assert after[name] == (second / name).read_bytes()
            assert after[name] != before[name]
        assert httpx.get(f"{started.base}/{chunk}").status_code == 200
        (mirror / "mirror.json").unlink()
        time.sleep(0.3)
        assert httpx.get(f"{started.base}/{chunk}").status_code == 503


def test_documents_of_the_mirror(client: httpx.Client, mirror: Path) -> None:
    types = {"mirror.json": "application/json", "croissant.json": "application/ld+json"}
    for name in (*TABLES, "mirror.json", "labels.json", "croissant.json"):
        answer, data = client.get(f"/{name}"), (mirror / name).read_bytes()
        assert (answer.status_code, answer.content) == (200, data), name
        assert answer.headers["content-type"] == types.get(name, answer.headers["content-type"])
        assert "no-cache" in answer.headers["cache-control"]
        assert client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        part = client.get(f"/{name}", headers={"Range": "bytes=-8"})
        assert (part.status_code, part.content) == (206, data[-8:])
        head = client.head(f"/{name}")
        assert (head.headers["content-length"], head.content) == (str(len(data)), b"")
    for name in (".voxshelf/settings.json", "subjects", "subjects/0001.ome.zarr/zarr.json"):
        assert client.get(f"/{name}").status_code == 404
