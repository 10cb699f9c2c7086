"""A volume's source file that is not there: any range of its inflated bytes, made of the chunks that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Buffer, Iterator
from typing import Final, NamedTuple

import numpy as np

from corpus.errors import LayoutError
from corpus.geometry import Voxels
from corpus.nifti_header import read_fields
from corpus.originals import as_source
from corpus.regions import Box
from service.pool import Pool
from service.volumes import StoredVolume
from service.voxels import VoxelReader

_MOST_BLOCK_BYTES: Final = 2**26
"""As much as a shard: a row of inner chunks is never larger, unless the voxel order differs."""


class Block(NamedTuple):
    """Voxels of the source that hold a part of the wanted bytes.

    Attributes
    ----------
    box
        In the source's voxel order.
    start, stop
        The wanted bytes among those of the box.
    """

    box: Box
    start: int
    stop: int


class VirtualNifti:
    """The inflated source file of a volume.

    Parameters
    ----------
    volume
        Whose.

    Attributes
    ----------
    size
        Bytes of the file.
    """

    def __init__(self, volume: StoredVolume) -> None:
        self._volume = volume
        self._fields = read_fields(volume.source_header)
        self.size = len(volume.source_header) + self._fields.voxel_bytes

    async def pieces(self, reader: VoxelReader, pool: Pool, start: int, stop: int) -> AsyncGenerator[Buffer]:
        """Yield the half-open range of bytes [start, stop).

        Raises
        ------
        LayoutError
            Stored voxels are damaged; or, where the whole is wanted, they are not those of the source. The last bytes
            are then not sent.
        StoreError
            Upstream failed.
        """
        header = self._volume.source_header
        if start < len(header):
            yield header[start:stop]
        whole = (start, stop) == (0, self.size) and self._volume.lossless
        digest = hashlib.sha256()
        held = memoryview(b"")
        for block in self.blocks(max(0, start - len(header)), stop - len(header)):
            stored = await reader.read(self._volume.array(0), self._stored_box(block.box))
            data = await pool.run(self._source_bytes, stored, block)
            yield held
            if whole:
                await pool.run(digest.update, data)
            # Without its last byte nobody takes the file for whole.
            yield data[:-1]
            held = data[-1:]
        if whole and digest.hexdigest() != self._volume.row["voxels_sha256"]:
            message = "the voxels are not those of the source"
            raise LayoutError("layout.voxels", message, place=self._volume.row["subject"])
        yield held

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Yield the blocks that hold the voxel bytes [start, stop), in order.

        Blocks end where inner chunks do, so that none is decoded twice; of one slice only the wanted lines are read.
        """
        slices, lines, columns = self._fields.shape_zyx
        line = columns * np.dtype(self._fields.dtype).itemsize
        k = start // (lines * line)
        while (base := k * lines * line) < stop:
            after = min(self._chunk_end(k), k + max(1, _MOST_BLOCK_BYTES // (lines * line)), slices)
            after = min(after, -(-stop // (lines * line)))
            first, last = 0, lines
            if after == k + 1:
                first, last = max(0, start - base) // line, min(lines, -(-(stop - base) // line))
            box = Box.of((k, first, 0), (after, last, columns))
            base += first * line
            yield Block(box, max(0, start - base), min(stop - base, int(np.prod(box.shape_zyx)) * line // columns))
            k = after

    def _chunk_end(self, k: int) -> int:
        """Return the first source slice behind `k` that lies in other inner chunks."""
        reorder, level = self._volume.reorder, self._volume.array(0).level
        axis = reorder.axes.index(0)
        edge, side = level.chunk_zyx[axis], level.grid.shape_zyx[axis]
        if reorder.flips[axis]:
            return side - (side - 1 - k) // edge * edge
        return (k // edge + 1) * edge

    def _stored_box(self, box: Box) -> Box:
        return box.reordered(self._volume.reorder, self._volume.array(0).level.grid.shape_zyx)

    def _source_bytes(self, stored: Voxels, block: Block) -> memoryview:
        part = self._volume.reorder.undo(stored)
        voxels = as_source(part, self._fields.dtype, self._fields.scaling, is_label=self._volume.is_label)
        return memoryview(voxels.view(np.uint8).ravel())[block.start : block.stop]
