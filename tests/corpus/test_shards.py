"""Which inner chunks hold a box, against numpy; tests/converter/test_shards.py has zarr read whole shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import codec
from corpus.geometry import Grid
from corpus.models import Level
from corpus.regions import Box
from corpus.shards import ABSENT, index_bytes, pieces, read_index


def level_of(shape: tuple[int, int, int], chunk: tuple[int, int, int], rows: int) -> Level:
    _, y, x = (-(-n // edge) * edge for n, edge in zip(shape, chunk, strict=True))
    return Level((1, 1, 1), Grid.of(shape, np.eye(4)), chunk, (chunk[0] * rows, y, x))


@given(st.data())
def test_the_pieces_of_a_box_are_its_voxels(data: st.DataObject) -> None:
    sides = st.tuples(*[st.integers(1, 13)] * 3)
    shape, chunk = data.draw(sides), data.draw(st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3))
    level = level_of(shape, chunk, data.draw(st.integers(1, 3)))
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    box = Box.of(start, [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)])
    array = np.arange(np.prod(shape)).reshape(shape)
    padded = np.pad(array, [(0, 3 * edge + 13) for edge in chunk])
    found = np.full(box.shape_zyx, -1)
    places = []
    for piece in pieces(box, level):
        corner = [(n + (level.shard_zyx[0] // chunk[0] * piece.shard if axis == 0 else 0)) * edge
                  for axis, (n, edge) in enumerate(zip(piece.place, chunk, strict=True))]  # fmt: skip
        whole = padded[tuple(slice(a, a + n) for a, n in zip(corner, chunk, strict=True))]
        assert (found[piece.target] == -1).all(), "no voxel comes from two chunks"
        assert whole[piece.source].size, "no chunk is read in vain"
        found[piece.target] = whole[piece.source]
        places.append((piece.shard, *piece.place))
    assert np.array_equal(found, array[box.slices])
    assert places == sorted(places)


def test_the_index_is_read_with_its_checksum() -> None:
    level = level_of((16, 8, 12), (4, 4, 4), 2)
    table = np.arange(2 * 2 * 3 * 2, dtype="<u8").reshape(2, 2, 3, 2)
    table[1, 0, 2] = ABSENT
    stored = b"chunks" + codec.checksummed(table.tobytes())
    assert index_bytes(level) == len(stored) - 6
    assert np.array_equal(read_index(stored, level), table)
    assert np.array_equal(read_index(stored[6:], level), table)
    for bad in (stored[:-1] + b"x", stored[:-10], b""):
        with pytest.raises(ValueError, match="index"):
            read_index(bad, level)
