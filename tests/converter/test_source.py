"""Streams: every voxel comes through, every kind of damage is told, and nothing is left running."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.source import SourceFile, VolumeStream, peek_header
from corpus.archives import archive_members
from corpus.errors import SourceError

Build = Callable[..., bytes]
Place = Callable[..., SourceFile]
ReadAll = Callable[..., tuple[VolumeStream, np.ndarray]]

SHAPE = (7, 5, 6)
VOXELS = np.random.default_rng(0).integers(-1024, 3000, SHAPE, dtype=np.int16)
NOISE = np.random.default_rng(1).integers(0, 255, (64, 256, 256), dtype=np.uint8)
LEVEL_1 = 1


def members(data: bytes, *cuts: int) -> bytes:
    """Data as several gzip members, cut at these places."""
    ends = [0, *cuts, len(data)]
    return b"".join(gzip.compress(data[a:b], LEVEL_1) for a, b in pairwise(ends))


def code_of(file: SourceFile, read_all: ReadAll) -> str:
    with pytest.raises(SourceError) as caught:
        read_all(file)
    assert caught.value.place == file.name
    return caught.value.code


def inflaters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in {"inflate", "read"}]


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i1", "i2", "f8"])
def test_voxels_come_as_they_are(nifti: Build, source: Place, depth: int, version: int, order: str, kind: str) -> None:
    voxels = VOXELS.astype(kind)
    data = nifti(voxels, version=version, order=order)
    with VolumeStream(source(gzip.compress(data))) as stream:
        slabs = [slab.copy() for slab in stream.slabs(depth)]
    assert [len(slab) for slab in slabs] == [min(depth, 7 - start) for start in range(0, 7, depth)]
    assert {slab.dtype for slab in slabs} == {np.dtype(kind).newbyteorder(order)}
    np.testing.assert_array_equal(np.concatenate(slabs), voxels)


def test_a_slab_is_left_alone_until_the_next_is_asked_for(nifti: Build, source: Place) -> None:
    voxels = np.arange(60 * 5 * 6, dtype="<i4").reshape(60, 5, 6)
    with VolumeStream(source(gzip.compress(nifti(voxels)))) as stream:
        seen = 0
        for slab in stream.slabs(2):
            time.sleep(0.002)  # long enough for the reader to run ahead, if it could
            np.testing.assert_array_equal(slab, voxels[seen : seen + 2])
            assert slab.flags.c_contiguous
            seen += 2
    assert seen == 60


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [True, False])
def test_the_record_tells_what_was_read(
    nifti: Build, source: Place, read_all: ReadAll, order: str, packed: bool
) -> None:
    data = nifti(VOXELS, order=order, gap=48)
    blob = gzip.compress(data) if packed else data
    stream, _ = read_all(source(blob, "deep/down/0001.nii.gz"))
    record = stream.record
    assert record.name == "deep/down/0001.nii.gz"
    assert record.size == len(blob)
    assert record.sha256 == hashlib.sha256(blob).hexdigest()
    assert record.voxels_sha256 == hashlib.sha256(VOXELS.astype(f"{order}i2").tobytes()).hexdigest()
    assert stream.header.raw == data[: 352 + 48]


@pytest.mark.parametrize("name", ["0001.nii.gz", "0001.nii", "0001"])
@pytest.mark.parametrize("packed", [True, False])
def test_names_do_not_tell_what_is_packed(
    nifti: Build, source: Place, read_all: ReadAll, name: str, packed: bool
) -> None:
    data = nifti(VOXELS)
    _, voxels = read_all(source(gzip.compress(data) if packed else data, name))
    np.testing.assert_array_equal(voxels, VOXELS)


@pytest.mark.parametrize("cuts", [(352,), (100, 348, 400), (1, 2, 3), (500, 501), tuple(range(50, 750, 50))])
def test_all_members_are_read(nifti: Build, source: Place, read_all: ReadAll, cuts: tuple[int, ...]) -> None:
    blob = members(nifti(VOXELS), *cuts)
    stream, voxels = read_all(source(blob))
    np.testing.assert_array_equal(voxels, VOXELS)
    assert stream.record.sha256 == hashlib.sha256(blob).hexdigest()


def test_an_empty_last_member_is_fine(nifti: Build, source: Place, read_all: ReadAll) -> None:
    # bgzip ends its files with one.
    _, voxels = read_all(source(members(nifti(VOXELS)) + gzip.compress(b"")))
    np.testing.assert_array_equal(voxels, VOXELS)


@pytest.mark.parametrize("count", [1, 7, 512, 3_000_000])
def test_zero_padding_is_accepted_and_hashed(nifti: Build, source: Place, read_all: ReadAll, count: int) -> None:
    blob = gzip.compress(nifti(VOXELS)) + bytes(count)
    stream, voxels = read_all(source(blob))
    np.testing.assert_array_equal(voxels, VOXELS)
    assert (stream.record.size, stream.record.sha256) == (len(blob), hashlib.sha256(blob).hexdigest())


@pytest.mark.parametrize("garbage", [b"x", b"<html>", b"\x1f\x8c" * 9, bytes(8) + b"x", b"\x1f", b"\x1f\x8b"])
def test_trailing_garbage_is_refused(nifti: Build, source: Place, read_all: ReadAll, garbage: bytes) -> None:
    code = code_of(source(gzip.compress(nifti(VOXELS)) + garbage), read_all)
    assert code in {"source.gzip-truncated", "source.gzip-corrupt"}


def test_a_broken_checksum_is_refused(nifti: Build, source: Place, read_all: ReadAll) -> None:
    blob = bytearray(gzip.compress(nifti(VOXELS)))
    blob[-5] ^= 1  # CRC-32, then length, four bytes each
    assert code_of(source(bytes(blob)), read_all) == "source.gzip-corrupt"


def test_a_broken_length_is_refused(nifti: Build, source: Place, read_all: ReadAll) -> None:
    blob = bytearray(gzip.compress(nifti(VOXELS)))
    blob[-1] ^= 1
    assert code_of(source(bytes(blob)), read_all) == "source.gzip-corrupt"


def test_a_broken_checksum_of_an_early_member_is_refused(nifti: Build, source: Place, read_all: ReadAll) -> None:
    data = nifti(VOXELS)
    first = bytearray(gzip.compress(data[:500]))
    first[-5] ^= 1
    assert code_of(source(bytes(first) + gzip.compress(data[500:])), read_all) == "source.gzip-corrupt"


def test_whatever_is_cut_off_is_missed(nifti: Build, source: Place, read_all: ReadAll) -> None:
    blob = gzip.compress(nifti(VOXELS))
    for kept in [*range(60), *range(60, len(blob) - 20, 13), *range(len(blob) - 20, len(blob))]:
        code = code_of(source(blob[:kept]), read_all)
        assert code == ("source.gzip-truncated" if kept >= 2 else "source.not-nifti"), kept


def test_a_cut_is_missed_in_a_plain_file(nifti: Build, source: Place, read_all: ReadAll) -> None:
    data = nifti(VOXELS)
    for kept, code in ((0, "source.not-nifti"), (347, "source.not-nifti"), (352, "source.size-mismatch")):
        assert code_of(source(data[:kept]), read_all) == code
    for kept in (353, 543, 544, 545, len(data) - 1):
        assert code_of(source(data[:kept]), read_all) == "source.size-mismatch"


def test_a_cut_within_the_extension_is_missed(nifti: Build, source: Place, read_all: ReadAll, extension: Build) -> None:
    data = nifti(VOXELS, extension=extension(b"x" * 1000))
    for kept in (360, 600, 1300):
        assert code_of(source(data[:kept]), read_all) == "source.size-mismatch"
        assert code_of(source(gzip.compress(data[:kept])), read_all) == "source.size-mismatch"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("extra", [-420, -1, 1, 60_000])
@pytest.mark.parametrize("depth", [1, 7])
def test_too_few_or_too_many_voxels_are_refused(
    nifti: Build, source: Place, read_all: ReadAll, packed: bool, extra: int, depth: int
) -> None:
    data = nifti(VOXELS)
    data = data[:extra] if extra < 0 else data + bytes(extra)
    file = source(gzip.compress(data) if packed else data)
    with pytest.raises(SourceError, match="420 bytes") as caught:
        read_all(file, depth)
    assert caught.value.code == "source.size-mismatch"


def test_a_volume_of_nothing_but_zeros_is_not_too_small(nifti: Build, source: Place, read_all: ReadAll) -> None:
    # As small as deflate can make it: 1030 times smaller.
    _, voxels = read_all(source(gzip.compress(nifti(np.zeros((64, 512, 512), dtype="u1")), 9)), 16)
    assert voxels.shape == (64, 512, 512)
    assert not voxels.any()


@pytest.mark.parametrize("packed", [True, False])
def test_a_header_that_promises_the_impossible_costs_no_memory(nifti: Build, source: Place, packed: bool) -> None:
    data = nifti(VOXELS, fields={"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]})
    tracemalloc.start()
    try:
        with (
            pytest.raises(SourceError) as caught,
            VolumeStream(source(gzip.compress(data) if packed else data)) as stream,
        ):
            next(stream.slabs(16))
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert caught.value.code == "source.size-mismatch"


@pytest.mark.parametrize("extra", [-1, 1])
def test_voxels_smaller_than_the_probe_are_counted(nifti: Build, source: Place, read_all: ReadAll, extra: int) -> None:
    data = nifti(np.array([[[7, 8]]], dtype=np.uint8))
    _, voxels = read_all(source(data))
    assert voxels.tolist() == [[[7, 8]]]
    assert code_of(source(data[:-1] if extra < 0 else data + b"\0"), read_all) == "source.size-mismatch"


def test_a_member_too_many_is_refused(nifti: Build, source: Place, read_all: ReadAll) -> None:
    data = nifti(VOXELS)
    assert code_of(source(gzip.compress(data) + gzip.compress(data)), read_all) == "source.size-mismatch"


def test_no_last_slab_of_a_bad_file_is_handed_out(nifti: Build, source: Place) -> None:
    data = nifti(NOISE)
    whole = gzip.compress(data, LEVEL_1)
    wrong = bytearray(whole)
    wrong[-5] ^= 1
    for bad in (bytes(wrong), whole + b"x", whole[:-1], gzip.compress(data + b"x", LEVEL_1), data + b"x", data[:-1]):
        seen: list[int] = []
        with VolumeStream(source(bad)) as stream, pytest.raises(SourceError):
            seen.extend(len(slab) for slab in stream.slabs(5))
        assert 0 < sum(seen) <= 60


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_changes_a_voxel_unnoticed(
    nifti: Build, source: Place, read_all: ReadAll, place: float, bit: int
) -> None:
    blob = bytearray(members(nifti(VOXELS), 500))
    blob[int(place * len(blob))] ^= 1 << bit
    code = None
    try:
        stream, voxels = read_all(source(bytes(blob)))
    except SourceError as error:
        code = error.code
    assert code in {None, "source.gzip-corrupt", "source.gzip-truncated", "source.not-nifti"}
    if code is None:  # a time, a flag or an operating system in the gzip header
        np.testing.assert_array_equal(voxels, VOXELS)
        assert stream.record.sha256 == hashlib.sha256(blob).hexdigest()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [1, 2])
def test_extension_bytes_are_kept(
    nifti: Build, source: Place, read_all: ReadAll, extension: Build, order: str, version: int
) -> None:
    content = extension(b"<labels/>" * 1400, 0, order) + extension(b"x", 6, order)
    stream, voxels = read_all(source(gzip.compress(nifti(VOXELS, version=version, order=order, extension=content))))
    base = {1: 352, 2: 544}[version]
    assert stream.header.raw[base:] == content
    assert len(stream.header.raw) > 12_000
    np.testing.assert_array_equal(voxels, VOXELS)


def test_peeking_reads_no_voxels(nifti: Build, source: Place) -> None:
    blob = gzip.compress(nifti(NOISE, slope=2.0), LEVEL_1)
    header = peek_header(source(blob[: len(blob) // 2]))
    assert header.grid.shape_zyx == NOISE.shape
    assert header.scaling.slope == 2.0


def test_a_missing_file_is_unreadable(source: Place, tmp_path: Path, read_all: ReadAll) -> None:
    file = SourceFile(str(tmp_path / "absent.nii.gz"), "absent.nii.gz", 1)
    assert code_of(file, read_all) == "source.unreadable"
    assert code_of(SourceFile(str(tmp_path), "folder", 1), read_all) == "source.unreadable"


# Members of archives


def member(archive: SourceFile, name: str = "CT/0001.nii.gz", data: bytes | None = None) -> SourceFile:
    """A member as the archive lists it; `data` then take the archive's place."""
    found = {found.name: found for found in archive_members(archive.url)}[name]
    if data is not None:
        Path(archive.url).write_bytes(data)
    return SourceFile(archive.url, f"{archive.name}!{name}", found.size, found)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_archives_are_read_in_place(
    nifti: Build, zipped: Build, source: Place, read_all: ReadAll, packed: bool, compression: int
) -> None:
    blob = gzip.compress(nifti(VOXELS)) if packed else nifti(VOXELS)
    archive = source(zipped({"CT/0001.nii.gz": blob, "CT/0002.nii.gz": b"other"}, compression), "CT.zip")
    stream, voxels = read_all(member(archive))
    np.testing.assert_array_equal(voxels, VOXELS)
    assert stream.record.name == "CT.zip!CT/0001.nii.gz"
    assert (stream.record.size, stream.record.sha256) == (len(blob), hashlib.sha256(blob).hexdigest())


