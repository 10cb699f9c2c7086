"""Pictures look the same for every voxel order, and what lies right in the patient is on their left."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from converter.thumbnail import SIDE_PIXELS, Layer, Layers, draw, nearest, overlaid, plane, projected, read_layers
from corpus.geometry import Grid, Reorder
from corpus.labels import rgba_of
from corpus.regions import Box
from corpus.stores import Store

# 40 x 30 x 20 voxels of 4 x 5 x 8 mm (z, y, x reversed below), centred on the world's origin.
SHAPE = (20, 30, 40)
GRID = Grid.of(SHAPE, [[4, 0, 0, -78], [0, 5, 0, -72.5], [0, 0, 8, -76], [0, 0, 0, 1]])
BOUNDS = np.reshape(Box.whole(GRID).bounds_mm_ras(GRID), (2, 3))
ORDERS = [
    Reorder(axes, flips)
    for axes in itertools.permutations((0, 1, 2))
    for flips in itertools.product((False, True), repeat=3)
]


def ramp() -> Layer:
    """A value that tells where it lies: HU that grow to the right, to the front and to the head."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    return Layer((-400 + 2 * x + 5 * y + 11 * z).astype(np.float32), GRID)


def corner() -> Layer:
    """A label in the right, front, upper part."""
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    voxels[12:18, 20:28, 25:38] = 5
    return Layer(voxels, GRID, names={5: "liver"})


def turned(layer: Layer, order: Reorder) -> Layer:
    return Layer(np.ascontiguousarray(order.apply(layer.voxels)), layer.grid.reordered(order), names=layer.names)


def center_of(pixels: np.ndarray) -> tuple[float, float]:
    """Row and column of the middle of a mask, as fractions of the picture."""
    row, column = np.argwhere(pixels).mean(axis=0) / pixels.shape
    return float(row), float(column)


def colored(picture: np.ndarray) -> np.ndarray:
    return np.ptp(picture.astype(int), axis=2) > 8


FOCUS = np.array([46.0, 45.0, 40.0])
"""Middle of that region: voxel centres 25 to 37 along x are 22 to 70 mm, and so on."""


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("across", [0, 1, 2], ids=["sagittal", "coronal", "axial"])
def test_the_right_front_upper_part_is_on_the_left_and_up_in_every_order(order: Reorder, across: int) -> None:
    # Axial: right is left, front is up. Coronal: right is left, head is up. Sagittal: front is left, head is up.
    points = plane(BOUNDS, FOCUS, across)
    picture = overlaid(turned(ramp(), order), [turned(corner(), order)], points)
    row, column = center_of(colored(picture))
    assert row < 0.5
    assert column < 0.5
    # But for the rounding of a grey, the very picture of the order at hand.
    np.testing.assert_allclose(picture.astype(int), overlaid(ramp(), [corner()], points).astype(int), atol=1)


@pytest.mark.parametrize("across", [0, 1, 2])
def test_the_overlay_covers_exactly_the_pixels_of_the_region(across: int) -> None:
    points = plane(BOUNDS, FOCUS, across)
    x, y, z = np.moveaxis(points, -1, 0)
    # Outer faces of the region, from its voxels and the affine by hand.
    inside = (abs(x - 46) < 26) & (abs(y - 45) < 20) & (abs(z - 40) < 24)
    np.testing.assert_array_equal(colored(overlaid(ramp(), [corner()], points)), inside)
    edge = inside & ~(np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1))
    picture = overlaid(ramp(), [corner()], points)
    assert (abs(picture[edge].astype(int) - rgba_of(5)[:3]) < 20).all()


@given(
    degrees=st.floats(-40, 40),
    axis=st.sampled_from([0, 1, 2]),
    order=st.sampled_from(ORDERS),
    across=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=25, deadline=None)
