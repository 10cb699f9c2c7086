"""Which voxels a reader means: a box of voxels, a box in the world, or the surroundings of a label."""

from __future__ import annotations

import msgspec
import numpy as np

from corpus.catalog import Catalog, Row
from corpus.errors import RequestError
from corpus.geometry import Grid, Triple, reorder_onto
from corpus.regions import Bounds, Box, box_covering_mm, box_of_mm


class Cut(msgspec.Struct, frozen=True):
    """Which part of a volume is wanted.

    Attributes
    ----------
    level
        Of the pyramid; 0 is full resolution.
    label
        Only the surroundings of this label: all voxels that it reaches into, on whichever grid the volume has.
    margin_mm
        Around the label.
    bbox_mm_ras
        Only the voxels of the level whose centres lie in this world box: x0, y0, z0, x1, y1, z1.
    voxels
        Only these voxels of the level.
    """

    level: int = 0
    label: str | None = None
    margin_mm: float = 0.0
    bbox_mm_ras: Bounds | None = None
    voxels: Box | None = None

    @property
    def regions(self) -> int:
        """How many regions are named; there may be one."""
        return sum(region is not None for region in (self.label, self.bbox_mm_ras, self.voxels))

    @property
    def is_whole(self) -> bool:
        """Whether the whole volume at full resolution is meant."""
        return self.level == 0 and self.regions == 0


def grid_of(row: Row) -> Grid:
    """Return the level-0 lattice of a row of ``volumes.parquet``."""
    return Grid.of(row["shape_zyx"], np.reshape(row["affine"], (4, 4)))


def box_of_cut(cut: Cut, catalog: Catalog, row: Row, grid: Grid, factors_zyx: Triple) -> Box:
    """Return the voxels of a level that a cut means.

    Parameters
    ----------
    cut
        At most one region.
    catalog
        Knows where labels lie.
    row
        Of ``volumes.parquet``.
    grid, factors_zyx
        Lattice of the level, and its factors against level 0.

    Raises
    ------
    NotFoundError
        The subject has no such label.
    RequestError
        The region holds no voxel, or does not lie in the volume.
    """
    if cut.label is not None:
        fine = box_of_label(catalog, row, cut.label, cut.margin_mm)
        return fine.at_level(factors_zyx).clipped(grid.shape_zyx)
    if cut.bbox_mm_ras is not None:
        return box_of_mm(cut.bbox_mm_ras, grid)
    if cut.voxels is not None:
        # Not clipped: whoever counts voxels has another shape in mind where these do not exist.
        if cut.voxels.is_empty or cut.voxels.clipped(grid.shape_zyx) != cut.voxels:
            message = (
                f"the box {cut.voxels.start_zyx} to {cut.voxels.stop_zyx} is empty, or not within {grid.shape_zyx}"
            )
            raise RequestError("request.region", message)
        return cut.voxels
    return Box.whole(grid)


def box_of_label(catalog: Catalog, row: Row, label: str, margin_mm: float) -> Box:
    """Return the level-0 voxels of a volume around a label, with a margin.

    Where the volume does not lie on the label map's lattice, all voxels are returned that the label's world box with
    its margin reaches into.

    Raises
    ------
    NotFoundError
        The subject has no such label.
    RequestError
        The label lies outside the volume, or several label maps other than the volume have one of this name.
    """
    region = catalog.region(row["subject"], label, own=row["volume"].removeprefix("labels/"))
    family = catalog.volume(row["subject"], region["family"])
    grid = grid_of(row)
    laid = reorder_onto(grid_of(family), grid)
    if laid is not None and laid.is_identity:
        start, stop = ([region[f"{dim}_{end}"] for dim in family["dims"]] for end in ("start", "stop"))
        return Box.of(start, stop).expanded_mm(margin_mm, grid)
    low = [region[f"{dim}_min_mm"] - margin_mm for dim in "xyz"]
    high = [region[f"{dim}_max_mm"] + margin_mm for dim in "xyz"]
    return box_covering_mm((low[0], low[1], low[2], high[0], high[1], high[2]), grid)
