"""Downsampling by two: block means for intensities, modes for labels. Pure functions of arrays.

A block at the far edge of an odd axis is incomplete; it is the mean or mode of the voxels that it has.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
from numpy.typing import DTypeLike

from corpus.geometry import Triple, Voxels

_SLICES_AT_ONCE: Final = 4
"""So many slices of a large volume and their sums stay in the processor's cache."""


def downsample(
    array: Voxels, factors_zyx: Triple, *, is_label: bool, bounds: tuple[float, float] | None = None
) -> Voxels:
    """Return the next level of an array.

    Parameters
    ----------
    array
        Shape (z, y, x).
    factors_zyx
        1 or 2 along each axis.
    is_label
        Whether to take modes instead of means.
    bounds
        Numbers between which all voxels are known to lie, so that nobody has to look; those of the next level do too.

    Returns
    -------
    ndarray
        Same dtype; each side is the source's divided by its factor, rounded up.
    """
    even = _padded(array, factors_zyx)
    return _mode(even, factors_zyx) if is_label else _mean(even, factors_zyx, bounds)


def _padded(array: Voxels, factors_zyx: Triple) -> Voxels:
    # Repeating the last voxel of an odd axis weighs the voxels of the incomplete block equally.
    missing = [(0, -n % f) for n, f in zip(array.shape, factors_zyx, strict=True)]
    return np.pad(array, missing, mode="edge") if any(after for _, after in missing) else array


def _views(array: Voxels, factors_zyx: Triple) -> list[Voxels]:
    offsets = product(*(range(f) for f in factors_zyx))
    return [array[tuple(slice(o, None, f) for o, f in zip(offset, factors_zyx, strict=True))] for offset in offsets]


def _mean(array: Voxels, factors_zyx: Triple, bounds: tuple[float, float] | None) -> Voxels:
    blocks = (array[z : z + _SLICES_AT_ONCE] for z in range(0, len(array), _SLICES_AT_ONCE))
    if array.dtype.kind == "f":
        return np.concatenate([_float_mean(block, factors_zyx) for block in blocks])
    return np.concatenate([_integer_mean(block, factors_zyx, bounds) for block in blocks])


def _integer_mean(array: Voxels, factors_zyx: Triple, bounds: tuple[float, float] | None) -> Voxels:
    shift = sum(f == 2 for f in factors_zyx)
    total = _integer_sum(array, factors_zyx, _wide_enough(array, 1 << shift, bounds))
    # Rounds half to even without leaving the integers: (s + n/2 - 1 + parity of the quotient) >> log2(n). Rounding
    # half up would lift a CT by an eighth of a unit at each level.
    if shift:
        total += (1 << (shift - 1)) - 1 + ((total >> shift) & 1)
    return (total >> shift).astype(array.dtype, copy=False)


def _wide_enough(array: Voxels, count: int, bounds: tuple[float, float] | None) -> DTypeLike:
    """Return the type in which so many voxels can be summed, and rounded."""
    if array.dtype == np.int16:
        # Hounsfield units leave room in their own type, which is summed in half the time.
        most = (np.iinfo(np.int16).max - count) // count
        low, high = bounds or (array.min(), array.max())
        if -most <= low and high <= most:
            return np.int16
    # Python's own integers for the widest type, which is rare: no sum of theirs wraps.
    return {1: np.int32, 2: np.int32, 4: np.int64}.get(array.dtype.itemsize, np.object_)


def _integer_sum(array: Voxels, factors_zyx: Triple, wide: DTypeLike) -> Voxels:
    total = array
    # Whole planes, then whole rows, then neighbours: the strided sum runs over the least data.
    for axis, factor in enumerate(factors_zyx):
        if factor == 2:
            low, high = (total[(slice(None),) * axis + (slice(o, None, 2),)] for o in (0, 1))
            total = np.add(low, high, dtype=wide)
    return total if total is not array else array.astype(wide)


def _float_mean(array: Voxels, factors_zyx: Triple) -> Voxels:
    views = _views(array, factors_zyx)
    total = np.zeros(views[0].shape, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if not np.isnan(array).any():  # as nearly always
            for view in views:
                total += view
            return (total / len(views)).astype(array.dtype)
        count = np.zeros(views[0].shape, dtype=np.uint8)
        for view in views:
            known = ~np.isnan(view)
            np.add(total, view, out=total, where=known)
            count += known
        # 0 / 0 is NaN: a block without any number stays one; so does one of opposite infinities.
        return (total / count).astype(array.dtype)


def _mode(array: Voxels, factors_zyx: Triple) -> Voxels:
    views = _views(array, factors_zyx)
    result = views[0].copy()
    mixed = np.zeros(result.shape, dtype=bool)
    for view in views[1:]:
        mixed |= view != result
    # Nearly all blocks of a label map are of one value; votes are counted in the others only.
    votes = np.stack([view[mixed] for view in views]).astype(np.int64)
    if votes.size:
        result[mixed] = _winner(votes).astype(array.dtype)
    return result


def _winner(votes: Voxels) -> Voxels:
    counts = (votes[:, None] == votes[None, :]).sum(axis=1)
    # Most votes first; among equals a region before the background, and the smallest value before others.
    preference = np.where(votes > 0, (1 << 33) - votes, 0)
    best = np.argmax((counts << 34) + preference, axis=0)
    winner: Voxels = np.take_along_axis(votes, best[None], axis=0)[0]
    return winner
