"""Boxes of voxels and of millimetres, against counting voxels one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpus.errors import RequestError
from corpus.geometry import Grid, Reorder, Triple
from corpus.regions import Bounds, Box, box_covering_mm, box_of_mm

TRIPLES = st.tuples(*[st.integers(-5, 15)] * 3)
FACTORS = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def aligned_grids(draw: st.DrawFn) -> Grid:
    """Any axis permutation and any flips."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, world in enumerate(draw(st.permutations(range(3)))):
        affine[world, column] = draw(st.floats(0.3, 6.0)) * draw(st.sampled_from((-1, 1)))
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return Grid.of([draw(st.integers(1, 9)) for _ in range(3)], affine)


@st.composite
def boxes_in(draw: st.DrawFn, shape_zyx: Triple) -> Box:
    start = [draw(st.integers(0, n - 1)) for n in shape_zyx]
    return Box.of(start, [draw(st.integers(a + 1, n)) for a, n in zip(start, shape_zyx, strict=True)])


@st.composite
def bounds_near(draw: st.DrawFn, grid: Grid) -> Bounds:
    """World boxes whose faces lie on voxel centres, between them, or outside."""
    low, high = Box.whole(grid).bounds_mm_ras(grid)[:3], Box.whole(grid).bounds_mm_ras(grid)[3:]
    ends = []
    for axis in range(3):
        centres = {float(v) for v in grid.to_world_mm(np.argwhere(np.ones(grid.shape_zyx)))[:, axis]}
        face = st.one_of(st.sampled_from(sorted(centres)), st.floats(low[axis] - 10, high[axis] + 10))
        ends.append(sorted((draw(face), draw(face))))
    (x0, x1), (y0, y1), (z0, z1) = ends
    return x0, y0, z0, x1, y1, z1


def voxels_inside(bounds: Bounds, grid: Grid, within_mm: float = 1e-7) -> set[tuple[int, ...]]:
    index = np.argwhere(np.ones(grid.shape_zyx))
    world = grid.to_world_mm(index)
    inside = np.all((world >= np.array(bounds[:3]) - within_mm) & (world <= np.array(bounds[3:]) + within_mm), axis=1)
    return {tuple(voxel) for voxel in index[inside].tolist()}


def voxels_of(box: Box) -> set[tuple[int, ...]]:
    return set(itertools.product(*itertools.starmap(range, zip(box.start_zyx, box.stop_zyx, strict=True))))


