from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corpus.errors import StoreError
from service.answered import Answered
from service.cache import Cached
from service.folder import Folder
from service.metrics import Metrics
from service.ranges import ByteRange
from service.upstream import Opened

DATA = bytes(range(256)) * 1000
END = ByteRange(None, 100)


class Counted(Folder):
    """Files, and how often they were asked for."""

    def __init__(self, root: str) -> None:
        super().__init__(root, 10, Metrics(Answered(log=False)))
        self.asked: list[str] = []

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        self.asked.append(key)
        return await super().open(key, wanted, body=body)


@pytest.fixture
def files(tmp_path: Path) -> Counted:
    (tmp_path / "shard").write_bytes(DATA)
    (tmp_path / "other").write_bytes(DATA[::-1])
    (tmp_path / "zarr.json").write_bytes(b"{}" * 50_000)
    return Counted(str(tmp_path))


def read(cached: Cached, key: str, wanted: ByteRange | None, *, body: bool = True) -> bytes:
    async def run() -> bytes:
        opened = await cached.open(key, wanted, body=body)
        return b"".join([piece async for piece in opened.pieces])

    return asyncio.run(run())


def test_ends_documents_and_sizes_are_kept_and_nothing_else(files: Counted) -> None:
    cached = Cached(files, 10**6, 60, Metrics(Answered(log=False)))
    for _ in range(3):
        assert read(cached, "shard", END) == DATA[-100:]
        assert read(cached, "shard", ByteRange(None, 7)) == DATA[-7:]
        assert read(cached, "shard", ByteRange(len(DATA) - 50, len(DATA) - 41)) == DATA[-50:-40]
        assert read(cached, "shard", None, body=False) == b""
        assert read(cached, "zarr.json", None) == b"{}" * 50_000
    assert files.asked == ["shard", "zarr.json"]
    for _ in range(2):
        assert read(cached, "shard", None) == DATA
        assert read(cached, "shard", ByteRange(0, 9)) == DATA[:10]
    assert files.asked[2:] == ["shard"] * 4


def test_an_entry_goes_with_time(files: Counted) -> None:
    cached = Cached(files, 10**6, 0, Metrics(Answered(log=False)))
    assert read(cached, "shard", END) == read(cached, "shard", END)
    assert files.asked == ["shard", "shard"]


def test_an_entry_goes_when_the_object_is_another(files: Counted, tmp_path: Path) -> None:
    cached = Cached(files, 10**6, 60, Metrics(Answered(log=False)))
    assert read(cached, "shard", END) == DATA[-100:]
    (tmp_path / "other").replace(tmp_path / "shard")
    for _ in range(2):  # it would be read by the index of the other object; a client that tries again has that still
        with pytest.raises(StoreError, match="changed"):
            read(cached, "shard", ByteRange(0, 9))
    assert read(cached, "shard", END) == DATA[::-1][-100:]
    assert read(cached, "shard", ByteRange(0, 9)) == DATA[::-1][:10]


def test_a_size_in_memory_is_of_the_same_object_as_the_range_after_it(files: Counted, tmp_path: Path) -> None:
    cached = Cached(files, 10**6, 60, Metrics(Answered(log=False)))
    read(cached, "shard", None, body=False)
    (tmp_path / "other").replace(tmp_path / "shard")
    with pytest.raises(StoreError, match="changed"):
        read(cached, "shard", ByteRange(0, 9))


def test_a_whole_object_is_of_one_version_whatever_is_in_memory(files: Counted, tmp_path: Path) -> None:
    cached = Cached(files, 10**6, 60, Metrics(Answered(log=False)))
    assert read(cached, "shard", END) == DATA[-100:]
    (tmp_path / "other").replace(tmp_path / "shard")
    assert read(cached, "shard", None) == DATA[::-1]
    assert read(cached, "shard", END) == DATA[::-1][-100:]


def test_all_goes_with_a_new_publication(files: Counted, tmp_path: Path) -> None:
    cached = Cached(files, 10**6, 60, Metrics(Answered(log=False)))
    assert read(cached, "shard", END) == DATA[-100:]
    (tmp_path / "other").replace(tmp_path / "shard")
    cached.clear()
    assert read(cached, "shard", END) == DATA[::-1][-100:]


def test_what_was_asked_before_a_publication_is_not_kept_after_it(files: Counted) -> None:
    cached = Cached(files, 10**6, 60, Metrics(Answered(log=False)))

    async def run() -> None:
        files._is_disk = False  # so that it takes a while
        reading = asyncio.create_task(cached.open("shard", END, body=True))
        await asyncio.sleep(0)
        cached.clear()
        await reading
        await cached.open("shard", END, body=True)

    asyncio.run(run())
    assert files.asked == ["shard", "shard"]


def test_the_memory_is_bounded_and_what_was_not_used_for_longest_makes_way(files: Counted) -> None:
    cached = Cached(files, 1500, 60, Metrics(Answered(log=False)))
    for key in ("shard", "other", "shard"):
        read(cached, key, END)
    assert files.asked == ["shard", "other"]
    read(cached, "zarr.json", ByteRange(None, 200))  # takes the place of "other"
    read(cached, "shard", END)
    read(cached, "other", END)
    assert files.asked == ["shard", "other", "zarr.json", "other"]
    assert cached._bytes <= 1500
    nothing = Cached(files, 0, 60, Metrics(Answered(log=False)))
    assert read(nothing, "shard", END) == read(nothing, "shard", END)
    assert nothing._bytes == 0
