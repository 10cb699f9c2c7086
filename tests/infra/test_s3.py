"""The bucket policy and the CORS rules, on a real S3 server: what anybody can read then, and what nobody can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import xarray as xr

from converter.publish import publication
from corpus import catalog
from corpus.stores import Store

S3 = Path(__file__).parents[2] / "infra" / "s3"
BUCKET = "policy"


@pytest.fixture(scope="module")
def public(s3: dict[str, str], phantom_mirror: Path, voxshelf: Callable[..., Any]) -> str:
    """A published mirror in a bucket with our two documents; its address for anybody."""
    import s3fs

    fs = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )
    fs.call_s3("create_bucket", Bucket=BUCKET)
    policy = (S3 / "bucket-policy.json").read_text().replace("BUCKET", BUCKET)
    fs.call_s3("put_bucket_policy", Bucket=BUCKET, Policy=policy)
    fs.call_s3("put_bucket_cors", Bucket=BUCKET, CORSConfiguration=json.loads((S3 / "cors.json").read_text()))
    voxshelf("publish", phantom_mirror, f"s3://{BUCKET}", env=s3)
    # As a mirror that was converted right here has it.
    fs.pipe_file(f"{BUCKET}/.voxshelf/settings.json", b"{}")
    return f"{s3['AWS_ENDPOINT_URL']}/{BUCKET}"


def test_doctor_finds_nothing_wrong(public: str, voxshelf: Callable[..., Any]) -> None:
    done = voxshelf("doctor", public, "--all", "--json")
    *checks, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert {check["name"]: check["seen"] for check in checks if check["status"] != "pass"} == {}
    assert (result["host"], result["subjects"], result["looked_at"]) == ("a bucket or folder", 4, 4)


def test_anybody_reads_it_with_plain_xarray(public: str, phantom_mirror: Path) -> None:
    path = "subjects/0002.ome.zarr"
    options: dict[str, Any] = {"zarr_format": 3, "consolidated": True, "chunks": None, "group": "ct/scale1"}
    far, near = (xr.open_zarr(f"{place}/{path}", **options) for place in (public, phantom_mirror))
    xr.testing.assert_identical(far.load(), near.load())


def test_nobody_reads_the_converter_s_records_or_writes(public: str) -> None:
    assert httpx.get(f"{public}/.voxshelf/settings.json").status_code == 403
    key = f"{public}/subjects/0002.ome.zarr/zarr.json"
    assert httpx.put(key, content=b"{}").status_code == 403
    assert httpx.delete(key).status_code == 403
    assert httpx.get(key).status_code == 200
    assert httpx.put(f"{public}/new", content=b"{}").status_code == 403


def test_the_policy_names_all_that_a_publication_puts(phantom_mirror: Path) -> None:
    policy = json.loads((S3 / "bucket-policy.json").read_text())
    named = set(policy["Statement"][0]["Resource"])
    store = Store(str(phantom_mirror))
    mirror = catalog.read_mirror(store)
    tables = {name: catalog.read_table(store, record) for name, record in mirror.tables.items()}
    _, written = publication(tables, mirror.corpus, mirror.ome_versions)
    assert {f"arn:aws:s3:::BUCKET/{key}" for key in written} | {"arn:aws:s3:::BUCKET/subjects/*"} == named
