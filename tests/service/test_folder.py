from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import NotFoundError, StoreError
from service import folder
from service.answered import Answered
from service.folder import Folder
from service.metrics import Metrics
from service.ranges import ByteRange
from service.upstream import PIECE_BYTES, Opened

DATA = os.urandom(2 * PIECE_BYTES + 12345)


async def bytes_of(opened: Opened) -> bytes:
    return b"".join([piece async for piece in opened.pieces])


@pytest.fixture(scope="module", params=["disk", "network mount"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("files")
    (root / "big").write_bytes(DATA)
    (root / "empty").touch()
    (root / "sub").mkdir()
    found = Folder(str(root), 10, Metrics(Answered(log=False)))
    found._is_disk = request.param == "disk"
    return found


@given(st.integers(0, len(DATA) - 1), st.integers(0, len(DATA)))
def test_ranges_are_what_slicing_gives(files: Folder, first: int, length: int) -> None:
    async def read() -> None:
        opened = await files.open("big", ByteRange(first, first + length), body=True)
        assert await bytes_of(opened) == DATA[first : first + length + 1]
        assert opened.size == len(DATA)

    asyncio.run(read())


def test_no_body_and_empty_files(files: Folder) -> None:
    async def read() -> None:
        seen = await files.open("big", None, body=False)
        assert (seen.stop, await bytes_of(seen)) == (len(DATA), b"")
        assert await bytes_of(await files.open("empty", None, body=True)) == b""

    asyncio.run(read())


@pytest.mark.parametrize("key", ["nothing", "sub", "big/below", "x" * 300])
def test_what_is_no_object_is_missing(files: Folder, key: str) -> None:
    for body in (True, False):
        with pytest.raises(NotFoundError):
            asyncio.run(files.open(key, None, body=body))


@pytest.mark.parametrize("change", ["longer", "shorter", "other bytes"])
def test_a_file_that_changes_while_it_is_read_never_mixes_bytes(tmp_path: Path, change: str) -> None:
    path = tmp_path / "big"
    path.write_bytes(DATA)

    async def read() -> None:
        opened = await Folder(str(tmp_path), 10, Metrics(Answered(log=False))).open("big", None, body=True)
        pieces = opened.pieces
        assert await anext(pieces) == DATA[:PIECE_BYTES]
        with path.open("r+b") as file:
            if change == "shorter":
                file.truncate(PIECE_BYTES + 5)
            else:
                file.seek(0, 2 if change == "longer" else 0)
                file.write(b"x")
        os.utime(path, ns=(1, 1))  # within a tick of the clock its time would not tell
        with pytest.raises(StoreError, match=r"store\.changed"):
            await anext(pieces)

    asyncio.run(read())


def test_a_file_that_is_replaced_while_it_is_read_stays_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(DATA)

    async def read() -> None:
        opened = await Folder(str(tmp_path), 10, Metrics(Answered(log=False))).open("big", None, body=True)
        (tmp_path / "new").write_bytes(DATA[::-1])
        (tmp_path / "new").replace(tmp_path / "big")
        assert await bytes_of(opened) == DATA

    asyncio.run(read())


def test_a_file_system_that_hangs_is_told_in_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # opening it waits for a writer, as a lost network mount does

    async def read() -> None:
        with pytest.raises(StoreError, match=r"store\.timeout"):
            await Folder(str(tmp_path), 0.2, Metrics(Answered(log=False))).open("hangs", None, body=True)
        os.close(os.open(tmp_path / "hangs", os.O_WRONLY))

    asyncio.run(read())


def test_what_waited_for_the_file_system_is_counted(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(DATA)
    metrics = Metrics(Answered(log=False))
    mount = Folder(str(tmp_path), 10, metrics)
    mount._is_disk = False

    async def read() -> None:
        await bytes_of(await mount.open("big", None, body=True))
        with pytest.raises(NotFoundError):
            await mount.open("none", None, body=True)

    asyncio.run(read())
    page = metrics.page().decode()
    # One look, then one read for each piece.
    assert 'voxshelf_upstream_requests_total{operation="read",outcome="ok"} 4.0' in page
    assert 'voxshelf_upstream_requests_total{operation="read",outcome="not-found.key"} 1.0' in page
    assert 'voxshelf_upstream_seconds_count{operation="read"} 5.0' in page


def test_disks_are_told_from_network_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(folder, "_MOUNTS", table)
    for kind, is_disk in (("ext4", True), ("nfs4", False), ("fuse.sshfs", False)):
        table.write_text(f"27 1 {number} / / rw,relatime shared:1 - {kind} /dev/x rw\n28 27 0:99 / /p rw - nfs s rw\n")
        assert folder._is_disk(str(tmp_path)) is is_disk
    table.write_text("28 27 0:99 / /p rw - ext4 s rw\n")
    assert not folder._is_disk(str(tmp_path))
    assert not folder._is_disk(str(tmp_path / "nothing"))
