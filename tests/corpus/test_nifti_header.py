"""Headers that are put together byte by byte, against nibabel's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from corpus.errors import LayoutError, RequestError
from corpus.geometry import Grid
from corpus.models import Scaling
from corpus.nifti_header import fresh_header, read_fields

KINDS = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
PARENT = Nifti1Header()
PARENT.set_data_shape((3, 4, 5))
PARENT["descrip"], PARENT["intent_code"], PARENT["intent_name"] = b"parent", 1002, b"organs"
ANGLES = st.floats(-3.2, 3.2)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    affine = np.eye(4)
    spacing = [draw(st.floats(0.2, 9)) * draw(st.sampled_from([-1, 1])) for _ in range(3)]
    shear = np.eye(3)
    shear[0, 2] = draw(st.sampled_from([0.0, 0.3]))
    turn = euler2mat(draw(ANGLES), draw(ANGLES), draw(ANGLES)) if draw(st.booleans()) else np.eye(3)
    affine[:3, :3] = turn @ shear @ np.diag(spacing)[:, draw(st.permutations([0, 1, 2]))]
    affine[:3, 3] = [draw(st.floats(-2000, 2000)) for _ in range(3)]
    return Grid.of(draw(st.tuples(*[st.integers(1, 2000)] * 3)), affine)


def nibabels(grid: Grid, dtype: str, scaling: Scaling) -> Nifti1Header:
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(grid.shape_zyx[::-1])
    header.set_xyzt_units("mm")
    header.set_qform(np.array(grid.affine), code=1, strip_shears=True)
    header.set_sform(np.array(grid.affine), code=1)
    header["scl_slope"], header["scl_inter"] = scaling.slope, scaling.inter
    for field in ("descrip", "intent_code", "intent_name"):
        header[field] = PARENT[field]
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header


@given(grids(), st.sampled_from(KINDS), st.builds(Scaling, st.floats(0.1, 9), st.floats(-2000, 2000)))
def test_a_fresh_header_is_nibabels(grid: Grid, dtype: str, scaling: Scaling) -> None:
    ours = fresh_header(grid, dtype, scaling, bytes(PARENT.binaryblock))
    theirs = nibabels(grid, dtype, scaling)
    assert ours[348:] == bytes(4)
    found = Nifti1Header(ours[:348])
    rotation = ["quatern_b", "quatern_c", "quatern_d"]
    # Half a turn has two quaternions, and noise decides between them.
    if np.abs(theirs.get_qform_quaternion()[0]) < 1e-3:
        np.testing.assert_allclose(found.get_qform(), theirs.get_qform(), atol=1e-2)
    else:
        np.testing.assert_allclose([found[name] for name in rotation], [theirs[name] for name in rotation], atol=1e-5)
    for name in rotation:
        found[name] = theirs[name]
    # Lengths are summed in another order.
    np.testing.assert_allclose(found["pixdim"], theirs["pixdim"], rtol=1e-6)
    found["pixdim"] = theirs["pixdim"]
    assert found.binaryblock == theirs.binaryblock


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_fields_are_those_that_nibabel_wrote(kind: type[Nifti1Header], order: str) -> None:
    for dtype in KINDS:
        header = kind(endianness=order)
        header.set_data_dtype(np.dtype(dtype))
        header.set_data_shape((7, 6, 5, 1))
        header["scl_slope"], header["scl_inter"] = 0.25, 3
        header["descrip"], header["intent_code"], header["intent_name"] = b"d", 1002, b"i"
        fields = read_fields(bytes(header.binaryblock) + bytes(4))
        assert fields.shape_zyx == (5, 6, 7)
        assert np.dtype(fields.dtype) == np.dtype(dtype).newbyteorder(order)  # type: ignore[call-overload]
        assert fields.scaling == Scaling(0.25, 3.0)
        assert (fields.descrip.rstrip(b"\0"), fields.intent_code, fields.intent_name.rstrip(b"\0")) == (
            b"d",
            1002,
            b"i",
        )
        assert fields.voxel_bytes == 210 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_that_says_nothing(slope: float) -> None:
    header = PARENT.copy()
    header["scl_slope"], header["scl_inter"] = slope, 5
    assert read_fields(bytes(header.binaryblock)).scaling.is_identity


@pytest.mark.parametrize("raw", [b"", bytes(348), b"\x5c\x01\0\0", bytes(PARENT.binaryblock)[:100]])
def test_what_is_no_header(raw: bytes) -> None:
    with pytest.raises(LayoutError, match=r"layout\.metadata"):
        read_fields(raw)


def test_a_side_that_nifti_1_cannot_say() -> None:
    with pytest.raises(RequestError, match="32767"):
        fresh_header(Grid.of((1, 1, 32_768), np.eye(4)), "uint8", Scaling(), bytes(PARENT.binaryblock))
