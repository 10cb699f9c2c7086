"""Plans: what will be written, decided from headers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.inventory import SubjectFiles
from converter.nifti import VolumeHeader
from converter.plan import VolumePlan, digest_of, levels_of, plan_volume
from converter.source import MaskFile, SourceFile
from corpus import chunking
from corpus.contents import Contents, ImageVolume, LabelVolume
from corpus.errors import SourceError
from corpus.geometry import Grid, Reorder
from corpus.labels import Family
from corpus.models import Scaling, SubjectInfo

Read = Callable[..., VolumeHeader]

INFO = SubjectInfo(subject="0001", pet_units="BQML")
LPS = np.diag([-1.0, -1, 1, 1])
SHAPE = (9, 10, 11)


def files_of(*roles: str) -> SubjectFiles:
    files = {role: SourceFile(f"s3://bucket/{role}.nii.gz", f"{role}.nii.gz", 1000) for role in roles}
    return SubjectFiles("0001", files, ())


def planned(role: str, info: SubjectInfo = INFO, **headers: VolumeHeader | SourceError) -> VolumePlan:
    return plan_volume(files_of(*headers), role, headers, info)


def codes(plan: VolumePlan) -> list[str]:
    return [finding.code for finding in plan.findings]


def turned(affine: np.ndarray, shape_zyx: tuple[int, int, int], flips_ijk: tuple[bool, bool, bool]) -> np.ndarray:
    """The affine of the same lattice with some NIfTI axes counted from the other end."""
    flip = np.eye(4)
    for axis, is_flipped in enumerate(flips_ijk):
        if is_flipped:
            flip[axis, axis] = -1
            flip[axis, 3] = shape_zyx[::-1][axis] - 1
    return affine @ flip


@pytest.fixture
def ct(header_of: Read, las: np.ndarray) -> VolumeHeader:
    return header_of(np.zeros(SHAPE, "<f4"), las)


def test_the_digest_of_masks_covers_each_of_them() -> None:
    def digest(*masks: tuple[int, str, int]) -> str:
        files = tuple(MaskFile(value, SourceFile(f"s3://bucket/{name}", name, size)) for value, name, size in masks)
        return digest_of(SubjectFiles("0001", {"organs": SourceFile("", "s/", 30, masks=files)}, ()), "organs")

    usual = ((1, "a", 10), (2, "b", 20))
    others = [((1, "a", 20), (2, "b", 10)), ((1, "a", 10), (3, "b", 20)), ((1, "a", 10), (2, "c", 20)), ((1, "a", 30),)]
    assert len({digest(*usual), *(digest(*other) for other in others)}) == 5
    assert digest(*usual) == digest(*usual)


def test_a_label_map_on_another_image_than_the_ct(ct: VolumeHeader) -> None:
    labels = (LabelVolume(Family("dseg", "Brain", "", ()), "t1w"),)
    contents = Contents((ImageVolume("t1w", "other"), ImageVolume("ct", "ct")), labels)
    files, headers = files_of("t1w", "ct", "dseg"), {"t1w": ct, "ct": SourceError("source.unreadable", "-"), "dseg": ct}
    label = plan_volume(files, "dseg", headers, INFO, contents=contents)
    image = plan_volume(files, "t1w", headers, INFO, contents=contents)
    assert (label.path, label.is_label, label.carries_labels) == ("t1w/labels/dseg", True, False)
    assert (image.path, image.meaning.units, image.types, image.carries_labels) == (
        "t1w",
        "",
        ("float32",),
        True,
    )
    assert digest_of(files, "ct", contents=contents) != digest_of(files, "ct")


def test_a_ct(ct: VolumeHeader) -> None:
    plan = planned("ct", ct=ct)
    assert (plan.path, plan.place, plan.is_label) == ("ct", "0001/ct", False)
    assert plan.reorder.is_identity
    assert plan.grid == plan.cut_like == ct.grid
    assert plan.types == ("int16", "float32")
    assert plan.meaning.units == "HU"
    assert not plan.findings


@pytest.mark.parametrize(
    ("cell", "units"), [("BQML", "Bq/ml"), ("CNTS", "CNTS"), ("SUV", "SUV"), ("strange", "unknown"), (None, "unknown")]
)
def test_the_unit_of_a_pet_is_what_the_sheet_says(header_of: Read, cell: str | None, units: str) -> None:
    plan = planned("pet", SubjectInfo(subject="0001", pet_units=cell), pet=header_of(slope=2.0))
    assert plan.meaning.units == units
    assert plan.path == "pet"
    assert plan.scaling == Scaling(2.0, 0.0)
    assert cell is None or units == "unknown" or cell in plan.meaning.units_from


def test_a_label_map_on_the_grid_of_the_ct(header_of: Read, las: np.ndarray, ct: VolumeHeader) -> None:
    plan = planned("organs", ct=ct, organs=header_of(np.zeros(SHAPE, "<i2"), las, slope=2.0))
    assert plan.path == "ct/labels/organs"
    assert plan.reorder.is_identity
    assert plan.grid == plan.cut_like == ct.grid
    assert (plan.meaning.units, plan.meaning.units_from) == ("", "")
    # Label maps are decoded before they are stored.
    assert plan.scaling.is_identity
    assert not plan.findings


@pytest.mark.parametrize("flips", [(False, True, False), (True, True, False), (True, False, True)])
def test_a_label_map_in_another_order_is_laid_on_the_ct(
    header_of: Read, las: np.ndarray, ct: VolumeHeader, flips: tuple[bool, bool, bool]
) -> None:
    plan = planned("organs", ct=ct, organs=header_of(np.zeros(SHAPE, "u1"), turned(las, SHAPE, flips)))
    assert plan.reorder == Reorder(flips=flips[::-1])
    assert plan.path == "ct/labels/organs"
    np.testing.assert_allclose(plan.grid.affine, las, atol=1e-4)
    assert plan.cut_like == ct.grid
    assert codes(plan) == ["warning.label-reordered"]


def test_a_label_map_with_slices_first_is_laid_on_the_ct(header_of: Read, las: np.ndarray, ct: VolumeHeader) -> None:
    # NIfTI axes (k, i, j): the array axes (z, y, x) of the source are (y, x, z) of the CT.
    source = header_of(np.zeros((10, 11, 9), "u1"), las[:, [2, 0, 1, 3]])
    plan = planned("vertebrae", ct=ct, vertebrae=source)
    assert plan.grid.shape_zyx == SHAPE
    np.testing.assert_allclose(plan.grid.affine, las, atol=1e-4)
    index = np.indices((10, 11, 9)).reshape(3, -1)
    number = np.arange(990).reshape(10, 11, 9)
    laid = plan.reorder.apply(number)
    for at in index.T[::97]:
        (there,) = np.argwhere(laid == number[tuple(at)])
        np.testing.assert_allclose(plan.grid.to_world_mm(there), source.grid.to_world_mm(at), atol=1e-4)


def test_a_label_map_a_little_off_is_still_on_the_ct(header_of: Read, las: np.ndarray, ct: VolumeHeader) -> None:
    for off, apart in ((0.02, False), (0.2, True)):
        affine = las.copy()
        affine[2, 3] += off * 3
        plan = planned("organs", ct=ct, organs=header_of(np.zeros(SHAPE, "u1"), affine))
        assert codes(plan) == (["warning.label-grid"] if apart else [])
        assert plan.path == ("labels_organs" if apart else "ct/labels/organs")


@pytest.mark.parametrize("shape", [(8, 10, 11), (9, 10, 12), (18, 20, 22), (11, 10, 9)])
def test_a_label_map_of_another_extent_is_kept_apart(
    header_of: Read, las: np.ndarray, ct: VolumeHeader, shape: tuple[int, int, int]
) -> None:
    header = header_of(np.zeros(shape, "u1"), las)
    plan = planned("organs", ct=ct, organs=header)
    assert plan.path == "labels_organs"
    assert plan.reorder.is_identity
    assert plan.grid == plan.cut_like == header.grid
    assert codes(plan) == ["warning.label-grid"]


def test_a_label_map_without_a_ct_is_kept_apart(header_of: Read) -> None:
    header = header_of(np.zeros(SHAPE, "u1"))
    bad = SourceError("source.not-nifti", "no", place="ct")
    for plan in (planned("organs", organs=header), planned("organs", ct=bad, organs=header)):
        assert plan.path == "labels_organs"
        assert codes(plan) == ["warning.label-grid"]


def test_a_bad_header_raises_its_own_error(ct: VolumeHeader) -> None:
    bad = SourceError("source.not-nifti", "no", place="pet")
    with pytest.raises(SourceError) as caught:
        planned("pet", ct=ct, pet=bad)
    assert caught.value is bad


def test_findings_of_the_header_come_along(header_of: Read) -> None:
    assert codes(planned("pet", pet=header_of(units=None))) == ["warning.units-unknown"]


# Digests: what was converted already.


def test_a_digest_is_known_from_the_listing_and_from_nothing_else(header_of: Read) -> None:
    files = files_of("ct", "pet", "organs")
    elsewhere = SubjectFiles(
        "0001", {role: SourceFile(f"other/{file.name}", file.name, file.size) for role, file in files.files.items()}, ()
    )
    for role in files.files:
        assert digest_of(files, role) == digest_of(elsewhere, role)
        assert planned(role, **dict.fromkeys(files.files, header_of())).digest == digest_of(files, role)


@pytest.mark.parametrize("role", ["ct", "pet", "organs"])
def test_another_file_has_another_digest(role: str) -> None:
    files = files_of("ct", "pet", "organs")
    before = digest_of(files, role)

    def changed(**fields: Any) -> str:
        file = files.files[role]
        given = {"url": file.url, "name": file.name, "size": file.size} | fields
        return digest_of(SubjectFiles("0001", files.files | {role: SourceFile(**given)}, ()), role)

    assert changed() == before
    assert changed(size=1001) != before
    assert changed(name="elsewhere.nii.gz") != before


def test_roles_have_different_digests() -> None:
    file = SourceFile("a", "a", 1)
    files = SubjectFiles("0001", {"ribs": file, "organs": file}, ())
    assert digest_of(files, "ribs") != digest_of(files, "organs")


# Levels


@pytest.mark.parametrize(
    ("spacing", "shape", "chunk"),
    [
        ((0.977, 0.977, 5.0), (174, 512, 512), (16, 128, 128)),
        ((0.977, 0.977, 3.0), (287, 512, 512), (16, 128, 128)),
        ((2.04, 2.04, 3.0), (326, 400, 400), (64, 64, 64)),
        ((4.0, 4.0, 4.0), (260, 144, 144), (64, 64, 64)),
        ((0.7, 0.7, 25.0), (30, 512, 512), (4, 256, 256)),
    ],
)
def test_level_0_is_cut_as_the_layout_says(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], chunk: tuple[int, int, int]
) -> None:
    grid = Grid.of(shape, np.diag([*spacing, 1]))
    for dtype, slices in (("int16", 128), ("float32", 64), ("uint8", 128)):
        level = levels_of(grid, grid, dtype)[0]
        assert level.chunk_zyx == chunk
        assert level.grid == grid
        padded = -(-shape[0] // chunk[0]) * chunk[0]
        assert level.shard_zyx == (
            min(padded, slices),
            *(-(-n // c) * c for n, c in zip(shape[1:], chunk[1:], strict=True)),
        )


def test_a_label_map_is_cut_as_its_ct_whatever_its_header_rounds() -> None:
    ct = Grid.of((100, 200, 300), np.diag([1.0, 1.0, 2.828, 1]))
    # Just across the border between two chunk shapes.
    label = Grid.of((100, 200, 300), np.diag([1.0, 1.0, 2.8291, 1]))
    assert chunking.inner_chunk(ct) != chunking.inner_chunk(label)
    cut = [(level.factors_zyx, level.chunk_zyx) for level in levels_of(label, ct, "uint8")]
    assert cut == [(level.factors_zyx, level.chunk_zyx) for level in levels_of(ct, ct, "int16")]
    assert levels_of(label, ct, "uint8")[0].grid == label


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 900)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "float32", "float64"]),
    axes=st.permutations([0, 1, 2]),
)
def test_levels_of_any_grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], dtype: str, axes: list[int]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, axes]
    grid = Grid.of(shape, affine)
    levels = levels_of(grid, grid, dtype)
    assert 1 <= len(levels) <= 5
    assert levels[0].factors_zyx == (1, 1, 1)
    itemsize = np.dtype(dtype).itemsize
    for number, level in enumerate(levels):
        assert np.prod(level.chunk_zyx) == 2**18
        assert all(n & (n - 1) == 0 for n in level.chunk_zyx)
        assert all(s % c == 0 for s, c in zip(level.shard_zyx, level.chunk_zyx, strict=True))
        # One shard across the plane: keys end in /0/0.
        assert all(s >= n for s, n in zip(level.shard_zyx[1:], level.grid.shape_zyx[1:], strict=True))
        rows = level.shard_zyx[0] // level.chunk_zyx[0]
        assert rows == 1 or np.prod(level.shard_zyx) * itemsize <= 2**26
        assert level.grid.shape_zyx == tuple(-(-n // f) for n, f in zip(shape, level.factors_zyx, strict=True))
        assert (max(level.grid.shape_zyx) <= 64) <= (number == len(levels) - 1)
        if number:
            steps = [a // b for a, b in zip(level.factors_zyx, levels[number - 1].factors_zyx, strict=True)]
            assert set(steps) <= {1, 2}
            assert [steps[axis] for axis, dim in enumerate(grid.dims) if dim != "z"] == [2, 2]
    assert len(levels) == 5 or max(levels[-1].grid.shape_zyx) <= 64


def test_the_peak_covers_what_certainly_is_in_memory(header_of: Read, las: np.ndarray) -> None:
    small = planned("ct", ct=header_of(np.zeros((40, 10, 10), "<i2")))
    large = planned("ct", ct=header_of(np.zeros((40, 300, 300), "<i2")))
    wide = planned("ct", ct=header_of(np.zeros((40, 300, 300), "<f8")))
    assert small.peak_bytes < large.peak_bytes < wide.peak_bytes
    # Two rows of chunks of level 0, and the slab they came from.
    depth = levels_of(large.grid, large.cut_like, "int16")[0].chunk_zyx[0]
    assert large.peak_bytes > 3 * depth * 300 * 300 * 2
    shape = (200, 150, 150)
    ct = header_of(np.zeros(shape, "<i2"))
    straight = planned("organs", ct=ct, organs=header_of(np.zeros(shape, "u1")))
    across = planned("organs", ct=ct, organs=header_of(np.zeros(shape, "u1"), turned(las, shape, (True, True, False))))
    assert across.peak_bytes >= straight.peak_bytes + np.prod(shape)
