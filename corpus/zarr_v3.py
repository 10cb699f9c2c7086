"""The documents of Zarr v3 groups and arrays, as plain values, byte for byte as zarr-python 3.4 writes them.

Making them through zarr takes an event loop, a store in memory and half a second of imports, for text that the array's
description determines; the tests compare every document with zarr's own.
Source: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from corpus.codec import block_bytes
from corpus.geometry import Grid, Voxels
from corpus.models import CodecChoice, Level

DOCUMENT: Final = "zarr.json"
Document = dict[str, Any]

_LITTLE: Final = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKSUM: Final = {"name": "crc32c"}


def encoded(document: Document) -> bytes:
    """Return a document as it is stored."""
    return json.dumps(document, allow_nan=False).encode()


def group(attributes: Mapping[str, Any], members: Mapping[str, Document] | None = None) -> Document:
    """Return the document of a group.

    Parameters
    ----------
    attributes
        Of the group.
    members
        Documents of all groups and arrays below it, by path relative to it, to be held in its consolidated metadata;
        None for none of that. Their own consolidated metadata are left out.
    """
    if members is None:
        return {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}
    held = {path: _held(members[path]) for path in sorted(members, key=_rank)}
    return {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": held},
        "node_type": "group",
    }


def _held(document: Document) -> Document:
    return group(document["attributes"], {}) if document["node_type"] == "group" else document


def _rank(path: str) -> tuple[int, str]:
    return path.count("/"), path.casefold()


def plain_array(values: Voxels, dims: tuple[str, ...], attributes: Mapping[str, Any]) -> Document:
    """Return the document of a small array that is one chunk, not compressed: its bytes are the values'."""
    return _array(values.shape, values.dtype, values.shape, _numbers(values.dtype), dims, attributes)


def sharded_array(
    level: Level, dtype: str, choice: CodecChoice, dims: tuple[str, ...], attributes: Mapping[str, Any]
) -> Document:
    """Return the document of an array whose shards `corpus.shards` and `corpus.codec` describe.

    Parameters
    ----------
    level
        Shape, inner chunks and shards.
    dtype
        Name of the stored voxel type.
    choice
        Of the codec.
    dims
        Names of the axes z, y, x.
    attributes
        Of the array.
    """
    voxel = np.dtype(dtype)
    blosc = {
        "typesize": voxel.itemsize,
        "cname": "zstd",
        "clevel": choice.clevel,
        "shuffle": choice.shuffle,
        "blocksize": block_bytes(choice, math.prod(level.chunk_zyx) * voxel.itemsize),
    }
    sharding = {
        "chunk_shape": list(level.chunk_zyx),
        "codecs": [_numbers(voxel), {"name": "blosc", "configuration": blosc}, _CHECKSUM],
        "index_codecs": [_LITTLE, _CHECKSUM],
        "index_location": "end",
    }
    codec = {"name": "sharding_indexed", "configuration": sharding}
    return _array(level.grid.shape_zyx, voxel, level.shard_zyx, codec, dims, attributes)


def level_of(array: Document, described: Mapping[str, Any]) -> Level:
    """Return the level that a document describes; the inverse of `sharded_array`.

    Parameters
    ----------
    array
        Of the array.
    described
        Attributes of the level's group below ``voxshelf``: affine and factors.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is no such document, or its inner chunks are encoded in another way than `corpus.codec` does.
    """
    (sharding,) = array["codecs"]
    inner = sharding["configuration"]
    if [codec["name"] for codec in inner["codecs"]] != ["bytes", "blosc", "crc32c"]:
        raise ValueError("the array is stored in another way than the layout says")
    return Level(
        factors_zyx=tuple(described["factors"]),
        grid=Grid.of(array["shape"], described["affine"]),
        chunk_zyx=tuple(inner["chunk_shape"]),
        shard_zyx=tuple(array["chunk_grid"]["configuration"]["chunk_shape"]),
    )


def _numbers(dtype: np.dtype[Any]) -> Document:
    return _LITTLE if dtype.itemsize > 1 else {"name": "bytes"}


def _array(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk_shape: tuple[int, ...],
    codec: Document,
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> Document:
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.kind == "f" else 0,
        "codecs": [codec],
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
