"""The byte stream of one source volume: opened wherever it lies, inflated, hashed and checked to its very end."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from gzip import BadGzipFile
from itertools import cycle
from typing import TYPE_CHECKING, BinaryIO, Final, Self
from zipfile import BadZipFile

import msgspec
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError

from converter.ahead import beside
from converter.nifti import PROBE_BYTES, VolumeHeader, header_size, read_header
from corpus.archives import ArchiveMember, open_member
from corpus.errors import SourceError, StoreError
from corpus.geometry import Voxels
from corpus.models import SourceRecord
from corpus.stores import is_transport_error, open_file

if TYPE_CHECKING:
    from types import TracebackType

_GZIP_MAGIC: Final = b"\x1f\x8b"
_READ_BYTES: Final = 2**20
_PIECE_BYTES: Final = 2**18
_PEEK_BYTES: Final = 2**17
_MOST_INFLATION: Final = 1040
"""Deflate never grows data by more than 1032 times: a header that promises more is refused before memory is spent."""
_SLABS_AHEAD: Final = 1
_MOST_SMALL_BYTES: Final = 2**28


class SourceFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One volume file of a corpus, or the binary masks that make one label map.

    Attributes
    ----------
    url
        What fsspec opens: a path, ``s3://...``, ``https://...``; of a member that of its archive.
    name
        Relative to the source's root; what reports and metadata show. A member is ``archive.zip!member``.
    size
        Bytes of the file as it lies there; of a member when taken out.
    member
        Where it lies in the archive; None for a file of its own.
    masks
        Binary masks, in the order of the label table; then `url` is empty, `name` their folder and `size` their sum.
    """

    url: str
    name: str
    size: int
    member: ArchiveMember | None = None
    masks: tuple[MaskFile, ...] = ()

    def open(self, *, read_ahead_bytes: int) -> AbstractContextManager[BinaryIO]:
        """Return a context manager that opens the file for reading; of a member only its own bytes are fetched."""
        if self.member is None:
            return open_file(self.url, read_ahead_bytes=read_ahead_bytes)
        return open_member(self.url, self.member, read_ahead_bytes=read_ahead_bytes)


class MaskFile(msgspec.Struct, frozen=True):
    """A binary mask, and the voxel value that stands for its structure."""

    value: int
    file: SourceFile


