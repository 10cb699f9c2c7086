"""Where voxels lie in the patient: the only module that knows both (x, y, z) and (z, y, x).

NIfTI counts voxels (i, j, k) with the first index running fastest; a Zarr array in C order holds the same bytes as
(k, j, i). So the array is the file's voxels with the axes named backwards, nothing is flipped or resampled, and an
affine has to have its columns reversed before it may be applied to array indices. All of that happens here.

World positions are RAS+ millimetres: x grows to the patient's right, y to the front, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

type Voxels = np.ndarray[Any, np.dtype[Any]]
"""An array of voxels, shape (z, y, x)."""

Affine = tuple[tuple[float, float, float, float], ...]
Triple = tuple[int, int, int]

ALIGNED_WITHIN_VOXELS: Final = 0.05
"""How far, in voxels and over the whole volume, an axis may stray from a world axis and still be called aligned.
Headers hold 32-bit floats and rounded direction cosines; real oblique scans stray by many voxels."""

_AXIS_ENDS: Final = (("L", "R"), ("P", "A"), ("I", "S"))
_DIRECTIONS: Final = (
    ("right-to-left", "left-to-right"),
    ("anterior-to-posterior", "posterior-to-anterior"),
    ("superior-to-inferior", "inferior-to-superior"),
)


class Reorder(msgspec.Struct, frozen=True):
    """A change of voxel order: a transposition followed by flips, both of array axes.

    Attributes
    ----------
    axes
        The source axis that becomes each target axis, as for `numpy.transpose`.
    flips
        Whether each target axis is reversed after the transposition.
    """

    axes: Triple = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return self.axes == (0, 1, 2) and not any(self.flips)

    def apply[T: np.generic](self, array: NDArray[T]) -> NDArray[T]:
        """Return a view of `array` (source order) in target order."""
        return array.transpose(self.axes)[self._slices]

    def undo[T: np.generic](self, array: NDArray[T]) -> NDArray[T]:
        """Return a view of `array` (target order) in source order."""
        return array[self._slices].transpose(np.argsort(self.axes))

    @property
    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)


class Grid(msgspec.Struct, frozen=True):
    """A lattice of voxels in the world.

    Attributes
    ----------
    shape_zyx
        Number of voxels along the array's axes (k, j, i).
    affine
        Four rows of four: maps NIfTI voxel indices (i, j, k, 1) to RAS+ mm (x, y, z, 1), as in a NIfTI header.
    """

    shape_zyx: Triple
    affine: Affine

    @classmethod
    def of(cls, shape_zyx: Sequence[int], affine: ArrayLike) -> Grid:
        """Make a grid from any sequences of numbers."""
        nz, ny, nx = (int(n) for n in shape_zyx)
        rows = tuple(tuple(float(v) for v in row) for row in np.asarray(affine, dtype=np.float64))
        return cls((nz, ny, nx), rows)  # type: ignore[arg-type]  # a 4x4 array has rows of four

    @property
    def steps(self) -> FloatArray:
        """World step (x, y, z) of each array axis, as columns; shape (3, 3), mm."""
        return np.array(self.affine)[:3, 2::-1]

    @property
    def origin_mm_ras(self) -> FloatArray:
        """World position (x, y, z) of the centre of voxel (0, 0, 0), mm."""
        return np.array(self.affine)[:3, 3]

    @property
    def spacing_mm_zyx(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        z, y, x = np.linalg.norm(self.steps, axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.steps))) / 1000.0

    @property
    def world_axes(self) -> Triple:
        """The world axis (0 is x, 1 is y, 2 is z) that each array axis is closest to; each occurs once."""
        return _axes_and_signs(self.affine)[0]

    @property
    def signs(self) -> Triple:
        """Whether each array axis runs up (1) or down (-1) its world axis."""
        return _axes_and_signs(self.affine)[1]

    @property
    def dims(self) -> tuple[str, str, str]:
        """Dimension names of the array: the world axis that each of its axes is closest to."""
        a, b, c = ("xyz"[world] for world in self.world_axes)
        return a, b, c

    @property
    def orientation(self) -> str:
        """Where the NIfTI axes (i, j, k) run to, for example ``LAS``."""
        ends = (_AXIS_ENDS[world][sign > 0] for world, sign in zip(self.world_axes, self.signs, strict=True))
        return "".join(ends)[::-1]

    @property
    def directions(self) -> tuple[str, str, str]:
        """Where each array axis runs from and to, in the words of OME RFC-4."""
        a, b, c = (_DIRECTIONS[world][sign > 0] for world, sign in zip(self.world_axes, self.signs, strict=True))
        return a, b, c

    @property
    def is_aligned(self) -> bool:
        """Whether the axes run along the world's, so that a 1-D coordinate per axis tells world positions."""
        stray = np.abs(self.steps) * (np.array(self.shape_zyx) - 1)
        spacing_of_world = np.empty(3)
        for axis, world in enumerate(self.world_axes):
            stray[world, axis] = 0.0
            spacing_of_world[world] = self.spacing_mm_zyx[axis]
        return bool(np.all(stray.sum(axis=1) <= ALIGNED_WITHIN_VOXELS * spacing_of_world))

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles, as with a tilted gantry."""
        unit = self.steps / np.linalg.norm(self.steps, axis=0)
        return bool(np.max(np.abs(unit.T @ unit - np.eye(3))) > 1e-3)

    def coordinates_mm(self, axis: int) -> FloatArray:
        """Coordinate of each voxel centre along one array axis, mm.

        RAS+ position along the closest world axis (it may decrease), or, where the grid is not aligned with the
        world, the distance from voxel 0 along the axis.
        """
        index = np.arange(self.shape_zyx[axis], dtype=np.float64)
        if not self.is_aligned:
            return index * self.spacing_mm_zyx[axis]
        world = self.world_axes[axis]
        return np.asarray(self.origin_mm_ras[world] + self.steps[world, axis] * index)

    def to_world_mm(self, index_zyx: ArrayLike) -> FloatArray:
        """World positions (..., [x, y, z]) in mm of array indices (..., [z, y, x])."""
        return np.asarray(np.asarray(index_zyx, dtype=np.float64) @ self.steps.T + self.origin_mm_ras)

    def to_index_zyx(self, world_mm: ArrayLike) -> FloatArray:
        """Fractional array indices (..., [z, y, x]) of world positions (..., [x, y, z]) in mm."""
        offset = np.asarray(world_mm, dtype=np.float64) - self.origin_mm_ras
        return np.asarray(offset @ np.linalg.inv(self.steps).T)

    def downsampled(self, factors_zyx: Triple) -> Grid:
        """Return the grid of blocks of voxels; a block at the far edge may be incomplete.

        A block's position is the centre of a complete block: ``origin + step * ((f - 1) / 2 + f * i)``.
        """
        factors = np.array(factors_zyx, dtype=np.float64)
        origin = self.to_world_mm((factors - 1) / 2)
        shape = [-(-n // f) for n, f in zip(self.shape_zyx, factors_zyx, strict=True)]
        return self._with(shape, self.steps * factors, origin)

    def cropped(self, start_zyx: Triple, stop_zyx: Triple) -> Grid:
        """Return the grid of the voxels in the half-open box [start, stop)."""
        shape = [b - a for a, b in zip(start_zyx, stop_zyx, strict=True)]
        return self._with(shape, self.steps, self.to_world_mm(start_zyx))

    def reordered(self, reorder: Reorder) -> Grid:
        """Return the grid of an array to which `reorder` was applied; no voxel moves in the world."""
        flips = np.array(reorder.flips)
        steps = self.steps[:, reorder.axes]
        shape = [self.shape_zyx[axis] for axis in reorder.axes]
        last = np.where(flips, np.array(shape) - 1, 0)
        origin = self.origin_mm_ras + steps @ last
        return self._with(shape, np.where(flips, -steps, steps), origin)

    def _with(self, shape_zyx: Sequence[int], steps: FloatArray, origin: FloatArray) -> Grid:
        affine = np.eye(4)
        affine[:3, :3] = steps[:, ::-1]
        affine[:3, 3] = origin
        return Grid.of(shape_zyx, affine)


# A subject's volumes have two lattices and a few levels of each, about which everybody asks again and again.
@lru_cache(maxsize=1024)
def _axes_and_signs(affine: Affine) -> tuple[Triple, Triple]:
    # The rule is nibabel's (nibabel.orientations.io_orientation): take the closest rotation, then give the
    # world axes away to the array axes that point along them most clearly.
    steps = np.array(affine)[:3, 2::-1]
    left, _, right = np.linalg.svd(steps / np.linalg.norm(steps, axis=0))
    rotation = left @ right
    axes, signs = [0, 0, 0], [1, 1, 1]
    for axis in np.argsort(-np.abs(rotation).max(axis=0), kind="stable"):
        world = int(np.argmax(np.abs(rotation[:, axis])))
        axes[axis], signs[axis] = world, 1 if rotation[world, axis] > 0 else -1
        rotation[world, :] = 0
    return (axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2])


@lru_cache(maxsize=128)
def reorder_onto(source: Grid, target: Grid) -> Reorder | None:
    """Return the change of voxel order that lays `source` on `target`, or None where no such change exists.

    Two tools' files of one scan agree by world position only. The grids must be the same lattice of the same
    extent: no corner may lie more than `ALIGNED_WITHIN_VOXELS` off.
    """
    moves = np.rint(np.linalg.inv(target.steps) @ source.steps).astype(int)
    occupied = np.abs(moves)
    if not (np.all(occupied.sum(axis=0) == 1) and np.all(occupied.sum(axis=1) == 1)):
        return None
    axes = np.argmax(occupied, axis=1)
    flips = moves[np.arange(3), axes] < 0
    reorder = Reorder(tuple(map(int, axes)), tuple(map(bool, flips)))  # type: ignore[arg-type]  # three each
    laid = source.reordered(reorder)
    if laid.shape_zyx != target.shape_zyx:
        return None
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in target.shape_zyx])).reshape(3, -1).T
    error_voxels = np.abs(target.to_index_zyx(laid.to_world_mm(corners)) - corners)
    return reorder if np.max(error_voxels) <= ALIGNED_WITHIN_VOXELS else None
