"""Inner chunks as bytes: blosc with zstd, then a checksum, exactly as the array's metadata say."""

from __future__ import annotations

import struct
from collections.abc import Buffer
from typing import Final

import google_crc32c
import numpy as np
from numcodecs import blosc

from corpus.geometry import Voxels
from corpus.models import CodecChoice

SHUFFLES: Final = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
_UNSHUFFLED_BLOCK_BYTES: Final = 2**17

# blosc's own threads cut a buffer differently for each number of them: the same voxels would give other bytes on
# another machine. We run several chunks at once instead, which leaves the GIL all the same.
blosc.use_threads = False


def crc32c(data: Buffer, before: int = 0) -> int:
    """Return the CRC-32C of bytes, or of all that `before` is of and these; C-contiguous, nothing is copied."""
    # The library takes an array of numpy, and no view of memory that might change.
    value: int = google_crc32c.extend(before, np.frombuffer(data, dtype=np.uint8))
    return value


def checksummed(data: bytes) -> bytes:
    """Return bytes followed by their CRC-32C, little-endian, as zarr's ``crc32c`` codec stores it."""
    return data + struct.pack("<I", crc32c(data))


def unchecked(data: Buffer, what: str) -> memoryview:
    """Return bytes without the CRC-32C behind them; the inverse of `checksummed`.

    Raises
    ------
    ValueError
        The checksum is wrong.
    """
    view = memoryview(data)
    if len(view) < 4 or crc32c(view[:-4]) != struct.unpack("<I", view[-4:])[0]:
        raise ValueError(f"the checksum of {what} is wrong")
    return view[:-4]


def block_bytes(choice: CodecChoice, chunk_bytes: int) -> int:
    """Return the size of the blocks in which blosc compresses a chunk, as the array's metadata say it too.

    A shuffled chunk is one block. Left to itself blosc takes blocks of 32 KiB at level 1: 2 to 7 % larger, and half
    as long again to encode and to decode (`make bench-pieces`). Numbers that are not shuffled are found again within
    128 KiB or not at all.
    """
    return chunk_bytes if choice.shuffle != "noshuffle" else min(chunk_bytes, _UNSHUFFLED_BLOCK_BYTES)


def encode(chunk: Voxels, choice: CodecChoice) -> bytes:
    """Return an inner chunk as it is stored.

    Parameters
    ----------
    chunk
        C-contiguous and little-endian; its item size is the codec's typesize.
    choice
        Shuffle and level.
    """
    blocks = block_bytes(choice, chunk.nbytes)
    return checksummed(blosc.compress(chunk, b"zstd", choice.clevel, SHUFFLES[choice.shuffle], blocks))


def decode(stored: Buffer, chunk: Voxels) -> None:
    """Decode an inner chunk into an array of its shape and type; the inverse of `encode`.

    Raises
    ------
    ValueError
        The checksum is wrong, or these are not the bytes of such a chunk.
    """
    data = unchecked(stored, "an inner chunk")
    # https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst: bytes 4 to 7 are the inflated size.
    if len(data) < 16 or struct.unpack_from("<I", data, 4)[0] != chunk.nbytes:
        raise ValueError(f"an inner chunk does not hold {chunk.nbytes} bytes")
    try:
        blosc.decompress(data, chunk)
    except RuntimeError as error:
        raise ValueError(f"an inner chunk cannot be decoded: {error}") from error
