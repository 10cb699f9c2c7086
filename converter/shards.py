"""From a stream of slices to shards: each row of inner chunks is encoded as soon as its last slice has arrived.

zarr reads and describes these arrays; their bytes are made here, because zarr can write a shard only when all its
voxels are in memory, and in an order of inner chunks that costs readers twice the bytes. A shard is: the encoded
inner chunks that are not all zero, in lexicographic (z, y, x) order, then an index of (offset, size) as little-endian
unsigned 64-bit pairs, all ones for an absent chunk, then the index's CRC-32C.
Source: Zarr v3 sharding codec, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from itertools import product
from typing import Final

import numpy as np

from converter import codec
from corpus.geometry import Voxels
from corpus.models import CodecChoice, Level

_ABSENT: Final = 2**64 - 1
_TRIAL_CHUNKS: Final = 4


class ShardWriter:
    """Writes the shards of one level of one array, first slices first.

    Parameters
    ----------
    level
        Shape, inner chunks and shards.
    dtype
        Stored voxel type, little-endian.
    put
        Called once per shard that is not empty with its key below the array (``c/0/0/0``) and its bytes, from a
        thread of `pool`.
    pool
        Encodes and puts; jobs are taken first in, first out.
    """

    def __init__(self, level: Level, dtype: str, put: Callable[[str, bytes], None], pool: Executor) -> None:
        self._level = level
        self._put = put
        self._pool = pool
        plane = [_round_up(n, c) for n, c in zip(level.grid.shape_zyx[1:], level.chunk_zyx[1:], strict=True)]
        self._row = np.zeros((level.chunk_zyx[0], *plane), dtype=np.dtype(dtype).newbyteorder("<"))
        # A chunk is absent when all its bytes are 0: minus zero is not, though it equals zero.
        self._bits = self._row.view(f"u{self._row.itemsize}")
        self._filled = 0
        self._rows = 0
        self._encoded: list[list[Future[bytes] | None]] = []
        self._putting: Future[None] | None = None

    def write(self, slab: Voxels, choose: Callable[[list[Voxels]], CodecChoice]) -> None:
        """Take in the next slices, shape (z, y, x).

        Parameters
        ----------
        slab
            Stored values.
        choose
            Called with sample chunks before the first one is encoded; gives the codec of the array.
        """
        _, ny, nx = slab.shape
        depth = len(self._row)
        taken = 0
        while taken < len(slab):
            count = min(depth - self._filled, len(slab) - taken)
            self._row[self._filled : self._filled + count, :ny, :nx] = slab[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == depth:
                self._finish_row(choose)

    def close(self, choose: Callable[[list[Voxels]], CodecChoice]) -> None:
        """Encode what is left, and wait until the last shard is stored."""
        if self._filled:
            # The rest of the row lies beyond the array's edge.
            self._row[self._filled :] = 0
            self._finish_row(choose)
        if self._encoded:
            self._finish_shard()
        if self._putting is not None:
            self._putting.result()

    def _finish_row(self, choose: Callable[[list[Voxels]], CodecChoice]) -> None:
        chunks = [np.ascontiguousarray(self._row[part]) if self._bits[part].any() else None for part in self._parts()]
        present = [chunk for chunk in chunks if chunk is not None]
        if present:
            choice = choose(_busiest(present))
            # The row's buffer is reused at once, and a chunk that fills it whole is no copy.
            encoded = [
                None if chunk is None else self._pool.submit(codec.encode, _own(chunk, self._row), choice)
                for chunk in chunks
            ]
        else:
            encoded = [None] * len(chunks)
        if self._encoded:
            # At most two rows wait to be encoded, so memory does not grow when encoding is the slowest step.
            _wait(self._encoded[-1])
        self._encoded.append(encoded)
        self._rows += 1
        self._filled = 0
        if len(self._encoded) == self._level.shard_zyx[0] // self._level.chunk_zyx[0]:
            self._finish_shard()

    def _parts(self) -> Iterator[tuple[slice, slice, slice]]:
        _, cy, cx = self._level.chunk_zyx
        _, ny, nx = self._row.shape
        for y, x in product(range(0, ny, cy), range(0, nx, cx)):
            yield slice(None), slice(y, y + cy), slice(x, x + cx)

    def _finish_shard(self) -> None:
        rows, self._encoded = self._encoded, []
        if not any(chunk is not None for row in rows for chunk in row):
            return
        if self._putting is not None:
            self._putting.result()
        index = (self._rows - 1) * self._level.chunk_zyx[0] // self._level.shard_zyx[0]
        rows_per_shard = self._level.shard_zyx[0] // self._level.chunk_zyx[0]
        chunks = [chunk for row in rows for chunk in row] + [None] * (len(rows[0]) * (rows_per_shard - len(rows)))
        self._putting = self._pool.submit(self._assemble, f"c/{index}/0/0", chunks)

    def _assemble(self, key: str, chunks: list[Future[bytes] | None]) -> None:
        # Runs in the pool behind the encoding jobs it waits for: they were submitted before, so they cannot be
        # held up by it.
        table = np.full((len(chunks), 2), _ABSENT, dtype="<u8")
        parts = []
        offset = 0
        for number, chunk in enumerate(chunks):
            if chunk is not None:
                data = chunk.result()
                table[number] = offset, len(data)
                offset += len(data)
                parts.append(data)
        self._put(key, b"".join([*parts, codec.checksummed(table.tobytes())]))


def _busiest(chunks: list[Voxels]) -> list[Voxels]:
    # Air and table compress alike under any codec; tissue is what makes the array large.
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.nan_to_num([float(chunk[::2, ::8, ::8].std()) for chunk in chunks])
    order = np.argsort(-spread, kind="stable")
    return [chunks[number] for number in order[:_TRIAL_CHUNKS]]


def _own(chunk: Voxels, row: Voxels) -> Voxels:
    return chunk.copy() if np.shares_memory(chunk, row) else chunk


def _wait(futures: list[Future[bytes] | None]) -> None:
    for future in futures:
        if future is not None:
            future.result()


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
