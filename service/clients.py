"""Lines to paste: how to read one subject with tools that everybody has, under the rule of its licence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from corpus import layout
from corpus.catalog import Row
from service.access import ACKNOWLEDGE_HEADER
from service.settings import Rule

_TOKEN: Final = "TOKEN"  # noqa: S105 - what a person replaces by the token


def store_url(base: str, subject: str) -> str:
    """Return the address of a subject's store."""
    return f"{base}/zarr/{subject}{layout.STORE_SUFFIX}"


def client_lines(base: str, subject: str, volumes: Sequence[Row], license_id: str, rule: Rule) -> dict[str, str]:
    """Return lines that open a subject, by client; none where the subject may not be read.

    Parameters
    ----------
    base
        Address of the service.
    subject
        Its id.
    volumes
        Its rows of ``volumes.parquet``; the lines read the first.
    license_id, rule
        The licence, and what it asks for: the lines send it. For a token, they hold the word TOKEN.
    """
    if rule is Rule.DENY or not volumes:
        return {}
    url, array = store_url(base, subject), volumes[0]["array_path"]
    sent = _headers(license_id, rule)
    storage = f", storage_options={{'headers': {sent}}}" if sent else ""
    options = f", headers={sent}" if sent else ""
    flags = "".join(f" -H '{name}: {value}'" for name, value in sent.items())
    nii = f"{base}/v1/subjects/{subject}/{volumes[0]['volume'].removeprefix('labels/')}.nii"
    return {
        "xarray": f'import xarray as xr; tree = xr.open_datatree("{url}", engine="zarr", zarr_format=3{storage})',
        "zarr": f'import zarr; group = zarr.open_group("{url}", mode="r", zarr_format=3{storage})',
        "tensorstore": f"import tensorstore as ts; array = ts.open({_spec(url, array, sent)}).result()",
        "curl": f"curl --fail --remote-name{flags} '{url}/zarr.json'",
        "nibabel": (
            f'import fsspec, nibabel as nib; image = nib.Nifti1Image.from_stream(fsspec.open("{nii}"{options}).open())'
        ),
    }


def _headers(license_id: str, rule: Rule) -> dict[str, str]:
    if rule is Rule.ACKNOWLEDGE:
        return {ACKNOWLEDGE_HEADER: license_id}
    return {"Authorization": f"Bearer {_TOKEN}"} if rule is Rule.TOKEN else {}


def _spec(url: str, array: str, sent: dict[str, str]) -> dict[str, object]:
    address = urlsplit(url)
    kvstore: dict[str, object] = {
        "driver": "http",
        "base_url": f"{address.scheme}://{address.netloc}",
        "path": f"{address.path}/{array}/",
    }
    if sent:
        kvstore["headers"] = [f"{name}: {value}" for name, value in sent.items()]
    return {"driver": "zarr3", "kvstore": kvstore}
