"""Slices as pictures: which voxels one needs, at which level, and how they are drawn. The only module with Pillow."""

from __future__ import annotations

import io
from typing import Final

import msgspec
import numpy as np
from PIL import Image

from corpus.catalog import Catalog, Row
from corpus.cutouts import grid_of
from corpus.errors import RequestError
from corpus.geometry import Grid, Voxels
from corpus.picture import (
    CT_WINDOWS_HU,
    PLANES,
    Pixels,
    Points,
    grey,
    hot,
    linear,
    picked,
    slice_at_mm,
    slice_points,
    tinted,
    voxels_at,
)
from corpus.regions import Box
from corpus.volumes import is_label
from service.pool import Pool
from service.volumes import StoredArray, StoredVolume
from service.voxels import VoxelReader

_MOST_LABEL_VOXELS: Final = 2**25


class View(msgspec.Struct, frozen=True):
    """What a picture is of.

    Attributes
    ----------
    plane
        One of `corpus.picture.PLANES`.
    index
        Level-0 slice along the array axis of the plane; None for the middle one, or where `mm` says it.
    mm
        World position of the slice, RAS+.
    size
        Pixels of the longer side.
    preset
        Name of a CT window.
    window
        Physical values that are black and white.
    opacity
        Of labels.
    labels
        Names of the only labels to show; empty for all.
    """

    plane: str = "axial"
    index: int | None = None
    mm: float | None = None
    size: int = 512
    preset: str | None = None
    window: tuple[float, float] | None = None
    opacity: float = 0.4
    labels: tuple[str, ...] = ()


async def draw(
    reader: VoxelReader,
    pool: Pool,
    volume: StoredVolume,
    overlays: list[tuple[StoredVolume, frozenset[int]]],
    view: View,
) -> bytes:
    """Return a slice as PNG.

    Parameters
    ----------
    reader
        Of the subject.
    pool
        Draws.
    volume
        What is shown; a label map is shown in its colours, on black.
    overlays
        Label maps over it, with the values to show; an empty set shows all.
    view
        What of it.

    Raises
    ------
    RequestError
        There is no such slice, or a label map lies so far across it that too much of it would be read.
    LayoutError, StoreError
        Voxels are damaged, or cannot be read.
    """
    grid = volume.array(0).level.grid
    index = _slice_of(grid, view)
    points = await pool.run(slice_points, grid, view.plane, index, view.size)
    if volume.is_label:
        picture: Pixels = np.zeros((*points.shape[:2], 3), dtype=np.uint8)
        overlays = [(volume, frozenset()), *overlays]
    else:
        picture = await _base(reader, pool, volume, points, view, index)
    for labels, values in overlays:
        array = _fine_enough(labels, points)
        box = _box_around(array.level.grid, points)
        if box is not None:
            voxels = await reader.read(array, box)
            part = array.level.grid.cropped(box.start_zyx, box.stop_zyx)
            opacity = 1.0 if labels is volume else view.opacity
            picture = await pool.run(_overlaid, picture, voxels, part, points, values, opacity)
    return await pool.run(_png, picture)


def require_view(row: Row, view: View) -> None:
    """Check that there is such a picture of a volume, without reading of it more than its row of the tables.

    Raises
    ------
    RequestError
        The volume does not have the slice, the preset is of CT and the volume is none, or a window is for a label map.
    """
    _slice_of(grid_of(row), view)
    if view.preset is not None and row["volume"] != "ct":
        raise RequestError("request.parameter", f"preset={view.preset} is a window of CT; give window=low,high")
    if view.window is not None and is_label(row):
        raise RequestError("request.parameter", "a label map has colours, and no window")


def _slice_of(grid: Grid, view: View) -> int:
    """Return the slice that is meant, in level-0 voxels along the array axis of the plane."""
    count = grid.shape_zyx[grid.world_axes.index(PLANES[view.plane])]
    index = count // 2 if view.index is None else view.index
    if view.mm is not None:
        index = slice_at_mm(grid, view.plane, view.mm)
    if not 0 <= index < count:
        raise RequestError("request.region", f"no {view.plane} slice {index}; there are slices 0 to {count - 1}")
    return index


