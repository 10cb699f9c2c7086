"""Back to NIfTI: a whole volume byte for byte, or a level, a label's surroundings or a box with a right affine."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from converter import nifti
from converter.reader import Mirror, Volume, grid_of
from corpus.errors import LayoutError, SettingsError
from corpus.geometry import Grid
from corpus.regions import Bounds, Box, box_of_mm


class Cut(msgspec.Struct, frozen=True):
    """Which part of a volume to export.

    Attributes
    ----------
    level
        Of the pyramid; 0 is full resolution.
    label
        Only the surroundings of this label.
    margin_mm
        Around the label.
    bbox_mm_ras
        Only the voxels whose centres lie in this world box: x0, y0, z0, x1, y1, z1.
    """

    level: int = 0
    label: str | None = None
    margin_mm: float = 0.0
    bbox_mm_ras: Bounds | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the whole volume at full resolution is meant."""
        return self.level == 0 and self.label is None and self.bbox_mm_ras is None


class Exported(msgspec.Struct, frozen=True):
    """What was written.

    Attributes
    ----------
    path
        The file.
    shape_zyx
        Of its array.
    byte_identical
        Whether the inflated file is that of the source.
    """

    path: str
    shape_zyx: tuple[int, ...]
    byte_identical: bool


def export(mirror: Mirror, subject: str, name: str, out: Path, cut: Cut) -> Exported:
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

    Raises
    ------
    SettingsError
        The file name ends in neither, or label and box are both given.
    NotFoundError, RequestError
        There is no such volume, level, label or region.
    LayoutError
        The stored voxels are not those of the source; nothing is left of the file.
    """
    if not out.name.endswith((".nii", ".nii.gz")):
        raise SettingsError("settings.option", "the file must end in .nii or .nii.gz", place=str(out))
    if cut.label is not None and cut.bbox_mm_ras is not None:
        raise SettingsError("settings.option", "give either a label or a box", place="--label, --bbox-mm")
    volume = mirror.volume(subject, name)
    if cut.is_whole:
        _export_whole(mirror, volume, out)
        return Exported(str(out), tuple(volume.row["shape_zyx"]), volume.lossless)
    shape = _export_part(mirror, volume, out, cut)
    return Exported(str(out), shape, byte_identical=False)


def _export_whole(mirror: Mirror, volume: Volume, out: Path) -> None:
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        yield volume.source_header
        for slab in mirror.source_slabs(volume):
            data = slab.tobytes()
            digest.update(data)
            yield data
        # Checked before the file gets its name, so that a wrong export never lies around.
        if volume.lossless and digest.hexdigest() != volume.row["voxels_sha256"]:
            message = f"the voxels have sha256 {digest.hexdigest()}, the source's was {volume.row['voxels_sha256']}"
            raise LayoutError("layout.voxels", message, place=volume.place)

    _write(out, hashed())


def _export_part(mirror: Mirror, volume: Volume, out: Path, cut: Cut) -> tuple[int, ...]:
    array, grid, factors = mirror.level(volume, cut.level)
    box = _box(mirror, volume, cut).at_level(factors).clipped(grid.shape_zyx)
    part: Grid = grid.cropped(box.start_zyx, box.stop_zyx)
    voxels = np.ascontiguousarray(array[box.slices].values)
    header = nifti.fresh_header(part, str(voxels.dtype), volume.scaling, volume.header)
    _write(out, [header, voxels.tobytes()])
    return voxels.shape


def _box(mirror: Mirror, volume: Volume, cut: Cut) -> Box:
    grid = grid_of(volume.row)
    if cut.label is not None:
        return mirror.box_of_label(volume.row["subject"], cut.label, cut.margin_mm, volume)
    if cut.bbox_mm_ras is not None:
        return box_of_mm(cut.bbox_mm_ras, grid)
    return Box.whole(grid)


def _write(out: Path, parts: Iterable[bytes]) -> None:
    temporary = out.with_name(f".{out.name}.part")
    try:
        with _opened(temporary, compressed=out.name.endswith(".gz")) as file:
            for part in parts:
                file.write(part)
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        # No name and no time in the gzip header: the same volume gives the same file.
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as zipped:
            yield zipped
