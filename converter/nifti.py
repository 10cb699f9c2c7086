"""NIfTI headers: the only module that imports nibabel.

Headers are read here, and written by nibabel, which is loaded only then: most volumes are stored under the header that
they came with, and nibabel takes longer to load than one of them takes to inflate. Tests compare what is read with
nibabel's own reading, bit for bit. Voxels never pass through nibabel, since it would scale them to float64 and read
over a damaged gzip stream without a word.
Sources: nifti1.h, https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h, and nifti2.h beside it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from corpus.errors import SourceError
from corpus.findings import Finding, warning
from corpus.geometry import Affine, Grid
from corpus.models import Scaling
from corpus.nifti_header import TYPES

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

FloatArray = NDArray[np.float64]
Header = Any
"""A record of `_FIELDS`."""

PROBE_BYTES: Final = 544
"""Enough to tell what a file is: a NIfTI-2 header with its extension flag."""

MOST_HEADER_BYTES: Final = 16 * 2**20
"""A header with extensions above this is taken for damage. The largest real one that is known has 13 kB."""

_MOST_MM: Final = 1e9
"""Beyond this an affine is damage; NIfTI-2 has room for numbers whose squares overflow."""

_FILE_MAGIC: Final = {348: (344, b"n+1\x00"), 540: (4, b"n+2\x00")}
_PAIR_MAGIC: Final = (b"ni1\x00", b"ni2\x00")
_NAMES: Final = (
    *("sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units"),
    *("qform_code", "sform_code", "quatern_bcd", "qoffset_xyz", "srow_xyz"),
)
_FIELDS: Final = {
    348: np.dtype(
        {
            "names": _NAMES,
            "formats": ["i4", "8i2", "i2", "i2", "8f4", "f4", "f4", "f4", "u1", "i2", "i2", "3f4", "3f4", "(3,4)f4"],
            "offsets": [0, 40, 70, 72, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280],
            "itemsize": 348,
        }
    ),
    540: np.dtype(
        {
            "names": _NAMES,
            "formats": ["i4", "8i8", "i2", "i2", "8f8", "i8", "f8", "f8", "i4", "i4", "i4", "3f8", "3f8", "(3,4)f8"],
            "offsets": [0, 16, 12, 14, 104, 168, 176, 184, 500, 344, 348, 352, 376, 400],
            "itemsize": 540,
        }
    ),
}
"""What is read of a header, by its size."""
_NEARLY_ZERO: Final = {348: 3 * np.finfo(np.float32).eps, 540: 3 * np.finfo(np.float64).eps}
"""A square of a quaternion's first part that is nearer to zero than this is zero: half a turn, and a rounding."""
_REFUSED_TYPES: Final = {
    0: "none",
    1: "binary",
    32: "complex64",
    128: "RGB",
    255: "all",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA",
}
_MM_PER_UNIT: Final = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres per spatial unit, by its code in the lower three bits of ``xyzt_units``: metre, millimetre, micron."""


class VolumeHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a NIfTI file says of its voxels.

    Attributes
    ----------
    raw
        All bytes before the voxels.
    dtype
        Voxel type with byte order, for example ``<i2``.
    grid
        Lattice in mm; its shape is (k, j, i).
    scaling
        Identity where the file's slope is 0 or not finite.
    affine_source
        ``sform``, ``qform`` or ``pixdim``.
    findings
        Warnings about the geometry.
    """

    raw: bytes
    dtype: str
    grid: Grid
    scaling: Scaling
    affine_source: str
    findings: tuple[Finding, ...]

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels in the file."""
        # In Python's integers: the sides of a NIfTI-2 have 64 bits each, and their product would wrap round to little.
        return math.prod(self.grid.shape_zyx) * np.dtype(self.dtype).itemsize


def header_size(probe: bytes, place: str) -> int:
    """Return how many bytes lie before the voxels.

    Parameters
    ----------
    probe
        First `PROBE_BYTES` of the inflated file (fewer if it is shorter).
    place
        Name of the file, for errors.

    Raises
    ------
    SourceError
        Not a single-file NIfTI-1 or NIfTI-2, or its voxel offset is impossible.
    """
    header = _parse(probe, place)
    size = int(header["sizeof_hdr"])
    offset = float(header["vox_offset"])
    if not size + 4 <= offset <= MOST_HEADER_BYTES or offset != int(offset):
        raise SourceError("source.header-invalid", f"the voxels are said to begin at byte {offset}", place=place)
    return int(offset)


def read_header(raw: bytes, place: str) -> VolumeHeader:
    """Parse the bytes before the voxels.

    Raises
    ------
    SourceError
        The header contradicts itself, the voxel type is not supported, or the volume is not 3-D.
    """
    header = _parse(raw, place)
    dtype = _dtype(header, raw, place)
    shape = _shape(header, place)
    affine, source, findings = _affine(header, shape, place)
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    scaling = Scaling(slope, inter) if np.isfinite([slope, inter]).all() and slope != 0 else Scaling()
    return VolumeHeader(
        raw=raw,
        dtype=dtype,
        grid=Grid.of(shape[::-1], affine),
        scaling=scaling,
        affine_source=source,
        findings=tuple(findings),
    )


def describe_stored(header: VolumeHeader, grid: Grid, dtype: str, scaling: Scaling) -> bytes:
    """Return header bytes for the array as it is stored: the source's own, changed only where they must be.

    Parameters
    ----------
    header
        Of the source.
    grid, dtype, scaling
        Of the stored array; the bytes are little-endian.
    """
    if _describes(header, grid, np.dtype(dtype).newbyteorder("<"), scaling):
        return header.raw
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    size = int(_parse(header.raw, "header")["sizeof_hdr"])
    kind: type[Nifti1Header] = Nifti1Header if size == 348 else Nifti2Header
    # check=False: nibabel's own checks mend some faults silently and log others; ours were made before.
    parsed, rest = kind(header.raw[:size], check=False), header.raw[size:]
    if parsed.endianness == ">":
        parsed, rest = parsed.as_byteswapped("<"), _swapped_extensions(rest)
    parsed.set_data_dtype(np.dtype(dtype))
    if grid != header.grid:
        _set_geometry(parsed, grid)
    if scaling != header.scaling:
        parsed["scl_slope"], parsed["scl_inter"] = scaling.slope, scaling.inter
    return bytes(parsed.binaryblock) + rest


def _describes(header: VolumeHeader, grid: Grid, dtype: np.dtype[Any], scaling: Scaling) -> bool:
    # Who writes the wrong number of bits is put right, so that readers of the stored header are.
    bits = int(_parse(header.raw, "header")["bitpix"])
    same = np.dtype(header.dtype) == dtype and bits == 8 * dtype.itemsize
    return same and (grid, scaling) == (header.grid, header.scaling)


def _swapped_extensions(rest: bytes) -> bytes:
    """Return what follows a big-endian header with the size and code of each extension in little-endian."""
    swapped, at = bytearray(rest), 4
    while rest[0] and at + 8 <= len(rest):
        size = int.from_bytes(rest[at : at + 4], "big")
        swapped[at : at + 4], swapped[at + 4 : at + 8] = rest[at : at + 4][::-1], rest[at + 4 : at + 8][::-1]
        # A size that cannot be would never bring us on; what is left then is no extension.
        at += max(size, 8)
    return bytes(swapped)


def _parse(raw: bytes, place: str) -> Header:
    for size, (at, magic) in _FILE_MAGIC.items():
        found = raw[at : at + 4]
        if found == magic and len(raw) >= size and raw[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            fields = _FIELDS[size].newbyteorder(">" if raw[0] == 0 else "<")
            return np.frombuffer(raw, fields, count=1)[0]
        if found in _PAIR_MAGIC:
            raise SourceError("source.pair", "this is the header of a .hdr/.img pair, not a single file", place=place)
    raise SourceError("source.not-nifti", f"no NIfTI header in the first {min(len(raw), 540)} bytes", place=place)


def _dtype(header: Header, raw: bytes, place: str) -> str:
    code = int(header["datatype"])
    if code in TYPES:
        # The header's size is its first number, and small.
        return str(np.dtype(TYPES[code]).newbyteorder(">" if raw[0] == 0 else "<").str)
    name = f"voxel type {_REFUSED_TYPES[code]} (code {code})" if code in _REFUSED_TYPES else ""
    raise SourceError("source.datatype-unsupported", name or f"voxel type code {code} is not known", place=place)


def _shape(header: Header, place: str) -> tuple[int, int, int]:
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise SourceError("source.header-invalid", f"the number of dimensions is {rank}", place=place)
    dims = [int(n) for n in header["dim"][1 : rank + 1]]
    if min(dims) < 1:
        raise SourceError("source.header-invalid", f"the dimensions are {dims}", place=place)
    while len(dims) > 3 and dims[-1] == 1:
        dims.pop()
    if len(dims) != 3:
        raise SourceError("source.not-3d", f"the dimensions are {dims}", place=place)
    return dims[0], dims[1], dims[2]


@np.errstate(invalid="ignore", over="ignore")  # what overflows here is refused here
def _affine(header: Header, shape: tuple[int, int, int], place: str) -> tuple[Affine, str, list[Finding]]:
    findings = []
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if has_sform:
        affine, source = _sform(header), "sform"
        if has_qform and not _agree(affine, header, shape, place):
            findings.append(warning("warning.affine-conflict", place))
    elif has_qform:
        affine, source = _qform(header, place), "qform"
    else:
        affine, source = _centred(header, shape), "pixdim"
        findings.append(warning("warning.affine-pixdim", place))
    mm_per_unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if mm_per_unit is None:
        findings.append(warning("warning.units-unknown", place))
    # Not "more than": NaN is beyond every bound. What is left has squares that are finite.
    if not np.abs(affine).max() <= _MOST_MM:
        raise SourceError("source.header-invalid", f"the {source} is not finite, or absurd", place=place)
    affine = np.diag([mm_per_unit or 1.0] * 3 + [1.0]) @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(spacing < 1e-6) or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise SourceError("source.header-invalid", f"the {source} is singular", place=place)
    grid = Grid.of(shape[::-1], affine)
    if grid.is_sheared:
        findings.append(warning("warning.affine-sheared", place))
    elif not grid.is_aligned:
        findings.append(warning("warning.oblique", place))
    return grid.affine, source, findings


def _sform(header: Header) -> FloatArray:
    affine = np.eye(4)
    affine[:3] = header["srow_xyz"]
    return affine


def _qform(header: Header, place: str) -> FloatArray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = _qform_steps(header, place), header["qoffset_xyz"]
    return affine


def _agree(sform: FloatArray, header: Header, shape: tuple[int, int, int], place: str) -> bool:
    """Whether the qform puts each voxel where the sform does; one that cannot be used does not."""
    try:
        qform = _qform(header, place)
    except SourceError:
        return False
    # Not "more than": a qform of NaN is no agreement.
    return _apart_voxels(sform, qform, shape) <= 0.1


def _qform_steps(header: Header, place: str) -> FloatArray:
    """Return the world's change per voxel, a column for each of i, j and k: nifti1.h, METHOD 2."""
    qfac, *spacing = header["pixdim"][:4].tolist()
    # "If qfac is 0, it should be taken as 1".
    qfac = qfac or 1.0
    if any(step < 0 for step in spacing) or qfac not in {-1.0, 1.0}:
        message = f"the qform cannot be used: qfac is {qfac}, spacing {spacing}"
        raise SourceError("source.header-invalid", message, place=place)
    # In the longest floats there are: near half a turn little is left of the first part.
    b, c, d = header["quatern_bcd"].astype(np.longdouble)
    square = 1 - (b * b + c * c + d * d)
    if abs(square) < _NEARLY_ZERO[int(header["sizeof_hdr"])]:
        square = np.longdouble(0)
    if square < 0:
        raise SourceError("source.header-invalid", f"the qform cannot be used: a² is {square:.3g}", place=place)
    a = np.sqrt(square)
    # Divided by its square, since a quaternion that was rounded is no unit any more.
    s = 2 / (a * a + b * b + c * c + d * d)
    sb, sc, sd = b * s, c * s, d * s
    rotation = np.array(
        [
            [1 - (c * sc + d * sd), b * sc - a * sd, b * sd + a * sc],
            [b * sc + a * sd, 1 - (b * sb + d * sd), c * sd - a * sb],
            [b * sd - a * sc, c * sd + a * sb, 1 - (b * sb + c * sc)],
        ]
    )
    return np.asarray(rotation * [*spacing[:2], qfac * spacing[2]], dtype=np.float64)


def _centred(header: Header, shape: tuple[int, int, int]) -> FloatArray:
    """Return the affine of a file that has none, as nibabel makes it: i to the left, the middle at the origin."""
    # nifti1.h: pixdim is positive; nibabel takes a negative one as if it were.
    steps = np.abs(header["pixdim"][1:4].astype(np.float64)) * [-1, 1, 1]
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * steps
    return affine


def _apart_voxels(one: FloatArray, other: FloatArray, shape: tuple[int, int, int]) -> float:
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1).T
    apart = one - other
    apart_mm = np.linalg.norm(corners @ apart[:3, :3].T + apart[:3, 3], axis=1)
    return float(apart_mm.max() / max(1e-6, np.linalg.norm(one[:3, :3], axis=0).min()))


def _set_geometry(header: Nifti1Header, grid: Grid) -> None:
    header.set_data_shape(grid.shape_zyx[::-1])
    header["xyzt_units"] = int(header["xyzt_units"]) & ~7 | 2
    # A qform cannot hold shear: strip it there, the sform keeps it and is read first.
    header.set_qform(np.array(grid.affine), code=1, strip_shears=True)
    header.set_sform(np.array(grid.affine), code=1)
