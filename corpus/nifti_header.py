"""NIfTI headers as bytes: what the header of a stored volume says, and a new one for a part of it.

For whoever gives NIfTI away without reading files of strangers, which is `converter.nifti`'s business: the headers here
were accepted when they were stored. A test compares every byte with nibabel's.
Sources: nifti1.h, https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h, and nifti2.h beside it.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from corpus.errors import LayoutError, RequestError
from corpus.geometry import Grid, Triple
from corpus.models import Scaling

TYPES: Final = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""Voxel types that are stored, by their code in a header."""
_CODES: Final = {np.dtype(kind).name: code for code, kind in TYPES.items()}
_LONGEST_SIDE: Final = 2**15 - 1
_MM: Final = 2


class _Places(msgspec.Struct, frozen=True):
    """Where fields stand: offset and format, without byte order."""

    dim: tuple[int, str]
    datatype: tuple[int, str]
    slope_inter: tuple[int, str]
    descrip: tuple[int, str]
    intent_code: tuple[int, str]
    intent_name: tuple[int, str]


_PLACES: Final = {
    348: _Places((40, "8h"), (70, "h"), (112, "2f"), (148, "80s"), (68, "h"), (328, "16s")),
    540: _Places((16, "8q"), (12, "h"), (176, "2d"), (240, "80s"), (504, "i"), (508, "16s")),
}


class HeaderFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a header says of its voxels.

    Attributes
    ----------
    shape_zyx
        Number of voxels along k, j and i.
    dtype
        Voxel type with byte order, for example ``<i2``.
    scaling
        Identity where the slope is 0 or not finite.
    descrip, intent_code, intent_name
        As they stand in the header.
    """

    shape_zyx: Triple
    dtype: str
    scaling: Scaling
    descrip: bytes
    intent_code: int
    intent_name: bytes

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels in the file."""
        z, y, x = self.shape_zyx
        return z * y * x * np.dtype(self.dtype).itemsize


def read_fields(raw: bytes) -> HeaderFields:
    """Read the header of a stored volume.

    Raises
    ------
    LayoutError
        These are not the bytes of one.
    """
    order: Literal["<", ">"] = ">" if raw[:1] == b"\0" else "<"
    if raw[:4] not in {struct.pack(f"{order}i", size) for size in _PLACES}:
        raise LayoutError("layout.metadata", f"{len(raw)} bytes are no NIfTI header")
    places = _PLACES[struct.unpack(f"{order}i", raw[:4])[0]]

    def field(place: tuple[int, str]) -> tuple[int, ...]:
        return struct.unpack_from(f"{order}{place[1]}", raw, place[0])

    try:
        rank, *sides = field(places.dim)
        kind = np.dtype(TYPES[field(places.datatype)[0]]).newbyteorder(order)
        i, j, k = sides[:3]
        slope, inter = map(float, field(places.slope_inter))
    except (struct.error, KeyError) as error:
        raise LayoutError("layout.metadata", f"not the header of a stored volume: {error!r}") from error
    if rank < 3 or min(sides[:rank]) < 1 or max(sides[3:rank], default=1) > 1:
        raise LayoutError("layout.metadata", f"the header of a stored volume has the dimensions {sides[:rank]}")
    scales = np.isfinite([slope, inter]).all() and slope != 0
    return HeaderFields(
        shape_zyx=(k, j, i),
        dtype=kind.str,
        scaling=Scaling(slope, inter) if scales else Scaling(),
        descrip=struct.unpack_from(places.descrip[1], raw, places.descrip[0])[0],
        intent_code=field(places.intent_code)[0],
        intent_name=struct.unpack_from(places.intent_name[1], raw, places.intent_name[0])[0],
    )


def fresh_header(grid: Grid, dtype: str, scaling: Scaling, like: bytes) -> bytes:
    """Return a complete NIfTI-1 header (352 bytes) for a volume that was cut out of a stored one.

    Parameters
    ----------
    grid, dtype, scaling
        Of the cut-out; its voxels are little-endian.
    like
        Header bytes of the stored volume, for its description and intent.

    Raises
    ------
    RequestError
        A side is longer than a NIfTI-1 header can say.
    """
    if max(grid.shape_zyx) > _LONGEST_SIDE:
        message = f"the sides {grid.shape_zyx} do not fit into NIfTI-1, which ends at {_LONGEST_SIDE} voxels"
        raise RequestError("request.region", message)
    parent = read_fields(like)
    header = bytearray(352)

    def put(offset: int, kinds: str, *values: float | bytes) -> None:
        struct.pack_into(f"<{kinds}", header, offset, *values)

    put(0, "i", 348)
    put(40, "8h", 3, *grid.shape_zyx[::-1], 1, 1, 1, 1)
    put(70, "2h", _CODES[dtype], 8 * np.dtype(dtype).itemsize)
    put(108, "3f", 352, scaling.slope, scaling.inter)
    put(123, "B", _MM)
    put(148, "80s", parent.descrip)
    put(68, "h", parent.intent_code)
    put(328, "16s", parent.intent_name)
    handedness, quaternion = _qform(np.array(grid.affine)[:3, :3])
    put(76, "8f", handedness, *grid.spacing_mm_zyx[::-1], 1, 1, 1, 1)
    put(252, "2h", 1, 1)
    put(256, "6f", *quaternion, *grid.origin_mm_ras)
    put(280, "12f", *np.array(grid.affine)[:3].ravel())
    put(344, "4s", b"n+1\0")
    return bytes(header)


def _qform(steps: NDArray[np.float64]) -> tuple[float, list[float]]:
    """Return the handedness and the last three parts of the unit quaternion of an affine's columns.

    A qform cannot hold shear: the closest rotation stands for it; the sform keeps it, and is read first.
    Source: I. Y. Bar-Itzhack, New method for extracting the quaternion from a rotation matrix, AIAA 23(6), 2000.
    """
    unit = steps / np.sqrt(np.sum(steps * steps, axis=0))
    handedness = 1.0 if np.linalg.det(unit) > 0 else -1.0
    unit[:, 2] *= handedness
    left, _, right = np.linalg.svd(unit)
    (xx, yx, zx), (xy, yy, zy), (xz, yz, zz) = (left @ right).tolist()
    # Symmetric, so the lower triangle is enough.
    lower = [
        [xx - yy - zz, 0, 0, 0],
        [yx + xy, yy - xx - zz, 0, 0],
        [zx + xz, zy + yz, zz - xx - yy, 0],
        [yz - zy, zx - xz, xy - yx, xx + yy + zz],
    ]
    values, vectors = np.linalg.eigh(np.array(lower) / 3.0)
    x, y, z, w = vectors[:, np.argmax(values)].tolist()
    return handedness, [-v if w < 0 else v for v in (x, y, z)]


def trimmed(raw: bytes) -> bytes:
    """Return header bytes without an empty extension flag, as NIfTI-Zarr stores them."""
    size = int.from_bytes(raw[:4], "little")
    return raw[:size] if len(raw) == size + 4 and not any(raw[size:]) else raw


def padded(header: bytes) -> bytes:
    """Return header bytes as they stand in a file: the inverse of `trimmed`."""
    return header + b"\0\0\0\0" if len(header) == int.from_bytes(header[:4], "little") else header
