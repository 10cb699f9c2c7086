"""The metadata of a subject's store, as objects ready to be put.

Made in memory, they cost no request, every group has its consolidated metadata without listing a bucket, and the order
of writing is left to the caller. Without consolidated metadata at a group, a plain HTTP reader that opens it sees an
empty tree and no error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus import layout, ome, zarr_v3
from corpus.zarr_v3 import DOCUMENT, Document

if TYPE_CHECKING:
    from corpus.findings import Finding
    from corpus.geometry import Voxels
    from corpus.labels import Family
    from corpus.models import CorpusInfo, Level, StoredImage, SubjectInfo

Objects = dict[str, bytes]
"""Key in the subject's store to bytes, in the order of writing."""


class _Tree:
    """Groups and arrays of a store while they are described: documents by path, and the chunks of small arrays."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.chunks: Objects = {}

    def add_group(self, path: str, attributes: dict[str, Any]) -> None:
        """Describe a group whose members are described already, and consolidate them."""
        self.documents[path] = zarr_v3.group(attributes, self._below(path))

    def add_values(self, path: str, values: Voxels, dim: str, attributes: dict[str, Any]) -> None:
        """Describe an array of one axis, with its only chunk."""
        self.documents[path] = zarr_v3.plain_array(values, (dim,), attributes)
        self.chunks[f"{path}/c/0"] = values.tobytes()

    def objects(self) -> Objects:
        """Return chunks and documents, by key."""
        documents = {_key(path): zarr_v3.encoded(document) for path, document in self.documents.items()}
        return self.chunks | documents

    def _below(self, path: str) -> dict[str, Document]:
        prefix = f"{path}/" if path else ""
        found = ((other.removeprefix(prefix), other) for other in self.documents if other.startswith(prefix))
        return {name: self.documents[other] for name, other in found if name}


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
    tree = _Tree()
    # One name per image: xarray aligns a child's dimensions with its parent's, and headers differ in length.
    header, dim = np.frombuffer(image.header, dtype=np.uint8), f"{layout.array_name(image.path)}_header_byte"
    tree.add_values(f"{image.path}/nifti", header, dim, {})
    for number, level in enumerate(image.levels):
        _add_level(tree, image, family, number, level)
    tree.add_group(image.path, ome.image_attributes(image, family, findings))
    return _ordered(tree.objects())


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
    tree = _Tree()
    for path, objects in images.items():
        image = json.loads(objects[_key(path)])
        members = image["consolidated_metadata"]["metadata"]
        tree.documents |= {path: image} | {f"{path}/{name}": member for name, member in members.items()}
    labels = _labels_by_carrier(images)
    for carrier, names in labels.items():
        tree.add_group(f"{carrier}/labels", ome.labels_attributes(names, ome_version))
        tree.add_group(carrier, tree.documents.get(carrier, {"attributes": {}})["attributes"])
    series = [path for path in images if layout.carrier_of(path) is None]
    tree.documents["OME"] = zarr_v3.group(ome.series_attributes(series, ome_version))
    tree.add_group("", ome.root_attributes(info, corpus, ome_version))
    written = {key: data for objects in images.values() for key, data in objects.items()}
    # The document of an image that carries labels always: it is the one that both a volume and its subject write.
    both = {_key(carrier) for carrier in corpus.contents.carriers}
    own = {key: data for key, data in tree.objects().items() if key in both or key not in written}
    return _ordered(own)


def _labels_by_carrier(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        if (carrier := layout.carrier_of(path)) is not None:
            found.setdefault(carrier, []).append(path.rpartition("/")[2])
    return found


def _add_level(tree: _Tree, image: StoredImage, family: Family | None, number: int, level: Level) -> None:
    path, dims = layout.level_path(image.path, number), level.grid.dims
    voxels = zarr_v3.sharded_array(level, image.dtype, image.codec, dims, ome.array_attributes(image, family))
    tree.documents[layout.array_path(image.path, number)] = voxels
    # Opening a subject costs a request per coordinate; arithmetic with the image attaches the image's to its labels.
    if layout.carrier_of(image.path) is None:
        for axis, dim in enumerate(dims):
            values = np.asarray(level.grid.coordinates_mm(axis), dtype="<f8")
            tree.add_values(f"{path}/{dim}", values, dim, ome.coordinate_attributes(level.grid, axis))
    tree.add_group(path, ome.level_attributes(level))


def _key(path: str) -> str:
    return f"{path}/{DOCUMENT}" if path else DOCUMENT


def _ordered(objects: Objects) -> Objects:
    # Data before documents, and documents from the inside out: whoever finds a group finds what it lists.
    def rank(key: str) -> tuple[bool, int, str]:
        return key.endswith(DOCUMENT), -key.count("/"), key

    return {key: objects[key] for key in sorted(objects, key=rank)}
