"""A licensed part of a mirror in a public bucket, read by anybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import xarray as xr

pytestmark = pytest.mark.slow

PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": ["arn:aws:s3:::open", "arn:aws:s3:::open/*"],
        }
    ],
}


@pytest.fixture(scope="module")
def client(s3: dict[str, str]) -> Any:
    """An S3 client that has the keys, with a bucket `open` that anybody may read."""
    import s3fs

    fs = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )
    fs.call_s3("create_bucket", Bucket="open")
    fs.call_s3("put_bucket_policy", Bucket="open", Policy=json.dumps(PUBLIC))
    return fs


@pytest.fixture(scope="module")
def published(client: Any, s3: dict[str, str], corpus: Path, voxshelf: Callable[..., Any]) -> dict[str, Any]:
    """Two subjects converted into a private bucket, and the open one of them published; the result of `publish`."""
    options = ["--subjects", "0001,0002", "--volumes", "ct,organs", "--workers", "0", "--no-pictures"]
    voxshelf("convert", corpus, "s3://voxshelf/private", *options, env=s3)
    told = voxshelf("publish", "s3://voxshelf/private", "s3://open/data", "--license", "CC-BY-4.0", "--json", env=s3)
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [event["type"] for event in events] == ["planned", "subject", "result"]
    assert events[0]["through_memory"] is False
    result: dict[str, Any] = events[-1]
    return result


def listed(client: Any, prefix: str) -> dict[str, bytes]:
    client.invalidate_cache()
    found: dict[str, bytes] = client.cat(client.find(prefix))
    return {key.removeprefix(f"{prefix}/"): data for key, data in found.items()}


def test_nothing_of_another_licence_is_in_the_public_bucket(client: Any, published: dict[str, Any]) -> None:
    assert (published["subjects"], published["licenses"]) == (1, {"CC-BY-4.0": 1})
    private, public = listed(client, "voxshelf/private"), listed(client, "open")
    assert [key for key in private if "/0001." in key], "there is something that must not go along"
    assert not [key for key in public if "0001" in key or ".voxshelf" in key]
    assert not [key for key, data in public.items() if b"CC-BY-NC" in data]
    store = {key: data for key, data in private.items() if key.startswith("subjects/0002.ome.zarr")}
    assert {key.removeprefix("data/"): data for key, data in public.items() if "/subjects/" in key} == store


def test_objects_say_their_type_and_how_long_they_may_be_kept(s3: dict[str, str], published: dict[str, Any]) -> None:
    with httpx.Client(base_url=f"{s3['AWS_ENDPOINT_URL']}/open/data") as anybody:
        chunk = anybody.head("/subjects/0002.ome.zarr/ct/scale0/ct/c/0/0/0").headers
        assert (chunk["content-type"], "immutable" in chunk["cache-control"]) == ("application/octet-stream", True)
        kinds = {"mirror.json": "json", "catalog.parquet": "parquet", "subjects/0002.ome.zarr/zarr.json": "json"}
        for key, kind in kinds.items():
            told = anybody.head(f"/{key}").headers
            assert told["content-type"].endswith(kind)
            assert told["cache-control"].startswith("no-cache")


def test_one_line_reads_it_from_the_bucket_and_through_the_service(
    s3: dict[str, str], published: dict[str, Any], serve: Callable[..., Any]
) -> None:
    def liver_mean(url: str) -> float:
        tree = xr.open_datatree(f"{url}/0002.ome.zarr", engine="zarr", zarr_format=3)
        ct, organs = tree["ct/scale0/ct"], tree["ct/labels/organs/scale0/organs"]
        return float(ct.where(organs == 9).mean())

    with serve("s3://open/data", s3) as base:
        served = liver_mean(f"{base}/zarr")
    direct = liver_mean(f"{s3['AWS_ENDPOINT_URL']}/open/data/subjects")
    assert direct == served
    assert direct == direct, "there are voxels"  # a mean of nothing is NaN


def test_the_next_run_copies_nothing_and_a_withdrawal_leaves_nothing(
    client: Any, s3: dict[str, str], published: dict[str, Any], voxshelf: Callable[..., Any], tmp_path: Path
) -> None:
    # Credentials of its own for each side, as of two providers: the bytes come through memory.
    config = tmp_path / "config"
    keys = f"aws_access_key_id={s3['AWS_ACCESS_KEY_ID']}\naws_secret_access_key={s3['AWS_SECRET_ACCESS_KEY']}\n"
    config.write_text(f"[profile one]\n{keys}[profile two]\n{keys}")
    env = {**s3, "AWS_CONFIG_FILE": str(config)}
    command = ["publish", "s3://open/data", "s3://voxshelf/again", "--source-profile", "one", "--profile", "two"]
    planned, _, result = map(json.loads, voxshelf(*command, "--json", env=env).stdout.splitlines())
    assert (planned["through_memory"], result["copied"], result["objects"]) == (True, 1, published["objects"])
    assert listed(client, "voxshelf/again") == {
        key.removeprefix("data/"): data for key, data in listed(client, "open").items()
    }
    _, result = map(json.loads, voxshelf(*command, "--json", env=env).stdout.splitlines())
    assert (result["copied"], result["already"]) == (0, 1)
    done = json.loads(voxshelf("unpublish", "s3://voxshelf/again", "0002", "--json", env=s3).stdout)
    assert (done["left"], done["listed"], done["objects"]) == ([], False, published["objects"] + 1)
    assert [key for key in listed(client, "voxshelf/again") if "0002" in key] == []
