"""Back to NIfTI: a whole volume byte for byte, or a level, a label's surroundings or a box with a right affine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec
import numpy as np
from isal.igzip import IGzipFile

from converter import nifti
from converter.reader import Mirror
from corpus.cutouts import Cut, box_of_cut
from corpus.errors import LayoutError, SettingsError, StoreError, VoxshelfError
from corpus.geometry import Affine, Grid, Voxels
from corpus.nifti_header import fresh_header
from corpus.regions import Box
from corpus.volumes import Volume

if TYPE_CHECKING:
    import xarray as xr


class Exported(msgspec.Struct, frozen=True):
    """What was written.

    Attributes
    ----------
    path
        The file.
    shape_zyx
        Of its array.
    dtype
        Voxel type, without byte order.
    affine
        Four rows of four: voxel indices (i, j, k, 1) of the file to RAS+ mm.
    byte_identical
        Whether the inflated file is that of the source.
    """

    path: str
    shape_zyx: tuple[int, ...]
    dtype: str
    affine: Affine
    byte_identical: bool


type Listener = Callable[[int, int], None]
"""Called with the number of voxels that are written, and of all."""


def export(
    mirror: Mirror, subject: str, name: str, out: Path, cut: Cut, listen: Listener = lambda _done, _of: None
) -> Exported:
    """Write a volume, or a part of it, as ``.nii`` or ``.nii.gz``.

    Parameters
    ----------
    mirror
        Where from.
    subject, name
        Which volume: ``ct``, ``pet``, or a label family.
    out
        The new file; the name's end says whether it is compressed.
    cut
        Which part.
    listen
        Called after each slab of slices.

    Raises
    ------
    SettingsError
        The file name ends in neither, its folder is not there, or label and box are both given.
    NotFoundError, RequestError
        There is no such volume, level, label or region.
    LayoutError
        Stored voxels are missing, damaged, or not those of the source; nothing is left of the file.
    StoreError
        The file cannot be written.
    """
    if not out.name.endswith((".nii", ".nii.gz")):
        raise SettingsError("settings.option", "the file must end in .nii or .nii.gz", place=str(out))
    if not out.parent.is_dir():
        raise SettingsError("settings.option", "there is no such folder for the file", place=str(out.parent))
    if cut.regions > 1:
        raise SettingsError("settings.option", "give either a label or a box", place="--label, --bbox-mm")
    volume = mirror.volume(subject, name)
    if cut.is_whole:
        return _export_whole(mirror, volume, out, listen)
    return _export_part(mirror, volume, out, cut, listen)


def _export_whole(mirror: Mirror, volume: Volume, out: Path, listen: Listener) -> Exported:
    digest = hashlib.sha256()
    header = nifti.read_header(volume.source_header, volume.place)

    def hashed() -> Iterator[bytes]:
        yield volume.source_header
        for slab in _counted(mirror.source_slabs(volume), header.grid, listen):
            data = slab.tobytes()
            digest.update(data)
            yield data
        # Checked before the file gets its name, so that a wrong export never lies around.
        if volume.lossless and digest.hexdigest() != volume.row["voxels_sha256"]:
            message = f"the voxels have sha256 {digest.hexdigest()}, the source's was {volume.row['voxels_sha256']}"
            raise LayoutError("layout.voxels", message, place=volume.place)

    _write(out, hashed(), volume.place)
    dtype = np.dtype(header.dtype).name
    return Exported(str(out), header.grid.shape_zyx, dtype, header.grid.affine, byte_identical=volume.lossless)


def _export_part(mirror: Mirror, volume: Volume, out: Path, cut: Cut, listen: Listener) -> Exported:
    array, grid, factors = mirror.level(volume, cut.level)
    mirror.require_shards(volume, cut.level)
    box = box_of_cut(cut, mirror.catalog, volume.row, grid, factors)
    part = grid.cropped(box.start_zyx, box.stop_zyx)
    dtype = array.dtype.name

    def pieces() -> Iterator[bytes]:
        yield fresh_header(part, dtype, volume.scaling, volume.header)
        for slab in _counted(_slabs(array, box), part, listen):
            yield slab.tobytes()

    _write(out, pieces(), volume.place)
    return Exported(str(out), part.shape_zyx, dtype, part.affine, byte_identical=False)


def _slabs(array: xr.DataArray, box: Box) -> Iterator[Voxels]:
    # A shard's slices at a time: what is held does not grow with the box, and no shard is fetched twice.
    (first, _, _), (last, _, _) = box.start_zyx, box.stop_zyx
    depth = array.encoding["shards"][0]
    for start in range(first - first % depth, last, depth):
        across = slice(max(start, first), min(start + depth, last))
        yield array[(across, *box.slices[1:])].values


def _counted(slabs: Iterator[Voxels], grid: Grid, listen: Listener) -> Iterator[Voxels]:
    done, total = 0, int(np.prod(grid.shape_zyx, dtype=np.int64))
    listen(done, total)
    for slab in slabs:
        yield slab
        done += slab.size
        listen(done, total)


def _write(out: Path, parts: Iterable[bytes], place: str) -> None:
    temporary = out.with_name(f".{out.name}.part")
    try:
        with _opened(temporary, compressed=out.name.endswith(".gz")) as file:
            for part in parts:
                file.write(part)
        temporary.replace(out)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, VoxshelfError):
            raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=str(out)) from error
        if isinstance(error, ValueError) and not isinstance(error, VoxshelfError):
            # What zarr raises for a wrong checksum or a cut shard.
            raise LayoutError("layout.voxels", f"{type(error).__name__}: {error}", place=place) from error
        raise


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[IO[bytes] | IGzipFile]:
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        # No name and no time in the gzip header: the same volume gives the same file.
        with IGzipFile(filename="", fileobj=file, mode="wb", compresslevel=2, mtime=0) as zipped:
            yield zipped
