"""Cut-outs as files: a header, the voxels, and perhaps gzip around both."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Buffer
from enum import StrEnum
from typing import Final

import numpy as np
from isal import isal_zlib

from corpus.geometry import Grid
from corpus.nifti_header import fresh_header
from service.pool import Pool
from service.volumes import StoredVolume

_PIECE_BYTES: Final = 2**20
_GZIP: Final = 31
"""``wbits`` of a gzip stream; neither name nor time are in its header."""
_LEVEL: Final = 2
"""As small as zlib's level 1 makes voxels, in a quarter of the time (`make bench-pieces`)."""


class Format(StrEnum):
    """What a cut-out comes as."""

    NII_GZ = "nii.gz"
    """NIfTI-1 with an affine of its own, slope and intercept, gzipped."""
    NII = "nii"
    """The same, not compressed."""
    NPY = "npy"
    """NumPy's format; axes z, y, x; stored numbers."""
    RAW = "raw"
    """Nothing but the stored numbers, little-endian, axes z, y, x in C order."""

    @property
    def media_type(self) -> str:
        """Of an answer."""
        return "application/gzip" if self is Format.NII_GZ else "application/octet-stream"


def header_of(format_: Format, volume: StoredVolume, grid: Grid) -> bytes:
    """Return what stands before the voxels.

    Raises
    ------
    RequestError
        A side is longer than the format can say.
    """
    dtype = volume.row["dtype"]
    if format_ is Format.RAW:
        return b""
    if format_ is Format.NPY:
        header = io.BytesIO()
        described = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": grid.shape_zyx}
        np.lib.format.write_array_header_1_0(header, described)
        return header.getvalue()
    return fresh_header(grid, dtype, volume.scaling, volume.header)


async def in_pieces(parts: AsyncGenerator[Buffer]) -> AsyncGenerator[bytes]:
    """Yield the same bytes in pieces that a slow reader may hold up."""
    async for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _PIECE_BYTES):
            yield bytes(view[start : start + _PIECE_BYTES])


async def gzipped(pool: Pool, parts: AsyncGenerator[Buffer]) -> AsyncGenerator[bytes]:
    """Yield the bytes as one gzip stream, made in the pool; another processor may compress the same to other bytes."""
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    async for part in in_pieces(parts):
        if packed := await pool.run(packer.compress, part):
            yield packed
    yield await pool.run(packer.flush)
