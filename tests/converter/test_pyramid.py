"""Downsampling against a brute force that looks at one block at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converter.pyramid import downsample

Factors = tuple[int, int, int]

FACTORS = st.tuples(*[st.sampled_from([1, 2])] * 3)
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
HALF: Factors = (2, 2, 2)


def by_block(array: np.ndarray, factors: Factors, reduce: Callable[[np.ndarray], Any]) -> np.ndarray:
    shape = [-(-n // f) for n, f in zip(array.shape, factors, strict=True)]
    result = np.empty(shape, dtype=array.dtype)
    for index in product(*map(range, shape)):
        block = array[tuple(slice(i * f, i * f + f) for i, f in zip(index, factors, strict=True))]
        result[index] = reduce(block.ravel())
    return result


def exact_mean(block: np.ndarray) -> int:
    # Fraction rounds half to even.
    return round(Fraction(sum(block.tolist()), block.size))


def nan_mean(block: np.ndarray) -> float:
    known = block[~np.isnan(block)].astype(np.float64)
    return float(known.sum() / known.size) if known.size else np.nan


def mode(block: np.ndarray) -> int:
    counts = Counter(block.tolist())
    most = max(counts.values())
    best = [value for value, count in counts.items() if count == most]
    return min([value for value in best if value] or best)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), factors=FACTORS, kind=st.sampled_from(["i1", "u1", "<i2", "<u2", "<i4", "<u4"]))
def test_integer_mean_rounds_half_to_even(data: st.DataObject, factors: Factors, kind: str) -> None:
    array = data.draw(hnp.arrays(kind, SHAPES))
    result = downsample(array, factors, is_label=False)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, by_block(array, factors, exact_mean))


@settings(max_examples=50, deadline=None)
@given(array=hnp.arrays("<i2", SHAPES, elements=st.integers(-3, 3)), factors=FACTORS)
def test_small_integers_meet_every_tie(array: np.ndarray, factors: Factors) -> None:
    np.testing.assert_array_equal(downsample(array, factors, is_label=False), by_block(array, factors, exact_mean))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), factors=FACTORS)
def test_numbers_that_just_leave_room_for_their_sum(data: st.DataObject, factors: Factors) -> None:
    most = 2**15 // math.prod(factors)
    values = [sign * (most + off) for sign in (1, -1) for off in range(-3, 3) if most + off < 2**15]
    array = data.draw(hnp.arrays("<i2", SHAPES, elements=st.sampled_from(values)))
    exact = by_block(array, factors, exact_mean)
    np.testing.assert_array_equal(downsample(array, factors, is_label=False), exact)
    bounds = (array.min().item(), array.max().item())
    np.testing.assert_array_equal(downsample(array, factors, is_label=False, bounds=bounds), exact)


@pytest.mark.parametrize("kind", ["<i8", "<u8"])
def test_sums_of_the_widest_integers_do_not_wrap(kind: str) -> None:
    array = np.full((2, 2, 2), np.iinfo(kind).max - 1, dtype=kind)
    np.testing.assert_array_equal(downsample(array, HALF, is_label=False), array[:1, :1, :1])


@settings(max_examples=100, deadline=None)
@given(
    array=hnp.arrays("<f4", SHAPES, elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan)),
    factors=FACTORS,
    kind=st.sampled_from(["<f4", "<f8"]),
)
def test_float_mean_leaves_nan_out(array: np.ndarray, factors: Factors, kind: str) -> None:
    array = array.astype(kind)
    result = downsample(array, factors, is_label=False)
    assert result.dtype == array.dtype
    np.testing.assert_allclose(result, by_block(array, factors, nan_mean), rtol=1e-6, atol=1e-7)


def test_a_block_of_nan_stays_nan_without_a_word() -> None:
    array = np.full((2, 2, 4), np.nan, dtype="<f4")
    array[0, 0, 2] = 3.0
    np.testing.assert_array_equal(downsample(array, HALF, is_label=False), [[[np.nan, 3.0]]])


def test_infinity_stays_in_its_block() -> None:
    array = np.ones((2, 2, 4), dtype="<f4")
    array[0, 0, 0] = np.inf
    np.testing.assert_array_equal(downsample(array, HALF, is_label=False), [[[np.inf, 1.0]]])


def test_opposite_infinities_have_no_mean() -> None:
    array = np.ones((2, 2, 4), dtype="<f4")
    array[0, 0, :2] = np.inf, -np.inf
    np.testing.assert_array_equal(downsample(array, HALF, is_label=False), [[[np.nan, 1.0]]])


def test_float_mean_is_summed_in_double() -> None:
    array = np.array([2.0**24, 1, 1, 1, 1, 1, 1, 1], dtype="<f4").reshape(2, 2, 2)
    assert downsample(array, HALF, is_label=False).item() == np.float32((2**24 + 7) / 8)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), factors=FACTORS, kind=st.sampled_from(["u1", "<u2", "<u4"]), few=st.booleans())
def test_mode_with_ties_to_the_smallest_region(data: st.DataObject, factors: Factors, kind: str, few: bool) -> None:
    elements = st.integers(0, 3) if few else None
    array = data.draw(hnp.arrays(kind, SHAPES, elements=elements))
    result = downsample(array, factors, is_label=True)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, by_block(array, factors, mode))


@pytest.mark.parametrize(
    ("block", "winner"),
    [
        ([0, 0, 0, 0, 5, 5, 5, 5], 5),
        ([0, 0, 0, 0, 0, 5, 5, 5], 0),
        ([9, 9, 4, 4, 0, 0, 7, 8], 4),
        ([2**32 - 1, 2**32 - 1, 2**32 - 2, 2**32 - 2, 0, 0, 1, 2], 2**32 - 2),
        ([0, 1, 2, 3, 4, 5, 6, 7], 1),
    ],
)
def test_ties(block: list[int], winner: int) -> None:
    for order in (block, block[::-1]):
        array = np.array(order, dtype="<u4").reshape(2, 2, 2)
        assert downsample(array, HALF, is_label=True).item() == winner


def test_incomplete_blocks_weigh_only_the_voxels_they_have() -> None:
    array = np.array([[[0, 2, 10]], [[0, 2, 20]], [[4, 4, 40]]], dtype="<i2")
    np.testing.assert_array_equal(downsample(array, HALF, is_label=False), [[[1, 15]], [[4, 40]]])
    labels = np.array([[[0, 1, 3]], [[0, 0, 0]], [[5, 0, 7]]], dtype="u1")
    np.testing.assert_array_equal(downsample(labels, HALF, is_label=True), [[[0, 3]], [[5, 7]]])


@pytest.mark.parametrize(
    ("kind", "is_label"), [("u1", True), ("<u4", True), ("u1", False), ("<u4", False), ("<f4", False)]
)
def test_the_source_is_left_alone(kind: str, is_label: bool) -> None:
    array = np.arange(60).reshape(3, 4, 5).astype(kind)
    before = array.copy()
    for factors in product((1, 2), repeat=3):
        result = downsample(array, factors, is_label=is_label)
        np.testing.assert_array_equal(array, before)
        if factors == (1, 1, 1):
            np.testing.assert_array_equal(result, array)
