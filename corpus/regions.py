"""Regions of a volume: half-open voxel boxes, boxes in world millimetres, clipping, margins and levels."""

from __future__ import annotations

from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from corpus.errors import RequestError
from corpus.geometry import Grid, Reorder, Triple

_NOISE: Final = 1e-6
"""Voxels by which a position may be off."""

_FAR_MM: Final = 1e9
"""Farther than any scanner reaches: a box may be open on a side, and infinity times zero is not a number."""

Bounds = tuple[float, float, float, float, float, float]
"""A box in the world: (x0, y0, z0, x1, y1, z1), RAS+ mm."""


class Box(msgspec.Struct, frozen=True):
    """A half-open box of voxels, in array order.

    Attributes
    ----------
    start_zyx
        First voxel along each array axis.
    stop_zyx
        One past the last voxel along each array axis.
    """

    start_zyx: Triple
    stop_zyx: Triple

    @classmethod
    def of(cls, start_zyx: ArrayLike, stop_zyx: ArrayLike) -> Self:
        """Make a box from any sequences of whole numbers."""
        (z0, y0, x0), (z1, y1, x1) = (np.asarray(end, dtype=np.int64).tolist() for end in (start_zyx, stop_zyx))
        return cls((z0, y0, x0), (z1, y1, x1))

    @classmethod
    def whole(cls, grid: Grid) -> Self:
        """Return the box of all voxels of a grid."""
        return cls((0, 0, 0), grid.shape_zyx)

    @property
    def shape_zyx(self) -> Triple:
        """Number of voxels along each axis; never negative."""
        z, y, x = (max(0, b - a) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True))
        return z, y, x

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no voxel."""
        return 0 in self.shape_zyx

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index for an array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True))
        return z, y, x

    def clipped(self, shape_zyx: Triple) -> Box:
        """Return the part that lies in a volume of the given shape; it may be empty."""
        start = np.clip(self.start_zyx, 0, shape_zyx)
        stop = np.clip(self.stop_zyx, start, shape_zyx)
        return Box.of(start, stop)

    def expanded_mm(self, margin_mm: float, grid: Grid) -> Box:
        """Return the box grown on all sides by at least `margin_mm`, clipped to the grid."""
        margin = np.ceil(margin_mm / np.array(grid.spacing_mm_zyx)).astype(int)
        return Box.of(self.start_zyx - margin, self.stop_zyx + margin).clipped(grid.shape_zyx)

    def at_level(self, factors_zyx: Triple) -> Box:
        """Return the smallest box of downsampled voxels that covers this one."""
        stop = [-(-b // f) for b, f in zip(self.stop_zyx, factors_zyx, strict=True)]
        return Box.of(np.array(self.start_zyx) // factors_zyx, stop)

    def reordered(self, reorder: Reorder, shape_zyx: Triple) -> Box:
        """Return where the voxels of this box lie in an array to which `reorder` was applied.

        Parameters
        ----------
        reorder
            From the order of this box to the other one.
        shape_zyx
            Of the array after it.
        """
        spans = []
        for axis, flip, side in zip(reorder.axes, reorder.flips, shape_zyx, strict=True):
            start, stop = self.start_zyx[axis], self.stop_zyx[axis]
            spans.append((side - stop, side - start) if flip else (start, stop))
        return Box.of(*zip(*spans, strict=True))

    def bounds_mm_ras(self, grid: Grid) -> Bounds:
        """Return the world box that the outer faces of the voxels span, RAS+ mm."""
        faces = [(a - 0.5, b - 0.5) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True)]
        corners = grid.to_world_mm(_corners(faces))
        x0, y0, z0 = (float(v) for v in corners.min(axis=0))
        x1, y1, z1 = (float(v) for v in corners.max(axis=0))
        return x0, y0, z0, x1, y1, z1


def box_of_mm(bbox_mm_ras: Bounds, grid: Grid) -> Box:
    """Return the voxels whose centres lie in a world box, faces included, clipped to the grid.

    Where the grid is oblique, a voxel box that holds all of these, and others too: the world box's corners span it.

    Raises
    ------
    RequestError
        The box is turned round, or holds no voxel of the grid.
    """
    low, high = _index_range(bbox_mm_ras, grid)
    # A centre that lies on a face belongs to the box; float noise must not push it out.
    return _inside(np.ceil(low - _NOISE), np.floor(high + _NOISE) + 1, bbox_mm_ras, grid)


def box_covering_mm(bbox_mm_ras: Bounds, grid: Grid) -> Box:
    """Return the voxels that a world box reaches into, clipped to the grid: never fewer than `box_of_mm`.

    For what must not be lost although it may be smaller than a voxel, as a label is on a coarser grid.

    Raises
    ------
    RequestError
        The box is turned round, or lies outside the grid.
    """
    low, high = _index_range(bbox_mm_ras, grid)
    # Voxel k spans k - 1/2 to k + 1/2; one that is only touched at a face is left out.
    start = np.floor(low + 0.5 + _NOISE)
    return _inside(start, np.maximum(start + 1, np.ceil(high + 0.5 - _NOISE)), bbox_mm_ras, grid)


def _index_range(bbox_mm_ras: Bounds, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and greatest fractional index (z, y, x) of a world box's corners."""
    low, high = np.array(bbox_mm_ras[:3]), np.array(bbox_mm_ras[3:])
    if not np.all(low <= high):
        raise RequestError("request.region", f"the box {bbox_mm_ras} must have x0 <= x1, y0 <= y1, z0 <= z1")
    far = np.clip([low, high], -_FAR_MM, _FAR_MM)
    index = grid.to_index_zyx(_corners(list(zip(*far, strict=True))))
    return index.min(axis=0), index.max(axis=0)


def _inside(start: NDArray[np.float64], stop: NDArray[np.float64], bbox_mm_ras: Bounds, grid: Grid) -> Box:
    # Clipped before they become integers, which would wrap.
    box = Box.of(np.clip(start, 0, grid.shape_zyx), np.clip(stop, 0, grid.shape_zyx)).clipped(grid.shape_zyx)
    if box.is_empty:
        whole = Box.whole(grid).bounds_mm_ras(grid)
        raise RequestError("request.region", f"no voxel lies in {bbox_mm_ras}; the volume spans {whole} mm")
    return box


def _corners(ranges: list[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(np.meshgrid(*ranges), dtype=np.float64).reshape(3, -1).T
