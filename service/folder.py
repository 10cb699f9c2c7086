"""Objects of a local folder, by plain file reads, which measured twice as fast as an object-storage client.

Of a disk of this machine, what the system has in memory is read without a thread (``RWF_NOWAIT``), since handing a
small range from thread to thread costs more than reading it. All else is read by threads, and so is every file of a
network mount, where opening alone may hang.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from corpus.errors import NotFoundError, RequestError, StoreError, VoxshelfError
from service.metrics import Metrics
from service.ranges import ByteRange
from service.upstream import PIECE_BYTES, Content, Method, Opened, resolve

_THREADS: Final = 16
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
_DISKS: Final = frozenset({"bcachefs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""File systems that answer at once, or fail; others may be at the end of a network."""
_MOUNTS: Final = Path("/proc/self/mountinfo")
_AT_HAND: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
_NOTHING: Final = memoryview(b"")


class _File(msgspec.Struct, frozen=True):
    """A file that is open, and which of its bytes are wanted."""

    # Unbuffered, and closed when the last reader drops it, should an answer never be sent.
    file: FileIO
    status: os.stat_result
    start: int
    stop: int

    def opened(self, content: Content) -> Opened:
        return _opened(self.status, self.start, self.stop, content)


class Held:
    """A file that stays open, for reads that wait for nothing; closed when it is dropped.

    Parameters
    ----------
    path
        Where it is.
    descriptor
        Of the file, which is open, and the object's from now on.

    Attributes
    ----------
    size
        Its bytes.
    """

    __slots__ = ("_descriptor", "_path", "_status", "size")

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = os.fsencode(path)
        self._descriptor = descriptor
        self._status = os.fstat(descriptor)
        self.size = self._status.st_size

    def __del__(self) -> None:
        os.close(self._descriptor)

    def about(self) -> Opened:
        """Return what is known of it."""
        return _opened(self._status, 0, self.size, b"")

    def read(self, start: int, data: memoryview) -> bool:
        """Fill `data` with the bytes from `start` on; whether all were in memory, and the path names these bytes still.

        The buffer holds anything where they do not.
        """
        if _AT_HAND is None:
            return False
        try:
            count = os.preadv(self._descriptor, (data,), start, _AT_HAND)
            return count == len(data) and _is_same(os.stat(self._path), self._status)  # noqa: PTH116  # a third of Path.stat
        except OSError:
            return False  # not in memory, or gone, or not a file system that can tell


