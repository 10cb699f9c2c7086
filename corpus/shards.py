"""Which inner chunks a box of voxels lies in, and where they stand in a shard; free of stores.

A shard is: the encoded inner chunks that are not all zero, in lexicographic (z, y, x) order, then an index of
(offset, size) as little-endian unsigned 64-bit pairs, all ones for an absent chunk, then the index's CRC-32C.
Source: Zarr v3 sharding codec, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

from __future__ import annotations

import math
import os
from collections.abc import Buffer, Iterator
from itertools import product
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpus.codec import decode, unchecked
from corpus.geometry import Triple, Voxels
from corpus.models import Level
from corpus.regions import Box

ABSENT: Final = 2**64 - 1


class Piece(NamedTuple):
    """An inner chunk that a box touches.

    Attributes
    ----------
    shard
        Number of the shard along z; its key below the array is ``c/{shard}/0/0``.
    place
        Of the chunk in the shard, in chunks along z, y and x.
    source
        The wanted voxels in the chunk.
    target
        Where they go in an array of the box.
    """

    shard: int
    place: Triple
    source: tuple[slice, slice, slice]
    target: tuple[slice, slice, slice]


def pieces(box: Box, level: Level) -> Iterator[Piece]:
    """Yield the inner chunks that a box touches, in the order in which they stand in the array's shards."""
    rows = level.shard_zyx[0] // level.chunk_zyx[0]
    spans = zip(box.start_zyx, box.stop_zyx, level.chunk_zyx, strict=True)
    for z, y, x in product(*[range(start // edge, -(-stop // edge)) for start, stop, edge in spans]):
        low = [n * edge for n, edge in zip((z, y, x), level.chunk_zyx, strict=True)]
        inside = [
            (max(start, corner), min(stop, corner + edge))
            for start, stop, corner, edge in zip(box.start_zyx, box.stop_zyx, low, level.chunk_zyx, strict=True)
        ]
        yield Piece(z // rows, (z % rows, y, x), _shifted(inside, low), _shifted(inside, box.start_zyx))


def _shifted(spans: list[tuple[int, int]], by: list[int] | Triple) -> tuple[slice, slice, slice]:
    z, y, x = (slice(start - shift, stop - shift) for (start, stop), shift in zip(spans, by, strict=True))
    return z, y, x


def index_bytes(level: Level) -> int:
    """Return how many bytes at a shard's end are its index."""
    return 16 * math.prod(_chunks_per_shard(level)) + 4


def read_index(data: Buffer, level: Level) -> NDArray[np.uint64]:
    """Return where the inner chunks of a shard stand: offset and size, shape (z, y, x, 2); `ABSENT` where none does.

    Parameters
    ----------
    data
        The shard's end: all of it, or at least `index_bytes`.
    level
        Of the array.

    Raises
    ------
    ValueError
        The checksum is wrong.
    """
    index = unchecked(memoryview(data)[-index_bytes(level) :], "the index")
    return np.frombuffer(index, dtype="<u8").reshape(*_chunks_per_shard(level), 2)


def _chunks_per_shard(level: Level) -> Triple:
    z, y, x = (n // m for n, m in zip(level.shard_zyx, level.chunk_zyx, strict=True))
    return z, y, x


def decoded_rows(file: BinaryIO, level: Level, dtype: str) -> Iterator[Voxels]:
    """Yield the rows of a shard, first slices first, each of the depth of an inner chunk.

    Every checksum is compared, as not every zarr reader does. No more than the encoded chunks of one row are in memory.

    Parameters
    ----------
    file
        The shard as it is stored.
    level, dtype
        Of the array.

    Yields
    ------
    ndarray
        Shape (z, y, x), whole inner chunks, also beyond the array's edge. Its memory is used again for the next
        row but one.

    Raises
    ------
    ValueError
        A checksum is wrong, the index points out of the shard, or a chunk cannot be decoded.
    """
    depth, cy, cx = level.chunk_zyx
    plane = level.shard_zyx[1:]
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - index_bytes(level)))
    entries = read_index(file.read(), level).reshape(level.shard_zyx[0] // depth, -1, 2)
    row, other = (np.empty((depth, *plane), dtype=np.dtype(dtype).newbyteorder("<")) for _ in range(2))
    chunk = np.empty(level.chunk_zyx, dtype=row.dtype)
    for line in entries.tolist():
        start, data = _stretch(file, line, size)
        for (y, x), (offset, length) in zip(product(range(0, plane[0], cy), range(0, plane[1], cx)), line, strict=True):
            target = row[:, y : y + cy, x : x + cx]
            if offset == ABSENT:
                target[...] = 0
            else:
                decode(data[offset - start : offset - start + length], chunk)
                target[...] = chunk
        yield row
        row, other = other, row


def _stretch(file: BinaryIO, line: list[list[int]], size: int) -> tuple[int, memoryview]:
    # All chunks of a row at once: they stand side by side.
    present = [(offset, offset + length) for offset, length in line if offset != ABSENT]
    start, stop = min((start for start, _ in present), default=0), max((stop for _, stop in present), default=0)
    if stop > size:
        raise ValueError("the index points out of the shard")
    file.seek(start)
    return start, memoryview(file.read(stop - start))
