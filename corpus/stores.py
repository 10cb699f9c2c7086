"""Object storage: the only module that turns a URL into a store.

A store is a folder or a bucket prefix, reached through fsspec. Keys are relative to it and use ``/``. Putting an
object is atomic: a reader, or a run after a crash, sees the old object, the new one, or none, and never half of one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple
from zipfile import ZipFile

import fsspec
from fsspec.core import url_to_fs
from zarr.storage import FsspecStore, LocalStore

from corpus.errors import NotFoundError, SettingsError, StoreError
from corpus.layout import PRIVATE

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore

_TEMPORARY: Final = f"{PRIVATE}/growing"
"""Where files of a local store grow before they get their names: what a killed run leaves there is in nobody's way."""

_AT_ONCE: Final = 16
"""Requests under way at once where many small objects are read."""


class Store:
    """A place for objects.

    Parameters
    ----------
    url
        A path, or a URL that fsspec knows (``s3://bucket/prefix``, ``https://...`` for reading).

    Raises
    ------
    SettingsError
        The URL's protocol is not known, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise SettingsError("settings.url", str(error), place=url) from error
        self.is_local: bool = "file" in _protocols(self._fs)
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
        with _store_errors(self._place(key)):
            data: bytes = self._fs.cat_file(self._path(key))
        return data

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

    def put(self, key: str, data: bytes) -> None:
        """Write an object, atomically.

        Raises
        ------
        StoreError
            The store failed.
        """
        path = self._path(key)
        with _store_errors(self._place(key)):
            if self.is_local:
                _put_file(Path(path), data, Path(self._path(_TEMPORARY)))
            else:
                self._fs.pipe_file(path, data)

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        with _store_errors(self._place(key)):
            return bool(self._fs.isfile(self._path(key)))

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects below a prefix, sorted."""
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the size in bytes of each object below a prefix."""
        with _store_errors(self._place(prefix)):
            # A listing that was cached before the last writes would hide them.
            self._fs.invalidate_cache()
            found = self._fs.find(self._path(prefix), detail=True)
        start = len(self._root) + 1
        return {path[start:]: int(info["size"]) for path, info in found.items()}

    def delete(self, prefix: str) -> None:
        """Remove an object, or all objects below a prefix; silent where there is none."""
        # Not fsspec's recursive rm, which takes "[2026]" in a path for a pattern.
        if self.is_local:
            with _store_errors(self._place(prefix)):
                _delete_local(Path(self._path(prefix)))
        else:
            self.delete_keys(key for key in self.keys(prefix) if key == prefix or key.startswith(f"{prefix}/"))

    def delete_keys(self, keys: Iterable[str]) -> None:
        """Remove objects that are there, several at a time."""
        with _store_errors(self.url), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._fs.rm_file, map(self._path, keys)))

    def flush(self) -> None:
        """Wait until what was put would survive a loss of power; object storage promises that by itself."""
        if self.is_local:
            os.sync()

    def zarr(self, prefix: str, *, read_only: bool = True) -> ZarrStore:
        """Return a zarr store of a folder of this one."""
        if self.is_local:
            return LocalStore(self._path(prefix), read_only=read_only)
        # zarr wants a file system of its own event loop, so it is made anew from the URL.
        return FsspecStore.from_url(f"{self.url.rstrip('/')}/{prefix}", read_only=read_only)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _place(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"


class SourceListing:
    """The files below a source folder, archive or bucket prefix, by name relative to it.

    Parameters
    ----------
    url
        A path or URL.

    Raises
    ------
    SettingsError
        The URL's protocol is not known, or there is no such folder.
    """

    def __init__(self, url: str) -> None:
        try:
            fs, root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise SettingsError("settings.url", str(error), place=url) from error
        with _store_errors(url):
            if not fs.exists(root):
                raise SettingsError("settings.url", "there is no such folder", place=url)
            found = fs.find(root, detail=True)
        root = root.rstrip("/")
        self.sizes: dict[str, int] = {path[len(root) + 1 :]: int(info["size"]) for path, info in found.items()}
        self._fs = fs
        self._root = root

    def url(self, name: str) -> str:
        """Return a URL that fsspec opens, also on another machine with the same storage."""
        return str(self._fs.unstrip_protocol(f"{self._root}/{name}"))

    def read(self, name: str) -> bytes:
        """Return the bytes of a small file.

        Raises
        ------
        StoreError
            It cannot be read.
        """
        with _store_errors(self.url(name)):
            data: bytes = self._fs.cat_file(f"{self._root}/{name}")
        return data


def open_file(url: str, *, read_ahead_bytes: int = 2**23) -> AbstractContextManager[BinaryIO]:
    """Return a context manager that opens one file for reading, also a member of an archive, byte for byte.

    Parameters
    ----------
    url
        As fsspec takes it.
    read_ahead_bytes
        How much is fetched at once from a bucket; s3fs by itself takes 50 MiB, which is a lot for a header.
    """
    options = {"s3": {"default_block_size": read_ahead_bytes}} if "s3://" in url else {}
    opened: AbstractContextManager[BinaryIO] = fsspec.open(url, "rb", compression=None, **options)
    return opened


def is_transport_error(error: Exception) -> bool:
    """Whether an error comes from a storage client that has a tree of its own, and is only there where it is used."""
    return type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp"))


class ArchiveMember(NamedTuple):
    """A file in a zip archive: its name there, its size in bytes when taken out, and whether it is encrypted."""

    name: str
    size: int
    is_encrypted: bool


def archive_members(url: str) -> list[ArchiveMember]:
    """Return the members of a zip archive, without unpacking it; a name may occur twice.

    Raises
    ------
    zipfile.BadZipFile
        The archive is damaged, or was cut.
    """
    with fsspec.open(url, "rb") as file, ZipFile(file) as archive:
        return [
            ArchiveMember(info.filename, info.file_size, bool(info.flag_bits & 1))
            for info in archive.infolist()
            if not info.is_dir()
        ]


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _put_file(path: Path, data: bytes, folder: Path) -> None:
    for each in (path.parent, folder):
        each.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp gives a file that only its owner may read; a mirror is to be read.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _delete_local(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _store_errors(place: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError("not-found.key", "there is no such object", place=place) from error
    except PermissionError as error:
        raise StoreError("store.denied", str(error), place=place) from error
    except (OSError, TimeoutError) as error:
        raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=place) from error
    except Exception as error:  # the trees of storage clients cannot be named where they are not installed
        if not is_transport_error(error):
            raise
        raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=place) from error
