"""The manifest of a subject: its objects with their SHA-256, as ``sha256sum -c`` reads it.

It lies beside the store, and its names are relative to the folder that both lie in: whoever has downloaded a subject
with its manifest calls ``sha256sum -c 0001.ome.zarr.sha256`` there. No reader needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from corpus import layout
from corpus.errors import LayoutError, NotFoundError
from corpus.stores import Store

_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
_FOLDER: Final = f"{layout.SUBJECTS}/"


def manifest_bytes(digests: Mapping[str, str]) -> bytes:
    """Return a manifest.

    Parameters
    ----------
    digests
        SHA-256 in hexadecimal digits by key in the mirror.
    """
    return "".join(f"{digests[key]}  {key.removeprefix(_FOLDER)}\n" for key in sorted(digests)).encode()


def parse_manifest(data: bytes, subject: str) -> dict[str, str]:
    """Return what `manifest_bytes` was given.

    Raises
    ------
    LayoutError
        It is no manifest of this subject.
    """
    key = layout.manifest_key(subject)
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise LayoutError("layout.metadata", f"it is no list of sha256sum: {error}", place=key) from error
    found = [_LINE.fullmatch(line) for line in lines]
    digests = {f"{_FOLDER}{match[2]}": match[1] for match in found if match}
    inside = f"{layout.store_key(subject)}/"
    if data and not data.endswith(b"\n"):
        raise LayoutError("layout.metadata", "it ends in the middle of a line", place=key)
    if len(digests) != len(lines) or not all(each.startswith(inside) for each in digests):
        message = "a line is not that of an object of this subject as sha256sum writes it"
        raise LayoutError("layout.metadata", message, place=key)
    return digests


def shards_of(manifest: Mapping[str, str], subject: str, array: str) -> frozenset[str]:
    """Return the keys of an array's shards that were written; those that are all zero were not.

    Parameters
    ----------
    manifest
        What `parse_manifest` returned.
    subject
        Whose it is.
    array
        Key of the array in the mirror.

    Raises
    ------
    LayoutError
        The manifest lacks the array. It was cut short, or a copy is under way: then it says nothing of shards.
    """
    # Keys are sorted, and an array's document comes behind its shards.
    if f"{array}/zarr.json" not in manifest:
        message = f"it does not list {array}"
        raise LayoutError("layout.metadata", message, place=layout.manifest_key(subject))
    return frozenset(key for key in manifest if key.startswith(f"{array}/c/"))


def read_manifest(store: Store, subject: str) -> dict[str, str] | None:
    """Return what a subject's manifest says; None where the mirror has none of this subject.

    Raises
    ------
    LayoutError
        It is no manifest of this subject.
    StoreError
        The store failed.
    """
    try:
        return parse_manifest(store.get(layout.manifest_key(subject)), subject)
    except NotFoundError:
        return None
