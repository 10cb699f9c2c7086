"""A mirror in a folder, in a bucket and on a web server: the same answers, whoever holds the bytes."""

from __future__ import annotations

import contextlib
import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corpus.stores import Store
from tests.conftest import Web

PATHS = [
    "/v1/subjects.csv?sort=-age_years",
    "/v1/labels",
    "/v1/subjects/0001/ct/cutout.npy?label=liver&margin_mm=10",
    "/v1/subjects/0001/ct/cutout.nii.gz?label=liver",
    "/v1/subjects/0001/pet/cutout.nii?label=liver",
    "/v1/subjects/0001/organs/cutout.raw?level=1",
    "/v1/subjects/0001/ct.nii",
    "/v1/subjects/0001/pet.nii.gz",
    "/v1/subjects/0001/ct/slice.png?plane=coronal&overlay=organs",
    "/v1/subjects/0001/pet/thumbnail.png",
    "/zarr/0001.ome.zarr/zarr.json",
    "/zarr/0001.ome.zarr/ct/scale0/ct/c/0/0/0",
]
RANGES = ["bytes=0-9", "bytes=1000-200000", "bytes=-516"]
SHARD = "subjects/0002.ome.zarr/ct/scale0/ct/c/0/0/0"


@pytest.fixture(scope="module")
def public(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without the converter's records, which has lost a shard."""
    copy = tmp_path_factory.mktemp("public")
    shutil.copytree(mirror, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".voxshelf"))
    (copy / SHARD).unlink()
    return copy


@pytest.fixture(scope="module")
def of_bucket(public: Path, s3: dict[str, str], serve: Callable[..., Any]) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        store = Store("s3://voxshelf/upstreams")
        for path in public.rglob("*"):
            if path.is_file():
                store.put(path.relative_to(public).as_posix(), path.read_bytes())
        with serve(store.url) as base, httpx.Client(base_url=base, timeout=60) as client:
            yield client


@pytest.fixture(scope="module")
def of_website(public: Path, serve: Callable[..., Any]) -> Iterator[httpx.Client]:
    with (
        contextlib.closing(Web(public)) as web,
        serve(web.base) as base,
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        yield client


@pytest.fixture(params=["of_bucket", "of_website"])
def other(request: pytest.FixtureRequest) -> httpx.Client:
    client: httpx.Client = request.getfixturevalue(request.param)
    return client


def content(answer: httpx.Response) -> bytes:
    assert answer.status_code in {200, 206}, answer.text
    return gzip.decompress(answer.content) if answer.content[:2] == b"\x1f\x8b" else answer.content


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_the_same(client: httpx.Client, other: httpx.Client, path: str) -> None:
    ours, theirs = client.get(path), other.get(path)
    assert content(ours) == content(theirs)
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    if not path.startswith("/zarr"):  # there the tag is the storage's
        assert ours.headers.get("etag") == theirs.headers.get("etag")


@pytest.mark.parametrize("range_", RANGES)
@pytest.mark.parametrize("path", ["/v1/subjects/0001/ct.nii", "/zarr/0001.ome.zarr/ct/scale0/ct/c/0/0/0"])
def test_ranges_are_the_same(client: httpx.Client, other: httpx.Client, path: str, range_: str) -> None:
    ours, theirs = (each.get(path, headers={"Range": range_}) for each in (client, other))
    assert (ours.status_code, theirs.status_code) == (206, 206)
    assert ours.content == theirs.content
    assert ours.headers["content-range"] == theirs.headers["content-range"]


@pytest.mark.parametrize("path", ["ct/cutout.npy?label=liver", "ct.nii", "ct/slice.png"])
def test_a_lost_shard_is_never_air(other: httpx.Client, path: str) -> None:
    answer = other.get(f"/v1/subjects/0002/{path}")
    assert (answer.status_code, answer.json()["code"]) == (503, "layout.object")


def test_a_store_that_vanished_is_a_fault_at_once_whatever_is_in_memory(
    public: Path, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    own = Path(shutil.copytree(public, tmp_path / "own"))
    with contextlib.closing(Web(own)) as web, serve(web.base) as base, httpx.Client(base_url=base) as client:
        for key in ("zarr.json", "ct/scale0/ct/c/0/0/0"):
            assert client.get(f"/zarr/0001.ome.zarr/{key}").status_code == 200
        assert client.get("/readyz").status_code == 200
        shutil.rmtree(own / "subjects/0001.ome.zarr")
        answer = client.get("/zarr/0001.ome.zarr/ct/scale0/ct/c/0/0/1")
        assert (answer.status_code, answer.json()["code"]) == (503, "store.unreachable")


def test_what_is_not_there_is_404(other: httpx.Client) -> None:
    for key in ("ct/scale0/ct/c/9/9/9", ".zgroup", "nothing"):
        assert other.get(f"/zarr/0001.ome.zarr/{key}").status_code == 404
