"""Are the voxels of a volume those that were stored: checksums, digests, the source, levels, statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod
from typing import Any, Final

import numpy as np

from converter.cast import LABEL_ROUNDING
from converter.check_subject import broken, check_bytes, check_rows
from converter.pack import open_volume
from converter.pyramid import downsample
from converter.reader import Mirror
from converter.source import SourceFile
from converter.statistics import IntensityStatistics, LabelStatistics
from corpus import codec, layout
from corpus.catalog import region_row
from corpus.chunking import halvings
from corpus.cutouts import grid_of
from corpus.errors import LayoutError
from corpus.findings import Finding
from corpus.geometry import Voxels
from corpus.shards import ABSENT
from corpus.volumes import Volume

_SLICES: Final = 64
_CRC_BYTES: Final = 4


def check_objects(mirror: Mirror, volume: Volume, digests: dict[str, str]) -> Iterator[Finding]:
    """Read all objects of a volume but its documents: digests where they are recorded, and all checksums.

    The checksums are looked at here, whatever zarr's codec pipeline does with them: some pipelines skip them.

    Parameters
    ----------
    mirror, volume
        The volume.
    digests
        SHA-256 of what was written, by key; empty where it was not recorded.
    """
    prefix = f"{layout.store_key(volume.row['subject'])}/{volume.row['image_path']}/"
    shards = {f"{prefix}{path}": count for path, count in _chunks_of_shards(mirror, volume).items()}
    for key in mirror.store.sizes(prefix.rstrip("/")):
        if key.endswith("/zarr.json") or key.startswith(f"{prefix}labels/"):
            continue  # documents are the subject's; the label maps of a CT are volumes of their own
        data = mirror.store.get(key)
        if key in digests:
            yield from check_bytes(key, data, digests[key])
        if count := next((count for path, count in shards.items() if key.startswith(f"{path}/c/")), 0):
            yield from (broken(key, message) for message in damage(data, count))


def damage(shard: bytes, chunks: int) -> Iterator[str]:
    """Find the inner chunks of a shard, or its index, whose checksum is wrong; `converter.shards` has the format.

    Parameters
    ----------
    shard
        Bytes of the whole object.
    chunks
        Number of inner chunks, absent ones included.
    """
    index = shard[-(16 * chunks + _CRC_BYTES) :]
    if len(index) != 16 * chunks + _CRC_BYTES or not _is_sound(index):
        yield "the checksum of the shard's index is wrong"
        return
    table = np.frombuffer(index[:-_CRC_BYTES], dtype="<u8").reshape(chunks, 2)
    for number, (offset, size) in enumerate(table.tolist()):
        if (offset, size) != (ABSENT, ABSENT) and not _is_sound(shard[offset : offset + size]):
            yield f"the checksum of inner chunk {number} of the shard is wrong"


def _is_sound(data: bytes) -> bool:
    return codec.checksummed(data[:-_CRC_BYTES]) == data


def _chunks_of_shards(mirror: Mirror, volume: Volume) -> dict[str, int]:
    """Return the number of inner chunks of each shard, by path of the array in the image."""
    counts = {}
    for level in range(volume.row["levels"]):
        array, _, _ = mirror.level(volume, level)
        pairs = zip(array.encoding["shards"], array.encoding["chunks"], strict=True)
        path = layout.array_path(volume.row["image_path"], level)
        counts[path.removeprefix(f"{volume.row['image_path']}/")] = prod(shard // chunk for shard, chunk in pairs)
    return counts


def check_array(mirror: Mirror, volume: Volume) -> None:
    """Decode level 0 and compare its digest with the table's.

    Raises
    ------
    LayoutError
        They differ.
    """
    array, _, _ = mirror.level(volume, 0)
    digest = hashlib.sha256()
    for slab in _slabs(array):
        digest.update(slab.tobytes())
    if digest.hexdigest() != volume.row["array_sha256"]:
        message = f"level 0 has sha256 {digest.hexdigest()}, the table says {volume.row['array_sha256']}"
        raise LayoutError("layout.voxels", message, place=volume.place)


def check_source(mirror: Mirror, volume: Volume, file: SourceFile) -> int:
    """Compare every voxel with the source's, and return how many there are.

    Raises
    ------
    LayoutError
        A voxel or the header differs.
    SourceError
        The source cannot be read.
    """
    stored = _Feed(mirror.source_slabs(volume))
    compared = 0
    with open_volume(file) as stream:
        if stream.header.raw != volume.source_header:
            raise LayoutError("layout.voxels", "the source's header is not the one that was stored", place=volume.place)
        # Labels that were rounded on the way in may differ by as much as the converter allowed.
        tolerance = 0.0 if volume.lossless else LABEL_ROUNDING / abs(stream.header.scaling.slope)
        for slab in stream.slabs(_SLICES):
            found = np.frombuffer(stored.take(slab.nbytes), dtype=slab.dtype)
            if not _equal(slab.ravel(), found, tolerance):
                message = f"voxels {compared} to {compared + slab.size} of the file differ from the stored ones"
                raise LayoutError("layout.voxels", message, place=volume.place)
            compared += slab.size
    return compared


def check_levels(mirror: Mirror, volume: Volume) -> None:
    """Make every level anew from the one above it, and compare.

    Raises
    ------
    LayoutError
        They differ.
    """
    above, _, before = mirror.level(volume, 0)
    for level in range(1, volume.row["levels"]):
        array, _, factors = mirror.level(volume, level)
        deep, steps, start = factors[0] // before[0], halvings(before, factors), 0
        for slab in _slabs(array):
            stop = start + len(slab)
            expected = above[start * deep : stop * deep].values
            for step in steps:
                expected = downsample(expected, step, is_label=volume.is_label)
            if expected.tobytes() != slab.tobytes():
                message = f"slices {start} to {stop} of level {level} are not what level {level - 1} gives"
                raise LayoutError("layout.voxels", message, place=volume.place)
            start = stop
        above, before = array, factors


def check_statistics(mirror: Mirror, volume: Volume) -> Iterator[Finding]:
    """Compute the statistics of the tables anew from level 0, and compare."""
    array, grid, _ = mirror.level(volume, 0)
    subject, role = volume.row["subject"], volume.row["volume"].removeprefix("labels/")
    labels, intensities = LabelStatistics(grid), IntensityStatistics()
    for slab in _slabs(array):
        (labels if volume.is_label else intensities).update(slab)
    if volume.is_label:
        family = mirror.catalog.mirror.corpus.contents.family(role)
        if family is None:
            raise LayoutError("layout.metadata", "mirror.json does not name this label map", place=volume.place)
        regions = labels.result(family)
        dims = grid_of(volume.row).dims
        expected = {str(region.value): region_row(subject, role, dims, region) for region in regions}
        found = {str(row["value"]): row for row in mirror.catalog.regions.get(subject, []) if row["family"] == role}
        yield from check_rows("regions", expected, found, f"{subject}/{role}", "the voxels")
        return
    told = intensities.result(volume.scaling)
    row = {"min": told.minimum, "max": told.maximum, "mean": told.mean, "nan_count": told.non_finite}
    yield from check_rows("volumes", {role: row}, {role: volume.row}, subject, "the voxels")


def _slabs(array: Any) -> Iterator[Voxels]:
    depth = array.encoding["shards"][0]
    for start in range(0, len(array), depth):
        yield array[start : start + depth].values


def _equal(expected: Voxels, found: Voxels, tolerance: float) -> bool:
    if tolerance:
        return expected.size == found.size and bool(np.max(np.abs(expected - found)) <= tolerance)
    # Bytes, so that NaN equals itself and minus zero is not zero.
    return expected.tobytes() == found.tobytes()


class _Feed:
    """Gives out the bytes of a sequence of slabs in portions of any size."""

    def __init__(self, slabs: Iterator[Voxels]) -> None:
        self._slabs = slabs
        self._held = b""

    def take(self, count: int) -> bytes:
        while len(self._held) < count and (slab := next(self._slabs, None)) is not None:
            self._held += slab.tobytes()
        taken, self._held = self._held[:count], self._held[count:]
        return taken
