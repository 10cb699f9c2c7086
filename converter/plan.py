"""What will be written, decided before any byte is: pure, printable, with the memory it will take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from converter.cast import stored_types
from converter.inventory import SubjectFiles
from converter.nifti import VolumeHeader
from converter.sheets import pet_units
from converter.source import SourceFile
from corpus import chunking, layout
from corpus.findings import Finding, warning
from corpus.geometry import Grid, Reorder, reorder_onto
from corpus.models import Level, Scaling, SubjectInfo, to_json
from corpus.ome import DEFAULT_VERSION

if TYPE_CHECKING:
    from corpus.errors import SourceError

CONVERSION: Final = 2
"""Counts changes of the converter that give other bytes for the same source: volumes of an older one are redone."""


class VolumePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one volume is going to be stored: the unit of parallel work.

    Attributes
    ----------
    subject, role
        Which volume.
    source, header
        The file, and what it says of its voxels.
    path
        Image group in the subject's store.
    reorder
        From the source's voxel order to the stored one.
    grid
        Stored lattice.
    cut_like
        Lattice whose levels and chunks are taken, so that a label map is cut as its CT is.
    types
        Voxel types to try, narrowest first.
    units, units_from
        Of the physical values.
    digest
        Of the source's identity and of all that shapes the bytes.
    findings
        Warnings so far.
    peak_bytes
        Most memory that writing it takes, the interpreter and its libraries apart.
    ome_version
        Of the metadata.
    """

    subject: str
    role: str
    source: SourceFile
    header: VolumeHeader
    path: str
    reorder: Reorder
    grid: Grid
    cut_like: Grid
    types: tuple[str, ...]
    units: str
    units_from: str
    digest: str
    findings: tuple[Finding, ...]
    peak_bytes: int
    ome_version: str

    @property
    def place(self) -> str:
        """Name of the volume in reports."""
        return f"{self.subject}/{self.role}"

    @property
    def is_label(self) -> bool:
        """Whether it is a label map."""
        return layout.is_label(self.role)

    @property
    def scaling(self) -> Scaling:
        """From stored to physical numbers; label maps are decoded before they are stored."""
        return Scaling() if self.is_label else self.header.scaling


def digest_of(files: SubjectFiles, role: str, info: SubjectInfo) -> str:
    """Return the identity of a volume's conversion, known from the listing alone.

    It covers the file's name and size, for a PET the unit from the sheet, and the version of the conversion. A file
    whose content changes without its size does not change it; `verify --source` finds that.
    """
    file = files.files[role]
    unit = info.pet_units if role == "pet" else None
    identity = [CONVERSION, layout.LAYOUT_VERSION, role, unit, file.name, file.size]
    return hashlib.sha256(to_json(identity)).hexdigest()[:16]


def plan_volume(
    files: SubjectFiles,
    role: str,
    headers: Mapping[str, VolumeHeader | SourceError],
    info: SubjectInfo,
    ome_version: str = DEFAULT_VERSION,
) -> VolumePlan:
    """Plan one volume of a subject.

    Parameters
    ----------
    files
        All files of the subject.
    role
        Which one.
    headers
        Of all volumes of the subject, or why one cannot be used; `role` itself must have a header.
    info
        What the spreadsheets say.
    ome_version
        Of the metadata.
    """
    header = headers[role]
    if not isinstance(header, VolumeHeader):
        raise header
    ct = headers.get("ct")
    place = f"{files.subject}/{role}"
    findings = list(header.findings)
    reorder, apart, cut_like = Reorder(), False, header.grid
    if layout.is_label(role):
        laid = reorder_onto(header.grid, ct.grid) if isinstance(ct, VolumeHeader) else None
        if laid is None or not isinstance(ct, VolumeHeader):
            apart = True
            findings.append(warning("warning.label-grid", place))
        else:
            reorder, cut_like = laid, ct.grid
            if not laid.is_identity:
                findings.append(warning("warning.label-reordered", place))
    units, units_from = _units(role, info)
    types = stored_types(role, header.dtype, is_label=layout.is_label(role))
    grid = header.grid.reordered(reorder) if not reorder.is_identity else header.grid
    return VolumePlan(
        subject=files.subject,
        role=role,
        source=files.files[role],
        header=header,
        path=layout.image_path(role, apart=apart),
        reorder=reorder,
        grid=grid,
        cut_like=cut_like,
        types=types,
        units=units,
        units_from=units_from,
        digest=digest_of(files, role, info),
        findings=tuple(findings),
        peak_bytes=_peak_bytes(header, grid, cut_like, types, reorder),
        ome_version=ome_version,
    )


def levels_of(grid: Grid, cut_like: Grid, dtype: str) -> tuple[Level, ...]:
    """Return the levels of an array, level 0 first.

    Parameters
    ----------
    grid
        Lattice of level 0.
    cut_like
        Lattice that decides factors and chunks; of the same shape.
    dtype
        Stored voxel type.
    """
    levels = []
    for factors in chunking.level_factors(cut_like):
        chunk = chunking.inner_chunk(cut_like.downsampled(factors))
        level = grid.downsampled(factors)
        shard = chunking.shard(level.shape_zyx, chunk, np.dtype(dtype).itemsize)
        levels.append(Level(factors, level, chunk, shard))
    return tuple(levels)


def _units(role: str, info: SubjectInfo) -> tuple[str, str]:
    if layout.is_label(role):
        return "", ""
    if role == "ct":
        return "HU", "CT values are Hounsfield units by definition"
    unit = pet_units(info.pet_units)
    if unit is None:
        return "unknown", "the spreadsheet does not say"
    return unit, f"spreadsheet, column Units: {info.pet_units}"


def _peak_bytes(header: VolumeHeader, grid: Grid, cut_like: Grid, types: tuple[str, ...], reorder: Reorder) -> int:
    source_size, stored_size = np.dtype(header.dtype).itemsize, np.dtype(types[-1]).itemsize
    levels = levels_of(grid, cut_like, types[-1])
    depth, ny, nx = levels[0].chunk_zyx[0], *header.grid.shape_zyx[1:]
    # One slab waits, one is being read, one is being cast, which takes up to three more copies of it.
    total = 6 * depth * ny * nx * source_size
    for level in levels:
        plane = level.shard_zyx[1] * level.shard_zyx[2]
        # A row being filled, its chunks, and the row before that is still being encoded; the sums of the next level.
        total += 6 * level.chunk_zyx[0] * plane * stored_size
        # A shard being gathered and one being put, encoded; noise does not shrink.
        total += 3 * level.shard_zyx[0] * plane * stored_size
    voxels = int(np.prod(grid.shape_zyx))
    # Every 64th voxel as float64, twice, for the percentile.
    total += voxels // 64 * 16
    if not reorder.is_identity:
        total += 2 * voxels * stored_size
    return total
