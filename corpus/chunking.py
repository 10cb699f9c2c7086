"""How arrays are cut: levels, inner chunks and shards. Pure arithmetic on shapes and spacings."""

from __future__ import annotations

import math
from typing import Final

from corpus.geometry import Grid, Triple

INNER_VOXELS: Final = 2**18
"""Voxels of an inner chunk: half a megabyte of int16, a good size for one range request."""

SHARD_BYTES: Final = 64 * 2**20
"""Most bytes of a decoded shard, so that a shard is also a sane Dask chunk."""

SHARD_SLICES: Final = 128
SMALLEST_SIDE: Final = 64
MOST_LEVELS: Final = 5
_THICK: Final = 1.5
_FEW: Final = 8

# Edge along world z, and along x and y: all powers of two that make INNER_VOXELS.
_EDGES: Final = ((1024, 16), (256, 32), (64, 64), (16, 128), (4, 256), (1, 512))


def inner_chunk(grid: Grid) -> Triple:
    """Return the inner chunk, along the array's axes: as near to a cube in millimetres as powers of two allow.

    The edges along world x and y are equal, so a chunk never favours one of two planes.
    """
    in_plane_mm, slice_mm = _plane_and_slice_mm(grid)
    z, xy = min(_EDGES, key=lambda edges: abs(math.log(edges[0] * slice_mm / (edges[1] * in_plane_mm))))
    a, b, c = (z if dim == "z" else xy for dim in grid.dims)
    return a, b, c


def shard(shape_zyx: Triple, chunk_zyx: Triple, itemsize: int) -> Triple:
    """Return the shard: a slab of whole planes, 128 slices of them (64 for 4-byte voxels), at most `SHARD_BYTES`.

    Parameters
    ----------
    shape_zyx
        Shape of the array.
    chunk_zyx
        Shape of the inner chunk.
    itemsize
        Bytes of a stored voxel.
    """
    depth, *plane = (_round_up(n, c) for n, c in zip(shape_zyx, chunk_zyx, strict=True))
    wanted = SHARD_SLICES * 2 // max(2, itemsize)
    most = SHARD_BYTES // (plane[0] * plane[1] * itemsize)
    slices = max(chunk_zyx[0], min(wanted, most) // chunk_zyx[0] * chunk_zyx[0])
    return min(depth, slices), plane[0], plane[1]


def level_factors(grid: Grid, *, few: bool = False) -> tuple[Triple, ...]:
    """Return the downsampling factors of each level against level 0; the first is (1, 1, 1).

    x and y are halved, and z too once its spacing is not more than 1.5 times the in-plane one, until the largest
    side is at most 64 or there are 5 levels.

    Parameters
    ----------
    grid
        Lattice of level 0.
    few
        Leave out a level of more than an eighth of the voxels of the one above: of thick slices, the larger half of
        what the levels take.
    """
    factors: list[Triple] = [(1, 1, 1)]
    level = grid
    while max(level.shape_zyx) > SMALLEST_SIDE and len(factors) < MOST_LEVELS:
        in_plane_mm, slice_mm = _plane_and_slice_mm(level)
        halve_z = slice_mm <= _THICK * in_plane_mm
        a, b, c = (
            factor * (2 if dim != "z" or halve_z else 1) for factor, dim in zip(factors[-1], grid.dims, strict=True)
        )
        factors.append((a, b, c))
        level = grid.downsampled((a, b, c))
    return _few(factors) if few else tuple(factors)


def _few(factors: list[Triple]) -> tuple[Triple, ...]:
    kept = factors[:1]
    for each in factors:
        if math.prod(each) >= _FEW * math.prod(kept[-1]):
            kept.append(each)
    return tuple(kept)


def halvings(above: Triple, below: Triple) -> tuple[Triple, ...]:
    """Return the steps of 1 or 2 along each axis from the factors of a level to those of the next one.

    Each is a level of its own where none is left out. z is halved later than x and y, or with them.
    """
    steps = [n // m for n, m in zip(below, above, strict=True)]
    count = max(steps).bit_length() - 1
    return tuple(
        tuple(2 if step >= 2 ** (count - number) else 1 for step in steps)  # type: ignore[misc]  # three
        for number in range(count)
    )


def _plane_and_slice_mm(grid: Grid) -> tuple[float, float]:
    spacing = dict(zip(grid.dims, grid.spacing_mm_zyx, strict=True))
    return math.sqrt(spacing["x"] * spacing["y"]), spacing["z"]


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
