"""A mirror as its users see it: tables for finding, xarray for voxels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import xarray as xr

from converter import nifti
from corpus import layout
from corpus.catalog import Catalog, read_catalog
from corpus.errors import LayoutError, NotFoundError
from corpus.geometry import Grid, Triple, Voxels
from corpus.manifest import read_manifest, shards_of
from corpus.originals import as_source
from corpus.stores import Store
from corpus.volumes import Volume, read_volume


class Mirror:
    """A published mirror, opened for reading.

    Parameters
    ----------
    url
        Path or URL.
    catalog
        Its tables, where they have been read already.

    Raises
    ------
    LayoutError
        It is no published mirror.
    """

    def __init__(self, url: str, catalog: Catalog | None = None) -> None:
        self.store = Store(url)
        self.catalog: Catalog = catalog or read_catalog(self.store)

    def volume(self, subject: str, name: str) -> Volume:
        """Describe a volume; `name` is ``ct``, ``pet``, or a label family.

        Raises
        ------
        NotFoundError
            The mirror does not list it.
        LayoutError
            Its metadata are missing or not understood.
        """
        row = self.catalog.volume(subject, name)
        with self._open(subject, row["image_path"]) as image:
            return read_volume(row, image["nifti"].values.tobytes(), image.attrs)

    def level(self, volume: Volume, level: int) -> tuple[xr.DataArray, Grid, Triple]:
        """Open one level of a volume lazily.

        Returns
        -------
        tuple
            The array of stored numbers, its lattice, and its factors against level 0, along the array's axes.

        Raises
        ------
        NotFoundError
            The volume does not have this level.
        """
        if not 0 <= level < volume.row["levels"]:
            message = f"no level {level}; there are levels 0 to {volume.row['levels'] - 1}"
            raise NotFoundError("not-found.level", message, place=volume.place)
        image = volume.row["image_path"]
        opened = self._open(volume.row["subject"], layout.level_path(image, level))
        array = opened[layout.array_name(image)]
        attributes = opened.attrs["voxshelf"]
        a, b, c = attributes["factors"]
        return array, Grid.of(array.shape, attributes["affine"]), (a, b, c)

    def require_shards(self, volume: Volume, level: int) -> None:
        """Check that all shards of a level that were written are still there; a lost one would read as zeros.

        A mirror without the subject's manifest says nothing of it.

        Raises
        ------
        LayoutError
            A shard is missing, or the manifest is not whole.
        """
        subject, image = volume.row["subject"], volume.row["image_path"]
        array = f"{layout.store_key(subject)}/{layout.array_path(image, level)}"
        manifest = read_manifest(self.store, subject)
        if manifest is None:
            return
        if lost := shards_of(manifest, subject, array) - self.store.sizes(array).keys():
            raise LayoutError("layout.object", "the object is missing", place=min(lost))

    def source_slabs(self, volume: Volume) -> Iterator[Voxels]:
        """Yield the voxels as the source file has them: its type, byte order and voxel order, first slices first.

        Yields
        ------
        ndarray
            Shape (k, j, i), C-contiguous.
        """
        array, _, _ = self.level(volume, 0)
        header = nifti.read_header(volume.source_header, volume.place)
        if volume.reorder.is_identity:
            depth = array.encoding["shards"][0]
            parts: Iterator[Voxels] = (array[start : start + depth].values for start in range(0, len(array), depth))
        else:
            parts = iter([volume.reorder.undo(array.values)])
        for part in parts:
            yield as_source(part, header.dtype, header.scaling, is_label=volume.is_label)

    def _open(self, subject: str, group: str) -> xr.Dataset:
        try:
            # Stored numbers, not physical ones: an export must not go through floats.
            opened: xr.Dataset = xr.open_zarr(
                self.store.zarr(layout.store_key(subject)),
                group=group,
                chunks=None,
                mask_and_scale=False,
                consolidated=True,
                zarr_format=3,
            )
        except (FileNotFoundError, KeyError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"
            raise LayoutError("layout.metadata", message, place=f"{subject}/{group}") from error
        return opened


def summary(mirror: Mirror) -> dict[str, Any]:
    """Return what ``info`` says of a mirror as a whole."""
    record = mirror.catalog.mirror
    return {
        "corpus": record.corpus.name,
        "release": record.corpus.release,
        "citation": record.corpus.citation,
        "layout_version": record.layout_version,
        "ome_versions": record.ome_versions,
        "subjects": record.subjects,
        "licenses": record.licenses,
        "volumes": sum(len(rows) for rows in mirror.catalog.volumes.values()),
        "regions": sum(len(rows) for rows in mirror.catalog.regions.values()),
        "bytes": sum(row["bytes"] for row in mirror.catalog.subjects.values()),
    }
