"""The metadata of a subject's store, as objects ready to be put: made by zarr itself, in memory.

Making them in memory first costs no request, gives consolidated metadata at every group without listing a bucket, and
leaves the order of writing to the caller. Without consolidated metadata at a group, a plain HTTP reader that opens it
sees an empty tree and no error.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from corpus import layout, ome
from corpus.codec import block_bytes

if TYPE_CHECKING:
    from corpus.findings import Finding
    from corpus.labels import Family
    from corpus.models import CodecChoice, CorpusInfo, Level, StoredImage, SubjectInfo

Objects = dict[str, bytes]
"""Key in the subject's store to bytes, in the order of writing."""

_DOCUMENT: Final = "zarr.json"


def image_objects(image: StoredImage, family: Family | None, findings: tuple[Finding, ...]) -> Objects:
    """Return all objects of one image but its shards: header, coordinates, then documents from the inside out.

    Parameters
    ----------
    image
        The stored volume.
    family
        Its label table, for a label map.
    findings
        Warnings about it.
    """
    with _compact():
        held: dict[str, Buffer] = {}
        store = MemoryStore(held)
        attributes = ome.image_attributes(image, family, findings)
        zarr.create_group(store, path=image.path, attributes=attributes)
        _add_header(store, image)
        for number, level in enumerate(image.levels):
            _add_level(store, image, family, number, level)
        for number in range(len(image.levels)):
            zarr.consolidate_metadata(store, path=layout.level_path(image.path, number))
        zarr.consolidate_metadata(store, path=image.path)
    # Creating a group makes its parents too; those belong to the subject.
    own = {key: data for key, data in _contents(held).items() if key.startswith(f"{image.path}/")}
    return _ordered(own)


def subject_objects(
    images: dict[str, Objects], info: SubjectInfo, corpus: CorpusInfo, ome_version: str = ome.DEFAULT_VERSION
) -> Objects:
    """Return the documents that make the images of a subject one store; the root's is the last.

    Parameters
    ----------
    images
        Objects of each image by its path, as `image_objects` returns them.
    info, corpus
        For the root's attributes.
    ome_version
        That of all images.
    """
    with _compact():
        held: dict[str, Buffer] = {}
        store = MemoryStore(held)
        series = [path for path in images if layout.carrier_of(path) is None]
        zarr.create_group(store, attributes=ome.root_attributes(info, corpus, ome_version))
        zarr.create_group(store, path="OME", attributes=ome.series_attributes(series, ome_version))
        labels = _labels_by_carrier(images)
        for carrier in labels.keys() - images.keys():
            zarr.create_group(store, path=carrier)
        for objects in images.values():
            held |= {key: cpu.Buffer.from_bytes(data) for key, data in objects.items() if key.endswith(_DOCUMENT)}
        for carrier, names in labels.items():
            zarr.create_group(store, path=f"{carrier}/labels", attributes=ome.labels_attributes(names, ome_version))
            zarr.consolidate_metadata(store, path=f"{carrier}/labels")
            zarr.consolidate_metadata(store, path=carrier)
        zarr.consolidate_metadata(store)
        documents = _contents(held)
    written = {key: data for objects in images.values() for key, data in objects.items()}
    # The document of an image that carries labels always: it is the one that both a volume and its subject write.
    both = {f"{carrier}/{_DOCUMENT}" for carrier in corpus.contents.carriers}
    return _ordered({key: data for key, data in documents.items() if key in both or written.get(key) != data})


def _labels_by_carrier(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        if (carrier := layout.carrier_of(path)) is not None:
            found.setdefault(carrier, []).append(path.rpartition("/")[2])
    return found


def _add_header(store: MemoryStore, image: StoredImage) -> None:
    header = np.frombuffer(image.header, dtype=np.uint8)
    name = layout.array_name(image.path)
    # One name per image: xarray aligns a child's dimensions with its parent's, and headers differ in length.
    array = zarr.create_array(
        store,
        name=f"{image.path}/nifti",
        shape=header.shape,
        chunks=header.shape,
        dtype="u1",
        compressors=None,
        filters=None,
        fill_value=0,
        dimension_names=[f"{name}_header_byte"],
        config={"write_empty_chunks": True},
    )
    array[:] = header


def _add_level(store: MemoryStore, image: StoredImage, family: Family | None, number: int, level: Level) -> None:
    path = layout.level_path(image.path, number)
    zarr.create_group(store, path=path, attributes=ome.level_attributes(level))
    zarr.create_array(
        store,
        name=layout.array_path(image.path, number),
        shape=level.grid.shape_zyx,
        dtype=image.dtype,
        chunks=level.shard_zyx,
        serializer=_sharding(level, image.dtype, image.codec),
        compressors=None,
        filters=None,
        fill_value=0,
        dimension_names=level.grid.dims,
        attributes=ome.array_attributes(image, family),
    )
    if layout.carrier_of(image.path) is not None:
        # Opening a subject costs a request per coordinate; arithmetic with the image attaches the image's.
        return
    for axis, dim in enumerate(level.grid.dims):
        values = level.grid.coordinates_mm(axis)
        array = zarr.create_array(
            store,
            name=f"{path}/{dim}",
            shape=values.shape,
            chunks=values.shape,
            dtype="f8",
            compressors=None,
            filters=None,
            fill_value=0.0,
            dimension_names=[dim],
            attributes=ome.coordinate_attributes(level.grid, axis),
            config={"write_empty_chunks": True},
        )
        array[:] = values


def _sharding(level: Level, dtype: str, choice: CodecChoice) -> ShardingCodec:
    itemsize = np.dtype(dtype).itemsize
    blosc = BloscCodec(
        typesize=itemsize,
        cname="zstd",
        clevel=choice.clevel,
        shuffle=choice.shuffle,  # type: ignore[arg-type]  # one of blosc's three words
        blocksize=block_bytes(choice, math.prod(level.chunk_zyx) * itemsize),
    )
    return ShardingCodec(
        chunk_shape=level.chunk_zyx,
        codecs=[BytesCodec(endian="little"), blosc, Crc32cCodec()],
        index_codecs=[BytesCodec(endian="little"), Crc32cCodec()],
        index_location="end",
    )


def _contents(held: dict[str, Buffer]) -> Objects:
    return {key: buffer.to_bytes() for key, buffer in held.items()}


def _ordered(objects: Objects) -> Objects:
    # Data before documents, and documents from the inside out: whoever finds a group finds what it lists.
    def rank(key: str) -> tuple[bool, int, str]:
        return key.endswith(_DOCUMENT), -key.count("/"), key

    return {key: objects[key] for key in sorted(objects, key=rank)}


@contextmanager
def _compact() -> Iterator[Any]:
    with zarr.config.set({"json_indent": None}), warnings.catch_warnings():
        # Consolidated metadata is in the core specification again since 2026-07; zarr 3.4 still warns.
        warnings.simplefilter("ignore", ZarrUserWarning)
        yield
