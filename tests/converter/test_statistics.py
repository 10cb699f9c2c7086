"""Statistics of slabs against numpy on the whole array."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converter.statistics import IntensityStatistics, LabelStatistics
from corpus.geometry import Grid
from corpus.labels import families
from corpus.models import Region, Scaling, Statistics

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
TILTED = np.array([[-2.0, 0.1, 0, 90], [0.2, 1.5, 0.4, -126], [0, -0.3, 3, -72], [0, 0, 0, 1]])


def slabs_of(array: np.ndarray, cuts: Sequence[int]) -> list[np.ndarray]:
    ends = [0, *sorted({cut % len(array) for cut in cuts} - {0}), len(array)]
    return [array[a:b] for a, b in pairwise(ends)]


def intensities(array: np.ndarray, cuts: Sequence[int] = (), scaling: Scaling | None = None) -> Statistics:
    gathered = IntensityStatistics()
    for slab in slabs_of(array, cuts):
        gathered.update(slab)
    return gathered.result(scaling or Scaling())


def regions(
    array: np.ndarray, cuts: Sequence[int] = (), affine: np.ndarray = AFFINE, family: str = "organs"
) -> tuple[Region, ...]:
    gathered = LabelStatistics(Grid.of(array.shape, affine))
    for slab in slabs_of(array, cuts):
        gathered.update(slab)
    return gathered.result(families()[family])


@pytest.mark.parametrize("kind", ["i1", "u1", "<i2", "<u2", "<i4", "<u4"])
@pytest.mark.parametrize("value", ["least", "greatest", "greatest / 3", "0"])
def test_whole_numbers_are_summed_exactly_however_little_room_their_type_has(kind: str, value: str) -> None:
    ends = np.iinfo(kind)
    filled = {"least": ends.min, "greatest": ends.max, "greatest / 3": ends.max // 3, "0": 0}[value]
    # A prime number of voxels to a plane, so that parts of a plane leave a rest.
    found = intensities(np.full((3, 1, 101), filled, dtype=kind))
    assert (found.minimum, found.maximum, found.mean) == (filled, filled, filled)


def test_each_slab_says_between_what_its_numbers_lie() -> None:
    gathered = IntensityStatistics()
    assert gathered.update(np.array([[[3, -2]], [[7, 0]]], dtype="<i2")) == (-2, 7)
    assert gathered.update(np.array([[[5, 5]]], dtype="<i2")) == (5, 5)
    floats = IntensityStatistics()
    assert floats.update(np.array([[[np.nan, np.inf]]], dtype="<f4")) is None
    assert floats.update(np.array([[[np.nan, 1.5]]], dtype="<f4")) == (1.5, 1.5)


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    kind=st.sampled_from(["i1", "u1", "<i2", "<u2", "<i4", "<u4"]),
    cuts=st.lists(st.integers(0, 9)),
    scaling=st.sampled_from([Scaling(), Scaling(0.5, -1024.0), Scaling(3.0, 7.0)]),
)
def test_integers_are_measured_as_numpy_does(data: st.DataObject, kind: str, cuts: list[int], scaling: Scaling) -> None:
    array = data.draw(hnp.arrays(kind, SHAPES))
    found = intensities(array, cuts, scaling)
    physical = array.astype(np.float64) * scaling.slope + scaling.inter
    assert (found.minimum, found.maximum, found.non_finite) == (physical.min(), physical.max(), 0)
    assert found.mean == pytest.approx(physical.mean(), rel=1e-12, abs=1e-9)
    assert found.high == pytest.approx(np.percentile(physical[::4, ::4, ::4], 99.5), rel=1e-12, abs=1e-9)
    # Whatever the slabs were, the bytes of the record are the same.
    assert found == intensities(array, (), scaling)


@settings(max_examples=80, deadline=None)
@given(
    array=hnp.arrays(
        "<f4", SHAPES, elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])
    ),
    cuts=st.lists(st.integers(0, 9)),
)
def test_floats_are_measured_without_the_non_finite(array: np.ndarray, cuts: list[int]) -> None:
    found = intensities(array, cuts)
    finite = array[np.isfinite(array)].astype(np.float64)
    assert found.non_finite == array.size - finite.size
    if not finite.size:
        assert (found.minimum, found.maximum, found.mean, found.high) == (None, None, None, None)
        return
    assert (found.minimum, found.maximum) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(finite.mean(), rel=1e-6, abs=1e-6)
    sample = array[::4, ::4, ::4]
    sample = sample[np.isfinite(sample)]
    assert found.high == (pytest.approx(np.percentile(sample.astype(float), 99.5)) if sample.size else None)


def test_sums_do_not_wrap_or_lose_digits() -> None:
    assert intensities(np.full((4, 100, 100), 32767, dtype="<i2")).mean == 32767
    assert intensities(np.full((4, 100, 100), 2**32 - 1, dtype="<u4")).mean == 2**32 - 1
    assert intensities(np.full((4, 300, 300), 16777217 / 3, dtype="<f4")).mean == float(np.float32(16777217 / 3))


def test_a_slope_below_zero_turns_the_ends_round() -> None:
    array = np.arange(9**3, dtype="<i2").reshape(9, 9, 9)
    found = intensities(array, (), Scaling(-2.0, 10.0))
    physical = array * -2.0 + 10
    assert (found.minimum, found.maximum) == (physical.min(), physical.max())
    assert found.mean == pytest.approx(physical.mean())


def test_a_slope_below_zero_turns_the_percentile_round() -> None:
    array = np.arange(9**3, dtype="<i2").reshape(9, 9, 9)
    physical = array * -2.0 + 10
    assert intensities(array, (), Scaling(-2.0, 10.0)).high == pytest.approx(
        np.percentile(physical[::4, ::4, ::4], 99.5)
    )


def test_high_is_a_number_of_the_volume_and_not_of_the_slab() -> None:
    array = np.zeros((40, 8, 8), dtype="<i2")
    array[1::4] = 9999  # never sampled: every fourth slice is
    assert intensities(array, range(0, 40, 3)).high == 0
    array[0] = 7
    assert intensities(array, range(0, 40, 3)).high == 7


# Label maps


@settings(max_examples=80, deadline=None)
@given(
    array=hnp.arrays("u1", SHAPES, elements=st.integers(0, 4)) | hnp.arrays("<u4", SHAPES),
    cuts=st.lists(st.integers(0, 9)),
    tilted=st.booleans(),
)
def test_regions_are_measured_as_numpy_does(array: np.ndarray, cuts: list[int], tilted: bool) -> None:
    affine = TILTED if tilted else AFFINE
    found = regions(array, cuts, affine)
    assert found == regions(array, (), affine)
    assert [region.value for region in found] == [v for v in np.unique(array).tolist() if v]
    for region in found:
        where = np.argwhere(array == region.value)
        low, high = where.min(axis=0), where.max(axis=0)
        assert region.voxels == len(where)
        assert region.volume_ml == pytest.approx(len(where) * abs(np.linalg.det(affine[:3, :3])) / 1000)
        assert region.start_zyx == tuple(low)
        assert region.stop_zyx == tuple(high + 1)
        world = where[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
        np.testing.assert_allclose(region.centroid_mm_ras, world.mean(axis=0), atol=1e-8)
        ends = np.array(np.meshgrid(*np.transpose([low - 0.5, high + 0.5]))).reshape(3, -1).T
        corners = ends[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
        np.testing.assert_allclose(region.bbox_mm_ras, [*corners.min(axis=0), *corners.max(axis=0)], atol=1e-8)
        assert region.touches_edge == bool((low == 0).any() or (high == np.array(array.shape) - 1).any())


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_each_face_is_an_edge(axis: int, end: int) -> None:
    array = np.zeros((5, 6, 7), dtype="u1")
    array[2, 3, 4] = 1
    assert not regions(array)[0].touches_edge
    place = [2, 3, 4]
    place[axis] = end
    array[tuple(place)] = 1
    assert regions(array)[0].touches_edge


def test_names_come_from_the_familys_own_table() -> None:
    array = np.zeros((3, 3, 3), dtype="<u2")
    array[0, 0] = 8, 300, 1
    for family in ("organs", "ribs"):
        table = families()[family].by_value()
        assert [region.name for region in regions(array, family=family)] == [
            table[1].name,
            table[8].name,
            "unexpected_300",
        ]


def test_a_region_in_slabs_far_apart_is_one() -> None:
    array = np.zeros((9, 2, 2), dtype="u1")
    array[0, 0, 0] = array[8, 1, 1] = 3
    (region,) = regions(array, (2, 4, 6))
    assert (region.voxels, region.start_zyx, region.stop_zyx) == (2, (0, 0, 0), (9, 2, 2))


def test_background_is_no_region() -> None:
    assert regions(np.zeros((3, 3, 3), dtype="u1")) == ()