class Folder:
    """Objects of a local folder.

    Parameters
    ----------
    root
        The mirror.
    timeout_s
        How long the file system may take to give a piece.
    metrics
        Counts what waited for the file system; what was in memory waits for nothing.
    """

    def __init__(self, root: str, timeout_s: float, metrics: Metrics) -> None:
        self._root = root
        self._timeout_s = timeout_s
        self._metrics = metrics
        # Threads of their own: what decodes in the framework's pool must not hold up plain bytes.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._is_disk: bool | None = None

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open a file, and read what is small."""
        if not self._is_disk:
            return await self._in_thread(lambda: self._whole(key, wanted, body=body))
        ready = self._at_hand(key, wanted, body=body)
        if ready is not None:
            return ready
        found = self._found(key, wanted)
        if body and found.stop - found.start > PIECE_BYTES:
            return found.opened(self._pieces(found))
        with found.file:
            return found.opened(await self._in_thread(lambda: _read(found, found.start, found.stop)))

    async def presigned(self, key: str, method: Method) -> str | None:  # noqa: ARG002  # the protocol's
        """Return None: files have no URLs."""
        return None

    def path_of(self, key: str) -> str | None:
        """Return the path of an object."""
        return f"{self._root}/{key}"

    def _whole(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        if self._is_disk is None:
            self._is_disk = _is_disk(self._root)
        found = self._found(key, wanted)
        if body and found.stop - found.start > PIECE_BYTES:
            return found.opened(self._pieces(found))
        with found.file:
            return found.opened(_read(found, found.start, found.stop) if body else b"")

    def held(self, key: str) -> Held:
        """Open a file for reads without waiting.

        Raises
        ------
        NotFoundError, StoreError
            As `open` does; also where nothing here can be read without waiting.
        """
        if not self._is_disk:
            raise StoreError("store.unreachable", "the file system may make its readers wait", place=key)
        path = f"{self._root}/{key}"
        return Held(path, _opened_file(path, key))

    def _at_hand(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened | None:
        """Open a file without waiting; None where its bytes are many, or not in memory, or it is no file."""
        descriptor = _opened_file(f"{self._root}/{key}", key)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            start, stop = resolve(wanted, status.st_size)
            data = _in_memory(descriptor, status, start, stop) if body else _NOTHING
            return None if data is None else _opened(status, start, stop, data)
        finally:
            os.close(descriptor)

    def _found(self, key: str, wanted: ByteRange | None) -> _File:
        try:
            file = FileIO(f"{self._root}/{key}")
            status = os.fstat(file.fileno())
        except OSError as error:
            raise _meaning(error, key) from error
        try:
            return _File(file, status, *resolve(wanted, status.st_size))
        except RequestError:
            file.close()
            raise

    async def _pieces(self, found: _File) -> AsyncIterator[bytes]:
        with found.file:
            for start in range(found.start, found.stop, PIECE_BYTES):
                stop = min(start + PIECE_BYTES, found.stop)
                yield await self._in_thread(lambda start=start, stop=stop: _read(found, start, stop))  # type: ignore[misc]  # a lambda's defaults

    async def _in_thread[T](self, call: Callable[[], T]) -> T:
        started, outcome = time.perf_counter(), "ok"
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except TimeoutError as error:
            outcome = "store.timeout"
            raise StoreError("store.timeout", "the file system did not answer in time") from error
        except VoxshelfError as error:
            outcome = error.code
            raise
        finally:
            self._metrics.upstream("read", outcome, time.perf_counter() - started)


def _opened_file(path: str, key: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # half of what a file object costs
    except OSError as error:
        raise _meaning(error, key) from error


def _opened(status: os.stat_result, start: int, stop: int, content: Content) -> Opened:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return Opened(status.st_size, _etag(status), modified, start, stop, content)


def _in_memory(descriptor: int, status: os.stat_result, start: int, stop: int) -> memoryview | None:
    """Return the bytes of a range that is not large if all are in memory, without waiting for any."""
    if _AT_HAND is None or stop - start > PIECE_BYTES:
        return None
    data = np.empty(stop - start, np.uint8).data  # a bytearray would be filled with zeros first
    try:
        count = os.preadv(descriptor, [data], start, _AT_HAND)
    except OSError:
        return None  # not in memory, or not a file system that can tell
    return data if count == len(data) and _is_same(os.fstat(descriptor), status) else None


def _read(found: _File, start: int, stop: int) -> bytes:
    try:
        data = os.pread(found.file.fileno(), stop - start, start)
    except OSError as error:
        raise _meaning(error, "") from error
    # Putting an object replaces the file, and an open one stays as it was. Other tools write into it: copies, syncs.
    if len(data) != stop - start or not _is_same(os.fstat(found.file.fileno()), found.status):
        raise StoreError("store.changed", "the file changed while it was read")
    return data


def _is_same(now: os.stat_result, then: os.stat_result) -> bool:
    return now.st_mtime_ns == then.st_mtime_ns and now.st_size == then.st_size and now.st_ino == then.st_ino


def _etag(status: os.stat_result) -> str:
    # The inode is new for each object that is put, also within one tick of the clock.
    return f'"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}"'


def _is_disk(root: str) -> bool:
    """Whether a folder lies on a disk of this machine, as far as Linux tells; see proc_pid_mountinfo(5)."""
    try:
        device = Path(root).stat().st_dev
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = {line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number}
    return bool(kinds) and kinds <= _DISKS


def _meaning(error: OSError, key: str) -> NotFoundError | StoreError:
    if error.errno in _MISSING:
        return NotFoundError("not-found.key", "there is no such object", place=key)
    if isinstance(error, PermissionError):
        return StoreError("store.denied", "the file may not be read", place=key)
    return StoreError("store.unreachable", f"{type(error).__name__}: {error.strerror}", place=key)
