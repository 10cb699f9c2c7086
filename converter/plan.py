"""What will be written, decided before any byte is: pure, printable, with the memory it will take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from converter.cast import stored_types
from converter.inventory import SubjectFiles
from converter.nifti import VolumeHeader
from converter.pack import pack_bytes
from converter.sheets import pet_units
from converter.source import SourceFile
from converter.suv import suv_of
from corpus import chunking, layout
from corpus.contents import ENHANCE_PET, Contents, Kind
from corpus.findings import Finding, warning
from corpus.geometry import Grid, Reorder, reorder_onto
from corpus.labels import Family
from corpus.models import Level, Scaling, SubjectInfo, to_json
from corpus.ome import DEFAULT_VERSION

if TYPE_CHECKING:
    from corpus.errors import SourceError

CONVERSION: Final = 2
"""Counts changes of the converter that give other bytes for the same source: volumes of an older one are redone."""


class Meaning(msgspec.Struct, frozen=True):
    """What the numbers of a volume stand for, as `corpus.models.StoredImage` has it: known from the spreadsheets alone.

    Not part of a volume's digest: where a sheet is corrected, the metadata are told anew and the voxels stay.

    Attributes
    ----------
    units, units_from
        Of the physical values.
    suv_factor, suv_factor_from
        From these to SUV, for a PET.
    """

    units: str = ""
    units_from: str = ""
    suv_factor: float | None = None
    suv_factor_from: str = ""


class MirrorSettings(msgspec.Struct, frozen=True):
    """What all subjects of a mirror have in common; noted before the first of them is written, or changed.

    Attributes
    ----------
    ome_version
        Of the metadata.
    levels
        ``all``, or ``few``: without those of more than an eighth of the voxels of the level above.
    """

    ome_version: str
    levels: str = "all"


DEFAULT: Final = MirrorSettings(DEFAULT_VERSION)


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
        Lattice whose levels and chunks are taken, so that a label map is cut as its image is.
    types
        Voxel types to try, narrowest first.
    meaning
        What the numbers stand for.
    digest
        Of the source's identity and of all that shapes the bytes.
    findings
        Warnings so far.
    peak_bytes
        Most memory that writing it takes, the interpreter and its libraries apart.
    settings
        Of the mirror.
    family
        Table of a label map; None for an image.
    carries_labels
        Whether label maps of the subject lie in its group.
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
    meaning: Meaning
    digest: str
    findings: tuple[Finding, ...]
    peak_bytes: int
    settings: MirrorSettings
    family: Family | None = None
    carries_labels: bool = False

    @property
    def place(self) -> str:
        """Name of the volume in reports."""
        return f"{self.subject}/{self.role}"

    @property
    def is_label(self) -> bool:
        """Whether it is a label map."""
        return self.family is not None

    @property
    def scaling(self) -> Scaling:
        """From stored to physical numbers; label maps are decoded before they are stored."""
        return Scaling() if self.is_label else self.header.scaling


def digest_of(
    files: SubjectFiles, role: str, settings: MirrorSettings = DEFAULT, contents: Contents = ENHANCE_PET
) -> str:
    """Return the identity of a volume's conversion, known from the listing alone.

    It covers the file's name and size, the version of the conversion, which levels there are, and what a description of
    the corpus says of the volume. A file whose content changes without its size does not change it; `verify --source`
    finds that.
    """
    file = files.files[role]
    identity = [CONVERSION, layout.LAYOUT_VERSION, role, file.name, file.size]
    if file.masks:
        identity += [(mask.value, mask.file.name, mask.file.size) for mask in file.masks]
    if settings.levels != DEFAULT.levels:
        identity.append(settings.levels)
    if contents != ENHANCE_PET:
        identity += [contents.kind(role), contents.carrier(role), contents.family(role)]
    return hashlib.sha256(to_json(identity)).hexdigest()[:16]


def plan_volume(
    files: SubjectFiles,
    role: str,
    headers: Mapping[str, VolumeHeader | SourceError],
    info: SubjectInfo,
    settings: MirrorSettings = DEFAULT,
    contents: Contents = ENHANCE_PET,
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
    settings
        Of the mirror.
    contents
        What the corpus may have.
    """
    header = headers[role]
    if not isinstance(header, VolumeHeader):
        raise header
    family, carrier = contents.family(role), headers.get(contents.carrier(role) or "")
    source, findings = files.files[role], list(header.findings)
    reorder, apart, cut_like = Reorder(), False, header.grid
    if family is not None:
        laid = reorder_onto(header.grid, carrier.grid) if isinstance(carrier, VolumeHeader) else None
        if laid is None or not isinstance(carrier, VolumeHeader):
            apart = True
            findings.append(warning("warning.label-grid", f"{files.subject}/{role}"))
        else:
            reorder, cut_like = laid, carrier.grid
            if not laid.is_identity:
                findings.append(warning("warning.label-reordered", f"{files.subject}/{role}"))
    types = stored_types(contents.kind(role), header.dtype, is_label=family is not None)
    grid = header.grid.reordered(reorder) if not reorder.is_identity else header.grid
    return VolumePlan(
        subject=files.subject,
        role=role,
        source=source,
        header=header,
        path=contents.image_path(role, apart=apart),
        reorder=reorder,
        grid=grid,
        cut_like=cut_like,
        types=types,
        meaning=meaning_of(contents.kind(role), info),
        digest=digest_of(files, role, settings, contents),
        findings=tuple(findings),
        peak_bytes=_peak_bytes(header, grid, cut_like, types, reorder) + pack_bytes(header, len(source.masks)),
        settings=settings,
        family=family,
        carries_labels=role in contents.carriers,
    )


def meaning_of(kind: Kind | None, info: SubjectInfo) -> Meaning:
    """Return what the numbers of a subject's volume stand for.

    Parameters
    ----------
    kind
        Of an image; None for a label map.
    info
        What the spreadsheets say.
    """
    if kind is None:
        return Meaning()
    if kind == "ct":
        return Meaning("HU", "CT values are Hounsfield units by definition")
    if kind == "other":
        return Meaning("", "arbitrary: neither a CT nor a PET")
    unit, suv = pet_units(info.pet_units), suv_of(info)
    told = "the spreadsheet does not say" if unit is None else f"spreadsheet, column Units: {info.pet_units}"
    return Meaning(unit or "unknown", told, suv.factor, suv.basis)


@lru_cache(maxsize=128)  # asked anew for each of a subject's label maps, which share a lattice
def levels_of(grid: Grid, cut_like: Grid, dtype: str, levels: str = DEFAULT.levels) -> tuple[Level, ...]:
    """Return the levels of an array, level 0 first.

    Parameters
    ----------
    grid
        Lattice of level 0.
    cut_like
        Lattice that decides factors and chunks; of the same shape.
    dtype
        Stored voxel type.
    levels
        As `MirrorSettings` has it.
    """
    found = []
    for factors in chunking.level_factors(cut_like, few=levels == "few"):
        chunk = chunking.inner_chunk(cut_like.downsampled(factors))
        level = grid.downsampled(factors)
        shard = chunking.shard(level.shape_zyx, chunk, np.dtype(dtype).itemsize)
        found.append(Level(factors, level, chunk, shard))
    return tuple(found)


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