@pytest.mark.parametrize("data", [b"", bytes(5000), b"PK\3\4"])
def test_an_archive_that_was_replaced_is_unreadable(
    nifti: Build, zipped: Build, source: Place, read_all: ReadAll, data: bytes
) -> None:
    archive = source(zipped({"CT/0001.nii.gz": gzip.compress(nifti(VOXELS))}), "CT.zip")
    assert code_of(member(archive, data=data), read_all) == "source.archive-unreadable"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_a_bad_source(
    nifti: Build, zipped: Build, source: Place, read_all: ReadAll, packed: bool, compression: int
) -> None:
    blob = gzip.compress(nifti(VOXELS)) if packed else nifti(VOXELS)
    data = zipped({"CT/0001.nii.gz": blob}, compression)
    for at in range(60, len(data) - 100, 37):
        bad = bytearray(data)
        bad[at] ^= 0x10
        archive = source(data, "CT.zip")
        assert code_of(member(archive, data=bytes(bad)), read_all).startswith("source.")


def test_damage_that_only_the_archive_sees_is_told(
    nifti: Build, zipped: Build, source: Place, read_all: ReadAll
) -> None:
    blob = gzip.compress(nifti(VOXELS))
    data = bytearray(zipped({"CT/0001.nii.gz": blob}))
    at = data.index(blob) + 4  # the time in the gzip header, which no gzip checks
    data[at] ^= 0x10
    assert code_of(member(source(bytes(data), "CT.zip")), read_all) == "source.archive-unreadable"


