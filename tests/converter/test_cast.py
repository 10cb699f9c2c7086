"""Casting: a voxel comes back bit by bit, or the type is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converter.cast import Cast, DoesNotFitError, stored_types
from corpus.errors import SourceError
from corpus.models import Scaling
from corpus.originals import undo_label_scaling

NAN_PAYLOAD = np.array([0x7FC12345], dtype="<u4").view("<f4")[0]
SIGNALLING_NAN = np.array([0x7FA00001], dtype="<u4").view("<f4")[0]
KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=3)


def as_slab(*values: Any, kind: str = "<f4") -> np.ndarray:
    return np.array(values, dtype=kind).reshape(1, 1, -1)


def cast(target: str) -> Cast:
    return Cast(target, Scaling(), is_label=False, place="0001/ct")


def label_cast(target: str = "uint8", scaling: Scaling | None = None) -> Cast:
    return Cast(target, scaling or Scaling(), is_label=True, place="0001/organs")


def code_of(slab: np.ndarray, scaling: Scaling | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        label_cast(scaling=scaling)(slab)
    assert caught.value.place == "0001/organs"
    return caught.value.code


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("kind", "role", "types"),
    [
        ("i1", "ct", ("int8",)),
        ("u1", "ct", ("uint8",)),
        ("i2", "ct", ("int16",)),
        ("u2", "ct", ("uint16",)),
        ("i4", "ct", ("int16", "int32")),
        ("f4", "ct", ("int16", "float32")),
        ("f8", "ct", ("int16", "float32", "float64")),
        ("i8", "ct", ("int16", "int32", "int64")),
        ("i2", "pet", ("int16",)),
        ("i4", "pet", ("int16", "int32")),
        ("f4", "pet", ("float32",)),
        ("f8", "pet", ("float32", "float64")),
    ],
)
def test_types_to_try(kind: str, role: str, types: tuple[str, ...], order: str) -> None:
    assert stored_types(role, f"{order}{kind}", is_label=False) == types
    assert stored_types("organs", f"{order}{kind}", is_label=True) == ("uint8", "uint16", "uint32")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("role", ["ct", "pet"])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_every_voxel_survives_or_the_type_is_refused(data: st.DataObject, kind: str, role: str, order: str) -> None:
    size = np.dtype(kind).itemsize
    bits = data.draw(hnp.arrays(f"{order}u{size}", SHAPES))
    whole = data.draw(hnp.arrays(f"{order}i2", SHAPES)).astype(f"{order}{kind}")
    for slab in (bits.view(f"{order}{kind}"), whole):
        before = slab.tobytes()
        types = stored_types(role, slab.dtype.str, is_label=False)
        for target in types:
            convert = cast(target)
            try:
                stored = convert(slab)
            except DoesNotFitError:
                assert target != types[-1]
                continue
            assert stored.dtype == np.dtype(target).newbyteorder("<")
            assert stored.shape == slab.shape
            with np.errstate(all="ignore"):
                assert stored.astype(slab.dtype).tobytes() == before
            assert convert.lossless
            break
        else:
            pytest.fail("no type held it")
        assert slab.tobytes() == before


@pytest.mark.parametrize(
    ("slab", "target"),
    [
        (as_slab(-1024.0, 3071.0), "int16"),
        (as_slab(-32768.0, 32767.0, kind="<f8"), "int16"),
        (as_slab(-32768, 32767, kind=">i4"), "int16"),
        (as_slab(0.1, 2.5, np.inf, -np.inf, -0.0).astype("<f8").astype("<f4").astype("<f8"), "float32"),
        (as_slab(2**31 - 1, -(2**31), kind="<i8"), "int32"),
        (as_slab(NAN_PAYLOAD, SIGNALLING_NAN, -0.0, kind=">f4"), "float32"),
    ],
)
def test_what_fits(slab: np.ndarray, target: str) -> None:
    stored = cast(target)(slab)
    assert stored.dtype.str[1:] == np.dtype(target).str[1:]
    assert stored.astype(slab.dtype).tobytes() == slab.tobytes()


@pytest.mark.parametrize(
    ("slab", "target"),
    [
        (as_slab(0.5), "int16"),
        (as_slab(-0.0), "int16"),
        (as_slab(np.nan), "int16"),
        (as_slab(np.inf), "int16"),
        (as_slab(32768.0), "int16"),
        (as_slab(-32769, kind="<i4"), "int16"),
        (as_slab(65536, kind="<u4"), "int16"),
        (as_slab(2**31, kind=">i8"), "int32"),
        (as_slab(0.1, kind="<f8"), "float32"),
        (as_slab(1e300, kind="<f8"), "float32"),
        (as_slab(float(2**24 + 1), kind="<f8"), "float32"),
        (np.array([0x7FF8000000000001], "<u8").view("<f8").reshape(1, 1, 1), "float32"),
    ],
)
def test_what_does_not_fit(slab: np.ndarray, target: str) -> None:
    with pytest.raises(DoesNotFitError):
        cast(target)(np.concatenate([np.zeros_like(slab), slab]))


def test_nothing_is_copied_that_may_stay() -> None:
    slab = as_slab(1, 2, kind="<i2")
    assert cast("int16")(slab) is slab
    labels = as_slab(1, 2, kind="u1")
    assert label_cast()(labels) is labels


# Label maps


@pytest.mark.parametrize("kind", ["u1", "<i2", ">i2", "<u2", "<i4", ">u4", "<i8", "<f4", ">f4", "<f8"])
def test_labels_of_any_type_become_uint8(kind: str) -> None:
    convert = label_cast()
    stored = convert(as_slab(0, 1, 31, 127, kind=kind))
    assert stored.dtype == np.uint8
    assert stored.ravel().tolist() == [0, 1, 31, 127]
    assert convert.lossless
    assert not convert.rounded


@pytest.mark.parametrize(
    ("highest", "target"),
    [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32"), (2**32 - 1, "uint32")],
)
@pytest.mark.parametrize("kind", ["<i8", ">f8"])
def test_large_labels_take_the_smallest_type(highest: int, target: str, kind: str) -> None:
    slab = as_slab(0, highest, kind=kind)
    for tried in stored_types("organs", kind, is_label=True):
        if tried == target:
            stored = label_cast(tried)(slab)
            assert stored.dtype == np.dtype(target)
            assert stored.ravel().tolist() == [0, highest]
            return
        with pytest.raises(DoesNotFitError):
            label_cast(tried)(slab)


@pytest.mark.parametrize("off", [1e-3 * 0.99, -1e-3 * 0.99, 1e-6])
def test_labels_a_little_off_are_rounded_and_said_to_be(off: float) -> None:
    convert = label_cast()
    assert convert(as_slab(0, 7 + off, 2, kind="<f8")).ravel().tolist() == [0, 7, 2]
    assert (convert.rounded, convert.lossless) == (True, False)
    convert(as_slab(0, 1, 2, kind="<f8"))
    assert (convert.rounded, convert.lossless) == (True, False)


@pytest.mark.parametrize("value", [0.5, 1.0011, -0.01, 7.9989, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["<f4", ">f8"])
def test_labels_far_off_are_refused(value: float, kind: str) -> None:
    assert code_of(as_slab(0, value, kind=kind)) == "source.label-fractional"


@pytest.mark.parametrize("kind", ["i1", "<i2", "<i8", "<f4", "<f8"])
def test_negative_labels_are_refused(kind: str) -> None:
    assert code_of(as_slab(0, -1, kind=kind)) == "source.label-range"


@pytest.mark.parametrize(
    "slab",
    [as_slab(2**32, kind="<i8"), as_slab(2**64 - 1, kind="<u8"), as_slab(2.0**32, kind="<f4"), as_slab(1e30)],
)
def test_labels_too_large_for_any_type_are_refused(slab: np.ndarray) -> None:
    assert code_of(slab) == "source.label-range"


@pytest.mark.parametrize("kind", ["u1", "<i2", ">i4", "<f4", ">f8"])
@pytest.mark.parametrize(
    ("slope", "inter", "raw"),
    [
        (0.5, 0.0, [0, 2, 200]),
        (2.0, 1.0, [0, 1, 100]),
        (1.0, 3.0, [0, 5, 99]),
        (1 / 3, 0.0, [0, 3, 30]),
        (0.1, 2.0, [0, 10, 240]),
    ],
)
def test_a_slope_is_decoded_and_undone(kind: str, slope: float, inter: float, raw: list[int]) -> None:
    # Headers hold the slope as float32, so 0.1 is 0.10000000149.
    scaling = Scaling(float(np.float32(slope)), float(np.float32(inter)))
    source = as_slab(*raw, kind=kind)
    convert = label_cast(scaling=scaling)
    stored = convert(source)
    assert stored.dtype == np.uint8
    assert stored.ravel().tolist() == [round(value * slope + inter) for value in raw]
    back = undo_label_scaling(stored, source.dtype, scaling)
    assert back.dtype == source.dtype
    np.testing.assert_allclose(back, source, rtol=1e-6)
    assert convert.lossless == (back.tobytes() == source.tobytes())
    # Whole numbers, and slopes without a rounding of their own, come back byte by byte.
    assert convert.lossless or (source.dtype.kind == "f" and slope in {1 / 3, 0.1})


def test_a_slope_can_make_labels_fractional_or_negative() -> None:
    assert code_of(as_slab(0, 1, kind="u1"), Scaling(0.5, 0.0)) == "source.label-fractional"
    assert code_of(as_slab(0, 1, kind="u1"), Scaling(1.0, -1.0)) == "source.label-range"
    assert code_of(as_slab(0, 1, kind="u1"), Scaling(1e20, 0.0)) == "source.label-range"
    with pytest.raises(DoesNotFitError):
        label_cast(scaling=Scaling(2.0, 0.0))(as_slab(0, 128, kind="u1"))


@pytest.mark.parametrize("scaling", [Scaling(), Scaling(2.0, 0.0), Scaling(1.0, -1.0)])
def test_whatever_is_lost_is_said_to_be_rounded(scaling: Scaling) -> None:
    # The report knows of lost bytes by `rounded` alone.
    raw = as_slab((3 - scaling.inter) / scaling.slope + 2e-4)
    convert = label_cast(scaling=scaling)
    assert convert(raw).tolist() == [[[3]]]
    assert (convert.lossless, convert.rounded) == (False, True)


def test_minus_zero_is_background_and_not_byte_identical() -> None:
    convert = label_cast()
    assert convert(as_slab(-0.0, 1.0)).ravel().tolist() == [0, 1]
    assert not convert.lossless


@settings(max_examples=100, deadline=None)
@given(
    labels=hnp.arrays("u1", SHAPES),
    kind=st.sampled_from(["<i2", ">i4", "<f4", ">f8"]),
    slope=st.sampled_from([1.0, 0.25, 2.0]),
    inter=st.sampled_from([0.0, -4.0, 16.0]),
)
def test_labels_come_back(labels: np.ndarray, kind: str, slope: float, inter: float) -> None:
    raw = (labels.astype(float) - inter) / slope
    source = raw.astype(kind)
    if source.astype(float).tobytes() != raw.tobytes():
        return
    scaling = Scaling(slope, inter)
    convert = label_cast(scaling=scaling)
    stored = convert(source)
    np.testing.assert_array_equal(stored, labels)
    assert convert.lossless
    assert undo_label_scaling(stored, source.dtype, scaling).tobytes() == source.tobytes()