def test_oblique_volumes_are_drawn_where_they_lie(degrees: float, axis: int, order: Reorder, across: int) -> None:
    turn = np.eye(4)
    a, b = (i for i in range(3) if i != axis)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[[a, a, b, b], [a, b, a, b]] = cos, -sin, sin, cos
    layer = Layer(corner().voxels, Grid.of(SHAPE, turn @ np.array(GRID.affine)))
    points = plane(BOUNDS, turn[:3, :3] @ FOCUS, across)
    # Back to the patient's position before it was turned: there the region is a plain box.
    x, y, z = np.moveaxis(points @ turn[:3, :3], -1, 0)
    away = np.max([abs(x - 46) - 26, abs(y - 45) - 20, abs(z - 40) - 24], axis=0)
    found = nearest(turned(layer, order), points) == 5
    assert found[away < -1e-6].all()
    assert not found[away > 1e-6].any()


@pytest.mark.parametrize("across", [0, 1, 2])
def test_pixels_are_squares_in_mm(across: int) -> None:
    points = plane(BOUNDS, FOCUS, across)
    down = np.linalg.norm(points[1, 0] - points[0, 0])
    aside = np.linalg.norm(points[0, 1] - points[0, 0])
    assert down == pytest.approx(aside)
    assert max(points.shape[:2]) == SIDE_PIXELS


@pytest.mark.parametrize("order", ORDERS)
def test_the_pet_shows_what_is_hottest_from_front_to_back(order: Reorder) -> None:
    voxels = np.zeros(SHAPE, dtype=np.float32)
    voxels[2:5, 3:6, 30:36] = 9  # at the back, on the right, at the feet
    voxels[10, 10, 10] = np.nan
    layer = Layer(voxels, GRID)
    points = plane(BOUNDS, FOCUS, 1)
    picture = projected(turned(layer, order), points)[..., 0]
    row, column = center_of(picture < 60)
    assert row > 0.7
    assert column < 0.25
    np.testing.assert_array_equal(picture, projected(layer, points)[..., 0])


def test_a_label_map_on_another_lattice_lies_where_it_belongs() -> None:
    # Twice as fine, and shifted by whole voxels: the same place in the world.
    fine = np.repeat(np.repeat(np.repeat(corner().voxels, 2, 0), 2, 1), 2, 2)[4:]
    grid = Grid.of(fine.shape, [[2, 0, 0, -79], [0, 2.5, 0, -73.75], [0, 0, 4, -78 + 16], [0, 0, 0, 1]])
    points = plane(BOUNDS, FOCUS, 2)
    apart = overlaid(ramp(), [Layer(fine, grid)], points)
    np.testing.assert_array_equal(apart, overlaid(ramp(), [corner()], points))


@pytest.mark.parametrize(
    ("layers", "panels"),
    [
        (Layers(ramp(), (corner(),), Layer(np.ones(SHAPE, np.float32), GRID)), 4),
        (Layers(ramp(), (), None), 3),
        (Layers(None, (corner(),), Layer(np.ones(SHAPE, np.float32), GRID)), 1),
        (Layers(Layer(np.full(SHAPE, np.nan, np.float32), GRID), (), None), 3),
        (Layers(Layer(np.zeros((1, 1, 1), np.int16), Grid.of((1, 1, 1), np.eye(4))), (), None), 3),
    ],
)
def test_a_picture_of_whatever_is_there(layers: Layers, panels: int) -> None:
    picture = Image.open(io.BytesIO(draw(layers)))
    assert picture.height == SIDE_PIXELS
    assert SIDE_PIXELS * 0.5 * panels < picture.width <= (SIDE_PIXELS + 4) * panels


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="neither"):
        draw(Layers(None, (corner(),), None))


def test_a_subject_s_own_metadata_say_all_of_it(phantom_mirror: Path) -> None:
    layers = read_layers(Store(str(phantom_mirror)), "0002")
    assert layers.base is not None
    assert layers.pet is not None
    assert len(layers.labels) == 7
    assert (layers.base.voxels.min(), round(float(layers.base.voxels.max()))) == (-1024, 936)
    liver = next((layer, value) for layer in layers.labels for value, name in layer.names.items() if name == "liver")
    x, _, _ = liver[0].grid.to_world_mm(np.argwhere(liver[0].voxels == liver[1]).mean(axis=0))
    assert x > 30
