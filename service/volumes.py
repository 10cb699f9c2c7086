"""What a stored volume says of itself: its levels, its header, and the way back to its source."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from corpus import layout
from corpus.catalog import Row
from corpus.errors import LayoutError, NotFoundError, StoreError
from corpus.models import Level
from corpus.volumes import Volume, read_volume
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


class StoredVolume(Volume, frozen=True, kw_only=True):
    """One stored volume, with what reading its voxels needs.

    Attributes
    ----------
    arrays
        Level 0 first.
    window
        What a viewer shows at first, in stored numbers; None for a label map.
    """

    arrays: tuple[StoredArray, ...]
    window: tuple[float, float] | None

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


async def read_stored_volume(upstream: Upstream, pool: Pool, row: Row) -> StoredVolume:
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
        volume = read_volume(row, header, attributes)
        channels = attributes["ome"].get("omero", {}).get("channels")
        return StoredVolume(
            **msgspec.structs.asdict(volume),
            arrays=tuple(_array(row, image, members, number) for number in range(row["levels"])),
            window=(channels[0]["window"]["start"], channels[0]["window"]["end"]) if channels else None,
        )
    except LayoutError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, msgspec.MsgspecError) as error:
        raise LayoutError("layout.metadata", f"{type(error).__name__}: {error}", place=image) from error


def _array(row: Row, image: str, members: dict[str, Any], number: int) -> StoredArray:
    group, name = layout.level_path("", number).removeprefix("/"), layout.array_name(row["image_path"])
    described, array = members[group]["attributes"]["voxshelf"], members[f"{group}/{name}"]
    if array["data_type"] != row["dtype"]:
        raise LayoutError("layout.metadata", "the array has another type than the tables list", place=image)
    return StoredArray(f"{image}/{group}/{name}", array["data_type"], level_of(array, described))
