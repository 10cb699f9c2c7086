"""How arrays are cut: the rules and the named examples of the layout."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.chunking import (
    INNER_VOXELS,
    MOST_LEVELS,
    SHARD_BYTES,
    SMALLEST_SIDE,
    halvings,
    inner_chunk,
    level_factors,
    shard,
)
from corpus.geometry import Grid, Triple

ORIENTATIONS = ["LAS", "LPS", "RAS", "SLA", "PIR", "ASL"]
SHAPES = st.tuples(*[st.integers(1, 1200)] * 3)


@pytest.fixture(scope="session")
def scan(make_grid: Callable[..., Grid]) -> Callable[..., Grid]:
    """A grid of any orientation, by its spacing in plane and between slices (world z)."""

    def build(orientation: str, in_plane: float, slice_mm: float, shape_zyx: Triple = (100, 100, 100)) -> Grid:
        spacing = [slice_mm if letter in "SI" else in_plane for letter in orientation]
        return make_grid(orientation, shape_zyx, spacing)

    return build


class TestInnerChunk:
    @pytest.mark.parametrize(
        ("in_plane", "slice_mm", "expected"),
        [
            (0.9765625, 3.0, (16, 128, 128)),
            (0.9765625, 5.0, (16, 128, 128)),
            (1.171875, 5.0, (16, 128, 128)),
            (2.0364201, 3.0, (64, 64, 64)),
            (4.0, 4.0, (64, 64, 64)),
            (0.9765625, 1.0, (64, 64, 64)),
            (0.9765625, 40.0, (4, 256, 256)),
        ],
    )
    def test_of_the_scans_that_the_layout_names(
        self, scan: Callable[..., Grid], in_plane: float, slice_mm: float, expected: Triple
    ) -> None:
        assert inner_chunk(scan("LAS", in_plane, slice_mm)) == expected

    @given(st.sampled_from(ORIENTATIONS), st.floats(0.3, 6.0), st.floats(0.3, 60.0))
    def test_is_the_nearest_to_a_cube_of_its_size(
        self, scan: Callable[..., Grid], orientation: str, in_plane: float, slice_mm: float
    ) -> None:
        grid = scan(orientation, in_plane, slice_mm)
        chunk = dict(zip(grid.dims, inner_chunk(grid), strict=True))
        assert math.prod(chunk.values()) == INNER_VOXELS == 2**18
        assert all(edge.bit_count() == 1 for edge in chunk.values())
        assert chunk["x"] == chunk["y"]

        def lopsided(z: int, xy: int) -> float:
            return abs(math.log(z * slice_mm) - math.log(xy * in_plane))

        # xy * xy * z = 2^18, so all candidates are xy = 2^e and z = 2^(18 - 2e).
        best = min(lopsided(2 ** (18 - 2 * e), 2**e) for e in range(4, 10))
        assert lopsided(chunk["z"], chunk["x"]) == pytest.approx(best)

    def test_the_short_edge_goes_with_world_z_when_axes_are_permuted(self, scan: Callable[..., Grid]) -> None:
        assert inner_chunk(scan("SLA", 0.977, 5.0)) == (128, 128, 16)


class TestShard:
    @pytest.mark.parametrize(
        ("shape", "itemsize", "expected"),
        [
            ((174, 512, 512), 2, (128, 512, 512)),
            ((174, 512, 512), 1, (128, 512, 512)),
            ((174, 512, 512), 4, (64, 512, 512)),
            ((30, 155, 159), 2, (32, 256, 256)),
            ((287, 700, 700), 2, (48, 768, 768)),
        ],
    )
    def test_of_usual_volumes(self, shape: Triple, itemsize: int, expected: Triple) -> None:
        assert shard(shape, (16, 128, 128), itemsize) == expected

    @given(
        SHAPES,
        st.sampled_from([(16, 128, 128), (64, 64, 64), (4, 256, 256), (128, 128, 16), (1024, 16, 16), (1, 512, 512)]),
        st.sampled_from([1, 2, 4, 8]),
    )
    def test_is_a_slab_of_whole_planes(self, shape: Triple, chunk: Triple, itemsize: int) -> None:
        slab = shard(shape, chunk, itemsize)
        rounded = [-(-n // c) * c for n, c in zip(shape, chunk, strict=True)]
        assert all(side % edge == 0 for side, edge in zip(slab, chunk, strict=True))
        assert list(slab[1:]) == rounded[1:]
        assert slab[0] <= rounded[0]
        is_one_row = slab[0] == chunk[0]
        assert math.prod(slab) * itemsize <= SHARD_BYTES == 64 * 2**20 or is_one_row
        most = 128 if itemsize <= 2 else 64
        assert slab[0] <= most or is_one_row

    @given(SHAPES, st.sampled_from([(16, 128, 128), (64, 64, 64), (4, 256, 256)]), st.sampled_from([1, 2, 4]))
    def test_is_as_deep_as_the_limits_allow(self, shape: Triple, chunk: Triple, itemsize: int) -> None:
        """Few objects: one more row of chunks would be beyond the array, the depth or the size."""
        depth, *plane = shard(shape, chunk, itemsize)
        more = depth + chunk[0]
        most = 128 if itemsize <= 2 else 64
        assert depth >= shape[0] or more > most or more * math.prod(plane) * itemsize > SHARD_BYTES


class TestLevels:
    def test_of_a_whole_body_ct_halve_z_late(self, scan: Callable[..., Grid]) -> None:
        grid = scan("LAS", 0.9765625, 5.0, (174, 512, 512))
        assert level_factors(grid) == ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16))

    def test_of_a_permuted_one_are_permuted(self, scan: Callable[..., Grid]) -> None:
        grid = scan("SLA", 0.9765625, 5.0, (512, 512, 174))
        assert level_factors(grid) == ((1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 8, 2), (16, 16, 4))

    def test_of_a_near_isotropic_pet(self, scan: Callable[..., Grid]) -> None:
        assert level_factors(scan("LAS", 2.0364201, 3.0, (326, 400, 400))) == tuple((f, f, f) for f in (1, 2, 4, 8))

    @pytest.mark.parametrize(("slice_mm", "second"), [(1.5, (2, 2, 2)), (1.53, (1, 2, 2))])
    def test_halve_z_up_to_one_and_a_half_times_the_plane(
        self, scan: Callable[..., Grid], slice_mm: float, second: Triple
    ) -> None:
        assert level_factors(scan("LAS", 1.0, slice_mm))[1] == second

    @pytest.mark.parametrize(("side", "levels"), [(1, 1), (64, 1), (65, 2), (128, 2), (129, 3), (100_000, 5)])
    def test_end_at_sides_of_64_or_at_five(self, scan: Callable[..., Grid], side: int, levels: int) -> None:
        assert len(level_factors(scan("RAS", 1.0, 1.0, (side, 3, side)))) == levels

    @given(st.sampled_from(ORIENTATIONS), st.floats(0.3, 6.0), st.floats(0.3, 60.0), SHAPES)
    def test_follow_the_rule(
        self, scan: Callable[..., Grid], orientation: str, in_plane: float, slice_mm: float, shape: Triple
    ) -> None:
        grid = scan(orientation, in_plane, slice_mm, shape)
        levels = [dict(zip(grid.dims, factors, strict=True)) for factors in level_factors(grid)]
        assert levels[0] == {"x": 1, "y": 1, "z": 1}
        for before, after in itertools.pairwise(levels):
            assert after["x"] == after["y"] == 2 * before["x"]
            ratio = slice_mm * before["z"] / (in_plane * before["x"])
            if abs(ratio - 1.5) > 1e-9:
                assert after["z"] == before["z"] * (2 if ratio < 1.5 else 1)
        largest = [max(-(-n // f) for n, f in zip(shape, factors, strict=True)) for factors in level_factors(grid)]
        assert all(side > SMALLEST_SIDE == 64 for side in largest[:-1])
        assert largest[-1] <= SMALLEST_SIDE or len(levels) == MOST_LEVELS == 5

    def test_few_leave_out_the_large_ones_of_thick_slices(self, scan: Callable[..., Grid]) -> None:
        thick = scan("LAS", 0.9765625, 5.0, (174, 512, 512))
        assert level_factors(thick, few=True) == ((1, 1, 1), (1, 4, 4), (2, 8, 8), (4, 16, 16))
        cubes = scan("LAS", 2.0364201, 3.0, (326, 400, 400))
        assert level_factors(cubes, few=True) == level_factors(cubes)

    @given(st.sampled_from(ORIENTATIONS), st.floats(0.3, 6.0), st.floats(0.3, 60.0), SHAPES)
    def test_few_are_some_of_all_and_each_is_made_by_the_same_steps(
        self, scan: Callable[..., Grid], orientation: str, in_plane: float, slice_mm: float, shape: Triple
    ) -> None:
        grid = scan(orientation, in_plane, slice_mm, shape)
        every, few = level_factors(grid), level_factors(grid, few=True)
        passed = [few[0]]
        for above, below in itertools.pairwise(few):
            assert math.prod(below) >= 8 * math.prod(above)
            for step in halvings(above, below):
                passed.append(tuple(factor * n for factor, n in zip(passed[-1], step, strict=True)))  # type: ignore[arg-type]
            assert passed[-1] == below
        assert tuple(passed) == every[: len(passed)]
        # What is left out behind the last is not much smaller than it.
        assert math.prod(every[-1]) < 8 * math.prod(few[-1])
