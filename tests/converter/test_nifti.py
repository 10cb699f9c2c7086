"""Headers: what converter.nifti takes from them, against nibabel's own reading and the NIfTI standard."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension, Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError

from converter.nifti import (
    MOST_HEADER_BYTES,
    PROBE_BYTES,
    VolumeHeader,
    describe_stored,
    header_size,
    read_header,
)
from corpus.errors import SourceError
from corpus.geometry import Grid, Reorder
from corpus.models import Scaling
from corpus.nifti_header import fresh_header, padded, trimmed

Build = Callable[..., bytes]
Read = Callable[..., VolumeHeader]

ZYX = (4, 5, 6)
OTHER = np.array([[0, 0, 5.0, -7], [-1.5, 0, 0, 11], [0, 1.25, 0, 13], [0, 0, 0, 1]])
IMAGES = {1: Nifti1Image, 2: Nifti2Image}
FORMS = {"sform": (1, 0), "qform": (0, 1), "pixdim": (0, 0)}
"""Which codes make a header's affine that of a form."""


def codes(header: VolumeHeader) -> list[str]:
    return [finding.code for finding in header.findings]


def reopened(header: bytes, shape_zyx: tuple[int, int, int], dtype: str, version: int = 1) -> Any:
    """What nibabel makes of these header bytes with voxels behind them."""
    voxels = np.zeros(shape_zyx, dtype=np.dtype(dtype).newbyteorder("<"))
    return IMAGES[version].from_bytes(padded(header) + voxels.tobytes())


def oblique(angle: float = 0.3) -> np.ndarray:
    affine = np.eye(4)
    cos, sin = np.cos(angle), np.sin(angle)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.diag([-2.0, 2.0, 3.0])
    affine[:3, 3] = 10, 20, 30
    return affine


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_all_real_types_in_both_orders_and_versions(nifti: Build, kind: str, order: str, version: int) -> None:
    voxels = np.arange(np.prod(ZYX)).reshape(ZYX).astype(kind)
    data = nifti(voxels, OTHER, version=version, order=order)
    size = header_size(data[:PROBE_BYTES], "x")
    header = read_header(data[:size], "x")
    assert np.dtype(header.dtype) == np.dtype(kind).newbyteorder(order)
    assert header.raw == data[:size]
    assert header.voxel_bytes == len(data) - size
    assert header.grid.shape_zyx == ZYX
    np.testing.assert_array_equal(np.frombuffer(data[size:], header.dtype).reshape(ZYX), voxels)
    np.testing.assert_array_equal(header.grid.affine, IMAGES[version].from_bytes(data).affine)
    assert header.affine_source == "sform"
    assert not header.findings


@pytest.mark.parametrize(
    ("sform_code", "qform_code", "source"),
    [(1, 1, "sform"), (2, 0, "sform"), (4, 1, "sform"), (0, 1, "qform"), (0, 3, "qform"), (0, 0, "pixdim")],
)
def test_choice_of_affine_is_nibabels(nifti: Build, sform_code: int, qform_code: int, source: str) -> None:
    qform = oblique()
    data = nifti(np.zeros(ZYX, "i2"), OTHER, sform_code=sform_code, qform_code=qform_code, qform=qform)
    header = read_header(data[:352], "x")
    assert header.affine_source == source
    np.testing.assert_allclose(header.grid.affine, Nifti1Image.from_bytes(data).affine, atol=1e-5)
    assert ("warning.affine-conflict" in codes(header)) == (sform_code > 0 and qform_code > 0)
    assert ("warning.affine-pixdim" in codes(header)) == (source == "pixdim")


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(), version=st.sampled_from([1, 2]), order=st.sampled_from("<>"), form=st.sampled_from(sorted(FORMS))
)
def test_affines_are_nibabels_bit_for_bit(data: st.DataObject, version: int, order: str, form: str) -> None:
    """Any numbers that a header can hold, not only those of a sound one."""
    part, step = st.floats(-1, 1, width=32), st.floats(-1, 1e3, width=32) | st.just(0.0)
    header = {1: Nifti1Header, 2: Nifti2Header}[version](endianness=order)
    header.set_data_shape(data.draw(st.tuples(*[st.integers(1, 900)] * 3)))
    header["magic"], header["datatype"], header["bitpix"] = header.single_magic, 4, 16
    header["pixdim"][:4] = [data.draw(st.sampled_from([-1, 1, 0, 2])), *data.draw(st.tuples(step, step, step))]
    quaternion = np.array(data.draw(st.tuples(part, part, part)))
    if data.draw(st.booleans()):  # half a turn, or nearly: what is left for the first part is lost in rounding
        quaternion /= max(np.linalg.norm(quaternion), 1e-3)
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = quaternion
    header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = data.draw(st.tuples(part, part, part))
    for row in "xyz":
        header[f"srow_{row}"] = data.draw(st.tuples(step, step, step, part))
    header["sform_code"], header["qform_code"] = FORMS[form]
    expected = nibabels_affine(header, form)
    raw = header.binaryblock + bytes(4)
    if expected is None or is_refused(expected):
        with pytest.raises(SourceError):
            read_header(raw, "x")
    else:
        np.testing.assert_array_equal(read_header(raw, "x").grid.affine, expected)


