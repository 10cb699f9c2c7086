"""Binary masks, one file per structure, read as the one label map that they stand for.

All masks of a subject are read side by side, a few slices at a time: what is held is bounded, however many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from converter import nifti
from converter.cast import LABEL_ROUNDING
from converter.nifti import VolumeHeader
from converter.source import SourceFile, VolumeStream, peek_header
from corpus.errors import SourceError
from corpus.geometry import Voxels, reorder_onto
from corpus.models import MaskRecord, Scaling, SourceRecord

if TYPE_CHECKING:
    from types import TracebackType

HELD_BYTES: Final = 2**26
"""About how much of all masks together is held, inflated; never less than a few slices of each."""

BUFFERS_BYTES: Final = 6 * 2**19
"""What an open mask takes besides: read-ahead, pieces that wait, and the buffers of the inflater."""

_READ_AHEAD_BYTES: Final = 2**18
_SLABS_HELD: Final = 3
"""Of each mask: one that waits, one that is being read, one that is being laid."""


class PackStream:
    """The voxels of one label map, laid together from its binary masks; used as `VolumeStream` is.

    Where masks overlap, the first in the order of the table keeps the voxel; `record` counts these.

    Parameters
    ----------
    source
        The masks.

    Raises
    ------
    SourceError
        On opening: a mask cannot be read, or does not lie as the first one does.
    """

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._values = [mask.value for mask in source.masks]
        self._voxels = hashlib.sha256()
        self._overlap = 0
        with ExitStack() as stack:
            self._streams = [
                stack.enter_context(VolumeStream(mask.file, read_ahead_bytes=_READ_AHEAD_BYTES))
                for mask in source.masks
            ]
            self._require_one_lattice()
            self.header: VolumeHeader = _packed_header(self._streams[0].header, source)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def slabs(self, depth: int) -> Iterator[Voxels]:
        """Yield the label map as slabs of `depth` slices (the last may have fewer).

        Yields
        ------
        ndarray
            Shape (k, j, i); the caller owns it.

        Raises
        ------
        SourceError
            A mask is damaged, or holds something else than 0 and 1. Raised before the last slab is handed out.
        """
        thin = self._slices_at_once(depth)
        masks = [stream.slabs(thin) for stream in self._streams]
        nz, ny, nx = self.header.grid.shape_zyx
        with ExitStack() as stack:
            for mask in masks:
                stack.callback(mask.close)
            slab = np.zeros((0, ny, nx), dtype=self.header.dtype)
            for start in range(0, nz, thin):
                if start % depth == 0:
                    slab = np.zeros((min(depth, nz - start), ny, nx), dtype=self.header.dtype)
                first = start % depth
                self._lay(slab[first : first + thin], [next(mask) for mask in masks])
                if first + thin >= len(slab):
                    self._voxels.update(slab)
                    yield slab
            for mask in masks:
                next(mask, None)

    @property
    def record(self) -> SourceRecord:
        """What was read; complete once `slabs` is exhausted."""
        records = [stream.record for stream in self._streams]
        listing = "".join(f"{record.sha256}  {record.name}\n" for record in records)
        return SourceRecord(
            self._source.name,
            sum(record.size for record in records),
            hashlib.sha256(listing.encode()).hexdigest(),
            self._voxels.hexdigest(),
            tuple(
                MaskRecord(value, record.name, record.size, record.sha256)
                for value, record in zip(self._values, records, strict=True)
            ),
            self._overlap,
        )

    def _lay(self, slab: Voxels, masks: list[Voxels]) -> None:
        # By index: most structures fill a small part of the few slices, or none.
        voxels = slab.reshape(-1)
        claimed_again = np.zeros(voxels.shape, dtype=bool)
        for value, mask, stream, file in zip(self._values, masks, self._streams, self._source.masks, strict=True):
            ones = _ones(mask, stream.header.scaling, file.file.name)
            taken = voxels[ones] != 0
            claimed_again[ones[taken]] = True
            voxels[ones[~taken]] = value
        self._overlap += int(np.count_nonzero(claimed_again))

    def _slices_at_once(self, depth: int) -> int:
        _, ny, nx = self.header.grid.shape_zyx
        slice_bytes = sum(_SLABS_HELD * ny * nx * np.dtype(stream.header.dtype).itemsize for stream in self._streams)
        most = max(1, HELD_BYTES // slice_bytes)
        # Whole slabs are made of them.
        return max(count for count in range(1, depth + 1) if depth % count == 0 and count <= most)

    def _require_one_lattice(self) -> None:
        first, *others = self._streams
        for stream, mask in zip(others, self._source.masks[1:], strict=True):
            laid = reorder_onto(stream.header.grid, first.header.grid)
            if laid is None or not laid.is_identity:
                message = (
                    f"expected {first.header.grid.shape_zyx} voxels (z, y, x) that lie as those of "
                    f"{self._source.masks[0].file.name}, found {stream.header.grid.shape_zyx} that do not"
                )
                raise SourceError("source.mask-lattice", message, place=mask.file.name)


def open_volume(source: SourceFile) -> VolumeStream | PackStream:
    """Open a volume, whether it is one file or many masks.

    Raises
    ------
    SourceError
        It cannot be read, or a header cannot be used.
    """
    return PackStream(source) if source.masks else VolumeStream(source)


def peek_volume(source: SourceFile) -> VolumeHeader:
    """Read the header of a volume and none of its voxels; of masks, the first one's.

    Raises
    ------
    SourceError
        As for `open_volume`.
    """
    if not source.masks:
        return peek_header(source)
    return _packed_header(peek_header(source.masks[0].file), source)


def pack_bytes(header: VolumeHeader, masks: int) -> int:
    """Return the most memory that masks take while they are read, besides what one file takes."""
    _, ny, nx = header.grid.shape_zyx
    # At least one slice of each is held, of voxels of up to four bytes.
    return HELD_BYTES + masks * (_SLABS_HELD * ny * nx * 4 + BUFFERS_BYTES) if masks else 0


def _ones(mask: Voxels, scaling: Scaling, place: str) -> Voxels:
    values = (mask if scaling.is_identity else _scaled(mask, scaling)).reshape(-1)
    ones = np.flatnonzero(values)
    # NaN is not 0 either, and no 1.
    if (wrong := values[ones] != 1).any():
        raise SourceError("source.mask-values", f"expected 0 and 1, found {values[ones][wrong][0]}", place=place)
    return ones


def _scaled(mask: Voxels, scaling: Scaling) -> Voxels:
    # 255 * (1 / 255) is no 1 in the 32-bit slope of a header: as near to it as a label has to be is near enough.
    values = mask * scaling.slope + scaling.inter
    whole = np.rint(values)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values - whole) <= LABEL_ROUNDING, whole, values)


def _packed_header(first: VolumeHeader, source: SourceFile) -> VolumeHeader:
    # As if one tool had written the label map where the first mask lies; the smallest type that holds all values.
    dtype = np.min_scalar_type(max(mask.value for mask in source.masks))
    raw = nifti.describe_stored(first, first.grid, dtype.name, Scaling())
    return nifti.read_header(raw, source.name)
