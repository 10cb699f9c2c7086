"""Object storage: the only module that turns a URL into a store.

A store is a folder or a bucket prefix, reached through fsspec. Keys are relative to it and use ``/``. Putting an
object is atomic: a reader, or a run after a crash, sees the old object, the new one, or none, and never half of one.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from corpus import localfiles
from corpus.delivery import s3_headers
from corpus.errors import NotFoundError, SettingsError, StoreError
from corpus.layout import PRIVATE
from corpus.localfiles import LocalFiles, local_path
from corpus.retries import PatientFetch, patiently, persistently
from corpus.servercopy import copy_within

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore

_TEMPORARY: Final = f"{PRIVATE}/growing"
"""Where files of a local store grow before they get their names: what a killed run leaves there is in nobody's way."""

_AT_ONCE: Final = 16
"""Requests under way at once where many small objects are read."""

_S3: Final = {"config_kwargs": {"retries": {"total_max_attempts": 1}}, "use_listings_cache": False}
"""s3fs and `corpus.retries` try again; botocore below them would multiply their times. A listing that s3fs remembers
hides what others have written since: an object that is there would be missing, which readers take for zeros.
"""

_ONE_REQUEST: Final = {"max_concurrency": 1}
"""Otherwise s3fs asks for the size before it asks for the bytes, of every object."""


class Readable(Protocol):
    """What gives the bytes of a key: a store, or whatever else holds a mirror."""

    url: str

    def get(self, key: str) -> bytes:
        """Return an object's bytes; `NotFoundError` where there is none."""


