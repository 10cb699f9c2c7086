"""From a stream of slices to shards: each row of inner chunks is encoded as soon as its last slice has arrived.

zarr reads and describes these arrays; their bytes are made here, because zarr can write a shard only when all its
voxels are in memory, and in an order of inner chunks that costs readers twice the bytes. What a shard consists of is
said in `corpus.shards`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import product
from typing import Final

import numpy as np

from converter.trial import Trial
from corpus import codec
from corpus.geometry import Voxels
from corpus.models import CodecChoice, Level
from corpus.shards import ABSENT

_TRIAL_SLICES: Final = 64
"""So many slices that are not empty are seen before the codec is chosen: the first may be the top of a head."""
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
        Called once per shard that is not empty with its key below the array (``c/0/0/0``) and its bytes in parts, from
        a thread of `pool`.
    pool
        Encodes and puts; jobs are taken first in, first out.
    trial
        Decides the codec. Until it has, the first rows that are not empty wait, so that chunks of several of them are
        tried.
    """

    def __init__(
        self, level: Level, dtype: str, put: Callable[[str, Sequence[bytes]], None], pool: Executor, trial: Trial
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
        self._scratch = threading.local()
        self._shards = 0
        self._rows: list[_Row] = []
        # Rows that are encoded from the slab that was taken in last.
        self._reading: list[_Row] = []
        self._putting: Future[None] | None = None

    def write(self, slab: Voxels) -> None:
        """Take in the next slices of stored values, shape (z, y, x).

        The slab is still read while the next one is taken in, and not after that.
        """
        before, self._reading = self._reading, []
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
                row, self._rest, self._filled = self._rest, None, 0
                self._finish_row(row)
        # One slab is encoded while the next one is taken in, so memory does not grow when encoding is slowest.
        for earlier in before:
            earlier.gather()

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
        row = _Row()
        parts = enumerate(slices[part] for part in self._parts(slices.shape))
        if self._trial.choice is None:
            # Copies: the slices are gone before the choice is made.
            row.waiting = {place: self._whole(part) for place, part in parts if _holds_something(part)}
        else:
            row.encoded = {place: self._pool.submit(self._encoded, part, self._trial.choice) for place, part in parts}
        self._rows.append(row)
        if sum(bool(each.waiting) for each in self._rows) * self._depth >= _TRIAL_SLICES:
            self._encode_waiting()
        self._reading.append(row)
        if len(self._rows) == self._rows_per_shard:
            self._finish_shard()

    def _parts(self, shape_zyx: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
        _, cy, cx = self._level.chunk_zyx
        _, ny, nx = shape_zyx
        for y, x in product(range(0, ny, cy), range(0, nx, cx)):
            yield slice(None), slice(y, y + cy), slice(x, x + cx)

    def _whole(self, part: Voxels) -> Voxels:
        chunk = np.zeros(self._level.chunk_zyx, dtype=self._dtype)
        chunk[tuple(slice(n) for n in part.shape)] = part
        return chunk

    def _encoded(self, part: Voxels, choice: CodecChoice) -> bytes | None:
        if not _holds_something(part):
            return None
        # A chunk of its own for each thread: it stays in the processor's cache, and need not be given out each time.
        chunk = getattr(self._scratch, "chunk", None)
        if chunk is None:
            chunk = self._scratch.chunk = np.zeros(self._level.chunk_zyx, dtype=self._dtype)
        if part.shape != chunk.shape:
            chunk[...] = 0
        chunk[tuple(slice(n) for n in part.shape)] = part
        return codec.encode(chunk, choice)

    def _encode_waiting(self) -> None:
        rows = [row for row in self._rows if row.waiting]
        if rows:
            choice = self._trial.choice or self._trial.decide(_samples(rows))
            for row in rows:
                chunks, row.waiting = row.waiting, {}
                row.encoded = {place: self._pool.submit(codec.encode, chunk, choice) for place, chunk in chunks.items()}

    def _finish_shard(self) -> None:
        self._encode_waiting()
        rows, self._rows = self._rows, []
        for row in rows:
            row.gather()
        key = f"c/{self._shards}/0/0"
        self._shards += 1
        if any(row.sizes for row in rows):
            if self._putting is not None:
                self._putting.result()
            self._putting = self._pool.submit(self._assemble, key, rows)

    def _assemble(self, key: str, rows: list[_Row]) -> None:
        _, *plane = (n // m for n, m in zip(self._level.shard_zyx, self._level.chunk_zyx, strict=True))
        index = np.full((self._rows_per_shard, math.prod(plane), 2), ABSENT, dtype="<u8")
        offset = 0
        for number, row in enumerate(rows):
            for place, size in row.sizes.items():
                index[number, place] = offset, size
                offset += size
        self._put(key, [*(row.data for row in rows), codec.checksummed(index.tobytes())])


class _Row:
    """The inner chunks of one row of an array, by their place in it; what is all zero is left out.

    They are in `waiting` until a codec is chosen, then on their way in `encoded`, and at last in `data`, one behind the
    other with their `sizes`.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, Voxels] = {}
        self.encoded: dict[int, Future[bytes] | Future[bytes | None]] = {}
        self.sizes: dict[int, int] = {}
        self.data = b""

    def gather(self) -> None:
        # Soon, and into one piece: chunks that lie about for long leave the threads' memory full of holes.
        encoded, self.encoded = self.encoded, {}
        if encoded:
            chunks = {place: data for place, chunk in encoded.items() if (data := chunk.result()) is not None}
            self.sizes = {place: len(data) for place, data in chunks.items()}
            self.data = b"".join(chunks.values())

    def busiest(self, count: int) -> list[Voxels]:
        # Air and table compress alike under any codec; tissue is what makes the array large.
        with np.errstate(invalid="ignore", over="ignore"):
            spread = {place: np.nan_to_num(chunk[::2, ::8, ::8].std()) for place, chunk in self.waiting.items()}
        order = sorted(spread, key=lambda place: -spread[place])
        return [self.waiting[place] for place in order[:count]]


def _holds_something(part: Voxels) -> bool:
    # A chunk is absent when all its bytes are 0: minus zero is not, though it equals zero. Mostly its middle tells.
    bits = part.view(f"u{part.itemsize}")
    return bool(bits[len(bits) // 2].any() or bits.any())


def _samples(rows: list[_Row]) -> list[Voxels]:
    busiest = [chunk for row in rows for chunk in row.busiest(max(1, _TRIAL_CHUNKS // len(rows)))]
    # Half of each tells as much as all of it.
    return [chunk[: max(1, len(chunk) // 2)] for chunk in busiest]