def _window_of(volume: StoredVolume, view: View) -> tuple[float, float]:
    """Return which physical values are black and white."""
    if view.window is not None:
        return view.window
    if volume.row["volume"] == "ct":
        return CT_WINDOWS_HU[view.preset or "soft"]
    first, last = volume.window or (0.0, 1.0)
    low, high = (number * volume.scaling.slope + volume.scaling.inter for number in (first, last))
    return min(low, high), max(low, high)


def values_of(catalog: Catalog, subject: str, names: tuple[str, ...]) -> dict[str, frozenset[int]]:
    """Return the values of labels by family.

    Raises
    ------
    NotFoundError
        The subject has no such label.
    RequestError
        Several of its label maps have.
    """
    found: dict[str, frozenset[int]] = {}
    for name in names:
        region = catalog.region(subject, name)
        found[region["family"]] = found.get(region["family"], frozenset()) | {region["value"]}
    return found


async def _base(
    reader: VoxelReader, pool: Pool, volume: StoredVolume, points: Points, view: View, index: int
) -> Pixels:
    array = _fine_enough(volume, points)
    level = array.level
    axis = level.grid.world_axes.index(PLANES[view.plane])
    start, stop = [0, 0, 0], list(level.grid.shape_zyx)
    start[axis] = index // level.factors_zyx[axis]
    stop[axis] = start[axis] + 1
    voxels = await reader.read(array, Box.of(start, stop))
    return await pool.run(_drawn, volume, voxels, level.grid, points, axis, _window_of(volume, view))


def _drawn(
    volume: StoredVolume, voxels: Voxels, grid: Grid, points: Points, axis: int, window: tuple[float, float]
) -> Pixels:
    places = grid.to_index_zyx(points)
    places[..., axis] = 0  # the one slice that was read
    scaling = volume.scaling
    values = linear(voxels.astype(np.float64) * scaling.slope + scaling.inter, places, window[0])
    return hot(values, window) if volume.row["volume"] == "pet" else grey(values, window)


def _overlaid(
    picture: Pixels, voxels: Voxels, grid: Grid, points: Points, values: frozenset[int], opacity: float
) -> Pixels:
    labels = picked(voxels, *voxels_at(grid, points))
    if values:
        labels = np.where(np.isin(labels, list(values)), labels, 0)
    return tinted(picture, labels, opacity)


def _fine_enough(volume: StoredVolume, points: Points) -> StoredArray:
    """Return the coarsest level whose voxels are not larger than a pixel, or the finest."""
    rows, columns = points.shape[:2]
    ends = points[-1, -1] - points[0, 0]
    # A pixel is a square: its side follows from the diagonal.
    pixel_mm = float(np.linalg.norm(ends)) / max(1.0, float(np.hypot(rows - 1, columns - 1)))
    finest = volume.arrays[0].level.grid.spacing_mm_zyx
    for array in reversed(volume.arrays):
        spacing = zip(array.level.grid.spacing_mm_zyx, finest, strict=True)
        # Thick slices are halved later than the plane is: only an axis that is coarser than at first can be too coarse.
        if all(mm <= 1.001 * max(pixel_mm, at_first) for mm, at_first in spacing):
            return array
    return volume.arrays[0]


def _box_around(grid: Grid, points: Points) -> Box | None:
    """Return the voxels that the points lie in; None where there are none."""
    index = np.rint(grid.to_index_zyx(points)).reshape(-1, 3)
    box = Box.of(index.min(axis=0), index.max(axis=0) + 1).clipped(grid.shape_zyx)
    if box.is_empty:
        return None
    if np.prod(box.shape_zyx, dtype=np.int64) > _MOST_LABEL_VOXELS:
        message = f"the label map would be read in {box.shape_zyx} voxels for one slice across it"
        raise RequestError("request.too-large", message)
    return box


def _png(picture: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", compress_level=4)
    return out.getvalue()