class TestBox:
    @given(TRIPLES, TRIPLES)
    def test_is_half_open(self, start: Triple, stop: Triple) -> None:
        box = Box(start, stop)
        voxels = voxels_of(box)
        assert np.prod(box.shape_zyx) == len(voxels)
        assert box.is_empty is (not voxels)

    @given(st.data())
    def test_slices_take_exactly_its_voxels(self, data: st.DataObject) -> None:
        box = data.draw(boxes_in((4, 5, 6)))
        taken = np.zeros((4, 5, 6), dtype=bool)
        taken[box.slices] = True
        assert {tuple(voxel) for voxel in np.argwhere(taken).tolist()} == voxels_of(box)
        assert taken[box.slices].shape == box.shape_zyx

    @given(TRIPLES, TRIPLES, st.tuples(*[st.integers(1, 10)] * 3))
    def test_clipping_keeps_the_voxels_that_exist(self, start: Triple, stop: Triple, shape: Triple) -> None:
        clipped = Box(start, stop).clipped(shape)
        assert voxels_of(clipped) == voxels_of(Box(start, stop)) & voxels_of(Box((0, 0, 0), shape))
        # Also an empty one must not wrap round as a negative index would.
        assert np.zeros(shape)[clipped.slices].shape == clipped.shape_zyx
        assert min(clipped.start_zyx) >= 0

    @given(aligned_grids())
    def test_whole_is_every_voxel(self, grid: Grid) -> None:
        assert len(voxels_of(Box.whole(grid))) == np.prod(grid.shape_zyx)

    @given(st.data(), FACTORS)
    def test_its_level_covers_it_and_no_more(self, data: st.DataObject, factors: Triple) -> None:
        box = data.draw(boxes_in((12, 13, 14)))
        expected = {tuple(int(v) // f for v, f in zip(voxel, factors, strict=True)) for voxel in voxels_of(box)}
        assert voxels_of(box.at_level(factors)) == expected

    def test_holds_plain_numbers(self) -> None:
        box = Box.of(np.array([1, 2, 3]), np.array([4, 5, 6], dtype=np.uint8))
        assert box == Box((1, 2, 3), (4, 5, 6))
        assert {type(v) for v in box.start_zyx + box.stop_zyx} == {int}


class TestMargin:
    @given(aligned_grids(), st.data(), st.floats(0, 30))
    def test_is_kept_on_all_sides_and_by_less_than_a_voxel_more(
        self, grid: Grid, data: st.DataObject, margin: float
    ) -> None:
        box = data.draw(boxes_in(grid.shape_zyx))
        grown = box.expanded_mm(margin, grid)
        for axis, spacing in enumerate(grid.spacing_mm_zyx):
            for gained, room in (
                (box.start_zyx[axis] - grown.start_zyx[axis], box.start_zyx[axis]),
                (grown.stop_zyx[axis] - box.stop_zyx[axis], grid.shape_zyx[axis] - box.stop_zyx[axis]),
            ):
                assert 0 <= gained <= room
                assert gained == room or margin - 1e-9 <= gained * spacing < margin + spacing + 1e-9

    def test_of_five_millimetres(self, make_grid: Callable[..., Grid]) -> None:
        grid = make_grid("LAS", (40, 40, 40), (1.0, 2.0, 3.0))
        box = Box((10, 10, 10), (11, 11, 11)).expanded_mm(5, grid)
        assert box == Box((8, 7, 5), (13, 14, 16))


class TestBounds:
    @given(aligned_grids(), st.data())
    def test_reach_half_a_voxel_beyond_the_outer_centres(self, grid: Grid, data: st.DataObject) -> None:
        box = data.draw(boxes_in(grid.shape_zyx))
        centres = grid.to_world_mm(sorted(voxels_of(box)))
        half = np.empty(3)
        half[list(grid.world_axes)] = np.array(grid.spacing_mm_zyx) / 2
        np.testing.assert_allclose(
            box.bounds_mm_ras(grid), [*(centres.min(axis=0) - half), *(centres.max(axis=0) + half)], atol=1e-8
        )

    @given(aligned_grids(), st.data())
    def test_give_the_box_back(self, grid: Grid, data: st.DataObject) -> None:
        box = data.draw(boxes_in(grid.shape_zyx))
        assert box_of_mm(box.bounds_mm_ras(grid), grid) == box


class TestBoxOfMillimetres:
    @given(aligned_grids(), st.data())
    def test_picks_exactly_the_centres_inside(self, grid: Grid, data: st.DataObject) -> None:
        bounds = data.draw(bounds_near(grid))
        expected = voxels_inside(bounds, grid)
        # Faces that miss a centre by next to nothing are float noise, which may fall either way.
        assume(expected == voxels_inside(bounds, grid, 1e-5))
        if expected:
            assert voxels_of(box_of_mm(bounds, grid)) == expected
        else:
            with pytest.raises(RequestError, match="no voxel lies") as caught:
                box_of_mm(bounds, grid)
            assert caught.value.code == "request.region"

    @given(aligned_grids(), st.data(), st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))
    def test_loses_none_on_an_oblique_grid(self, grid: Grid, data: st.DataObject, a: float, b: float) -> None:
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        tilt = np.eye(4)
        tilt[1:3, 1:3] = [[np.cos(b), -np.sin(b)], [np.sin(b), np.cos(b)]]
        oblique = Grid.of(grid.shape_zyx, turn @ tilt @ np.array(grid.affine))
        bounds = data.draw(bounds_near(oblique))
        expected = voxels_inside(bounds, oblique)
        assume(expected)
        assert voxels_of(box_of_mm(bounds, oblique)) >= expected

    def test_left_and_right_are_the_patients(self, make_grid: Callable[..., Grid]) -> None:
        """The x index falls as x grows, so the right half of the patient has the low indices."""
        grid = make_grid("LAS", (2, 2, 10), (1.0, 1.0, 1.0), (4.5, 0, 0))
        assert box_of_mm((0, -9, -9, 99, 9, 9), grid) == Box((0, 0, 0), (2, 2, 5))
        assert box_of_mm((-99, -9, -9, 0, 9, 9), grid) == Box((0, 0, 5), (2, 2, 10))

    def test_a_point_on_a_centre_is_one_voxel(self, make_grid: Callable[..., Grid]) -> None:
        grid = make_grid("LPS", (9, 9, 9), (0.1, 0.3, 0.7), (0.1, 0.2, 0.3))
        x, y, z = (float(v) for v in grid.to_world_mm((3, 4, 5)))
        assert box_of_mm((x, y, z, x, y, z), grid) == Box((3, 4, 5), (4, 5, 6))

    @pytest.mark.parametrize(
        "bounds",
        [(1, 0, 0, 0, 1, 1), (0, 1, 0, 1, 0, 1), (0, 0, 1, 1, 1, 0), (float("nan"), 0, 0, 1, 1, 1)],
        ids=["x turned", "y turned", "z turned", "NaN"],
    )
    def test_a_box_that_is_none_is_refused(self, make_grid: Callable[..., Grid], bounds: Bounds) -> None:
        with pytest.raises(RequestError, match="must have x0 <= x1") as caught:
            box_of_mm(bounds, make_grid("RAS", origin_mm=(-5, -5, -5)))
        assert caught.value.code == "request.region"

    def test_the_refusal_says_where_the_volume_is(self, make_grid: Callable[..., Grid]) -> None:
        grid = make_grid("RAS", (2, 3, 4), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
        with pytest.raises(RequestError) as caught:
            box_of_mm((100, 100, 100, 101, 101, 101), grid)
        assert "(0.0, 0.0, 0.0, 4.0, 3.0, 2.0)" in caught.value.message

    @pytest.mark.parametrize("far", [1e6, 1e30, float("inf")])
    def test_a_box_much_larger_than_the_volume_takes_all_of_it(
        self, make_grid: Callable[..., Grid], far: float
    ) -> None:
        """Faces beyond what an integer index can tell, and a side that is left open, are clipped as well."""
        grid = make_grid("LAS")
        assert box_of_mm((-far, -far, -far, far, far, far), grid) == Box.whole(grid)


@given(st.data())
def test_a_covering_box_holds_every_voxel_that_the_world_box_reaches_into(data: st.DataObject) -> None:
    grid = data.draw(aligned_grids())
    inner = data.draw(boxes_in(grid.shape_zyx)).bounds_mm_ras(grid)
    grown = [data.draw(st.floats(-0.45, 0.45)) * min(grid.spacing_mm_zyx) for _ in range(6)]
    ends = [sorted((inner[axis] + grown[axis], inner[axis + 3] + grown[axis + 3])) for axis in range(3)]
    bounds = (ends[0][0], ends[1][0], ends[2][0], ends[0][1], ends[1][1], ends[2][1])
    expected = set()
    for voxel in np.argwhere(np.ones(grid.shape_zyx)).tolist():
        faces = np.array(Box.of(voxel, np.array(voxel) + 1).bounds_mm_ras(grid))
        if np.all(np.minimum(faces[3:], bounds[3:]) - np.maximum(faces[:3], bounds[:3]) > 1e-4):
            expected.add(tuple(voxel))
    assume(expected)
    found = voxels_of(box_covering_mm(bounds, grid))
    assert expected <= found
    # Those that are left out of the count above are reached into by less than float noise and a hair.
    assert box_covering_mm(inner, grid) == box_of_mm(inner, grid)


def test_a_covering_box_smaller_than_a_voxel_is_that_voxel() -> None:
    grid = Grid.of((4, 5, 6), np.diag([3.0, 3.0, 3.0, 1.0]))
    spot = (7.0, 4.0, 1.6, 7.2, 4.2, 2.0)
    with pytest.raises(RequestError, match="no voxel lies"):
        box_of_mm(spot, grid)
    assert box_covering_mm(spot, grid) == Box((1, 1, 2), (2, 2, 3))
    with pytest.raises(RequestError, match=r"request\.region"):
        box_covering_mm((90.0, 0.0, 0.0, 91.0, 1.0, 1.0), grid)


@given(st.data())
def test_a_box_is_found_again_in_another_voxel_order(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    axes = data.draw(st.permutations([0, 1, 2]))
    reorder = Reorder((axes[0], axes[1], axes[2]), data.draw(st.tuples(*[st.booleans()] * 3)))
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    box = Box.of(start, [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)])
    array = np.arange(np.prod(shape)).reshape(shape)
    moved = reorder.apply(array)
    there = box.reordered(reorder, moved.shape)  # type: ignore[arg-type]  # three sides
    assert np.array_equal(reorder.undo(moved[there.slices]), array[box.slices])
