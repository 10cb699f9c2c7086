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
from converter.codec import Trial
from corpus.geometry import Voxels
from corpus.models import CodecChoice, Level

_ABSENT: Final = 2**64 - 1
_TRIAL_ROWS: Final = 4
"""So many rows that are not empty are seen before the codec is chosen: the first one alone may be the top of a head."""


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
    trial
        Decides the codec. Until it has, the first rows that are not empty wait, so that chunks of several of them are
        tried.
    """

    def __init__(
        self, level: Level, dtype: str, put: Callable[[str, bytes], None], pool: Executor, trial: Trial
    ) -> None:
        self._level = level
        self._put = put
        self._pool = pool
        self._trial = trial
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._depth = level.chunk_zyx[0]
        self._rows_per_shard = level.shard_zyx[0] // self._depth
        # Slices that do not make a row yet; made when some do not.
        self._rest: Voxels | None = None
        self._filled = 0
        self._shards = 0
        self._rows: list[_Row] = []
        self._putting: Future[None] | None = None

    def write(self, slab: Voxels) -> None:
        """Take in the next slices of stored values, shape (z, y, x); the slab may be reused afterwards."""
        taken = 0
        while taken < len(slab):
            if not self._filled and len(slab) - taken >= self._depth:
                self._finish_row(slab[taken : taken + self._depth])
                taken += self._depth
                continue
            if self._rest is None:
                self._rest = np.empty((self._depth, *slab.shape[1:]), dtype=self._dtype)
            count = min(self._depth - self._filled, len(slab) - taken)
            self._rest[self._filled : self._filled + count] = slab[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == self._depth:
                self._filled = 0
                self._finish_row(self._rest)

    def close(self) -> None:
        """Encode what is left, and wait until the last shard is stored."""
        if self._filled and self._rest is not None:
            # The rest of the row lies beyond the array's edge.
            self._finish_row(self._rest[: self._filled])
        if self._rows:
            self._finish_shard()
        if self._putting is not None:
            self._putting.result()

    def _finish_row(self, slices: Voxels) -> None:
        row = _Row([self._chunk(slices[part]) for part in self._parts(slices.shape)])
        self._rows.append(row)
        waiting = [each for each in self._rows if each.chunks]
        if self._trial.choice is not None or len(waiting) == _TRIAL_ROWS:
            self._encode(waiting)
        if len(self._rows) == self._rows_per_shard:
            self._finish_shard()
        elif len(self._rows) > 1:
            # At most two rows wait to be encoded, so memory does not grow when encoding is the slowest step.
            self._rows[-2].wait()

    def _parts(self, shape_zyx: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
        _, cy, cx = self._level.chunk_zyx
        _, ny, nx = shape_zyx
        for y, x in product(range(0, ny, cy), range(0, nx, cx)):
            yield slice(None), slice(y, y + cy), slice(x, x + cx)

    def _chunk(self, part: Voxels) -> Voxels | None:
        # A chunk is absent when all its bytes are 0: minus zero is not, though it equals zero.
        if not part.view(f"u{part.itemsize}").any():
            return None
        if part.shape == self._level.chunk_zyx:
            # Always a copy: the slab is reused while the chunk waits to be encoded.
            return np.array(part, dtype=self._dtype, order="C")
        chunk = np.zeros(self._level.chunk_zyx, dtype=self._dtype)
        chunk[tuple(slice(n) for n in part.shape)] = part
        return chunk

    def _encode(self, rows: list[_Row]) -> None:
        choice = self._trial.choice or self._trial.decide(_samples(rows))
        for row in rows:
            row.encode(self._pool, choice)

    def _finish_shard(self) -> None:
        rows, self._rows = self._rows, []
        key = f"c/{self._shards}/0/0"
        self._shards += 1
        if waiting := [row for row in rows if row.chunks]:
            self._encode(waiting)
        if not any(row.encoded for row in rows):
            return
        if self._putting is not None:
            self._putting.result()
        self._putting = self._pool.submit(self._assemble, key, rows)

    def _assemble(self, key: str, rows: list[_Row]) -> None:
        # Runs in the pool behind the encoding jobs it waits for: they were submitted before, so they cannot be
        # held up by it.
        table = np.full((self._rows_per_shard, rows[0].length, 2), _ABSENT, dtype="<u8")
        parts = []
        offset = 0
        for number, row in enumerate(rows):
            for place, chunk in row.encoded.items():
                data = chunk.result()
                table[number, place] = offset, len(data)
                offset += len(data)
                parts.append(data)
        self._put(key, b"".join([*parts, codec.checksummed(table.tobytes())]))


class _Row:
    """The inner chunks of one row of an array, by their place in it; those that are all zero are left out.

    They are in `chunks` while they wait for the choice of a codec, and in `encoded` from then on.
    """

    def __init__(self, chunks: list[Voxels | None]) -> None:
        self.length = len(chunks)
        self.chunks = {place: chunk for place, chunk in enumerate(chunks) if chunk is not None}
        self.encoded: dict[int, Future[bytes]] = {}

    def encode(self, pool: Executor, choice: CodecChoice) -> None:
        chunks, self.chunks = self.chunks, {}
        self.encoded = {place: pool.submit(codec.encode, chunk, choice) for place, chunk in chunks.items()}

    def wait(self) -> None:
        for chunk in self.encoded.values():
            chunk.result()

    def busiest(self, count: int) -> list[Voxels]:
        # Air and table compress alike under any codec; tissue is what makes the array large.
        with np.errstate(invalid="ignore", over="ignore"):
            spread = {place: np.nan_to_num(chunk[::2, ::8, ::8].std()) for place, chunk in self.chunks.items()}
        order = sorted(spread, key=lambda place: -spread[place])
        return [self.chunks[place] for place in order[:count]]


def _samples(rows: list[_Row]) -> list[Voxels]:
    return [chunk for row in rows for chunk in row.busiest(max(1, _TRIAL_ROWS // len(rows)))]
