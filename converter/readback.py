"""What was written, read back from the store while the rest is still on its way there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from corpus.errors import NotFoundError, StoreError
from corpus.shards import decoded_rows

if TYPE_CHECKING:
    from types import TracebackType

    from corpus.geometry import Voxels
    from corpus.models import Level
    from corpus.stores import Store


type Opened = Callable[[str], AbstractContextManager[BinaryIO]]


class ReadBack:
    """Fetches the shards of an array one after the other, decodes every voxel, and hashes what comes out.

    Use as a context manager. It decodes in a thread of its own, and hashes in another.

    Parameters
    ----------
    level, dtype
        Of the array.
    opened
        Opens a shard by its key below the array (``c/0/0/0``).
    place
        Of the image, for errors.
    """

    def __init__(self, level: Level, dtype: str, opened: Opened, place: str) -> None:
        self._level = level
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._opened = opened
        self._place = place
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-back")
        self._jobs: list[Future[None]] = []
        self._digest = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="read-back-hash")
        self._hashing: Future[None] | None = None
        self._slices = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def expect(self, key: str) -> None:
        """Say that a shard is stored; shards come in order, and those that are left out are all zero."""
        self._jobs.append(self._pool.submit(self._take, key))

    def sha256(self) -> str:
        """Wait, and return the digest of the array as any zarr reader sees it: little-endian, C order.

        Raises
        ------
        StoreError
            A shard is not there, or is damaged.
        """
        for job in self._jobs:
            job.result()
        self._skip(self._level.grid.shape_zyx[0])
        self._wait()
        return self._digest.hexdigest()

    def _take(self, key: str) -> None:
        try:
            with self._opened(key) as shard:
                self._skip(int(key.split("/")[1]) * self._level.shard_zyx[0])
                for row in decoded_rows(shard, self._level, self._dtype.name):
                    # The next row but one takes its memory. Rows beyond the array's edge hold nothing.
                    self._wait()
                    if not self._update(row):
                        break
            # Where a row is a whole shard, a second one would be the largest thing in memory.
            self._wait()
        except (NotFoundError, ValueError) as error:
            raise StoreError("store.read-back", f"{key}: {error}", place=self._place) from error

    def _update(self, row: Voxels) -> bool:
        nz, ny, nx = self._level.grid.shape_zyx
        count = min(len(row), nz - self._slices)
        self._hash(np.ascontiguousarray(row[:count, :ny, :nx]))
        self._slices += count
        return self._slices < nz

    def _skip(self, until: int) -> None:
        plane = np.zeros(self._level.grid.shape_zyx[1:], dtype=self._dtype)
        while self._slices < until:
            self._hash(plane)
            self._slices += 1

    def _hash(self, voxels: Voxels) -> None:
        # While the next row is decoded: at the end of a volume this is what everybody waits for.
        self._hashing = self._hasher.submit(self._digest.update, voxels)

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()


def read_level(store: Store, key: str, level: Level, dtype: str) -> Voxels:
    """Read a whole level, for what needs little of a volume: a coarse one.

    Parameters
    ----------
    store
        The mirror.
    key
        Of the level's array. Shards that are not there are zeros.
    level, dtype
        Of the array.

    Returns
    -------
    ndarray
        Stored numbers, shape (z, y, x).

    Raises
    ------
    StoreError
        A shard is damaged, or the store failed.
    """
    (nz, ny, nx), (depth, _, _) = level.grid.shape_zyx, level.shard_zyx
    voxels = np.zeros((nz, ny, nx), dtype=dtype)
    shards = {f"{key}/c/{number}/0/0": number * depth for number in range(-(-nz // depth))}
    for shard, data in store.get_many(shards).items():
        start = shards[shard]
        try:
            for row in decoded_rows(io.BytesIO(data), level, dtype):
                # Rows may lie beyond the array's edge, in part or altogether.
                inside = voxels[start : start + len(row)]
                inside[...] = row[: len(inside), :ny, :nx]
                start += len(row)
        except ValueError as error:
            raise StoreError("store.read-back", str(error), place=shard) from error
    return voxels
