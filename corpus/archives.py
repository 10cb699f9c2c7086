"""Zip archives read in place: their directory once, then each member by its own bytes and no others.

A member is opened at the place that the archive's central directory gave when the source was listed, so that reading
one of 15,000 members over a network fetches neither the directory again nor what lies around the member. Nothing is
ever unpacked to a disk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import BinaryIO, Final, NamedTuple
from zipfile import BadZipFile, ZipExtFile, ZipFile, ZipInfo

from corpus.errors import SourceError, StoreError
from corpus.stores import is_transport_error, open_file

_DIRECTORY_READ_AHEAD_BYTES: Final = 2**16
# APPNOTE.TXT 4.3.7: the header before each member's data; its last two numbers are lengths of name and extra field.
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_LOCAL_SIGNATURE: Final = b"PK\3\4"


class ArchiveMember(NamedTuple):
    """A file in a zip archive, as the central directory describes it.

    Attributes
    ----------
    name
        Path in the archive.
    size
        Bytes when taken out.
    is_encrypted
        Whether a password is needed.
    method
        Number of the compression method; 0 is stored, 8 deflated.
    crc
        CRC-32 of the bytes when taken out.
    packed_size
        Bytes of the data in the archive.
    start, stop
        Bytes of the archive between which the member's header and data lie.
    """

    name: str
    size: int
    is_encrypted: bool
    method: int
    crc: int
    packed_size: int
    start: int
    stop: int


def archive_members(url: str) -> list[ArchiveMember]:
    """Return the members of a zip archive, without unpacking it; a name may occur twice.

    Raises
    ------
    SourceError
        The archive is damaged, was cut, or cannot be read by ranges.
    """
    with (
        _archive_errors(url),
        open_file(url, read_ahead_bytes=_DIRECTORY_READ_AHEAD_BYTES) as file,
        ZipFile(file) as archive,
    ):
        infos = archive.infolist()
        # Of members that start at one place, which only a bomb has, each is said to have no room.
        spans = pairwise(sorted([*(info.header_offset for info in infos), archive.start_dir]))
        stops = dict(reversed([*spans]))
        return [
            ArchiveMember(
                name=info.filename,
                size=info.file_size,
                is_encrypted=bool(info.flag_bits & 1),
                method=info.compress_type,
                crc=info.CRC,
                packed_size=info.compress_size,
                start=info.header_offset,
                stop=stops.get(info.header_offset, info.header_offset),
            )
            for info in infos
            if not info.is_dir()
        ]


@contextmanager
def open_member(url: str, member: ArchiveMember, *, read_ahead_bytes: int) -> Iterator[BinaryIO]:
    """Open a member for reading from its start; its CRC is checked at its end.

    Parameters
    ----------
    url
        Of the archive.
    member
        As `archive_members` gave it.
    read_ahead_bytes
        How much is fetched at once from a bucket; never beyond the member.

    Raises
    ------
    zipfile.BadZipFile
        The member is encrypted, or the archive is not the one that was listed. Reading raises it where data are
        damaged.
    """
    if member.is_encrypted:
        raise BadZipFile("the member is encrypted")
    ahead = min(read_ahead_bytes, member.stop - member.start)
    with open_file(url, read_ahead_bytes=ahead, stop=member.stop) as file:
        file.seek(member.start)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_SIGNATURE):
            raise BadZipFile(f"no member starts at byte {member.start}; the archive has changed")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        file.seek(member.start + _LOCAL_HEADER.size + name_bytes + extra_bytes)
        # zipfile's own reader: inflates, and compares length and CRC.
        with ZipExtFile(file, "r", _info_of(member)) as reader:
            yield reader  # type: ignore[misc]  # an IO of bytes


def _info_of(member: ArchiveMember) -> ZipInfo:
    info = ZipInfo(member.name)
    info.compress_type, info.CRC = member.method, member.crc
    info.compress_size, info.file_size = member.packed_size, member.size
    return info


@contextmanager
def _archive_errors(url: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    # A damaged directory makes zipfile raise any of these; fsspec has a ValueError for a server without ranges.
    except (BadZipFile, OSError, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raise SourceError("source.archive-unreadable", f"{type(error).__name__}: {error}", place=url) from error
    except Exception as error:  # the trees of storage clients cannot be named where they are not installed
        if not is_transport_error(error):
            raise
        raise SourceError("source.archive-unreadable", f"{type(error).__name__}: {error}", place=url) from error
