"""Types and cache headers of objects."""

from __future__ import annotations

import pytest

from corpus.delivery import cache_control, media_type
from service.routes import zarr

STORE = "subjects/0001.ome.zarr"


@pytest.mark.parametrize(
    ("key", "kind", "immutable"),
    [
        (f"{STORE}/ct/scale0/ct/c/0/0/0", "application/octet-stream", True),
        (f"{STORE}/ct/nifti/c/0", "application/octet-stream", True),
        (f"{STORE}/zarr.json", "application/json", False),
        (f"{STORE}.sha256", "text/plain; charset=utf-8", False),
        ("mirror.json", "application/json", False),
        ("catalog.parquet", "application/vnd.apache.parquet", False),
        (".voxshelf/lease", "application/octet-stream", False),
    ],
)
def test_only_chunks_are_immutable(key: str, kind: str, immutable: bool) -> None:
    assert media_type(key) == kind
    assert ("immutable" in cache_control(key)) is immutable
    assert "no-transform" in cache_control(key), "what a proxy compresses loses its ranges"
    assert ("no-cache" in cache_control(key)) is not immutable


def test_the_service_says_the_same() -> None:
    assert cache_control(f"{STORE}/ct/c/0") == zarr._IMMUTABLE
    assert cache_control(f"{STORE}/zarr.json") == zarr._REVALIDATE
