"""What HTTP has to say of an object of a mirror beside its bytes: its type, and for how long a cache may keep it."""

from __future__ import annotations

from typing import Final

from corpus import layout

_TYPES: Final = {
    "cff": "application/yaml",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "jsonld": "application/ld+json",
    "md": "text/markdown; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "sha256": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "xml": "application/xml",
}
_REVALIDATE: Final = "no-cache, no-transform"
_IMMUTABLE: Final = "public, max-age=31536000, immutable, no-transform"
# What a proxy compresses loses its ranges, hence no-transform.


def media_type(key: str) -> str:
    """Return the media type of an object, by its key."""
    return _TYPES.get(key.rpartition("/")[2].rpartition(".")[2], "application/octet-stream")


def cache_control(key: str) -> str:
    """Return for how long an object may be kept: chunks for ever, all else only until the next look.

    Documents, tables and manifests change when a volume is added or a licence is corrected.
    """
    inside = key.startswith(f"{layout.SUBJECTS}/") and f"{layout.STORE_SUFFIX}/" in key
    return _IMMUTABLE if inside and media_type(key) == "application/octet-stream" else _REVALIDATE


def s3_headers(key: str) -> dict[str, str]:
    """Return both, as S3 keeps them with an object."""
    return {"ContentType": media_type(key), "CacheControl": cache_control(key)}