def test_an_encrypted_member_is_a_bad_source(nifti: Build, zipped: Build, source: Place, read_all: ReadAll) -> None:
    data = bytearray(zipped({"CT/0001.nii.gz": gzip.compress(nifti(VOXELS))}))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    with zipfile.ZipFile(source(bytes(data), "CT.zip").url) as archive, pytest.raises(RuntimeError, match="encrypted"):
        archive.read("CT/0001.nii.gz")
    assert code_of(member(source(bytes(data), "CT.zip")), read_all) == "source.archive-unreadable"


# Threads and files


def test_a_consumer_that_stops_early_leaves_no_thread(nifti: Build, source: Place) -> None:
    data = nifti(np.zeros((400, 5, 6), dtype=np.int16))
    with VolumeStream(source(gzip.compress(data))) as stream:
        slabs = stream.slabs(1)
        next(slabs)
        assert inflaters()
        slabs.close()
        assert not inflaters()


def test_a_consumer_that_fails_leaves_no_thread(nifti: Build, source: Place) -> None:
    file = source(gzip.compress(nifti(np.zeros((400, 5, 6), dtype=np.int16))))

    def consume() -> None:
        with VolumeStream(file) as stream:
            for number, _ in enumerate(stream.slabs(1)):
                if number == 2:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    assert not inflaters()


