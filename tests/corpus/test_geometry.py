"""Voxel lattices, against nibabel, which counts (i, j, k) where we count (k, j, i)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.orientations import io_orientation

from corpus.geometry import ALIGNED_WITHIN_VOXELS, Grid, Reorder, Triple, reorder_onto

REORDERS = [
    Reorder((a, b, c), flips)
    for a, b, c in itertools.permutations((0, 1, 2))
    for flips in itertools.product((False, True), (False, True), (False, True))
]
ENDS = {
    "R": "left-to-right",
    "L": "right-to-left",
    "A": "posterior-to-anterior",
    "P": "anterior-to-posterior",
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
}
SPACINGS = st.floats(0.3, 6.0)
MM = st.floats(-800.0, 800.0)


@st.composite
def shapes(draw: st.DrawFn, most: int = 12) -> Triple:
    z, y, x = (draw(st.integers(1, most)) for _ in range(3))
    return z, y, x


@st.composite
def aligned_grids(draw: st.DrawFn, most: int = 12) -> Grid:
    """Any axis permutation and any flips, no rotation."""
    steps = np.zeros((3, 3))
    for column, world in enumerate(draw(st.permutations(range(3)))):
        steps[world, column] = draw(SPACINGS) * draw(st.sampled_from((-1, 1)))
    return grid_of(draw(shapes(most)), steps, [draw(MM) for _ in range(3)])


@st.composite
def grids(draw: st.DrawFn, most: int = 12) -> Grid:
    """Aligned, oblique and sheared ones."""
    grid = draw(aligned_grids(most))
    steps = np.array(grid.affine)[:3, :3]
    quaternion = [draw(st.floats(-1, 1)) for _ in range(4)]
    turn = rotation(quaternion) if np.linalg.norm(quaternion) > 0.1 else np.eye(3)
    shear = np.eye(3)
    if draw(st.booleans()):
        shear[0, 1], shear[0, 2], shear[1, 2] = (draw(st.floats(-0.3, 0.3)) for _ in range(3))
    return grid_of(grid.shape_zyx, turn @ shear @ steps, list(np.array(grid.affine)[:3, 3]))


def grid_of(shape_zyx: Triple, steps_ijk: np.ndarray, origin: list[float]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps_ijk, origin
    return Grid.of(shape_zyx, affine)


def rotation(quaternion: list[float]) -> np.ndarray:
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def tilted(grid: Grid, radians: float, axis: str = "x") -> Grid:
    """The grid, turned about a world axis."""
    half = {"x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1]}[axis]
    turn = rotation([np.cos(radians / 2), *(np.sin(radians / 2) * np.array(half))])
    affine = np.array(grid.affine)
    return grid_of(grid.shape_zyx, turn @ affine[:3, :3], list(affine[:3, 3]))


def moved(grid: Grid, by_voxels_zyx: tuple[float, float, float]) -> Grid:
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world_mm(by_voxels_zyx)
    return Grid.of(grid.shape_zyx, affine)


def stretched(grid: Grid, factor: float, axis: int) -> Grid:
    affine = np.array(grid.affine)
    affine[:3, 2 - axis] *= factor
    return Grid.of(grid.shape_zyx, affine)


def all_indices(shape_zyx: Triple) -> np.ndarray:
    return np.moveaxis(np.indices(shape_zyx), 0, -1)


def is_clear(grid: Grid) -> bool:
    """Whether float noise cannot decide which world axis an array axis is closest to."""
    unit = np.array(grid.affine)[:3, :3] / voxel_sizes(np.array(grid.affine))
    left, _, right = np.linalg.svd(unit)
    values = np.sort(np.abs(left @ right).ravel())
    return bool(np.min(np.diff(values)) > 1e-6) or grid.is_aligned


class TestAgainstNibabel:
    @given(grids())
    def test_world_positions_are_those_of_the_affine(self, grid: Grid) -> None:
        index = all_indices(grid.shape_zyx)
        np.testing.assert_allclose(
            grid.to_world_mm(index), apply_affine(np.array(grid.affine), index[..., ::-1]), atol=1e-8
        )

    @given(grids(), st.lists(st.tuples(MM, MM, MM), min_size=1, max_size=5))
    def test_indices_are_those_of_the_inverse_affine(self, grid: Grid, world: list[tuple[float, ...]]) -> None:
        expected = apply_affine(np.linalg.inv(np.array(grid.affine)), np.array(world))[..., ::-1]
        np.testing.assert_allclose(grid.to_index_zyx(world), expected, atol=1e-6)

    @given(grids())
    def test_spacing_and_volume(self, grid: Grid) -> None:
        affine = np.array(grid.affine)
        np.testing.assert_allclose(grid.spacing_mm_zyx, voxel_sizes(affine)[::-1])
        assert grid.voxel_ml == pytest.approx(abs(np.linalg.det(affine)) / 1000)

    @given(grids())
    def test_orientation_and_axes(self, grid: Grid) -> None:
        assume(is_clear(grid))
        affine = np.array(grid.affine)
        assert tuple(grid.orientation) == nib.aff2axcodes(affine)
        world, signs = io_orientation(affine)[::-1].T.astype(int)
        assert grid.world_axes == tuple(world)
        assert grid.signs == tuple(signs)
        assert grid.dims == tuple("xyz"[axis] for axis in world)
        assert grid.directions == tuple(ENDS[letter] for letter in nib.aff2axcodes(affine)[::-1])


class TestOrientationExamples:
    @pytest.mark.parametrize(
        ("orientation", "dims", "signs"),
        [
            ("RAS", ("z", "y", "x"), (1, 1, 1)),
            ("LAS", ("z", "y", "x"), (1, 1, -1)),
            ("LPS", ("z", "y", "x"), (1, -1, -1)),
            ("LPI", ("z", "y", "x"), (-1, -1, -1)),
            ("SLA", ("y", "x", "z"), (1, -1, 1)),
            ("PIR", ("x", "z", "y"), (1, -1, -1)),
        ],
    )
    def test_names_and_signs(
        self, make_grid: Callable[..., Grid], orientation: str, dims: tuple[str, ...], signs: Triple
    ) -> None:
        grid = make_grid(orientation)
        assert (grid.orientation, grid.dims, grid.signs) == (orientation, dims, signs)
        assert grid.directions == tuple(ENDS[letter] for letter in orientation[::-1])
        assert grid.is_aligned
        assert not grid.is_sheared

    def test_spacing_goes_with_its_axis_when_axes_are_permuted(self, make_grid: Callable[..., Grid]) -> None:
        assert make_grid("SLA", spacing_ijk=(5.0, 1.0, 2.0)).spacing_mm_zyx == (2.0, 1.0, 5.0)

    def test_two_axes_nearest_to_one_world_axis_get_two_names(self) -> None:
        """A double-oblique scan: a rule that looks at each axis by itself names two of them the same."""
        steps = rotation([-0.9, 1.2, -0.1, 0.8]) @ np.diag([1.0, 1.0, 3.0])
        grid = grid_of((5, 5, 5), steps, [0, 0, 0])
        assert sorted(grid.dims) == ["x", "y", "z"]
        assert tuple(grid.orientation) == nib.aff2axcodes(np.array(grid.affine))


class TestCoordinates:
    @given(aligned_grids(), st.data())
    def test_each_is_the_world_position_of_its_voxels(self, grid: Grid, data: st.DataObject) -> None:
        axis = data.draw(st.integers(0, 2))
        world = grid.to_world_mm(all_indices(grid.shape_zyx))[..., "xyz".index(grid.dims[axis])]
        expected = np.moveaxis(world, axis, 0).reshape(grid.shape_zyx[axis], -1)
        coordinates = grid.coordinates_mm(axis)
        assert coordinates.shape == (grid.shape_zyx[axis],)
        np.testing.assert_allclose(np.broadcast_to(coordinates[:, None], expected.shape), expected, atol=1e-9)

    @given(aligned_grids(40), st.tuples(*[st.sampled_from((1, 2, 4, 8, 16))] * 3), st.integers(0, 2))
    def test_of_a_level(self, grid: Grid, factors: Triple, axis: int) -> None:
        level = grid.downsampled(factors)
        world, f = grid.world_axes[axis], factors[axis]
        origin, step = grid.affine[world][3], grid.affine[world][2 - axis]
        expected = [origin + step * ((f - 1) / 2 + f * i) for i in range(level.shape_zyx[axis])]
        np.testing.assert_allclose(level.coordinates_mm(axis), expected, atol=1e-9)

    def test_of_las_decrease_along_x_only(self, make_grid: Callable[..., Grid]) -> None:
        grid = make_grid("LAS", (2, 3, 4), (0.5, 1.5, 3.0), (10, -20, 30))
        assert grid.coordinates_mm(0).tolist() == [30, 33]
        assert grid.coordinates_mm(1).tolist() == [-20, -18.5, -17]
        assert grid.coordinates_mm(2).tolist() == [10, 9.5, 9, 8.5]

    def test_of_an_oblique_grid_are_distances_from_voxel_0(self, make_grid: Callable[..., Grid]) -> None:
        grid = tilted(make_grid("LPS", (6, 7, 8), (0.5, 1.5, 3.0)), 0.2)
        assert not grid.is_aligned
        for axis, spacing in enumerate((3.0, 1.5, 0.5)):
            np.testing.assert_allclose(grid.coordinates_mm(axis), spacing * np.arange(grid.shape_zyx[axis]), atol=1e-9)


class TestAlignment:
    @pytest.mark.parametrize("orientation", ["LAS", "RAS", "SLA"])
    @pytest.mark.parametrize(("share", "aligned"), [(0.8, True), (1.2, False)])
    def test_strays_by_part_of_a_voxel_over_the_whole_volume(
        self, make_grid: Callable[..., Grid], orientation: str, share: float, aligned: bool
    ) -> None:
        """Slices slide along y as they go up: what counts is how far the last one lies off."""
        shape = dict.fromkeys("xyz", 101)
        grid = make_grid(orientation, tuple(shape.values()), (1.0, 1.0, 1.0))
        affine = np.array(grid.affine)
        column = orientation.index("S")
        affine[1, column] += share * ALIGNED_WITHIN_VOXELS / 100
        assert Grid.of(grid.shape_zyx, affine).is_aligned is aligned

    def test_the_same_tilt_matters_more_in_a_longer_volume(self, make_grid: Callable[..., Grid]) -> None:
        short, long = (tilted(make_grid("LAS", (slices, 3, 3), (1.0, 1.0, 1.0)), 0.001) for slices in (20, 200))
        assert short.is_aligned
        assert not long.is_aligned

    def test_header_rounding_to_32_bits_is_no_tilt(self, make_grid: Callable[..., Grid]) -> None:
        grid = make_grid("LAS", (800, 512, 512), (0.9765625, 0.9765625, 1.1), (250.1, -233.3, -917.7))
        rounded = np.array(grid.affine, dtype=np.float32).astype(np.float64)
        rounded[:3, :3] += 1e-8
        assert Grid.of(grid.shape_zyx, rounded).is_aligned

    def test_rotation_is_no_shear_but_a_tilted_gantry_is(self, make_grid: Callable[..., Grid]) -> None:
        grid = make_grid("LAS", spacing_ijk=(1.0, 1.0, 5.0))
        assert not tilted(grid, 0.4, "y").is_sheared
        affine = np.array(grid.affine)
        affine[1, 2] = 5.0 * np.tan(np.radians(12))
        assert Grid.of(grid.shape_zyx, affine).is_sheared


class TestParts:
    @given(grids(9), st.tuples(*[st.integers(1, 4)] * 3))
    def test_a_downsampled_voxel_lies_at_the_centre_of_its_block(self, grid: Grid, factors: Triple) -> None:
        level = grid.downsampled(factors)
        assert level.shape_zyx == tuple(-(-n // f) for n, f in zip(grid.shape_zyx, factors, strict=True))
        block = all_indices(factors).reshape(-1, 3)
        for index in all_indices(level.shape_zyx).reshape(-1, 3):
            centre = grid.to_world_mm(index * np.array(factors) + block).mean(axis=0)
            np.testing.assert_allclose(level.to_world_mm(index), centre, atol=1e-8)

    @given(grids(30), st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
    def test_downsampling_twice_is_downsampling_by_the_product(self, grid: Grid, one: Triple, two: Triple) -> None:
        twice = grid.downsampled(one).downsampled(two)
        z, y, x = (a * b for a, b in zip(one, two, strict=True))
        once = grid.downsampled((z, y, x))
        assert twice.shape_zyx == once.shape_zyx
        np.testing.assert_allclose(twice.affine, once.affine, atol=1e-8)

    @given(grids(), st.data())
    def test_a_crop_moves_no_voxel(self, grid: Grid, data: st.DataObject) -> None:
        start = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape_zyx)
        stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape_zyx, strict=True))
        part = grid.cropped(start, stop)  # type: ignore[arg-type]  # three each
        index = all_indices(grid.shape_zyx)[tuple(itertools.starmap(slice, zip(start, stop, strict=True)))]
        np.testing.assert_allclose(part.to_world_mm(all_indices(part.shape_zyx)), grid.to_world_mm(index), atol=1e-8)


class TestReorder:
    @pytest.mark.parametrize("reorder", REORDERS, ids=str)
    def test_undo_takes_apply_back(self, reorder: Reorder) -> None:
        array = np.arange(24).reshape(2, 3, 4)
        np.testing.assert_array_equal(reorder.undo(reorder.apply(array)), array)
        np.testing.assert_array_equal(reorder.apply(reorder.undo(array)), array)

    @pytest.mark.parametrize("reorder", REORDERS, ids=str)
    def test_is_a_view_of_numpys_transpose_then_flips(self, reorder: Reorder) -> None:
        array = np.arange(24).reshape(2, 3, 4)
        flipped = tuple(axis for axis in range(3) if reorder.flips[axis])
        np.testing.assert_array_equal(reorder.apply(array), np.flip(np.transpose(array, reorder.axes), flipped))
        assert np.shares_memory(reorder.apply(array), array)
        assert np.shares_memory(reorder.undo(array), array)

    def test_only_one_is_the_identity(self) -> None:
        assert [reorder for reorder in REORDERS if reorder.is_identity] == [Reorder()]

    @given(grids(6), st.sampled_from(REORDERS))
    def test_no_voxel_of_the_grid_moves(self, grid: Grid, reorder: Reorder) -> None:
        after = grid.reordered(reorder)
        number = reorder.apply(np.arange(np.prod(grid.shape_zyx)).reshape(grid.shape_zyx))
        assert after.shape_zyx == number.shape
        world = grid.to_world_mm(all_indices(grid.shape_zyx)).reshape(-1, 3)[number]
        np.testing.assert_allclose(after.to_world_mm(all_indices(after.shape_zyx)), world, atol=1e-8)


class TestReorderOnto:
    @given(grids(6), st.sampled_from(REORDERS))
    def test_every_permutation_and_flip_is_found(self, target: Grid, made_by: Reorder) -> None:
        source = target.reordered(made_by)
        found = reorder_onto(source, target)
        assert found is not None
        laid = source.reordered(found)
        assert laid.shape_zyx == target.shape_zyx
        np.testing.assert_allclose(laid.affine, target.affine, atol=1e-8)
        voxels = np.arange(np.prod(target.shape_zyx)).reshape(target.shape_zyx)
        np.testing.assert_array_equal(found.apply(made_by.apply(voxels)), voxels)

    def test_las_onto_lps_flips_y_only(self, make_grid: Callable[..., Grid]) -> None:
        las = make_grid("LAS", (4, 5, 6), (1.0, 2.0, 3.0), (0, 0, 0))
        lps = make_grid("LPS", (4, 5, 6), (1.0, 2.0, 3.0), (0, 8, 0))
        assert reorder_onto(lps, las) == Reorder((0, 1, 2), (False, True, False))

    def test_the_same_grid_needs_no_change(self, make_grid: Callable[..., Grid]) -> None:
        found = reorder_onto(make_grid("SLA"), make_grid("SLA"))
        assert found is not None
        assert found.is_identity

    @given(grids(), st.sampled_from(REORDERS), st.integers(0, 2), st.sampled_from((-1, 1)))
    def test_an_offset_within_the_tolerance_is_accepted(
        self, target: Grid, made_by: Reorder, axis: int, sign: int
    ) -> None:
        offset = [0.0, 0.0, 0.0]
        offset[axis] = 0.02 * sign
        assert reorder_onto(moved(target, tuple(offset)).reordered(made_by), target) is not None  # type: ignore[arg-type]

    @given(grids(), st.sampled_from(REORDERS), st.integers(0, 2), st.sampled_from((-3, -1, -0.2, 0.2, 0.5, 1)))
    def test_an_offset_beyond_it_is_refused(self, target: Grid, made_by: Reorder, axis: int, voxels: float) -> None:
        offset = [0.0, 0.0, 0.0]
        offset[axis] = voxels
        assert reorder_onto(moved(target, tuple(offset)).reordered(made_by), target) is None  # type: ignore[arg-type]

    @pytest.mark.parametrize(("total", "accepted"), [(0.02, True), (0.2, False)])
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_spacing_error_counts_where_it_has_added_up(
        self, make_grid: Callable[..., Grid], axis: int, total: float, accepted: bool
    ) -> None:
        target = make_grid("LAS", (201, 201, 201))
        source = stretched(target, 1 + total / 200, axis)
        assert (reorder_onto(source, target) is not None) is accepted

    @given(aligned_grids(), st.integers(0, 2), st.sampled_from((0.5, 2.0)))
    def test_another_spacing_is_refused(self, target: Grid, axis: int, factor: float) -> None:
        assert reorder_onto(stretched(target, factor, axis), target) is None

    def test_another_angle_is_refused(self, make_grid: Callable[..., Grid]) -> None:
        target = make_grid("LAS", spacing_ijk=(1.0, 1.0, 1.0))
        assert reorder_onto(tilted(target, 0.1), target) is None
        assert reorder_onto(tilted(target, np.pi / 4), target) is None

    @given(grids(), st.sampled_from(REORDERS), st.data())
    def test_a_part_of_the_lattice_is_refused(self, target: Grid, made_by: Reorder, data: st.DataObject) -> None:
        axis = data.draw(st.sampled_from([axis for axis in range(3) if target.shape_zyx[axis] > 1] or [0]))
        assume(target.shape_zyx[axis] > 1)
        start, stop = [0, 0, 0], list(target.shape_zyx)
        if data.draw(st.booleans()):
            start[axis] = 1
        else:
            stop[axis] -= 1
        part = target.cropped(tuple(start), tuple(stop))  # type: ignore[arg-type]  # three each
        assert reorder_onto(part.reordered(made_by), target) is None
        assert reorder_onto(target.reordered(made_by), part) is None

    def test_a_shape_that_only_matches_in_the_wrong_order_is_refused(self, make_grid: Callable[..., Grid]) -> None:
        spacing: dict[str, Any] = {"spacing_ijk": (1.0, 1.0, 1.0), "origin_mm": (0, 0, 0)}
        assert reorder_onto(make_grid("RAS", (4, 5, 6), **spacing), make_grid("RAS", (6, 5, 4), **spacing)) is None

    @example(grid=Grid.of((287, 512, 512), np.diag([-0.9765625, 0.9765625, 3.0, 1.0])))
    @given(aligned_grids(500))
    def test_rounding_the_header_to_32_bits_is_forgiven(self, grid: Grid) -> None:
        rounded = Grid.of(grid.shape_zyx, np.array(grid.affine, dtype=np.float32))
        assert reorder_onto(rounded, grid) == Reorder()
