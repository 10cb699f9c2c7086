"""Boxes of voxels out of shards: the index, the wanted inner chunks in few reads, every checksum compared.

Reading waits on the event loop, decoding happens in the pool. What is held is a row of inner chunks, however large the
box is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final, NamedTuple

import anyio
import numpy as np
from numpy.typing import NDArray

from corpus import codec, layout
from corpus.errors import LayoutError, NotFoundError, RequestError, StoreError
from corpus.geometry import Triple, Voxels
from corpus.manifest import parse_manifest, shards_of
from corpus.regions import Box
from corpus.shards import ABSENT, Piece, index_bytes, pieces, read_index
from service.pool import Pool
from service.ranges import ByteRange
from service.upstream import Upstream
from service.volumes import StoredArray, read_object

_GAP_BYTES: Final = 2**17
"""Bytes that are read in vain rather than asked for around: about what one more request takes in time."""

_READ_BYTES: Final = 2**22
"""Most bytes of one read that joins several chunks."""

_AT_ONCE: Final = 4


class _Index(NamedTuple):
    """Where the inner chunks of a shard stand, and which object it was that said so."""

    entries: NDArray[np.uint64]
    size: int
    etag: str


class _Chunk(NamedTuple):
    start: int
    stop: int
    piece: Piece


class VoxelReader:
    """Reads the voxels of one subject, for one answer.

    Parameters
    ----------
    upstream
        Where from.
    pool
        Decodes.
    subject
        Whose arrays are read.
    """

    def __init__(self, upstream: Upstream, pool: Pool, subject: str) -> None:
        self._upstream = upstream
        self._pool = pool
        self._subject = subject
        self._indices: dict[str, _Index | None] = {}
        self._manifest: Mapping[str, str] | None = None

    async def slabs(self, array: StoredArray, box: Box) -> AsyncGenerator[Voxels]:
        """Yield the voxels of a box, first slices first, a row of inner chunks at a time.

        Yields
        ------
        ndarray
            Stored numbers, shape (z, y, x), little-endian, C-contiguous.
        """
        depth = array.level.chunk_zyx[0]
        (first, *low), (last, *high) = box.start_zyx, box.stop_zyx
        for start in range(first - first % depth, last, depth):
            yield await self.read(array, Box.of([max(start, first), *low], [min(start + depth, last), *high]))

    async def read(self, array: StoredArray, box: Box) -> Voxels:
        """Return the voxels of a box; shape (z, y, x), stored numbers, little-endian.

        Raises
        ------
        LayoutError
            A shard is damaged, or one that was written is missing.
        StoreError
            Upstream failed, or an object changed while it was read.
        """
        out = np.zeros(box.shape_zyx, dtype=np.dtype(array.dtype).newbyteorder("<"))
        wanted: dict[str, list[Piece]] = {}
        for piece in pieces(box, array.level):
            wanted.setdefault(f"{array.key}/c/{piece.shard}/0/0", []).append(piece)
        reads = []
        for key, parts in wanted.items():
            index = await self._index(array, key)
            if index is not None:
                chunks = _chunks(index, parts, key)
                reads += [(key, index.etag, joined) for joined in _joined(chunks)]
        limit = anyio.Semaphore(_AT_ONCE)

        async def fill(key: str, etag: str, chunks: list[_Chunk]) -> None:
            async with limit:
                data = await self._bytes(key, etag, chunks[0].start, chunks[-1].stop)
                await self._pool.run(_decode, data, chunks, array.level.chunk_zyx, out, key)

        try:
            async with anyio.create_task_group() as tasks:
                for read in reads:
                    tasks.start_soon(fill, *read)
        except ExceptionGroup as group:
            # One reason is enough for an answer; the others went down with it.
            raise _first(group) from None
        return out

    async def _index(self, array: StoredArray, key: str) -> _Index | None:
        if key not in self._indices:
            self._indices[key] = await self._read_index(array, key)
        return self._indices[key]

    async def _read_index(self, array: StoredArray, key: str) -> _Index | None:
        try:
            end = await read_object(self._upstream, key, ByteRange(None, index_bytes(array.level)))
            return _Index(read_index(end.data, array.level), end.size - index_bytes(array.level), end.etag)
        except NotFoundError as error:
            if key in await self._shards_written(array):
                raise LayoutError("layout.object", "the object is missing", place=key) from error
            return None
        except (ValueError, RequestError) as error:
            raise LayoutError("layout.voxels", str(error), place=key) from error

    async def _shards_written(self, array: StoredArray) -> frozenset[str]:
        """Return the shards of an array that the subject's manifest lists; none where there is no manifest.

        A shard of zeros is not stored, so that one which is lost would read as air.
        """
        if self._manifest is None:
            try:
                read = await read_object(self._upstream, layout.manifest_key(self._subject))
            except NotFoundError:
                return frozenset()
            self._manifest = await self._pool.run(parse_manifest, read.data, self._subject)
        return shards_of(self._manifest, self._subject, array.key)

    async def _bytes(self, key: str, etag: str, start: int, stop: int) -> bytes:
        part = await read_object(self._upstream, key, ByteRange(start, stop - 1))
        if part.etag != etag:
            raise StoreError("store.changed", "the object changed while it was read", place=key)
        return part.data


def _chunks(index: _Index, parts: list[Piece], key: str) -> list[_Chunk]:
    found = []
    for piece in parts:
        offset, size = (int(number) for number in index.entries[piece.place])
        if offset != ABSENT:
            found.append(_Chunk(offset, offset + size, piece))
    found.sort(key=lambda chunk: chunk.start)
    if any(not chunk.start < chunk.stop <= index.size for chunk in found):
        raise LayoutError("layout.voxels", "the index points out of the shard", place=key)
    return found


def _joined(chunks: list[_Chunk]) -> list[list[_Chunk]]:
    reads: list[list[_Chunk]] = []
    for chunk in chunks:
        if reads and chunk.start - reads[-1][-1].stop <= _GAP_BYTES and chunk.stop - reads[-1][0].start <= _READ_BYTES:
            reads[-1].append(chunk)
        else:
            reads.append([chunk])
    return reads


def _decode(data: bytes, chunks: list[_Chunk], shape_zyx: Triple, out: Voxels, key: str) -> None:
    held, base = memoryview(data), chunks[0].start
    whole = np.empty(shape_zyx, dtype=out.dtype)
    try:
        for start, stop, piece in chunks:
            codec.decode(held[start - base : stop - base], whole)
            out[piece.target] = whole[piece.source]
    except ValueError as error:
        raise LayoutError("layout.voxels", str(error), place=key) from error


def _first(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