def test_the_whole_and_the_damaged_leave_no_thread(nifti: Build, source: Place, read_all: ReadAll) -> None:
    read_all(source(gzip.compress(nifti(VOXELS))))
    assert not inflaters()
    code_of(source(gzip.compress(nifti(VOXELS))[:-9]), read_all)
    assert not inflaters()


def test_reading_stays_one_slab_ahead(nifti: Build, source: Place) -> None:
    # Noise in many slabs: whoever reads on without being asked would hold the whole volume.
    with VolumeStream(source(nifti(NOISE))) as stream:
        slabs = stream.slabs(1)
        next(slabs)
        for _ in range(20):
            threading.Event().wait(0.01)
        # One handed out, one waiting in the queue, one waiting to be put; the rest is the reader's buffer.
        assert stream.record.size <= 3 * 65536 + 2**20 + 544
        slabs.close()


@pytest.mark.parametrize("start", [b"", b"nothing of ours", b"\x1f\x8b", bytes(352)])
def test_a_refused_file_is_closed_while_the_error_is_kept(source: Place, start: bytes) -> None:
    # Errors are kept in place of headers until a subject is planned.
    file = source(start + b"x" * 9)
    with pytest.raises(SourceError) as caught:
        peek_header(file)
    opened = [item for item in gc.get_objects() if isinstance(item, io.BufferedReader) and not item.closed]
    assert not [item for item in opened if getattr(item, "name", None) == file.url]
    assert caught.value.__traceback__


def test_files_are_closed(nifti: Build, source: Place) -> None:
    with VolumeStream(source(gzip.compress(nifti(VOXELS)))) as stream:
        raw = stream._raw._raw
        list(stream.slabs(3))
        assert not raw.closed
    assert raw.closed


def test_gzip_of_python_and_of_zlib_alike(nifti: Build, source: Place, read_all: ReadAll) -> None:
    for level in (0, 1, 9):
        squeeze = zlib.compressobj(level, wbits=31)
        _, voxels = read_all(source(squeeze.compress(nifti(VOXELS)) + squeeze.flush()))
        np.testing.assert_array_equal(voxels, VOXELS)
