"""Inner chunks as bytes: blosc with zstd, then a checksum, exactly as the array's metadata say."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import product
from typing import Final

import google_crc32c
from numcodecs import blosc

from corpus.geometry import Voxels
from corpus.models import CodecChoice

_SHUFFLES: Final = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
_LEVELS: Final = (1, 2, 3)
_WORTH: Final = 0.97
"""A higher level has to save 3 %: from level 1 to 3 encoding takes about twice as long."""

DEFAULT: Final = CodecChoice("shuffle", 1)

# blosc's own threads cut a buffer differently for each number of them: the same voxels would give other bytes on
# another machine. We run several chunks at once instead, which leaves the GIL all the same.
blosc.use_threads = False


def checksummed(data: bytes) -> bytes:
    """Return bytes followed by their CRC-32C, little-endian, as zarr's ``crc32c`` codec stores it."""
    return data + struct.pack("<I", google_crc32c.value(data))


def encode(chunk: Voxels, choice: CodecChoice) -> bytes:
    """Return an inner chunk as it is stored.

    Parameters
    ----------
    chunk
        C-contiguous and little-endian; its item size is the codec's typesize.
    choice
        Shuffle and level.
    """
    return checksummed(blosc.compress(chunk, b"zstd", choice.clevel, _SHUFFLES[choice.shuffle]))


def choose(samples: Sequence[Voxels]) -> CodecChoice:
    """Return the shuffle and level that store a few of an array's own chunks smallest.

    Sizes decide, never times, so that the same voxels give the same choice everywhere.
    """
    if not samples:
        return DEFAULT
    best, best_size = DEFAULT, float("inf")
    for clevel, shuffle in product(_LEVELS, _SHUFFLES):
        choice = CodecChoice(shuffle, clevel)
        size = sum(len(encode(chunk, choice)) for chunk in samples)
        if size < best_size * (_WORTH if clevel > best.clevel else 1):
            best, best_size = choice, size
    return best
