"""Objects as streams of bytes: a folder read with plain file reads, or a bucket read through obstore.

Opening tells everything that headers need before the first byte flows, from one upstream request. Keys are opaque.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio.to_thread
import msgspec
import obstore
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.exceptions import (
    NotFoundError as UpstreamNotFoundError,
)
from obstore.store import from_url

from corpus.errors import NotFoundError, RequestError, SettingsError, StoreError
from corpus.stores import Store
from service.ranges import ByteRange

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_PIECE_BYTES: Final = 2**20
# `timeout` covers the body too, which a slow reader may take long to drain; a stall is what must end early.
_CLIENT: Final[ClientConfig] = {"timeout": "3600s", "read_timeout": "30s", "connect_timeout": "2s"}
# fsspec clients never retry, so this is done here; obstore's own default is ten tries in three minutes.
_RETRY: Final[RetryConfig] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


class Opened(msgspec.Struct, frozen=True):
    """An object that is about to be read.

    Attributes
    ----------
    size
        Bytes of the whole object.
    etag
        Strong and quoted: the same for the same bytes only.
    modified
        When it was written.
    start, stop
        Half-open range of bytes that `pieces` yields.
    pieces
        The bytes, about a MiB at a time.
    """

    size: int
    etag: str
    modified: datetime
    start: int
    stop: int
    pieces: AsyncIterator[bytes]


class Upstream(Protocol):
    """Where objects come from."""

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open an object.

        Parameters
        ----------
        key
            Relative to the mirror.
        wanted
            Which bytes; None for all.
        body
            Whether the bytes are wanted at all.

        Raises
        ------
        NotFoundError
            There is no such object.
        RequestError
            The range lies outside the object.
        StoreError
            Upstream failed, or refused. Never to be taken for a missing object: a reader would fill in air.
        """


class Folder:
    """Objects of a local folder.

    Parameters
    ----------
    root
        The mirror.
    """

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open a file."""
        file, status = await anyio.to_thread.run_sync(_open_file, self._root / key)
        start, stop = _resolve(wanted, status.st_size)
        # The inode is new for each object, since putting one replaces the file.
        etag = f'"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}"'
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Opened(status.st_size, etag, modified, start, stop, _file_pieces(file, start, stop if body else start))


class Bucket:
    """Objects of a bucket prefix, or of another HTTP server.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``; credentials and endpoint come from the environment (``AWS_...``).

    Raises
    ------
    SettingsError
        The URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        # An endpoint of the operator's own may speak plain HTTP; obstore refuses that unless told.
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        client: ClientConfig = {**_CLIENT, "allow_http": plain}
        try:
            self._store: Any = from_url(url, client_options=client, retry_config=_RETRY)
        except (BaseError, ValueError) as error:
            raise SettingsError("settings.url", str(error), place=url) from error

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open an object with one request."""
        try:
            if not body:
                meta = await obstore.head_async(self._store, key)
                return _opened(meta, *_resolve(wanted, meta["size"]), _no_pieces())
            result = await obstore.get_async(self._store, key, options=_options(wanted))
        except (FileNotFoundError, UpstreamNotFoundError) as error:
            raise NotFoundError("not-found.key", "there is no such object", place=key) from error
        except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreError("store.denied", "the object store refused access", place=key) from error
        except (BaseError, OSError) as error:
            await self._refuse_range(key, wanted)
            raise StoreError("store.unreachable", type(error).__name__, place=key) from error
        start, stop = result.range
        return _opened(result.meta, start, stop, _stream(result, key))

    async def _refuse_range(self, key: str, wanted: ByteRange | None) -> None:
        # obstore does not tell a range past the end from any other failure: ask for the size.
        if wanted is None:
            return
        try:
            size = (await obstore.head_async(self._store, key))["size"]
        except (BaseError, OSError):
            return
        _resolve(wanted, size)


def upstream_of(store: Store) -> Upstream:
    """Return the way to stream a store's objects.

    Raises
    ------
    SettingsError
        The store's URL cannot be streamed from.
    """
    return Folder(store.url) if store.is_local else Bucket(store.url)


def _resolve(wanted: ByteRange | None, size: int) -> tuple[int, int]:
    try:
        return wanted.within(size) if wanted else (0, size)
    except RequestError as error:
        # The answer to a wrong range names the size.
        raise RequestError(error.code, error.message, place=str(size)) from None


def _open_file(path: Path) -> tuple[FileIO, os.stat_result]:
    try:
        # Unbuffered, and closed when the last reader drops it, also when an answer is never sent.
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError("not-found.key", "there is no such object", place=path.name) from error
    except OSError as error:
        raise StoreError("store.unreachable", type(error).__name__, place=path.name) from error
    return file, os.fstat(file.fileno())


async def _file_pieces(file: FileIO, start: int, stop: int) -> AsyncIterator[bytes]:
    with file:
        while start < stop:
            piece = await anyio.to_thread.run_sync(os.pread, file.fileno(), min(_PIECE_BYTES, stop - start), start)
            if not piece:
                raise StoreError("store.unreachable", "the file became shorter while it was read")
            start += len(piece)
            yield piece


async def _no_pieces() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


async def _stream(result: obstore.GetResult, key: str) -> AsyncIterator[bytes]:
    try:
        async for piece in result.stream(min_chunk_size=_PIECE_BYTES):
            yield bytes(piece)
    except (BaseError, OSError) as error:
        raise StoreError("store.unreachable", type(error).__name__, place=key) from error


def _opened(meta: Any, start: int, stop: int, pieces: AsyncIterator[bytes]) -> Opened:
    etag = meta["e_tag"] or f'"{int(meta["last_modified"].timestamp() * 1000):x}-{meta["size"]:x}"'
    return Opened(meta["size"], etag, meta["last_modified"], start, stop, pieces)


def _options(wanted: ByteRange | None) -> Any:
    if wanted is None:
        return None
    if wanted.first is None:
        return {"range": {"suffix": wanted.last}}
    if wanted.last is None:
        return {"range": {"offset": wanted.first}}
    return {"range": (wanted.first, wanted.last + 1)}
