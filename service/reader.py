"""What a mirror offers to readers: the reader behind the routes, which knows no HTTP. `access` says to whom."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec

from corpus import layout
from corpus.catalog import Catalog, read_catalog, read_mirror
from corpus.errors import NotFoundError, RequestError, StoreError, VoxshelfError
from corpus.stores import Store

# What clients of older Zarr versions ask for first; no store of ours has them.
_OTHER_VERSIONS: Final = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata"})
_DOCUMENTS: Final = _OTHER_VERSIONS | {"zarr.json"}
_LONGEST_KEY: Final = 512
_NO_NAMES: Final = frozenset({"", ".", ".."})
_OURS: Final = re.compile(r"[A-Za-z0-9._-]{1,255}(/[A-Za-z0-9._-]{1,255})*")
_LONGEST_STALE_S: Final = 600.0
"""For how long tables are used that could not be looked at again."""

_PATIENCE_S: Final = 2.0
_FIRST_PATIENCE_S: Final = 15.0

_log = logging.getLogger(__name__)


class Document(msgspec.Struct, frozen=True):
    """An object of a publication, in memory.

    Attributes
    ----------
    data
        Its bytes.
    etag
        Quoted, of the bytes.
    read
        When this service read it.
    """

    data: bytes
    etag: str
    read: datetime


class _Remembering(Store):
    """A store that keeps the bytes that were read from it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.documents: dict[str, Document] = {}

    def get(self, key: str) -> bytes:
        data = super().get(key)
        self.documents[key] = Document(data, f'"{hashlib.sha256(data).hexdigest()}"', datetime.now(UTC))
        return data


class Reader:
    """The tables of a mirror, kept fresh, with the rules of who may read what.

    Parameters
    ----------
    store
        The mirror; it need not be published yet.
    ttl_s
        For how long tables are used before ``mirror.json`` is looked at again.

    Attributes
    ----------
    documents
        ``mirror.json``, the tables in use and what describes them, by key: all of one publication. Replaced, and never
        changed.
    """

    def __init__(self, store: Store, ttl_s: float) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._looked_s = 0.0
        self._read_s = 0.0
        self._looking: asyncio.Task[Catalog] | None = None
        self.documents: dict[str, Document] = {}
        self._announced: Catalog | None = None
        self._listeners: list[Callable[[Catalog], None]] = []

    def catalog(self) -> Catalog:
        """Return the tables of the newest complete publication; may read from the store.

        Raises
        ------
        LayoutError
            There is no mirror yet, or it is damaged, and no older publication is at hand.
        StoreError
            The store failed, and no older publication is at hand.
        """
        held = self._catalog
        # While tables are at hand one request looks for newer ones, and the others do not wait for it.
        if not self._lock.acquire(blocking=held is None):
            return held if held is not None else self.catalog()
        try:
            if self._catalog is None or time.monotonic() - self._looked_s > self._ttl_s:
                self._catalog = self._refreshed()
                self._looked_s = time.monotonic()
            return self._catalog
        finally:
            self._lock.release()

    def on_publication(self, tell: Callable[[Catalog], None]) -> None:
        """Have a function called, on the event loop, when the tables of another publication come into use."""
        self._listeners.append(tell)

    async def current(self) -> Catalog:
        """Return the tables, and hold up nobody.

        A store that is silent costs one reader two seconds, and the tables at hand are used meanwhile.

        Raises
        ------
        LayoutError, StoreError
            As `catalog` does.
        """
        catalog = self.known() or await self._looked_at()
        if catalog is not self._announced:
            self._announced = catalog
            for tell in self._listeners:
                tell(catalog)
        return catalog

    async def _looked_at(self) -> Catalog:
        held, looking = self._catalog, self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.create_task(asyncio.to_thread(self.catalog))
        elif held is not None:
            return held
        await asyncio.wait([looking], timeout=_PATIENCE_S if held is not None else _FIRST_PATIENCE_S)
        if looking.done():
            return looking.result()
        if held is None:
            raise StoreError("store.timeout", "the tables of the mirror could not be read in time")
        return held

    def settled(self) -> Catalog | None:
        """Return the tables at hand if they are fresh and everybody has been told of them."""
        catalog = self.known()
        return catalog if catalog is self._announced else None

    def known(self) -> Catalog | None:
        """Return the tables at hand if they are fresh, without touching the store."""
        fresh = time.monotonic() - self._looked_s <= self._ttl_s
        return self._catalog if fresh else None

    def _refreshed(self) -> Catalog:
        held = self._catalog
        try:
            if held is None or read_mirror(self._store) != held.mirror:
                remembering = _Remembering(self._store.url)
                held = read_catalog(remembering)
                for key in layout.DESCRIPTIONS:
                    with suppress(NotFoundError):  # an older voxshelf wrote fewer of them
                        remembering.get(key)
                self.documents = remembering.documents
        except VoxshelfError as error:
            # Tables that are being replaced do not match their digests for a moment: the old ones are still true. A
            # mirror that is gone was withdrawn, and a store that stays silent proves nothing for ever.
            gone = error.code == "layout.not-a-mirror"
            if held is None or gone or time.monotonic() - self._read_s > _LONGEST_STALE_S:
                self._catalog = None
                raise
            _log.warning("the tables could not be looked at again: %s", error)
            return held
        self._read_s = time.monotonic()
        return held


def readable_key(catalog: Catalog, subject: str, key: str) -> str | None:
    """Return the mirror's key of an object of a subject; None where no such object can exist.

    Raises
    ------
    NotFoundError
        The mirror does not list the subject (``not-found.withdrawn`` for a chunk, which must not be taken for zeros).
    RequestError
        The key is malformed.
    """
    check_key(key)
    if subject not in catalog.subjects and key.rpartition("/")[2] not in _DOCUMENTS:
        raise NotFoundError("not-found.withdrawn", f"no subject {subject!r} is listed", place=subject)
    catalog.subject(subject)
    if key.rpartition("/")[2] in _OTHER_VERSIONS or _OURS.fullmatch(key) is None:
        return None
    return f"{layout.store_key(subject)}/{key}"


def check_key(key: str) -> None:
    """Raise `RequestError` for a key that no object of ours can have, and that storage might take for a path."""
    if len(key) > _LONGEST_KEY or not _NO_NAMES.isdisjoint(key.split("/")) or "\\" in key or "\0" in key:
        raise RequestError("request.key", "the key is malformed", place=key[:80])
