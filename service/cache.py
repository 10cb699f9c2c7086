"""A small memory of what readers ask for again and again: documents, and the ends of shards, where their index lies.

No Python client keeps a shard's index, so that each region costs another suffix read of it. An index from here may be
older than the object is by now: the range that is read by it is then refused, once, and bytes are never mixed.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from datetime import datetime
from typing import Final

import msgspec

from corpus.errors import StoreError
from service.metrics import Metrics
from service.ranges import ByteRange
from service.upstream import Method, Opened, Upstream, resolve

_LONGEST_END: Final = 2**16
_LONGEST_DOCUMENT: Final = 2**20
_OVERHEAD_BYTES: Final = 500
"""What an entry takes beside its bytes, roughly."""


class _Held(msgspec.Struct, frozen=True):
    """The end of an object: its bytes from `start` on, none of them where only its size and ETag are known."""

    size: int
    etag: str
    modified: datetime
    start: int
    data: bytes
    read_s: float


class Cached:
    """An upstream with a memory. Used by one event loop only, hence without locks.

    Parameters
    ----------
    upstream
        Where objects come from.
    most_bytes
        Of all entries together; those that were not used for longest make way.
    ttl_s
        For how long an entry is used. It goes at once when an answer from upstream has another ETag.
    metrics
        Where hits and misses are counted.
    """

    def __init__(self, upstream: Upstream, most_bytes: int, ttl_s: float, metrics: Metrics) -> None:
        self._upstream = upstream
        self._most_bytes = most_bytes
        self._ttl_s = ttl_s
        self._metrics = metrics
        self._entries: OrderedDict[str, _Held] = OrderedDict()
        self._bytes = 0
        self._generation = 0
        # Objects that changed, and when that was seen.
        self._changed: dict[str, float] = {}

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open an object, from memory where its bytes are.

        Raises
        ------
        StoreError
            Also where a range is of another object than what is, or was a moment ago, in memory.
        """
        held = self._find(key)
        if held is not None:
            start, stop = resolve(wanted, held.size)
            if not body or start >= held.start:
                self._metrics.cache.labels("hit").inc()
                data = held.data[start - held.start : stop - held.start] if body else b""
                return Opened(held.size, held.etag, held.modified, start, stop, data)
        generation = self._generation
        opened = await self._upstream.open(key, wanted, body=body)
        is_other = held is not None and held.etag != opened.etag
        if is_other:
            self._drop(key)
        if body:
            self._refuse_strays(key, opened, is_other=is_other)
        if generation == self._generation:
            self._remember(key, opened, body=body)
        return opened

    def _refuse_strays(self, key: str, opened: Opened, *, is_other: bool) -> None:
        """Refuse chunks of an object that changed until its end is read anew: readers may still hold the old index.

        Also when they ask again, as some clients do of themselves; no longer than they could have got it from here.
        """
        if opened.stop == opened.size:
            self._changed.pop(key, None)
            return
        now = time.monotonic()
        if is_other:
            self._changed[key] = now
        if now - self._changed.get(key, -math.inf) < self._ttl_s:
            raise StoreError("store.changed", "the object changed while it was read", place=key)

    async def presigned(self, key: str, method: Method) -> str | None:
        """Return a URL at which anybody gets an object for a while."""
        return await self._upstream.presigned(key, method)

    def path_of(self, key: str) -> str | None:
        """Return the local file of an object."""
        return self._upstream.path_of(key)

    def clear(self) -> None:
        """Forget all: the mirror was published anew."""
        self._generation += 1
        self._entries.clear()
        self._changed.clear()
        self._bytes = 0

    def _find(self, key: str) -> _Held | None:
        held = self._entries.get(key)
        if held is None:
            return None
        if time.monotonic() - held.read_s > self._ttl_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return held

    def _remember(self, key: str, opened: Opened, *, body: bool) -> None:
        start, data = (opened.start, opened.content) if body else (opened.size, b"")
        longest = _LONGEST_DOCUMENT if key.endswith(".json") else _LONGEST_END
        if not isinstance(data, bytes | memoryview) or start + len(data) != opened.size or len(data) > longest:
            return
        self._metrics.cache.labels("miss").inc()
        self._drop(key)
        self._entries[key] = _Held(opened.size, opened.etag, opened.modified, start, bytes(data), time.monotonic())
        self._bytes += _cost(key, data)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        held = self._entries.pop(key, None)
        if held is not None:
            self._bytes -= _cost(key, held.data)


def _cost(key: str, data: bytes | memoryview) -> int:
    return len(key) + len(data) + _OVERHEAD_BYTES
