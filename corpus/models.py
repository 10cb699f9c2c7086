"""What is known of a stored subject, as frozen values: written by the converter, turned into metadata and tables.

All are JSON documents as well (msgspec), and hold no time of day and no absolute path, so that the same source with
the same settings gives the same bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from corpus import layout
from corpus.contents import ENHANCE_PET, Contents
from corpus.geometry import Grid, Reorder, Triple


class SourceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file that a volume was made from, or the binary masks that were packed into it.

    Attributes
    ----------
    name
        Relative to the source's root; for a member of an archive ``archive.zip!member``. Of masks, their folder.
    size
        Bytes of the file as it lies there. Of masks, their sum.
    sha256
        Of these bytes. Of masks, of the lines that ``sha256sum`` prints of them.
    voxels_sha256
        Of the inflated voxel bytes, in the source's type, byte order and voxel order. Of masks, of the label map that
        they were packed into, in their voxel order.
    masks
        The files of binary masks, in the order of the label table.
    overlap_voxels
        Voxels that more than one mask claimed.
    """

    name: str
    size: int
    sha256: str
    voxels_sha256: str
    masks: tuple[MaskRecord, ...] = ()
    overlap_voxels: int = 0


class MaskRecord(msgspec.Struct, frozen=True):
    """A binary mask that was packed into a label map.

    Attributes
    ----------
    value
        Voxel value that it became.
    name
        Relative to the source's root.
    size, sha256
        Of the file.
    """

    value: int
    name: str
    size: int
    sha256: str


class CodecChoice(msgspec.Struct, frozen=True):
    """How the inner chunks of an array are compressed (blosc with zstd).

    Attributes
    ----------
    shuffle
        ``noshuffle``, ``shuffle`` or ``bitshuffle``.
    clevel
        Compression level, 1 to 3.
    """

    shuffle: str
    clevel: int


class Level(msgspec.Struct, frozen=True):
    """One level of a pyramid.

    Attributes
    ----------
    factors_zyx
        Voxels of level 0 per voxel, along each array axis.
    grid
        Lattice of the level.
    chunk_zyx
        Shape of the inner chunks.
    shard_zyx
        Shape of the shards.
    """

    factors_zyx: Triple
    grid: Grid
    chunk_zyx: Triple
    shard_zyx: Triple


class Scaling(msgspec.Struct, frozen=True):
    """How stored numbers become physical ones: ``stored * slope + inter``."""

    slope: float = 1.0
    inter: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether stored numbers are physical ones."""
        return (self.slope, self.inter) == (1.0, 0.0)


class Statistics(msgspec.Struct, frozen=True):
    """Statistics of an intensity volume, in physical units; NaN and infinite voxels are left out.

    Attributes
    ----------
    minimum, maximum, mean
        None where no voxel is finite.
    non_finite
        Number of voxels that are NaN or infinite.
    high
        99.5th percentile of every fourth voxel along each axis.
    """

    minimum: float | None
    maximum: float | None
    mean: float | None
    non_finite: int
    high: float | None


class Region(msgspec.Struct, frozen=True, gc=False):  # so many, and none in a cycle
    """What a label map holds of one label.

    Attributes
    ----------
    value
        Voxel value.
    name
        Identifier of the label table, or ``unexpected_<value>``.
    voxels
        Number of voxels.
    volume_ml
        Their volume.
    start_zyx, stop_zyx
        Half-open bounding box in level-0 voxels of the stored array.
    bbox_mm_ras
        World box of the voxels' outer faces: x0, y0, z0, x1, y1, z1.
    centroid_mm_ras
        Mean world position of the voxel centres.
    touches_edge
        Whether the label reaches a face of the volume, so that it may be cut off.
    """

    value: int
    name: str
    voxels: int
    volume_ml: float
    start_zyx: Triple
    stop_zyx: Triple
    bbox_mm_ras: tuple[float, float, float, float, float, float]
    centroid_mm_ras: tuple[float, float, float]
    touches_edge: bool


class StoredImage(msgspec.Struct, frozen=True, kw_only=True):
    """One stored volume with its pyramid.

    Attributes
    ----------
    role
        An image such as ``ct``, or a label family.
    path
        Image group in the subject's store.
    source
        The file it came from.
    dtype
        Stored voxel type, for example ``int16``.
    dtype_source
        Voxel type of the source, with byte order (``<i2``).
    scaling
        From stored to physical numbers.
    units
        Of the physical numbers: ``HU``, ``Bq/ml``, ``CNTS``, ``SUV``, ``unknown``; empty for label maps.
    units_from
        Where the unit is known from.
    suv_factor
        SUV (body weight) is this times a physical number of a PET; None where it is not known.
    suv_factor_from
        Which fields it follows from, or why there is none; empty for all but a PET.
    affine_source
        ``sform``, ``qform`` or ``pixdim``.
    reorder
        From the source's voxel order to the stored one.
    lossless
        Whether export gives back the source's voxel bytes.
    levels
        Level 0 first.
    codec
        Compression of all levels.
    header
        NIfTI header bytes (with extensions) that describe the stored array.
    source_header
        The source's header bytes up to the voxels, where they differ from `header`.
    array_sha256
        Of level 0 as stored: little-endian, C order.
    software
        Version of voxshelf that stored it.
    digest
        Of the source's identity and of the settings that shape the bytes.
    statistics
        Of an intensity volume.
    regions
        Of a label map.
    ome_version
        Of the OME-Zarr metadata that describe it.
    """

    role: str
    path: str
    source: SourceRecord
    dtype: str
    dtype_source: str
    scaling: Scaling
    units: str
    units_from: str
    affine_source: str
    reorder: Reorder
    lossless: bool
    levels: tuple[Level, ...]
    codec: CodecChoice
    header: bytes
    source_header: bytes | None
    array_sha256: str
    software: str
    digest: str = ""
    suv_factor: float | None = None
    suv_factor_from: str = ""
    statistics: Statistics | None = None
    regions: tuple[Region, ...] = ()
    ome_version: str = "0.5"

    @property
    def grid(self) -> Grid:
        """Lattice of level 0."""
        return self.levels[0].grid

    @property
    def is_label(self) -> bool:
        """Whether it is a label map."""
        return layout.is_label_path(self.path)


class SubjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the spreadsheets say of a subject; None for unknown.

    Attributes
    ----------
    subject
        Id.
    license
        SPDX id, or ``unknown``.
    pet_units
        Unit of the PET as the sheet spells it.
    extra
        Recognised nowhere, kept all the same: column header to cell text.
    """

    subject: str
    source_institution: str | None = None
    license: str = "unknown"
    attribution: str = ""
    indication: str | None = None
    sex: str | None = None
    age_years: float | None = None
    weight_kg: float | None = None
    height_m: float | None = None
    scanner: str | None = None
    pet_units: str | None = None
    extra: dict[str, str] = {}


class CorpusInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The corpus that a mirror holds.

    Attributes
    ----------
    name
        For example ``ENHANCE.PET 1.6k``.
    release
        ``2025``, ``2026``, or as given.
    citation
        What a user has to cite.
    own_contents
        What its subjects may have; None for those of ENHANCE.PET.
    """

    name: str
    release: str
    citation: str
    own_contents: Contents | None = msgspec.field(default=None, name="contents")

    @property
    def contents(self) -> Contents:
        """What its subjects may have."""
        return self.own_contents or ENHANCE_PET


def to_json(value: Any) -> bytes:
    """Encode any of these values; the same value gives the same bytes."""
    return msgspec.json.encode(value, order="sorted")