class Store:
    """A place for objects.

    Parameters
    ----------
    url
        A path, or a URL that fsspec knows (``s3://bucket/prefix``, ``https://...`` for reading).
    profile
        Section of the AWS configuration with the endpoint and credentials of a bucket, instead of the environment's.

    Raises
    ------
    SettingsError
        The URL's protocol is not known, or its package is not installed.
    """

    def __init__(self, url: str, profile: str | None = None) -> None:
        self._fs, root = filesystem(url, profile)
        self.is_local: bool = "file" in protocols(self._fs)
        self._is_s3 = "s3" in protocols(self._fs)
        self._root = root.rstrip("/")
        # What another process opens: of a local folder the bare path, whatever it was given as.
        self.url = self._root if self.is_local else url

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises
        ------
        NotFoundError
            There is no such object.
        StoreError
            The store failed.
        """
        with store_errors(self._place(key)):
            how = _ONE_REQUEST if self._is_s3 else {}
            data: bytes = self.retrying(lambda: self._fs.cat_file(self._path(key), **how))
        return data

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open an object, a file as it lies on the disk: who needs little of it at a time holds little of it.

        Raises
        ------
        NotFoundError
            There is no such object.
        StoreError
            The store failed; also while it is read.
        """
        if self.is_local:
            with store_errors(self._place(key)), self._fs.open(self._path(key), "rb") as file:
                yield file
        else:
            yield io.BytesIO(self.get(key))

    def retrying[T](self, call: Callable[[], T]) -> T:
        """Call again where object storage failed for a moment; a disk that fails does not get better by waiting."""
        return retrying(self._fs, call)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those of many objects that exist, several requests at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            wanted = list(keys)
            found = zip(wanted, pool.map(self._get_if_there, wanted), strict=True)
            return {key: data for key, data in found if data is not None}

    def _get_if_there(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except NotFoundError:
            return None

    def put(self, key: str, data: bytes | Sequence[bytes]) -> None:
        """Write an object, whole or in parts, atomically; S3 is told its type and for how long caches may keep it.

        Raises
        ------
        StoreError
            The store failed.
        """
        path = self._path(key)
        with store_errors(self._place(key)):
            if self.is_local:
                localfiles.put(Path(path), data, Path(self._path(_TEMPORARY)))
            else:
                headers = s3_headers(key) if self._is_s3 else {}
                whole = b"".join(data) if not isinstance(data, bytes) else data
                self.retrying(lambda: self._fs.pipe_file(path, whole, **headers))

    def is_one_server_with(self, other: Store) -> bool:
        """Whether a server can copy between both stores by itself: S3 of the same endpoint and credentials."""
        return self._is_s3 and other._is_s3 and self._fs.storage_options == other._fs.storage_options

    def copy(self, key: str, source: Store) -> bytes | None:
        """Have the server copy the object of this key from another store; return its SHA-256 where the server tells it.

        Raises
        ------
        NotFoundError
            The other store has no such object.
        StoreError
            The server failed.
        """
        with store_errors(source._place(key)):
            return self.retrying(lambda: copy_within(self._fs, source._path(key), self._path(key), s3_headers(key)))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object if there is none of this key, atomically; return whether it was written.

        A bucket whose server knows no conditional writes (``If-None-Match``) gives the check without the atomicity.

        Raises
        ------
        StoreError
            The store failed.
        """
        path = self._path(key)
        with store_errors(self._place(key)):
            try:
                if self.is_local:
                    localfiles.put(Path(path), data, Path(self._path(_TEMPORARY)), only_new=True)
                else:
                    self.retrying(lambda: self._fs.pipe_file(path, data, mode="create"))
            except OSError as error:
                if isinstance(error, FileExistsError) or _status(error) == 412:
                    # A try whose answer was lost may have written it all the same.
                    return self.get(key) == data
                if error.errno != errno.ENOSYS:
                    raise
                # The server says that it does not know conditional writes.
                if self.exists(key):
                    return False
                self.put(key, data)
        return True

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key.

        Raises
        ------
        StoreError
            The store failed.
        """
        try:
            with store_errors(self._place(key)):
                # Not fsspec's isfile, which takes any failure for a no.
                return bool(self.retrying(lambda: self._fs.info(self._path(key)))["type"] == "file")
        except NotFoundError:
            return False

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects below a prefix, sorted."""
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the size in bytes of each object below a prefix."""
        with store_errors(self._place(prefix)):
            # A listing that was cached before the last writes would hide them.
            self._fs.invalidate_cache()
            found = self.retrying(lambda: self._fs.find(self._path(prefix), detail=True))
        # SeaweedFS shows a folder for a while after its last object is gone.
        files = {path: info for path, info in found.items() if info["type"] == "file"}
        return {path[len(self._root) + 1 :]: int(info["size"]) for path, info in files.items()}

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects and folders directly below a folder, sorted; none where it does not exist."""
        try:
            with store_errors(self._place(folder)):
                self._fs.invalidate_cache()
                found = self.retrying(lambda: self._fs.ls(self._path(folder), detail=False))
        except NotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def delete(self, prefix: str) -> None:
        """Remove an object, or all objects below a prefix; silent where there is none."""
        # Not fsspec's recursive rm, which takes "[2026]" in a path for a pattern.
        if self.is_local:
            with store_errors(self._place(prefix)):
                localfiles.delete(Path(self._path(prefix)))
        else:
            self.delete_keys(key for key in self.keys(prefix) if key == prefix or key.startswith(f"{prefix}/"))

    def delete_keys(self, keys: Iterable[str]) -> None:
        """Remove objects that are there, several at a time."""
        with store_errors(self.url), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: self.retrying(lambda: self._fs.rm_file(self._path(key))), keys))

    def sweep(self) -> None:
        """Remove what killed processes left growing; only for who knows that nobody else is writing."""
        if self.is_local:
            self.delete(_TEMPORARY)

    def flush(self) -> None:
        """Wait until what was put would survive a loss of power; object storage promises that by itself."""
        if self.is_local:
            os.sync()

    def zarr(self, prefix: str, *, read_only: bool = True) -> ZarrStore:
        """Return a zarr store of a folder of this one."""
        from zarr.storage import FsspecStore, LocalStore  # loading zarr takes longer than a small volume

        if self.is_local:
            return LocalStore(self._path(prefix), read_only=read_only)
        # zarr wants a file system of its own event loop, so it is made anew from the URL.
        return FsspecStore.from_url(f"{self.url.rstrip('/')}/{prefix}", read_only=read_only)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _place(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"


@contextmanager
def open_file(url: str, *, read_ahead_bytes: int = 2**23, stop: int | None = None) -> Iterator[BinaryIO]:
    """Open one file for reading, byte for byte; a context manager.

    A bucket or web server that fails in the middle is asked again for the range that it did not give, so that the
    reader notices nothing.

    Parameters
    ----------
    url
        As fsspec takes it.
    read_ahead_bytes
        How much is fetched at once from a bucket; s3fs by itself takes 50 MiB, which is a lot for a header.
    stop
        Nothing behind this byte is going to be read, so it is not fetched.

    Raises
    ------
    StoreError
        On opening, or on reading: what the file lies on did not answer for `corpus.retries.PATIENCE_S`.
    OSError
        There is no such file, or it may not be read.
    """
    fs, path = filesystem(url)
    is_remote = {"s3", "http", "https"} & set(protocols(fs))
    options = {"block_size": read_ahead_bytes, "cache_type": "readahead", "size": stop} if is_remote else {}
    opened: AbstractContextManager[BinaryIO]
    opened = patiently(lambda: fs.open(path, "rb", **options), url) if is_remote else fs.open(path, "rb")
    with opened as file:
        if is_remote and (cache := getattr(file, "cache", None)) is not None:
            cache.fetcher = PatientFetch(cache.fetcher, url)
        yield file


def is_transport_error(error: Exception) -> bool:
    """Whether an error comes from a storage client that has a tree of its own, and is only there where it is used."""
    return type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp"))


def protocols(fs: Any) -> tuple[str, ...]:
    """Return the names under which fsspec knows a file system."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def retrying[T](fs: Any, call: Callable[[], T]) -> T:
    """Call again where object storage failed for a moment; a disk that fails does not get better by waiting."""
    return call() if isinstance(fs, LocalFiles) else persistently(call)


def filesystem(url: str, profile: str | None = None) -> tuple[Any, str]:
    """Return the file system of a URL, of those that fsspec knows, and the path in it.

    Raises
    ------
    SettingsError
        The URL's protocol is not known, or its package is not installed.
    """
    if (path := local_path(url)) is not None:
        return LocalFiles(), path
    from fsspec.core import url_to_fs

    chosen = {"profile": profile} if profile else {}
    try:
        fs, path = url_to_fs(url, **({"s3": {**_S3, **chosen}} if "s3://" in url else {}))
    except (ValueError, ImportError) as error:
        raise SettingsError("settings.url", str(error), place=url) from error
    return fs, path


def _status(error: OSError) -> int | None:
    # s3fs keeps the client's error, which has the answer's status, as the cause of its own.
    answer = getattr(error.__cause__, "response", {})
    status: int | None = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Turn what file systems raise into errors of ours; a context manager."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError("not-found.key", "there is no such object", place=place) from error
    except PermissionError as error:
        raise StoreError("store.denied", str(error), place=place) from error
    except StoreError:
        raise
    except (OSError, TimeoutError) as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StoreError("store.full", f"{type(error).__name__}: {error}", place=place) from error
        raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=place) from error
    except Exception as error:  # the trees of storage clients cannot be named where they are not installed
        if not is_transport_error(error):
            raise
        raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=place) from error
