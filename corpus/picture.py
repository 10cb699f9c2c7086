"""Voxels as pixels: what a picture of a volume shows at places in the world. Numbers only, nothing is drawn here.

A picture is a field of world positions, one a pixel, at which volumes are looked up, each by its own lattice: so it
looks the same for every voxel order, and volumes on different grids lie over each other where they belong.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from corpus.geometry import Grid, Voxels
from corpus.labels import rgba_of

type Numbers = NDArray[np.float64]
type Pixels = NDArray[np.uint8]
"""Shape (row, column, red green blue)."""

type Points = NDArray[np.float64]
"""World positions of pixel centres, shape (row, column, x y z), RAS+ mm."""

PLANES: Final = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The world axis that a plane is perpendicular to."""

_CENTRE: Final = 0.501
"""Where a pixel is looked up: not amid it, which may be amid two voxels, so that the voxel order would decide."""

CT_WINDOWS_HU: Final = {
    "soft": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1500.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
    "mediastinum": (-125.0, 225.0),
}
"""Windows of a CT: what is black and what is white, in Hounsfield units. Levels and widths as in common practice."""


def slice_points(grid: Grid, plane: str, index: int, side_pixels: int) -> Points:
    """Return the pixels of one slice of voxels, drawn as in radiology.

    The patient's right is on the left of the picture (sagittal: the front), the head or the front is up, and a pixel is
    a square in mm. The slice is one of the array's own, also where the grid is oblique.

    Parameters
    ----------
    grid
        Of the volume.
    plane
        One of `PLANES`: the slice is perpendicular to the array axis that is closest to that world axis.
    index
        Of the slice, along that array axis.
    side_pixels
        Of the longer side.
    """
    across = PLANES[plane]
    column_axis, row_axis = (grid.world_axes.index(world) for world in range(3) if world != across)
    spacing = grid.spacing_mm_zyx
    extent = {axis: grid.shape_zyx[axis] * spacing[axis] for axis in (row_axis, column_axis)}
    mm = max(extent.values()) / side_pixels
    shape = [max(1, round(extent[axis] / mm)) for axis in (row_axis, column_axis)]
    places = np.empty((*shape, 3))
    places[..., grid.world_axes.index(across)] = index
    for number, axis in enumerate((row_axis, column_axis)):
        place = (np.arange(shape[number]) + _CENTRE) / shape[number] * grid.shape_zyx[axis] - 0.5
        # Along rows and columns the world coordinate falls.
        falling = grid.shape_zyx[axis] - 1 - place if grid.signs[axis] > 0 else place
        places[..., axis] = falling[:, None] if number == 0 else falling
    return grid.to_world_mm(places)


def slice_at_mm(grid: Grid, plane: str, position_mm: float) -> int:
    """Return the slice of a plane that is nearest to a world position, looked at amid the volume; it may not exist."""
    across = PLANES[plane]
    axis = grid.world_axes.index(across)
    middle = (np.array(grid.shape_zyx) - 1) / 2
    offset = (position_mm - grid.to_world_mm(middle)[across]) / grid.steps[across, axis]
    return int(np.rint(middle[axis] + offset))


def voxels_at(grid: Grid, points: Points) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the voxel that holds each point, as its place in the raveled array, and whether there is one."""
    index = np.rint(grid.to_index_zyx(points)).astype(np.int64)
    held = np.all((index >= 0) & (index < grid.shape_zyx), axis=-1)
    z, y, x = np.moveaxis(index, -1, 0)
    return (z * grid.shape_zyx[1] + y) * grid.shape_zyx[2] + x, held


def picked(voxels: Voxels, place: NDArray[np.int64], held: NDArray[np.bool_]) -> Voxels:
    """Return the values of the voxels that `voxels_at` found; 0 outside the volume."""
    return np.where(held, voxels.ravel()[np.where(held, place, 0)], 0)


def linear(voxels: Voxels, index: Numbers, outside: float) -> Numbers:
    """Return values between voxels, at fractional indices (..., [z, y, x]); `outside` beyond the faces, and for NaN."""
    shape = np.array(voxels.shape)
    held = np.all((index >= -0.5) & (index <= shape - 0.5), axis=-1)
    index = np.clip(index, 0, shape - 1)
    low = np.minimum(np.floor(index).astype(np.int64), np.maximum(shape - 2, 0))
    part = np.moveaxis(index - low, -1, 0)
    # Steps to the next voxel in the raveled array.
    steps = np.array([shape[1] * shape[2], shape[2], 1])
    place = low @ steps
    flat = voxels.ravel()
    total = np.zeros(index.shape[:-1])
    for corner in np.ndindex(*np.minimum(shape, 2).tolist()):
        weight = np.ones(1)
        for up, fraction in zip(corner, part, strict=True):
            weight = weight * (fraction if up else 1 - fraction)
        with np.errstate(invalid="ignore"):
            total += weight * flat[place + int(np.dot(corner, steps))]
    return np.where(held & np.isfinite(total), total, outside)


def grey(values: Numbers, window: tuple[float, float]) -> Pixels:
    """Return values in grey: black at the window's lower end, white at the upper."""
    return np.repeat(_level(_shown(values, window))[..., None], 3, axis=2)


def hot(values: Numbers, window: tuple[float, float]) -> Pixels:
    """Return values from black over red and yellow to white, as nuclear medicine shows uptake."""
    shown = _shown(values, window)
    return np.stack([_level(np.clip(3 * shown - start, 0, 1)) for start in range(3)], axis=2)


def tinted(picture: Pixels, labels: Voxels, opacity: float) -> Pixels:
    """Return a picture with labels over it, in the colours of the label tables; 0 is no label.

    Parameters
    ----------
    picture
        Below.
    labels
        A value per pixel.
    opacity
        0 to 1.
    """
    values, place = np.unique(labels, return_inverse=True)
    colors = np.array([rgba_of(value)[:3] for value in values.tolist()], dtype=np.float64)[place]
    weight = np.where(labels > 0, opacity, 0.0)[..., None]
    return np.asarray(np.rint(picture * (1 - weight) + colors * weight), dtype=np.uint8)


def _shown(values: Numbers, window: tuple[float, float]) -> Numbers:
    low, high = window
    return np.clip((values - low) / (high - low), 0, 1)


def _level(shown: Numbers) -> NDArray[np.uint8]:
    return np.asarray(np.rint(shown * 255), dtype=np.uint8)
