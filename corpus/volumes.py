"""What a stored volume says of itself and of the file that it was."""

from __future__ import annotations

from typing import Any

import msgspec

from corpus.catalog import Row
from corpus.errors import LayoutError
from corpus.geometry import Reorder, Triple
from corpus.models import Scaling
from corpus.nifti_header import padded, read_fields


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """One stored volume, as its own metadata describe it.

    Attributes
    ----------
    row
        Of ``volumes.parquet``.
    header
        NIfTI header bytes of the stored array, as they stand in a file.
    source_header
        The source's bytes before the voxels.
    reorder
        From the source's voxel order to the stored one.
    lossless
        Whether the source's bytes can be had back.
    """

    row: Row
    header: bytes
    source_header: bytes
    reorder: Reorder
    lossless: bool

    @property
    def place(self) -> str:
        """Name of the volume in messages."""
        return f"{self.row['subject']}/{self.row['volume']}"

    @property
    def is_label(self) -> bool:
        """Whether it is a label map."""
        return is_label(self.row)

    @property
    def scaling(self) -> Scaling:
        """From stored to physical numbers."""
        return Scaling() if self.is_label else read_fields(self.header).scaling


def is_label(row: Row) -> bool:
    """Whether a row of ``volumes.parquet`` is of a label map."""
    return str(row["volume"]).startswith("labels/")


class _SourceHeader(msgspec.Struct, frozen=True):
    base64: bytes
    axes: Triple
    flips: tuple[bool, bool, bool]


class _Described(msgspec.Struct, frozen=True):
    array_sha256: str
    lossless: bool
    source_header: _SourceHeader | None = None


def read_volume(row: Row, header: bytes, attributes: dict[str, Any]) -> Volume:
    """Describe a stored volume.

    Parameters
    ----------
    row
        Of ``volumes.parquet``.
    header
        Bytes of its ``nifti`` array.
    attributes
        Of its image group.

    Raises
    ------
    LayoutError
        The attributes are not understood, or are of another volume than the tables list.
    """
    own, place = padded(header), f"{row['subject']}/{row['volume']}"
    try:
        described = msgspec.convert(attributes.get("voxshelf"), _Described)
    except msgspec.ValidationError as error:
        raise LayoutError("layout.metadata", str(error), place=place) from error
    if described.array_sha256 != row["array_sha256"]:
        raise LayoutError("layout.metadata", "the volume is another one than the tables list", place=place)
    changed = described.source_header
    return Volume(
        row=row,
        header=own,
        source_header=changed.base64 if changed else own,
        reorder=Reorder(changed.axes, changed.flips) if changed else Reorder(),
        lossless=described.lossless,
    )
