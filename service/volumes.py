"""What a stored volume says of itself: its levels, its header, and the way back to its source."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import msgspec

from corpus import layout
from corpus.catalog import Row
from corpus.errors import LayoutError, NotFoundError, StoreError
from corpus.geometry import Reorder
from corpus.models import Level, Scaling
from corpus.nifti_header import padded, read_fields
from corpus.zarr_v3 import level_of
from service.pool import Pool
from service.ranges import ByteRange
from service.upstream import Upstream


class StoredArray(msgspec.Struct, frozen=True):
    """The voxels of one level.

    Attributes
    ----------
    key
        Of the array, in the mirror.
    dtype
        Voxel type, for example ``int16``.
    level
        Lattice, inner chunks and shards.
    """

    key: str
    dtype: str
    level: Level


class StoredVolume(msgspec.Struct, frozen=True, kw_only=True):
    """One stored volume.

    Attributes
    ----------
    row
        Of ``volumes.parquet``.
    arrays
        Level 0 first.
    header
        NIfTI header bytes of the stored array, as they stand in a file.
    source_header
        The source's bytes before the voxels.
    reorder
        From the source's voxel order to the stored one.
    lossless
        Whether the source's bytes can be had back.
    window
        What a viewer shows at first, in stored numbers; None for a label map.
    """

    row: Row
    arrays: tuple[StoredArray, ...]
    header: bytes
    source_header: bytes
    reorder: Reorder
    lossless: bool
    window: tuple[float, float] | None

    @property
    def is_label(self) -> bool:
        """Whether it is a label map."""
        return is_label(self.row)

    @property
    def scaling(self) -> Scaling:
        """From stored to physical numbers."""
        return Scaling() if self.is_label else read_fields(self.header).scaling

    def array(self, level: int) -> StoredArray:
        """Return one level.

        Raises
        ------
        NotFoundError
            The volume does not have this level.
        """
        if not 0 <= level < len(self.arrays):
            message = f"no level {level}; there are levels 0 to {len(self.arrays) - 1}"
            raise NotFoundError("not-found.level", message, place=self.row["subject"])
        return self.arrays[level]


def is_label(row: Row) -> bool:
    """Whether a row of ``volumes.parquet`` is of a label map."""
    return str(row["volume"]).startswith("labels/")


class Read(NamedTuple):
    """Bytes that were read.

    Attributes
    ----------
    data
        Those that were wanted.
    size
        Of the whole object.
    etag
        Of the object.
    """

    data: bytes
    size: int
    etag: str


async def read_object(upstream: Upstream, key: str, wanted: ByteRange | None = None) -> Read:
    """Return the bytes of a small object, or of a part of one.

    Raises
    ------
    NotFoundError, RequestError, StoreError
        As `Upstream.open`.
    """
    opened = await upstream.open(key, wanted, body=True)
    data = b"".join([piece async for piece in opened.pieces])
    if len(data) != opened.stop - opened.start:
        raise StoreError("store.unreachable", f"{len(data)} bytes of {opened.stop - opened.start}", place=key)
    return Read(data, opened.size, opened.etag)


async def read_volume(upstream: Upstream, pool: Pool, row: Row) -> StoredVolume:
    """Read what a volume says of itself, with two requests.

    Raises
    ------
    LayoutError
        Its metadata are missing, not understood, or of another volume than the tables list.
    StoreError
        Upstream failed.
    """
    image = f"{layout.store_key(row['subject'])}/{row['image_path']}"
    try:
        document = await read_object(upstream, f"{image}/zarr.json")
        header = await read_object(upstream, f"{image}/nifti/c/0")
    except NotFoundError as error:
        raise LayoutError("layout.metadata", "the volume is listed and not there", place=image) from error
    return await pool.run(_volume, row, image, document.data, header.data)


def _volume(row: Row, image: str, document: bytes, header: bytes) -> StoredVolume:
    try:
        parsed = msgspec.json.decode(document)
        attributes, members = parsed["attributes"], parsed["consolidated_metadata"]["metadata"]
        voxshelf = attributes["voxshelf"]
        if voxshelf["array_sha256"] != row["array_sha256"]:
            raise LayoutError("layout.metadata", "the volume is another one than the tables list", place=image)
        changed = voxshelf.get("source_header")
        channels = attributes["ome"].get("omero", {}).get("channels")
        own = padded(header)
        return StoredVolume(
            row=row,
            arrays=tuple(_array(row, image, members, number) for number in range(row["levels"])),
            header=own,
            source_header=base64.b64decode(changed["base64"]) if changed else own,
            reorder=msgspec.convert({"axes": changed["axes"], "flips": changed["flips"]}, Reorder)
            if changed
            else Reorder(),
            lossless=voxshelf["lossless"],
            window=(channels[0]["window"]["start"], channels[0]["window"]["end"]) if channels else None,
        )
    except (KeyError, TypeError, IndexError, ValueError, msgspec.MsgspecError) as error:
        if isinstance(error, LayoutError):
            raise
        raise LayoutError("layout.metadata", f"{type(error).__name__}: {error}", place=image) from error


def _array(row: Row, image: str, members: dict[str, Any], number: int) -> StoredArray:
    group, name = layout.level_path("", number).removeprefix("/"), layout.array_name(row["image_path"])
    described, array = members[group]["attributes"]["voxshelf"], members[f"{group}/{name}"]
    if array["data_type"] != row["dtype"]:
        raise LayoutError("layout.metadata", "the array has another type than the tables list", place=image)
    return StoredArray(f"{image}/{group}/{name}", array["data_type"], level_of(array, described))
