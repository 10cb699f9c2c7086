"""The same conversion on a real S3 and a real Dask scheduler with two worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN, free_port, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scheduler(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Dask scheduler with two worker processes, which alone are given the S3 keys."""
    folder = tmp_path_factory.mktemp("dask")
    port, dashboard = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--dashboard-address", f"127.0.0.1:{dashboard}"]
    health = f"http://127.0.0.1:{dashboard}/health"
    with ExitStack() as stack:
        stack.enter_context(running([str(BIN / "dask"), "scheduler", *options], health, folder / "scheduler"))
        for number in range(2):
            own = free_port()
            worker = [str(BIN / "dask"), "worker", address, "--nthreads", "1", "--host", "127.0.0.1"]
            worker += ["--dashboard-address", f"127.0.0.1:{own}", "--local-directory", str(folder)]
            log = folder / f"worker{number}"
            stack.enter_context(running(worker, f"http://127.0.0.1:{own}/health", log, s3))
        yield address


def digests(objects: dict[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(data).hexdigest() for key, data in objects.items() if not key.startswith(".voxshelf/")}


@pytest.fixture(scope="module")
def bucket(
    s3: dict[str, str], scheduler: str, corpus: Path, voxshelf: Callable[..., Any]
) -> Callable[[], dict[str, bytes]]:
    """Converts into the bucket; gives a function that returns all its objects."""
    import s3fs

    voxshelf("convert", corpus, "s3://voxshelf/mirror", "--scheduler", scheduler, env=s3)
    filesystem = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )

    def objects() -> dict[str, bytes]:
        filesystem.invalidate_cache()
        found = filesystem.cat(filesystem.find("voxshelf/mirror"))
        return {key.removeprefix("voxshelf/mirror/"): data for key, data in found.items()}

    return objects


def test_the_bucket_holds_the_bytes_of_the_local_run(bucket: Callable[[], dict[str, bytes]], mirror: Path) -> None:
    local = {path.relative_to(mirror).as_posix(): path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    assert digests(bucket()) == digests(local)


def test_a_second_run_has_nothing_to_do(
    bucket: Callable[[], dict[str, bytes]],
    s3: dict[str, str],
    scheduler: str,
    corpus: Path,
    voxshelf: Callable[..., Any],
) -> None:
    before = bucket()
    again = voxshelf("convert", corpus, "s3://voxshelf/mirror", "--scheduler", scheduler, env=s3)
    assert "0 volumes converted, 36 were there" in again.stdout
    after = bucket()
    assert digests(before) == digests(after)


def test_verify_and_info_read_the_bucket(
    bucket: Callable[[], dict[str, bytes]], s3: dict[str, str], corpus: Path, voxshelf: Callable[..., Any]
) -> None:
    del bucket
    done = voxshelf("verify", "s3://voxshelf/mirror", "--source", corpus, "--subjects", "0002", env=s3)
    assert "0 faults" in done.stdout
    assert "0003" in voxshelf("info", "s3://voxshelf/mirror", env=s3).stdout


def test_no_key_of_the_store_is_in_the_bucket(bucket: Callable[[], dict[str, bytes]], s3: dict[str, str]) -> None:
    assert not [key for key, data in bucket().items() if s3["AWS_SECRET_ACCESS_KEY"].encode() in data]


def test_the_service_streams_from_the_bucket(
    bucket: Callable[[], dict[str, bytes]], s3: dict[str, str], serve: Callable[..., Any]
) -> None:
    import httpx

    key = "ct/scale0/ct/c/0/0/0"
    expected = bucket()[f"subjects/0002.ome.zarr/{key}"]
    with serve("s3://voxshelf/mirror", s3) as base, httpx.Client(base_url=base) as client:
        whole = client.get(f"/zarr/0002.ome.zarr/{key}")
        assert whole.content == expected
        suffix = client.get(f"/zarr/0002.ome.zarr/{key}", headers={"Range": "bytes=-100"})
        assert (suffix.status_code, suffix.content) == (206, expected[-100:])
        assert suffix.headers["content-range"] == f"bytes {len(expected) - 100}-{len(expected) - 1}/{len(expected)}"
        middle = client.get(f"/zarr/0002.ome.zarr/{key}", headers={"Range": "bytes=10-19"})
        assert middle.content == expected[10:20]
        past = client.get(f"/zarr/0002.ome.zarr/{key}", headers={"Range": f"bytes={len(expected)}-"})
        assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(expected)}")
        assert client.get("/zarr/0002.ome.zarr/ct/scale0/ct/c/9/0/0").status_code == 404
        assert client.head(f"/zarr/0002.ome.zarr/{key}").headers["content-length"] == str(len(expected))
        again = client.get(f"/zarr/0002.ome.zarr/{key}", headers={"If-None-Match": whole.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
