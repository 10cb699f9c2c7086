"""Statistics that are gathered while the voxels stream by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from corpus.geometry import Grid, Voxels
from corpus.labels import Family
from corpus.models import Region, Scaling, Statistics
from corpus.regions import Box

_SAMPLE_EVERY: Final = 4
_HIGH_PERCENT: Final = 99.5
_MOST_PARTS: Final = 32
"""A plane is cut into so many parts, or fewer, whose sum a processor's first cache holds."""
_MOST_RANKS: Final = 1024
"""Label values below this are counted in a table of all values; larger ones, which are rare, are ranked first."""


class IntensityStatistics:
    """Minimum, maximum, mean and a high percentile of an intensity volume; NaN and infinities are left out."""

    def __init__(self) -> None:
        self._low: list[float] = []
        self._high: list[float] = []
        self._sum: float | int = 0
        self._count = 0
        self._non_finite = 0
        self._sample: list[Voxels] = []
        self._slices = 0

    def update(self, slab: Voxels) -> tuple[float, float] | None:
        """Take in the next slab of stored values, shape (z, y, x); return its least and its greatest number, if any."""
        first = -self._slices % _SAMPLE_EVERY
        before = len(self._low)
        self._slices += len(slab)
        self._sample.append(slab[first::_SAMPLE_EVERY, ::_SAMPLE_EVERY, ::_SAMPLE_EVERY].flatten())
        for plane in slab:  # which the processor's cache holds, for three passes
            self._add_plane(plane)
        low, high = self._low[before:], self._high[before:]
        return (min(low), max(high)) if low else None

    def _add_plane(self, plane: Voxels) -> None:
        values: Voxels = plane
        if plane.dtype.kind == "f" and not (finite := np.isfinite(plane)).all():
            values = plane[finite]
            self._non_finite += plane.size - values.size
        if values.size:
            self._low.append(values.min().item())
            self._high.append(values.max().item())
            self._sum += _exact_sum(values, self._low[-1], self._high[-1])
            self._count += values.size

    def result(self, scaling: Scaling) -> Statistics:
        """Return the statistics in physical units."""
        if not self._count:
            return Statistics(None, None, None, self._non_finite, None)
        high = _high(np.concatenate(self._sample), scaling)
        ends = sorted(_physical(float(v), scaling) for v in (min(self._low), max(self._high)))
        mean = _physical(self._sum / self._count, scaling)
        return Statistics(ends[0], ends[1], mean, self._non_finite, high)


def _high(sample: Voxels, scaling: Scaling) -> float | None:
    # In stored numbers, which take a fraction of the memory: scaling keeps their order, or turns it round.
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    percent = _HIGH_PERCENT if scaling.slope > 0 else 100 - _HIGH_PERCENT
    return _physical(_percentile(sample, percent), scaling) if sample.size else None


def _percentile(sample: Voxels, percent: float) -> float:
    # That of np.percentile, which loads numpy's masked arrays to find out that this is none.
    place = (len(sample) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(sample) - 1)
    sample.partition((below, above))
    return float(np.interp(place, (below, above), sample[[below, above]]))


def _physical[T: float | Voxels](stored: T, scaling: Scaling) -> T:
    return stored * scaling.slope + scaling.inter  # type: ignore[return-value]  # an array times a float is an array


def _exact_sum(values: Voxels, low: float, high: float) -> float | int:
    if values.dtype.kind == "f":
        return float(values.sum(dtype=np.float64))
    if values.dtype.itemsize < 8:
        return _sum_of_parts(values.reshape(-1), int(np.iinfo(values.dtype).max // max(-low, high, 1)))
    # Halves of the widest integers, so that their sums do not wrap.
    return (int((values >> 32).sum(dtype=np.int64)) << 32) + int((values & 0xFFFFFFFF).sum(dtype=np.int64))


def _sum_of_parts(values: Voxels, room: int) -> int:
    """Return the sum of integers; of the greatest of them, `room` fit into their type, in which adding is quick."""
    parts = max(1, min(room, _MOST_PARTS))
    whole = len(values) // parts * parts
    folded = values[:whole].reshape(parts, -1).sum(axis=0, dtype=values.dtype)
    return int(folded.sum(dtype=np.int64)) + int(values[whole:].sum(dtype=np.int64))


class LabelStatistics:
    """Voxels, boxes and centroids of each label, from how often each value occurs at each index of each axis.

    Parameters
    ----------
    grid
        Lattice of the stored label map.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._slices = 0
        # Per axis, value and index: number of voxels. Everything else follows from these three tables.
        self._counts: tuple[dict[int, Voxels], ...] = ({}, {}, {})

    def update(self, slab: Voxels) -> None:
        """Take in the next slab of label values, shape (z, y, x)."""
        for plane in slab:
            self._add_plane(plane)
            self._slices += 1

    def _add_plane(self, plane: Voxels) -> None:
        # Whole rows of background first: most of a label map is.
        rows = np.flatnonzero(plane.any(axis=1))
        if not rows.size:
            return
        first = int(rows[0])
        y, x = np.nonzero(plane[first : rows[-1] + 1])
        ranks = plane[y + first, x].astype(np.int64)
        names: Sequence[int] = range(int(ranks.max()) + 1)
        if len(names) > _MOST_RANKS:
            known, ranks = np.unique(ranks, return_inverse=True)
            names = known.tolist()
        _, ny, nx = self._grid.shape_zyx
        along_y = np.bincount(ranks * ny + (y + first), minlength=len(names) * ny).reshape(-1, ny)
        along_x = np.bincount(ranks * nx + x, minlength=len(names) * nx).reshape(-1, nx)
        for rank in np.flatnonzero(along_y.any(axis=1)).tolist():
            z_table, y_table, x_table = (self._table(axis, names[rank]) for axis in range(3))
            z_table[self._slices] += along_y[rank].sum()
            y_table += along_y[rank]
            x_table += along_x[rank]

    def _table(self, axis: int, value: int) -> Voxels:
        tables = self._counts[axis]
        if value not in tables:
            tables[value] = np.zeros(self._grid.shape_zyx[axis], dtype=np.int64)
        return tables[value]

    def result(self, family: Family) -> tuple[Region, ...]:
        """Return one region per value that occurs, by value; background is no region."""
        names = {label.value: label.name for label in family.labels}
        return tuple(self._region(value, names.get(value, f"unexpected_{value}")) for value in sorted(self._counts[0]))

    def _region(self, value: int, name: str) -> Region:
        rows = [table[value] for table in self._counts]
        voxels = int(rows[0].sum())
        spans = [np.flatnonzero(row)[[0, -1]].tolist() for row in rows]
        box = Box.of([a for a, _ in spans], [b + 1 for _, b in spans])
        mean_zyx = [float(row @ np.arange(len(row))) / voxels for row in rows]
        x, y, z = self._grid.to_world_mm(mean_zyx).tolist()
        whole = Box.whole(self._grid)
        faces = zip(box.start_zyx + box.stop_zyx, whole.start_zyx + whole.stop_zyx, strict=True)
        return Region(
            value=value,
            name=name,
            voxels=voxels,
            volume_ml=voxels * self._grid.voxel_ml,
            start_zyx=box.start_zyx,
            stop_zyx=box.stop_zyx,
            bbox_mm_ras=box.bounds_mm_ras(self._grid),
            centroid_mm_ras=(x, y, z),
            touches_edge=any(a == b for a, b in faces),
        )
