"""Documents of arrays and groups, beside those that zarr itself makes of the same description."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from corpus import zarr_v3
from corpus.codec import SHUFFLES, block_bytes
from corpus.geometry import Grid
from corpus.models import CodecChoice, Level

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "int64", "uint64"]
ATTRIBUTES = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.lists(st.floats(0, 1), max_size=3),
    max_size=4,
)  # fmt: skip
TRIPLES = st.tuples(*[st.integers(1, 4)] * 3)


def of_zarr(store: MemoryStore, key: str) -> bytes:
    return store._store_dict[key].to_bytes()


@given(
    st.sampled_from(TYPES), TRIPLES, TRIPLES, TRIPLES, st.sampled_from(list(SHUFFLES)), st.integers(1, 9), ATTRIBUTES
)
@settings(max_examples=60)
def test_a_sharded_array_is_described_as_zarr_describes_it(
    dtype: str,
    shape: tuple[int, int, int],
    chunk: tuple[int, int, int],
    chunks: tuple[int, int, int],
    shuffle: str,
    clevel: int,
    attributes: dict[str, Any],
) -> None:
    choice = CodecChoice(shuffle, clevel)
    shard = tuple(a * b for a, b in zip(chunk, chunks, strict=True))
    level = Level((1, 2, 2), Grid.of(shape, np.diag([2, 2, 3, 1])), chunk, shard)  # type: ignore[arg-type]
    itemsize = np.dtype(dtype).itemsize
    blosc = BloscCodec(
        typesize=itemsize,
        cname="zstd",
        clevel=clevel,
        shuffle=shuffle,  # type: ignore[arg-type]
        blocksize=block_bytes(choice, math.prod(chunk) * itemsize),
    )
    sharding = ShardingCodec(
        chunk_shape=chunk,
        codecs=[BytesCodec(endian="little"), blosc, Crc32cCodec()],
        index_codecs=[BytesCodec(endian="little"), Crc32cCodec()],
        index_location="end",
    )
    store = MemoryStore()
    with zarr.config.set({"json_indent": None}):
        zarr.create_array(
            store, name="a", shape=shape, dtype=dtype, chunks=shard, serializer=sharding, compressors=None,
            filters=None, fill_value=0, dimension_names=("z", "y", "x"), attributes=attributes,
        )  # fmt: skip
    document = zarr_v3.sharded_array(level, dtype, choice, ("z", "y", "x"), attributes)
    assert zarr_v3.encoded(document) == of_zarr(store, "a/zarr.json")
    described = {"factors": [1, 2, 2], "affine": level.grid.affine}
    assert zarr_v3.level_of(document, described) == level


@pytest.mark.parametrize("values", [np.arange(348, dtype="u1"), np.linspace(-1, 1, 7)], ids=["header", "coordinate"])
def test_a_small_array_is_described_and_stored_as_zarr_does_it(values: np.ndarray) -> None:
    store = MemoryStore()
    with zarr.config.set({"json_indent": None}):
        array = zarr.create_array(
            store, name="a", shape=values.shape, dtype=values.dtype, chunks=values.shape, compressors=None,
            filters=None, fill_value=0, dimension_names=["z"], attributes={"units": "mm"},
        )  # fmt: skip
        array[:] = values
    assert zarr_v3.encoded(zarr_v3.plain_array(values, ("z",), {"units": "mm"})) == of_zarr(store, "a/zarr.json")
    assert values.tobytes() == of_zarr(store, "a/c/0")


def test_a_tree_is_consolidated_as_zarr_does_it() -> None:
    """Order of the members, groups below groups, and attributes that are not ASCII."""
    store = MemoryStore()
    own = {"": {"who": "Universität"}, "OME": {}, "ct": {"a": 1}, "ct/labels": {}, "ct/labels/b": {"x": [1.5]}, "Z": {}}
    with zarr.config.set({"json_indent": None}), warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        for path, attributes in own.items():
            zarr.create_group(store, path=path, attributes=attributes)
        for path in ("ct/labels", "ct", ""):
            zarr.consolidate_metadata(store, path=path)
    plain = {path: zarr_v3.group(attributes) for path, attributes in own.items()}
    assert zarr_v3.encoded(plain["Z"]) == of_zarr(store, "Z/zarr.json")
    for path in ("ct/labels", "ct", ""):
        below = f"{path}/" if path else ""
        members = {each.removeprefix(below): plain[each] for each in plain if each.startswith(below) and each != path}
        document = zarr_v3.encoded(zarr_v3.group(own[path], members))
        assert document == of_zarr(store, f"{below}zarr.json")


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        zarr_v3.encoded(zarr_v3.group({"mean": math.nan}))


def test_chunks_of_another_codec_are_no_level() -> None:
    level = Level((1, 1, 1), Grid.of((4, 4, 4), np.eye(4)), (2, 2, 2), (4, 4, 4))
    document = zarr_v3.sharded_array(level, "int16", CodecChoice("shuffle", 1), ("z", "y", "x"), {})
    document["codecs"][0]["configuration"]["codecs"].pop()
    with pytest.raises(ValueError, match="another way"):
        zarr_v3.level_of(document, {"factors": [1, 1, 1], "affine": level.grid.affine})
