"""What is probed: an array that the hierarchy holds, one object of it, and a copy of it fetched by plain GET."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from exchange import Answer, Server
from probes import FailedError, SkippedError, expect

MOST_ELEMENTS = 2**24
"""Arrays are read whole, so larger ones are left alone."""


class Array(NamedTuple):
    """An array of the hierarchy: its path, and its ``zarr.json``."""

    path: str
    document: dict[str, Any]

    @property
    def shape(self) -> list[int]:
        """Elements along each axis."""
        shape: list[int] = self.document["shape"]
        return shape

    @property
    def grid(self) -> list[int]:
        """Objects along each axis."""
        chunk = self.document["chunk_grid"]["configuration"]["chunk_shape"]
        return [math.ceil(n / c) for n, c in zip(self.shape, chunk, strict=True)]

    @property
    def is_sharded(self) -> bool:
        """Whether an object holds several chunks and an index."""
        return any(codec["name"] == "sharding_indexed" for codec in self.document["codecs"])

    def key(self, place: tuple[int, ...]) -> str:
        """Return the key of the object at a place of the grid."""
        encoding = self.document["chunk_key_encoding"]
        default = "/" if encoding["name"] == "default" else "."
        separator = encoding.get("configuration", {}).get("separator", default)
        first = ["c"] if encoding["name"] == "default" else []
        return self.within(separator.join([*first, *map(str, place)]))

    def within(self, key: str) -> str:
        """Return the key in the hierarchy of a key of the array."""
        return f"{self.path}/{key}" if self.path else key


class Target:
    """A server, and what its probes ask for.

    Parameters
    ----------
    server
        The server under test.
    path
        The array to read; None to choose one from the consolidated metadata.
    truth
        Folder that holds the same hierarchy, if one is at hand.
    """

    def __init__(self, server: Server, path: str | None = None, truth: Path | None = None) -> None:
        self.server = server
        self.truth = truth
        self._path = path

    @cached_property
    def array(self) -> Array:
        """The array that is read: of those with most objects, the one with most elements."""
        if self._path is not None:
            return Array(self._path, self._document(self._path))
        root = self._document("")
        inside = root.get("consolidated_metadata", {}).get("metadata", {})
        nodes = [Array("", root), *(Array(path, document) for path, document in inside.items())]
        arrays = [each for each in nodes if each.document["node_type"] == "array"]
        usable = [each for each in arrays if math.prod(each.shape) <= MOST_ELEMENTS]
        expect(usable, "the root has no consolidated metadata that lists an array; name one with --array")
        return max(usable, key=lambda each: (min(math.prod(each.grid), 8), math.prod(each.shape)))

    @cached_property
    def object(self) -> tuple[str, Answer]:
        """The key of the largest object among the array's first few, and what a plain GET of it gives."""
        found = [(key, answer) for key, answer in itertools.islice(self.objects(), 8) if answer.status == 200]
        expect(found, f"none of the objects of {self.array.path!r} could be read by a plain GET")
        return max(found, key=lambda each: len(each[1].body))

    @property
    def key(self) -> str:
        """Key of an object that exists."""
        return self.object[0]

    @property
    def body(self) -> bytes:
        """Its bytes."""
        return self.object[1].body

    def objects(self) -> Iterator[tuple[str, Answer]]:
        """Yield the array's objects: key and answer."""
        for place in itertools.product(*map(range, self.array.grid)):
            key = self.array.key(place)
            yield key, self.server.get(key)

    def beyond(self) -> str:
        """Return the key of an object outside the array's grid, which no array can have."""
        return self.array.key(tuple(n + 7 for n in self.array.grid))

    @cached_property
    def copy(self) -> Any:
        """The array as zarr reads it from a folder of plain GET answers: what every other way is compared with."""
        try:
            import zarr
        except ImportError as error:
            raise SkippedError("zarr is not installed") from error
        self._folder = tempfile.TemporaryDirectory(prefix="zarr-http-")
        folder = Path(self._folder.name)
        (folder / "zarr.json").write_text(json.dumps(self.array.document))
        for key, answer in self.objects():
            expect(answer.status in {200, 404}, f"GET {key} gave {answer.status}")
            if answer.status == 200:
                path = folder / key.removeprefix(f"{self.array.path}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(answer.body)
        return zarr.open_array(folder, mode="r", zarr_format=3)

    def _document(self, path: str) -> dict[str, Any]:
        answer = self.server.get(f"{path}/zarr.json" if path else "zarr.json")
        expect(answer.status == 200, f"GET zarr.json gave {answer.status}")
        try:
            document: dict[str, Any] = json.loads(answer.body)
        except ValueError as error:
            raise FailedError("zarr.json is not JSON") from error
        return document