def nibabels_affine(header: Any, form: str) -> np.ndarray | None:
    header = header.copy()
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1
    if form == "pixdim":  # what nibabel does before, when it loads a file
        header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    try:
        return np.asarray(
            {"sform": header.get_sform, "qform": header.get_qform, "pixdim": header.get_base_affine}[form]()
        )
    except (ValueError, HeaderDataError):
        return None


def is_refused(affine: np.ndarray) -> bool:
    """Whether its axes are missing, or lie in one plane."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.any(spacing < 1e-6) or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3)


@pytest.mark.parametrize(("shift_voxels", "conflict"), [(0.05, False), (0.15, True)])
def test_conflict_is_measured_in_voxels(header_of: Read, las: np.ndarray, shift_voxels: float, conflict: bool) -> None:
    qform = las.copy()
    qform[0, 3] += 2.0 * shift_voxels
    assert ("warning.affine-conflict" in codes(header_of(qform=qform))) is conflict


def test_conflict_is_measured_at_the_far_corner(header_of: Read, las: np.ndarray) -> None:
    qform = las.copy()
    qform[0, 0] *= 1.002  # 0.2 voxels after 100 of them
    assert not codes(header_of(np.zeros((2, 2, 6), "u1"), qform=qform))
    assert codes(header_of(np.zeros((2, 2, 101), "u1"), qform=qform)) == ["warning.affine-conflict"]


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": np.nan, "qoffset_x": np.nan},
        {"quatern_b": 2.0},
        {"pixdim": [3, 2, 2, 3, 0, 0, 0, 0]},
        {"pixdim": [1, 2, 2, -3, 0, 0, 0, 0]},
    ],
    ids=["no numbers", "no quaternion", "no qfac", "negative spacing"],
)
def test_a_qform_that_cannot_be_used_is_no_agreement(header_of: Read, las: np.ndarray, fields: dict[str, Any]) -> None:
    header = header_of(fields=fields)
    assert header.affine_source == "sform"
    np.testing.assert_array_equal(header.grid.affine, las)
    assert codes(header) == ["warning.affine-conflict"]


def test_qfac_zero_means_one(header_of: Read) -> None:
    # nifti1.h: "if pixdim[0]=0 (which should not occur) ... we take qfac=1".
    affine = np.diag([2.0, 2, 3, 1])
    header = header_of(None, affine, sform_code=0, fields={"pixdim": [0, 2, 2, 3, 0, 0, 0, 0]})
    assert header.affine_source == "qform"
    np.testing.assert_allclose(header.grid.affine, affine)


@pytest.mark.parametrize("fields", [{"quatern_b": 2.0}, {"pixdim": [1, -2, 2, 3, 0, 0, 0, 0]}])
def test_an_impossible_qform_is_refused(header_of: Read, fields: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="qform") as caught:
        header_of(sform_code=0, fields=fields)
    assert caught.value.code == "source.header-invalid"
    assert caught.value.place == "0001.nii.gz"


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("row", ["srow_x", "srow_y", "srow_z"])
def test_a_singular_sform_is_refused(header_of: Read, row: str, bad: float) -> None:
    with pytest.raises(SourceError, match="sform") as caught:
        header_of(fields={row: [bad] * 4})
    assert caught.value.code == "source.header-invalid"


def test_a_flat_sform_is_refused(header_of: Read) -> None:
    with pytest.raises(SourceError, match="singular"):
        header_of(fields={"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0], "srow_z": [0, 0, 1, 0]})


@pytest.mark.parametrize(
    ("units", "mm"), [("meter", 1000.0), ("mm", 1.0), ("micron", 1e-3), (None, 1.0)], ids=["m", "mm", "um", "none"]
)
@pytest.mark.parametrize("forms", [(1, 1), (0, 1), (0, 0)], ids=["sform", "qform", "pixdim"])
def test_lengths_come_out_in_mm(
    nifti: Build, las: np.ndarray, units: str | None, mm: float, forms: tuple[int, int]
) -> None:
    data = nifti(np.zeros(ZYX, "i2"), las, units=units, sform_code=forms[0], qform_code=forms[1])
    header = read_header(data[:352], "x")
    expected = np.diag([mm, mm, mm, 1]) @ Nifti1Image.from_bytes(data).affine
    np.testing.assert_allclose(header.grid.affine, expected, rtol=1e-6)
    np.testing.assert_allclose(header.grid.spacing_mm_zyx, np.array([3, 2, 2]) * mm, rtol=1e-6)
    assert ("warning.units-unknown" in codes(header)) == (units is None)


def test_units_of_time_are_no_units_of_space(header_of: Read) -> None:
    assert codes(header_of(fields={"xyzt_units": 8})) == ["warning.units-unknown"]
    assert not codes(header_of(fields={"xyzt_units": 2 | 16}))


@pytest.mark.parametrize("code", [7, 2 | 56, 255])
def test_a_senseless_unit_is_no_crash(header_of: Read, code: int) -> None:
    header = header_of(fields={"xyzt_units": code})
    assert header.grid.spacing_mm_zyx == (3, 2, 2)
    assert ("warning.units-unknown" in codes(header)) == (code % 8 == 7)


def test_sheared_and_oblique_are_told_apart(header_of: Read) -> None:
    sheared = np.diag([2.0, 2, 3, 1])
    sheared[1, 2] = 1.0
    assert codes(header_of(None, sheared, qform_code=0)) == ["warning.affine-sheared"]
    assert codes(header_of(None, oblique())) == ["warning.oblique"]
    assert not codes(header_of(None, OTHER))


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("inter", [0.0, 5.0])
def test_a_senseless_slope_means_no_scaling(header_of: Read, slope: float, inter: float) -> None:
    assert header_of(slope=slope, inter=inter).scaling.is_identity


@pytest.mark.parametrize("inter", [np.nan, np.inf])
def test_a_senseless_intercept_means_no_scaling(header_of: Read, inter: float) -> None:
    assert header_of(slope=2.0, inter=inter).scaling.is_identity


@pytest.mark.parametrize("order", "<>")
def test_slope_and_intercept_are_the_files(header_of: Read, order: str) -> None:
    header = header_of(slope=0.5, inter=-1024, order=order)
    assert header.scaling == Scaling(0.5, -1024)


@pytest.mark.parametrize(
    "dim",
    [[3, 0, 5, 6], [3, 4, -5, 6], [3, 4, 5, -32768], [0, 4, 5, 6], [8, 4, 5, 6, 1, 1, 1, 1], [-1, 4, 5, 6]],
)
@pytest.mark.parametrize("order", "<>")
def test_impossible_dimensions_are_refused(nifti: Build, dim: list[int], order: str) -> None:
    data = nifti(np.zeros(ZYX, "u1"), order=order, fields={"dim": dim + [1] * (8 - len(dim))})
    with pytest.raises(SourceError) as caught:
        read_header(data[: header_size(data[:PROBE_BYTES], "x")], "x")
    assert caught.value.code == "source.header-invalid"


@pytest.mark.parametrize("dim", [[4, 2, 2, 2, 3], [5, 2, 2, 2, 1, 3], [7, 2, 2, 2, 1, 1, 1, 2], [2, 5, 6], [1, 9]])
def test_other_than_three_dimensions_are_refused(header_of: Read, dim: list[int]) -> None:
    with pytest.raises(SourceError, match=str(dim[1:3])[1:-1]) as caught:
        header_of(fields={"dim": dim + [1] * (8 - len(dim))})
    assert caught.value.code == "source.not-3d"


@pytest.mark.parametrize("rank", [4, 5, 6, 7])
def test_trailing_ones_are_squeezed(header_of: Read, rank: int) -> None:
    assert header_of(fields={"dim": [rank, 6, 5, 4, 1, 1, 1, 1]}).grid.shape_zyx == ZYX


def test_a_single_slice_and_a_line_are_volumes(header_of: Read) -> None:
    assert header_of(fields={"dim": [3, 6, 5, 1, 0, 0, 0, 0]}).grid.shape_zyx == (1, 5, 6)
    assert header_of(fields={"dim": [4, 6, 1, 1, 1, 0, 0, 0]}).grid.shape_zyx == (1, 1, 6)


@pytest.mark.parametrize(
    ("code", "name"),
    [(1, "binary"), (32, "complex64"), (128, "RGB"), (1536, "float128"), (1792, "complex128"), (2304, "RGBA")],
)
def test_other_voxel_types_are_refused_by_name(header_of: Read, code: int, name: str) -> None:
    with pytest.raises(SourceError, match=rf"{name}.*\(code {code}\)") as caught:
        header_of(fields={"datatype": code})
    assert caught.value.code == "source.datatype-unsupported"


@pytest.mark.parametrize("code", [3, 999, -1])
def test_unknown_voxel_types_are_refused(header_of: Read, code: int) -> None:
    with pytest.raises(SourceError, match=str(code)) as caught:
        header_of(fields={"datatype": code})
    assert caught.value.code == "source.datatype-unsupported"


@pytest.mark.parametrize("magic", [b"ni1\0", b"\0\0\0\0"])
def test_a_nifti1_that_is_not_single_is_refused(nifti: Build, magic: bytes) -> None:
    data = nifti(np.zeros((9, 9, 9), "u1"), fields={"magic": magic})
    with pytest.raises(SourceError) as caught:
        header_size(data[:PROBE_BYTES], "x")
    assert caught.value.code == ("source.pair" if magic == b"ni1\0" else "source.not-nifti")


def test_a_nifti2_pair_is_refused(nifti: Build) -> None:
    data = nifti(np.zeros(ZYX, "u1"), version=2, fields={"magic": b"ni2\0\r\n\x1a\n"})
    with pytest.raises(SourceError, match="pair"):
        header_size(data[:PROBE_BYTES], "x")


def test_a_pair_of_nibabel_is_refused() -> None:
    files = Nifti1Pair.make_file_map({"header": io.BytesIO(), "image": io.BytesIO()})
    Nifti1Pair(np.zeros(ZYX, "u1"), np.eye(4)).to_file_map(files)
    with pytest.raises(SourceError, match="pair"):
        header_size(files["header"].fileobj.getvalue(), "x")


@pytest.mark.parametrize("data", [b"", b"n+1\0", b"x" * 544, bytes(544), b"PK\3\4" + bytes(540)])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        header_size(data, "some/place")
    assert (caught.value.code, caught.value.place) == ("source.not-nifti", "some/place")


def test_a_cut_header_is_refused(nifti: Build) -> None:
    with pytest.raises(SourceError) as caught:
        header_size(nifti(np.zeros(ZYX, "u1"))[:347], "x")
    assert caught.value.code == "source.not-nifti"


@pytest.mark.parametrize("offset", [0, 348, 351, 352.5, -352, np.nan, np.inf, MOST_HEADER_BYTES * 2])
def test_impossible_voxel_offsets_are_refused(nifti: Build, offset: float) -> None:
    with pytest.raises(SourceError, match="begin at byte") as caught:
        header_size(nifti(np.zeros((9, 9, 9), "u1"), fields={"vox_offset": offset})[:PROBE_BYTES], "x")
    assert caught.value.code == "source.header-invalid"


@pytest.mark.parametrize(("version", "least"), [(1, 352), (2, 544)])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("gap", [0, 16, 2016])
def test_voxel_offset_is_honoured(nifti: Build, version: int, least: int, order: str, gap: int) -> None:
    data = nifti(np.zeros((9, 9, 9), "u1"), version=version, order=order, gap=gap)
    assert header_size(data[:PROBE_BYTES], "x") == least + gap


# What is stored is described so that nibabel reads it rightly.


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
def test_nothing_is_changed_that_may_stay(header_of: Read, version: int, order: str) -> None:
    fields = {"descrip": b"made by hand", "cal_max": 7.0}
    header = header_of(version=version, slope=2.0, inter=-3.0, order=order, gap=32, fields=fields)
    stored = describe_stored(header, header.grid, "int16", header.scaling)
    if order == "<":
        assert stored == header.raw
    image = reopened(stored, ZYX, "i2", version)
    assert image.header.endianness == "<"
    assert image.get_data_dtype() == np.dtype("<i2")
    assert (image.dataobj.slope, image.dataobj.inter) == (2.0, -3.0)
    assert image.dataobj.offset == len(header.raw)
    assert image.header["descrip"].item().startswith(b"made by hand")
    np.testing.assert_array_equal(image.affine, header.grid.affine)


@pytest.mark.parametrize("order", "<>")
def test_extensions_can_still_be_read(header_of: Read, extension: Build, order: str) -> None:
    content = extension(b"first words", 6, order) + extension(b"<xml>" * 20, 0, order)
    header = header_of(order=order, extension=content)
    stored = describe_stored(header, header.grid, "int16", header.scaling)
    found: list[Nifti1Extension] = reopened(stored, ZYX, "i2").header.extensions
    assert [(int(e.get_code()), bytes(e.content)) for e in found] == [(6, b"first words"), (0, b"<xml>" * 20)]


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_senseless_slope_is_left_alone(header_of: Read, slope: float) -> None:
    header = header_of(slope=slope)
    assert describe_stored(header, header.grid, "int16", header.scaling) == header.raw


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("units", ["mm", "meter", None])
@pytest.mark.parametrize(
    "reorder",
    [Reorder(flips=(False, True, True)), Reorder((2, 0, 1)), Reorder((1, 2, 0), (True, False, True))],
)
def test_a_narrowed_and_turned_map_is_described(
    header_of: Read, version: int, units: str | None, reorder: Reorder
) -> None:
    header = header_of(np.zeros(ZYX, "f8"), slope=0.25, inter=1.0, units=units, version=version)
    grid = header.grid.reordered(reorder)
    image = reopened(describe_stored(header, grid, "uint8", Scaling()), grid.shape_zyx, "u1", version)
    assert image.shape == grid.shape_zyx[::-1]
    assert image.get_data_dtype() == np.uint8
    assert (image.dataobj.slope, image.dataobj.inter) == (1.0, 0.0)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.affine, grid.affine, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(image.header.get_qform(), grid.affine, rtol=1e-5, atol=1e-3)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(image.header.get_zooms(), grid.spacing_mm_zyx[::-1], rtol=1e-6)


def test_a_sheared_grid_stays_whole_in_the_sform(header_of: Read) -> None:
    sheared = np.diag([2.0, 2, 3, 1])
    sheared[1, 2] = 1.0
    header = header_of(None, sheared, qform_code=0)
    grid = header.grid.reordered(Reorder(flips=(False, False, True)))
    image = reopened(describe_stored(header, grid, "int16", Scaling()), ZYX, "i2")
    np.testing.assert_allclose(image.affine, grid.affine, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_a_fresh_header_describes_a_crop(header_of: Read, las: np.ndarray, version: int) -> None:
    parent = header_of(
        version=version, units="meter", order=">", slope=9.0,
        fields={"descrip": b"parent", "intent_code": 1002, "intent_name": b"organs"},
    )  # fmt: skip
    grid = Grid.of(ZYX, las).cropped((1, 2, 3), (3, 5, 6))
    fresh = fresh_header(grid, "float32", Scaling(0.5, -2.0), parent.raw)
    assert len(fresh) == 352
    voxels = np.arange(np.prod(grid.shape_zyx), dtype="<f4").reshape(grid.shape_zyx)
    image = Nifti1Image.from_bytes(fresh + voxels.tobytes())
    np.testing.assert_allclose(image.affine, grid.affine)
    np.testing.assert_array_equal(image.dataobj, voxels.T * 0.5 - 2.0)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["descrip"].item() == b"parent"
    assert image.header.get_intent()[::2] == ("label", "organs")
    assert read_header(fresh, "x").grid == grid


def test_a_flag_without_extension_is_trimmed_and_put_back(nifti: Build, extension: Build) -> None:
    for version, size in ((1, 348), (2, 540)):
        raw = nifti(np.zeros((0, 1, 1), "u1"), version=version)
        assert len(trimmed(raw)) == size
        assert padded(trimmed(raw)) == raw
        longer = nifti(np.zeros((0, 1, 1), "u1"), version=version, extension=extension(b"x"))
        assert trimmed(longer) == longer
        flagged = raw[:-4] + b"\1\0\0\0"
        assert padded(trimmed(flagged)) == flagged


@given(gap=st.integers(0, 400), version=st.sampled_from([1, 2]))
@example(gap=540 - 352, version=1)  # as long as a NIfTI-2 header without its flag
def test_header_bytes_survive_trimming(nifti: Build, gap: int, version: int) -> None:
    raw = nifti(np.zeros((0, 1, 1), "u1"), version=version, gap=gap)
    assert padded(trimmed(raw)) == raw


def test_header_is_that_of_nibabels_own_files(las: np.ndarray) -> None:
    image = Nifti1Image(np.zeros((6, 5, 4), "i2"), las)
    data = image.to_bytes()
    header = read_header(data[: header_size(data[:PROBE_BYTES], "x")], "x")
    np.testing.assert_allclose(header.grid.affine, image.affine)
    # A bare affine in nibabel: no qform, sform 2, no units.
    assert codes(header) == ["warning.units-unknown"]
    assert header.scaling.is_identity
    assert isinstance(nib.Nifti1Image.from_bytes(data).header, Nifti1Header)


@settings(max_examples=300, deadline=None)
@given(
    patches=st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    order=st.sampled_from("<>"),
)
def test_no_damage_to_a_header_is_a_crash(nifti: Build, patches: list[tuple[int, bytes]], order: str) -> None:
    data = bytearray(nifti(np.zeros((8, 8, 8), "u1"), order=order))
    for at, patch in patches:
        data[at : at + len(patch)] = patch
    refused = None
    try:
        with np.errstate(all="ignore"):
            raw = bytes(data[: header_size(bytes(data[:PROBE_BYTES]), "x")])
            header = read_header(raw, "x")
            stored = describe_stored(header, header.grid.reordered(Reorder((2, 0, 1))), "uint8", Scaling())
    except SourceError as error:
        refused = error.code
    if refused is None:
        assert len(stored) == len(raw)
        assert np.isfinite(header.grid.affine).all()
        assert np.isfinite([header.scaling.slope, header.scaling.inter]).all()
    else:
        kinds = ("not-nifti", "pair", "header-invalid", "not-3d", "datatype-unsupported")
        assert refused in {f"source.{kind}" for kind in kinds}
