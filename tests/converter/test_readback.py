"""A whole level as it is read back, of arrays that fill their shards and of those that do not."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.readback import ReadBack, read_level
from converter.shards import ShardWriter
from converter.trial import Trial
from corpus import codec
from corpus.errors import StoreError
from corpus.geometry import Grid
from corpus.models import Level
from corpus.stores import Store

EDGES = st.tuples(*[st.integers(1, 4)] * 3)


def stored(store: Store, array: np.ndarray, level: Level) -> None:
    with ThreadPoolExecutor(1) as pool:
        put = lambda key, parts: store.put(f"a/{key}", parts)  # noqa: E731
        writer = ShardWriter(level, array.dtype.name, put, pool, Trial())
        writer.write(array)
        writer.close()


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)),
    chunk=EDGES,
    rows=st.integers(1, 4),
    empty=st.integers(0, 20),
)
def test_a_level_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    chunk: tuple[int, int, int],
    rows: int,
    empty: int,
) -> None:
    plane = [-(-n // edge) * edge for n, edge in zip(shape[1:], chunk[1:], strict=True)]
    level = Level((1, 1, 1), Grid.of(shape, np.eye(4)), chunk, (chunk[0] * rows, plane[0], plane[1]))
    array = np.random.default_rng(1).integers(1, 9, shape, "i2")
    array[:empty] = 0  # shards of zeros alone are not there
    store = Store(str(tmp_path_factory.mktemp("mirror")))
    stored(store, array, level)
    np.testing.assert_array_equal(read_level(store, "a", level, "int16"), array)


@pytest.mark.parametrize("slices", [16, 31, 48, 128])
def test_rows_are_hashed_as_they_were_read_whatever_is_decoded_meanwhile(tmp_path: Path, slices: int) -> None:
    # Large, so that hashing a row takes longer than making the next one, of zeros beyond the last slice.
    level = Level((1, 1, 1), Grid.of((slices, 512, 512), np.eye(4)), (16, 128, 128), (128, 512, 512))
    array = np.random.default_rng(slices).integers(0, 2**12, level.grid.shape_zyx, "i2")
    array[16:32] = 0
    store = Store(str(tmp_path))
    stored(store, array, level)
    with ReadBack(level, "int16", lambda key: store.open(f"a/{key}"), "place") as back:
        back.expect("c/0/0/0")
        assert back.sha256() == hashlib.sha256(array).hexdigest()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    level = Level((1, 1, 1), Grid.of((4, 4, 4), np.eye(4)), (2, 4, 4), (2, 4, 4))
    store = Store(str(tmp_path))
    stored(store, np.ones((4, 4, 4), "u1"), level)
    data = bytearray(store.get("a/c/1/0/0"))
    data[20] ^= 1
    store.put("a/c/1/0/0", bytes(data))
    with pytest.raises(StoreError, match=r"store\.read-back") as caught:
        read_level(store, "a", level, "uint8")
    assert caught.value.place == "a/c/1/0/0"


@pytest.mark.parametrize("entry", [(0, 2**40), (2**62, 9), (2**63, 2**63)])
def test_an_index_that_points_out_of_its_shard_is_refused_before_memory_is_spent(
    tmp_path: Path, entry: tuple[int, int]
) -> None:
    level = Level((1, 1, 1), Grid.of((4, 4, 4), np.eye(4)), (2, 4, 4), (4, 4, 4))
    store = Store(str(tmp_path))
    stored(store, np.ones((4, 4, 4), "u1"), level)
    index = np.array([entry, (0, 20)], "<u8").tobytes()
    store.put("a/c/0/0/0", store.get("a/c/0/0/0")[: -len(index) - 4] + codec.checksummed(index))
    with pytest.raises(StoreError, match="points out of the shard"):
        read_level(store, "a", level, "uint8")