class _HashingReader(io.RawIOBase):
    """Passes reads through, and knows the digest and the number of all bytes that went by.

    Once `read_ahead` was called they are read and hashed in a thread of their own, until `stop`.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._pieces: Generator[bytes, None, None] | None = None
        self._left = memoryview(b"")
        self.sha256 = hashlib.sha256()
        self.size = 0

    def read_ahead(self, piece_bytes: int) -> None:
        self._pieces = beside(iter(lambda: self._take(piece_bytes), b""), most=1, name="read")

    def stop(self) -> None:
        if self._pieces is not None:
            self._pieces.close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io asks for any writable buffer
        if not self._left:
            self._left = memoryview(self._take(len(buffer)) if self._pieces is None else next(self._pieces, b""))
        data, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _take(self, most_bytes: int) -> bytes:
        data = self._raw.read(most_bytes)
        self.sha256.update(data)
        self.size += len(data)
        return data


class VolumeStream:
    """The voxels of one file, in the order in which they arrive.

    Use as a context manager. `header` is known at once; `slabs` yields the voxels once; `record` is known after that.

    Parameters
    ----------
    source
        The file.
    read_ahead_bytes
        How much is fetched at once from a bucket.

    Raises
    ------
    SourceError
        On opening: the file cannot be read, or its header cannot be used.
    """

    def __init__(self, source: SourceFile, *, read_ahead_bytes: int = 2**23) -> None:
        self._source = source
        self._read_ahead_bytes = read_ahead_bytes
        self._piece_bytes = min(_READ_BYTES, read_ahead_bytes)
        self._stack = ExitStack()
        self._voxels = hashlib.sha256()
        try:
            self.header: VolumeHeader = self._open()
        except BaseException:
            self._stack.close()
            raise

    def _open(self) -> VolumeHeader:
        place = self._source.name
        with _source_errors(place):
            raw = self._stack.enter_context(self._source.open(read_ahead_bytes=self._read_ahead_bytes))
            self._raw = _HashingReader(raw)
            self._bytes = _inflated(self._raw, self._piece_bytes)
            head = self._read(PROBE_BYTES)
            size = header_size(head, place)
            head += self._read(size - len(head))
        # A small header leaves the first voxels in the probe.
        self._ahead = head[size:]
        header = read_header(head[:size], place)
        if header.voxel_bytes > _MOST_INFLATION * self._source.size:
            promised = f"the header promises {header.voxel_bytes} bytes of voxels"
            raise SourceError(
                "source.size-mismatch", f"{promised}, the file has {self._source.size} bytes", place=place
            )
        return header

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def slabs(self, depth: int) -> Generator[Voxels, None, None]:
        """Yield the voxels as slabs of `depth` slices (the last may have fewer), in the file's type and order.

        Reading and hashing the file run in a thread of their own, and inflating it and hashing the voxels in another,
        one slab ahead of the caller: all of it leaves the GIL, and a bucket is asked while the last piece is inflated.

        Yields
        ------
        ndarray
            Shape (k, j, i). Its memory is used again once the next but one is asked for: copy what has to last.

        Raises
        ------
        SourceError
            The stream is damaged, too short or too long. Raised before the last slab is handed out, so that
            whoever has seen all slabs knows that the file was sound.
        """
        self._raw.read_ahead(self._piece_bytes)
        try:
            yield from beside(self._filled(depth), most=_SLABS_AHEAD, name="inflate")
        finally:
            self._raw.stop()

    def _filled(self, depth: int) -> Iterator[Voxels]:
        nz, ny, nx = self.header.grid.shape_zyx
        # Two with the caller, one waiting, one being filled.
        buffers = cycle([np.empty((min(depth, nz), ny, nx), dtype=self.header.dtype) for _ in range(4)])
        for start in range(0, nz, depth):
            slab = next(buffers)[: nz - start]
            self._fill(slab)
            if start + depth >= nz:
                self._expect_end()
            yield slab

    @property
    def record(self) -> SourceRecord:
        """What was read; complete once `slabs` is exhausted."""
        return SourceRecord(self._source.name, self._raw.size, self._raw.sha256.hexdigest(), self._voxels.hexdigest())

    def _fill(self, slab: Voxels) -> None:
        view = memoryview(slab.view(np.uint8)).cast("B")
        filled = len(self._ahead[: len(view)])
        view[:filled], self._ahead = self._ahead[:filled], self._ahead[filled:]
        self._voxels.update(view[:filled])
        with _source_errors(self._source.name):
            while filled < len(view):
                got = self._bytes.readinto(view[filled : filled + _PIECE_BYTES])
                if not got:
                    expected = f"the header promises {self.header.voxel_bytes} bytes of voxels"
                    raise SourceError(
                        "source.size-mismatch", f"{expected}, the file ends before", place=self._source.name
                    )
                # Hashed while the processor's cache still holds it.
                self._voxels.update(view[filled : filled + got])
                filled += got

    def _expect_end(self) -> None:
        # Reading on to the end also makes the inflater check the trailer: CRC and length.
        with _source_errors(self._source.name):
            if self._ahead or self._bytes.read(1):
                promised = f"the header promises {self.header.voxel_bytes} bytes of voxels"
                raise SourceError("source.size-mismatch", f"{promised}, there are more", place=self._source.name)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self._bytes.read(count - len(data))):
            data += more
        return data


def peek_header(source: SourceFile) -> VolumeHeader:
    """Read the header of a source volume and none of its voxels.

    Raises
    ------
    SourceError
        As for `VolumeStream`.
    """
    with VolumeStream(source, read_ahead_bytes=_PEEK_BYTES) as stream:
        return stream.header


def read_small(source: SourceFile) -> bytes:
    """Return all bytes of a small file, such as a spreadsheet.

    Raises
    ------
    SourceError
        The file cannot be read, or is not small.
    """
    if source.size > _MOST_SMALL_BYTES:
        raise SourceError("source.unreadable", f"{source.size} bytes are too many for such a file", place=source.name)
    with _source_errors(source.name), source.open(read_ahead_bytes=_PEEK_BYTES) as file:
        return file.read()


def _inflated(raw: _HashingReader, buffer_bytes: int) -> io.BufferedIOBase:
    # The name does not tell: plain NIfTI is found under .nii.gz, and the other way round.
    buffered = io.BufferedReader(raw, buffer_size=buffer_bytes)
    if buffered.peek(2)[:2] != _GZIP_MAGIC:
        return buffered
    inflated: io.BufferedIOBase = igzip.IGzipFile(fileobj=buffered, mode="rb")
    return inflated


@contextmanager
def _source_errors(place: str) -> Iterator[None]:
    try:
        yield
    except (SourceError, StoreError):
        raise
    except EOFError as error:
        raise SourceError("source.gzip-truncated", str(error), place=place) from error
    except (BadGzipFile, IsalError) as error:  # type: ignore[misc]  # isal's stub calls it a variable
        raise SourceError("source.gzip-corrupt", str(error), place=place) from error
    except (BadZipFile, zlib.error) as error:
        raise SourceError("source.archive-unreadable", str(error), place=place) from error
    except OSError as error:
        raise SourceError("source.unreadable", f"{type(error).__name__}: {error}", place=place) from error
    except Exception as error:  # the trees of storage clients cannot be named where they are not installed
        if not is_transport_error(error):
            raise
        raise SourceError("source.unreadable", f"{type(error).__name__}: {error}", place=place) from error
