"""The picture of a subject: CT with label overlay in three planes, and the PET from the front.

Every pixel is looked up by its world position, so that a picture looks the same for every voxel order: as in radiology,
the patient's right is on the left of the picture, the head or the front up, and a pixel is a square in mm. What lies
on the wrong side in the picture lies on the wrong side in the patient.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    ImageDraw,
    ImageFont,
    WebPImagePlugin,  # noqa: F401  # else saving loads every format that Pillow knows
)

from converter.readback import read_level
from corpus import layout
from corpus.geometry import Grid, Voxels
from corpus.labels import rgba_of
from corpus.models import Level, Scaling
from corpus.picture import CT_WINDOWS_HU, PLANES, Pixels, Points, linear, picked, voxels_at
from corpus.regions import Box
from corpus.stores import Store
from corpus.zarr_v3 import DOCUMENT, Document, level_of

SIDE_PIXELS: Final = 240
"""Height of a picture; no plane is wider or higher."""
_GAP: Final = 4
_CT_MM: Final = 4.0
_PET_MM: Final = 8.0
"""Coarsest levels that are fine enough for a picture of that size."""
_CT_WINDOW: Final = CT_WINDOWS_HU["soft"]
_HIGH_PERCENT: Final = 99.5
_GAMMA: Final = 0.7
"""So that a full bladder does not leave everything else white."""
_LANDMARK: Final = "liver"
"""What the axial plane goes through: there right and left differ most."""
_FILL, _EDGE = 0.3, 0.95
_AXIAL, _CORONAL, _SAGITTAL = PLANES["axial"], PLANES["coronal"], PLANES["sagittal"]
_MARKS: Final = {_AXIAL: ("R", "L"), _CORONAL: ("R", "L"), _SAGITTAL: ("A", "P")}


class Layer(NamedTuple):
    """A volume at one level.

    Attributes
    ----------
    voxels
        Stored numbers, or labels; shape (z, y, x).
    grid
        Their lattice.
    scaling
        From stored to physical numbers, which are made of the pixels that are looked up only.
    names
        Names of the labels, by value.
    """

    voxels: Voxels
    grid: Grid
    scaling: Scaling = Scaling()
    names: dict[int, str] = {}  # noqa: RUF012  # nobody writes to it


class Layers(NamedTuple):
    """What a picture is made of; a subject may lack any of them."""

    base: Layer | None
    labels: tuple[Layer, ...]
    pet: Layer | None


def draw(layers: Layers) -> bytes:
    """Return the picture of a subject as WebP: axial, coronal and sagittal plane, then the PET.

    Raises
    ------
    ValueError
        There is nothing to draw.
    """
    panels = []
    bounds, focus = _bounds(layers), _focus(layers)
    if layers.base is not None:
        for across in (_AXIAL, _CORONAL, _SAGITTAL):
            points = plane(bounds, focus, across)
            panels.append(_marked(overlaid(layers.base, layers.labels, points), _MARKS[across]))
    if layers.pet is not None:
        points = plane(bounds, focus, _CORONAL)
        panels.append(_marked(projected(layers.pet, points), _MARKS[_CORONAL]))
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    whole = Image.new("RGB", (width, SIDE_PIXELS))
    left = 0
    for panel in panels:
        whole.paste(panel, (left, (SIDE_PIXELS - panel.height) // 2))
        left += panel.width + _GAP
    out = io.BytesIO()
    whole.save(out, "WEBP", quality=80, method=2)
    return out.getvalue()


def plane(bounds: Points, focus: Points, across: int) -> Points:
    """Return the pixels of a plane through a point: world positions that fall along both rows and columns.

    Columns run to the patient's left (sagittal: to the back), rows to the feet (axial: to the back), for each of
    which the world coordinate falls.

    Parameters
    ----------
    bounds
        Corners of the box to show, shape (2, 3): lowest and highest x, y, z.
    focus
        A point of the plane: x, y, z.
    across
        World axis that the plane is perpendicular to: 0 sagittal, 1 coronal, 2 axial.
    """
    column_axis, row_axis = (axis for axis in range(3) if axis != across)
    extent = bounds[1] - bounds[0]
    mm = max(extent[column_axis], extent[row_axis]) / SIDE_PIXELS
    shape = [max(1, round(extent[axis] / mm)) for axis in (row_axis, column_axis)]
    points = np.empty((*shape, 3))
    points[..., across] = focus[across]
    points[..., row_axis] = (bounds[1][row_axis] - (np.arange(shape[0]) + 0.5) * mm)[:, None]
    points[..., column_axis] = bounds[1][column_axis] - (np.arange(shape[1]) + 0.5) * mm
    return points


def overlaid(base: Layer, labels: Iterable[Layer], points: Points) -> Pixels:
    """Return a plane of a volume in grey with label maps over it: a tint, and a line around each region."""
    low, high = _window(base)
    grey = np.clip((_linear(base, points, low) - low) / (high - low), 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=2)
    shown = np.zeros(grey.shape, dtype=np.int64)
    places = {}
    for number, layer in enumerate(labels):
        if layer.grid not in places:  # most maps share one lattice
            places[layer.grid] = voxels_at(layer.grid, points)
        values = picked(layer.voxels, *places[layer.grid]).astype(np.int64)
        # Values restart in every map; neighbours of two maps should differ in colour as well.
        shown = np.where(values > 0, values + 61 * number, shown)
    values, place = np.unique(shown, return_inverse=True)
    colors = np.array([rgba_of(value)[:3] for value in values.tolist()])[place]
    weight = np.where(shown > 0, np.where(_inner(shown), _FILL, _EDGE), 0)[..., None]
    picture = picture * (1 - weight) + colors * weight
    return np.asarray(np.rint(picture), dtype=np.uint8)


def projected(pet: Layer, points: Points) -> Pixels:
    """Return the maximum intensity projection of a PET from the front, dark where the uptake is high."""
    # Along the array axis that is closest to front and back.
    axis = pet.grid.world_axes.index(1)
    physical = pet.voxels * np.float32(pet.scaling.slope) + np.float32(pet.scaling.inter)
    flat = np.nan_to_num(physical, nan=0.0, posinf=0.0, neginf=0.0).max(axis=axis, keepdims=True)
    high = float(np.percentile(flat, _HIGH_PERCENT))
    index = pet.grid.to_index_zyx(points)
    index[..., axis] = 0
    values = linear(flat, index, 0.0)
    grey = 255 - np.clip(values / high if high > 0 else values, 0, 1) ** _GAMMA * 255
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def nearest(layer: Layer, points: Points) -> Voxels:
    """Return the voxel that holds each point; 0 outside the volume."""
    return picked(layer.voxels, *voxels_at(layer.grid, points))


def _linear(layer: Layer, points: Points, outside: float) -> Points:
    slope, inter = layer.scaling.slope, layer.scaling.inter
    return linear(layer.voxels, layer.grid.to_index_zyx(points), (outside - inter) / slope) * slope + inter


def _inner(shown: NDArray[np.int64]) -> NDArray[np.bool_]:
    # Pixels whose four neighbours belong to the same region.
    padded = np.pad(shown, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.all([shown == other for other in beside], axis=0)


def _window(base: Layer) -> tuple[float, float]:
    some = base.voxels[::2, ::2, ::2]  # every other voxel is quick, and enough
    finite = some[np.isfinite(some)] if some.dtype.kind == "f" else some
    slope, inter = base.scaling.slope, base.scaling.inter
    if finite.size and min(finite.min() * slope, finite.max() * slope) + inter < _CT_WINDOW[0]:
        return _CT_WINDOW
    # No Hounsfield units, or ones that lost their intercept: shown as they are.
    low, high = np.percentile(finite * slope + inter, [1, 99]) if finite.size else (0.0, 1.0)
    return float(low), float(high) if high > low else float(low) + 1


def _bounds(layers: Layers) -> Points:
    """Return lowest and highest x, y, z of the picture: those of the CT, and as high as the PET reaches."""
    boxes = [
        np.reshape(Box.whole(layer.grid).bounds_mm_ras(layer.grid), (2, 3))
        for layer in (layers.base, layers.pet)
        if layer is not None
    ]
    if not boxes:
        raise ValueError("neither a CT nor a PET")
    bounds = boxes[0].copy()
    # CT and PET side by side at the same heights: a PET that is shifted shows.
    bounds[0, 2] = min(box[0, 2] for box in boxes)
    bounds[1, 2] = max(box[1, 2] for box in boxes)
    return bounds


def _focus(layers: Layers) -> Points:
    """Return the point that all planes go through: amid all labels, at the height of the liver where there is one."""
    middles = [place for layer in layers.labels if (place := _centre(layer)) is not None]
    middle = np.mean(middles, axis=0) if middles else None
    if layers.base is None:
        return np.asarray(_bounds(layers).mean(axis=0))
    if middle is None or not _holds(layers.base.grid, middle):
        return layers.base.grid.to_world_mm((np.array(layers.base.grid.shape_zyx) - 1) / 2)
    for layer in layers.labels:
        for value in (value for value, name in layer.names.items() if name == _LANDMARK):
            if (place := _centre(layer, value)) is not None:
                middle[2] = place[2]
    return np.asarray(middle)


def _centre(layer: Layer, value: int | None = None) -> Points | None:
    some = layer.voxels[::2, ::2, ::2]
    index = np.argwhere(some if value is None else some == value)
    return layer.grid.to_world_mm(index.mean(axis=0) * 2) if len(index) else None


def _holds(grid: Grid, point: Points) -> bool:
    index = grid.to_index_zyx(point)
    return bool(np.all((index >= 0) & (index <= np.array(grid.shape_zyx) - 1)))


def _marked(pixels: Pixels, marks: tuple[str, str]) -> Image.Image:
    panel = Image.fromarray(pixels)
    pen = ImageDraw.Draw(panel)
    font = ImageFont.load_default(13)
    left, right = marks
    style: dict[str, Any] = {"fill": "white", "stroke_width": 2, "stroke_fill": "black", "font": font}
    pen.text((3, panel.height // 2), left, anchor="lm", **style)
    pen.text((panel.width - 3, panel.height // 2), right, anchor="rm", **style)
    return panel


def read_layers(store: Store, subject: str) -> Layers:
    """Read what a picture needs from a subject's store; its own metadata say all of it."""
    root = layout.store_key(subject)
    document = json.loads(store.get(f"{root}/{DOCUMENT}"))
    members: dict[str, Document] = document["consolidated_metadata"]["metadata"]
    images = sorted(path.removesuffix("/scale0") for path in members if path.endswith("/scale0"))
    labels = [name for name in images if name.startswith(("ct/labels/", "labels_"))]
    bases = [name for name in ("ct", *images) if name in images and name not in {"pet", *labels}]

    def read(image: str, fine_mm: float) -> Layer:
        number, level = _level_of(members, image, fine_mm)
        path = layout.array_path(image, number)
        voxels = read_level(store, f"{root}/{path}", level, members[path]["data_type"])
        return _layer(voxels, level.grid, members[path]["attributes"])

    return Layers(
        base=read(bases[0], _CT_MM) if bases else None,
        labels=tuple(read(name, _CT_MM) for name in labels),
        pet=read("pet", _PET_MM) if "pet" in images else None,
    )


def _layer(voxels: Voxels, grid: Grid, attributes: dict[str, Any]) -> Layer:
    if "flag_values" in attributes:
        names = dict(zip(attributes["flag_values"], attributes["flag_meanings"].split(), strict=True))
        return Layer(voxels, grid, names=names)
    return Layer(voxels, grid, Scaling(attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)))


def _level_of(members: dict[str, Document], image: str, fine_mm: float) -> tuple[int, Level]:
    # The coarsest level that is fine enough, or the finest there is.
    found: tuple[int, Level] | None = None
    for number in count():
        path = layout.level_path(image, number)
        if path not in members:
            break
        level = level_of(members[layout.array_path(image, number)], members[path]["attributes"]["voxshelf"])
        if found is not None and min(level.grid.spacing_mm_zyx) > fine_mm:
            break
        found = number, level
    if found is None:
        raise ValueError(f"{image} has no level")
    return found
