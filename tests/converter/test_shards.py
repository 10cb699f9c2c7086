"""Shards written slab by slab, read back by zarr under metadata that zarr itself made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import Buffer as CpuBuffer
from zarr.storage import MemoryStore

from converter.shards import ShardWriter
from converter.trial import Trial
from corpus import codec
from corpus.geometry import Grid, Triple
from corpus.models import CodecChoice, Level

ABSENT = 2**64 - 1
CHOICE = CodecChoice("bitshuffle", 2)


class Watched(Trial):
    """Chooses always the same, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: list[list[np.ndarray]] = []

    def decide(self, samples: Sequence[np.ndarray]) -> CodecChoice:
        self.samples.append([sample.copy() for sample in samples])
        self.choice = CHOICE
        return CHOICE


def chosen() -> Trial:
    trial = Trial()
    trial.choice = CHOICE
    return trial


def up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def level_of(shape: Triple, chunk: Triple, shard_rows: int) -> Level:
    shard = (chunk[0] * shard_rows, up(shape[1], chunk[1]), up(shape[2], chunk[2]))
    return Level((1, 1, 1), Grid.of(shape, np.eye(4)), chunk, shard)


def written(
    array: np.ndarray,
    level: Level,
    depths: list[int],
    threads: int = 2,
    put: Callable[[str, Sequence[bytes]], None] | None = None,
    trial: Trial | None = None,
) -> dict[str, bytes]:
    objects: dict[str, bytes] = {}

    def keep(key: str, data: Sequence[bytes]) -> None:
        assert key not in objects
        objects[key] = b"".join(data)

    with ThreadPoolExecutor(threads) as pool:
        writer = ShardWriter(level, array.dtype.name, put or keep, pool, trial or chosen())
        start = 0
        before = np.empty(0, dtype=array.dtype)
        while start < len(array):
            depth = depths.pop(0) if depths else len(array)
            slab = array[start : start + depth].copy()
            writer.write(slab)
            before[:] = 1  # the slab before is the caller's again
            before = slab
            start += depth
        writer.close()
    return objects


def read(objects: dict[str, bytes], level: Level, dtype: str) -> np.ndarray:
    """What zarr reads when these objects are an array's."""
    held: dict[str, Buffer] = {}
    blosc = BloscCodec(
        cname="zstd", clevel=CHOICE.clevel, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize, blocksize=0
    )
    array = zarr.create_array(
        MemoryStore(held),
        shape=level.grid.shape_zyx,
        dtype=dtype,
        chunks=level.chunk_zyx,
        shards=level.shard_zyx,
        compressors=[blosc, Crc32cCodec()],
        fill_value=0,
    )
    held |= {key: CpuBuffer.from_bytes(data) for key, data in objects.items()}
    return np.asarray(array[:])


def index_of(shard: bytes, level: Level) -> np.ndarray:
    """Offset and size of each inner chunk, (z, y, x, 2)."""
    shape = [s // c for s, c in zip(level.shard_zyx, level.chunk_zyx, strict=True)]
    size = 16 * int(np.prod(shape))
    table, crc = shard[-size - 4 : -4], shard[-4:]
    assert int.from_bytes(crc, "little") == google_crc32c.value(table)
    return np.frombuffer(table, "<u8").reshape(*shape, 2)


def blocks(array: np.ndarray, edges: Triple, of: Triple) -> dict[Triple, np.ndarray]:
    """The array in blocks, filled up with zeros to whole ones of shape `of`."""
    padded = np.pad(array, [(0, up(n, m) - n) for n, m in zip(array.shape, of, strict=True)])
    starts = product(*(range(0, n, e) for n, e in zip(padded.shape, edges, strict=True)))
    return {
        (z // edges[0], y // edges[1], x // edges[2]): padded[z : z + edges[0], y : y + edges[1], x : x + edges[2]]
        for z, y, x in starts
    }


TRIPLES = st.tuples(*[st.integers(1, 4)] * 3)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, Level]:
    chunk = draw(TRIPLES)
    shape = draw(st.tuples(st.integers(1, 17), st.integers(1, 9), st.integers(1, 9)))
    kind = draw(st.sampled_from(["u1", "<u2", "<i2", "<u4", "<f4", "<f8"]))
    floats = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, -0.0])
    array = draw(hnp.arrays(kind, shape, elements=floats if "f" in kind else None, fill=st.just(0)))
    for block in blocks(array, chunk, (1, 1, 1)).values():
        if draw(st.booleans()):
            block[:] = 0
    return array, level_of(shape, chunk, draw(st.integers(1, 3)))


@settings(max_examples=120, deadline=None)
@given(volume=volumes(), depths=st.lists(st.integers(1, 7), max_size=8), threads=st.integers(1, 3))
def test_what_is_written_is_read_and_stands_in_order(
    volume: tuple[np.ndarray, Level], depths: list[int], threads: int
) -> None:
    array, level = volume
    objects = written(array, level, depths, threads)
    assert read(objects, level, array.dtype.name).tobytes() == array.tobytes()
    shards = blocks(array, level.shard_zyx, level.shard_zyx)
    # Absent is what is zero in every bit, and nothing else.
    assert set(objects) == {"c/" + "/".join(map(str, at)) for at, block in shards.items() if any(block.tobytes())}
    for at, block in shards.items():
        data = objects.get("c/" + "/".join(map(str, at)))
        if data is None:
            continue
        index = index_of(data, level)
        offset = 0
        for chunk_at, chunk in blocks(block, level.chunk_zyx, level.chunk_zyx).items():
            begin, size = (int(v) for v in index[chunk_at])
            if not any(chunk.tobytes()):
                assert (begin, size) == (ABSENT, ABSENT)
                continue
            assert begin == offset
            assert data[begin : begin + size] == codec.encode(np.ascontiguousarray(chunk), CHOICE)
            offset += size
        # Nothing stands between the chunks, nor between them and the index.
        assert len(data) == offset + index.nbytes + 4


def test_all_rows_of_a_slab_are_encoded_before_it_is_let_go() -> None:
    # Three encoders: one that is slow with the first row must not be overtaken by the last.
    level = level_of((24, 64, 64), (2, 64, 64), 12)
    array = np.random.default_rng(4).integers(0, 9, level.grid.shape_zyx).astype("<i2")
    array[8:10] = np.random.default_rng(4).integers(-9999, 9999, (2, 64, 64))
    for _ in range(20):
        assert read(written(array, level, [8, 8, 8], threads=3), level, "int16").tobytes() == array.tobytes()


@settings(max_examples=30, deadline=None)
@given(volume=volumes(), depths=st.lists(st.integers(1, 7), max_size=8))
def test_the_slabs_leave_no_trace(volume: tuple[np.ndarray, Level], depths: list[int]) -> None:
    array, level = volume
    assert written(array, level, depths) == written(array, level, [])


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_minus_zero_is_not_nothing(kind: str) -> None:
    level = level_of((4, 4, 4), (2, 2, 2), 1)
    array = np.zeros((4, 4, 4), dtype=kind)
    array[3, 3, 3] = -0.0
    objects = written(array, level, [])
    assert set(objects) == {"c/1/0/0"}
    back = read(objects, level, array.dtype.name)
    assert np.signbit(back).sum() == 1
    assert np.signbit(back[3, 3, 3])


def test_nothing_at_all_is_written_of_zeros() -> None:
    assert written(np.zeros((9, 5, 5), dtype="<i2"), level_of((9, 5, 5), (2, 2, 2), 2), [3, 1]) == {}


def test_chunks_beyond_the_last_slice_are_absent() -> None:
    level = level_of((5, 2, 2), (2, 2, 2), 4)
    (data,) = written(np.ones((5, 2, 2), dtype="u1"), level, []).values()
    assert (index_of(data, level)[:, 0, 0, 0] == ABSENT).tolist() == [False, False, False, True]


def test_a_row_does_not_shine_through_into_the_last_one() -> None:
    # The last row is filled by half; its buffer held the row before.
    level = level_of((3, 2, 2), (2, 2, 2), 2)
    array = np.array([[[9] * 2] * 2, [[8] * 2] * 2, [[7] * 2] * 2], dtype="u1")
    (data,) = written(array, level, []).values()
    begin, size = (int(v) for v in index_of(data, level)[1, 0, 0])
    assert data[begin : begin + size] == codec.encode(np.array([[[7] * 2] * 2, [[0] * 2] * 2], "u1"), CHOICE)


def samples_of(array: np.ndarray, level: Level) -> list[list[np.ndarray]]:
    trial = Watched()
    written(array, level, [], trial=trial)
    return trial.samples


def test_the_codec_is_chosen_by_the_chunks_that_hold_most() -> None:
    level = level_of((6, 16, 96), (2, 16, 16), 3)
    array = np.zeros(level.grid.shape_zyx, dtype="<i2")
    noise = np.random.default_rng(4).normal(0, 1, (2, 16, 16))
    for number, width in enumerate((1, 50, 0, 900, 7, 300)):
        array[2:4, :, number * 16 : number * 16 + 16] = noise * width
    (samples,) = samples_of(array, level)
    expected = [array[2:3, :, at * 16 : at * 16 + 16] for at in (3, 5, 1, 4)]  # the first half of each
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("rows_per_shard", [1, 3, 8])
def test_the_codec_is_chosen_from_several_rows_and_what_waited_is_not_lost(rows_per_shard: int) -> None:
    # Rows 0, 2, 3, 5, 6 and 7 hold something, the second chunk of each the most.
    level = level_of((128, 8, 24), (16, 8, 8), rows_per_shard)
    array = np.random.default_rng(4).normal(0, 100, level.grid.shape_zyx).astype("<i2")
    array[..., 8:16] *= 9
    for row in (1, 4):
        array[row * 16 : row * 16 + 16] = 0
    trial = Watched()
    objects = written(array, level, [3, 16, 1, 40], trial=trial)
    assert read(objects, level, "int16").tobytes() == array.tobytes()
    assert objects == written(array, level, [])
    (samples,) = trial.samples
    # A shard that is full does not wait for more rows.
    rows = {1: [0], 3: [0, 2], 8: [0, 2, 3, 5]}[rows_per_shard]
    expected = [array[row * 16 : row * 16 + 8, :, 8:16] for row in rows]
    assert {sample.tobytes() for sample in samples} >= {sample.tobytes() for sample in expected}
    assert len(samples) == min(4, 3 * len(rows))


def test_chunks_with_infinity_are_no_hindrance() -> None:
    level = level_of((2, 16, 96), (2, 16, 16), 1)
    array = np.random.default_rng(4).normal(0, 1, level.grid.shape_zyx).astype("<f4")
    array[0, 0, 0], array[0, 0, 16], array[0, 0, 32] = np.inf, np.nan, -np.inf
    array[..., 48:64] *= 100
    (samples,) = samples_of(array, level)
    assert len(samples) == 4
    assert any(np.array_equal(sample, array[:1, :, 48:64]) for sample in samples)


def test_failing_to_put_a_shard_is_told() -> None:
    def put(key: str, data: Sequence[bytes]) -> None:
        raise OSError("disk full")

    array = np.ones((8, 2, 2), dtype="u1")
    for level in (level_of((8, 2, 2), (2, 2, 2), 4), level_of((8, 2, 2), (2, 2, 2), 1)):
        with pytest.raises(OSError, match="disk full"):
            written(array, level, [], put=put)


def test_shards_are_put_one_at_a_time_and_all_before_the_end() -> None:
    under_way, most, done = 0, 0, []
    lock = threading.Lock()

    def put(key: str, data: Sequence[bytes]) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)  # long enough for a second put to begin, if one could
        with lock:
            under_way -= 1
            done.append(key)

    with ThreadPoolExecutor(4) as pool:
        writer = ShardWriter(level_of((10, 2, 2), (1, 2, 2), 2), "uint8", put, pool, chosen())
        writer.write(np.ones((10, 2, 2), dtype="u1"))
        writer.close()
        assert done == [f"c/{number}/0/0" for number in range(5)]
    # Memory holds one shard that is being gathered and one that is being put.
    assert most == 1


def test_a_damaged_chunk_and_a_damaged_index_are_noticed_by_zarr() -> None:
    level = level_of((4, 4, 4), (2, 2, 2), 2)
    array = np.random.default_rng(3).integers(1, 99, (4, 4, 4), dtype=np.uint8)
    objects = written(array, level, [])
    (data,) = objects.values()
    offsets = sorted(int(v) for v in index_of(data, level)[..., 0].ravel())
    assert all(a < b for a, b in pairwise(offsets))
    for at in (20, offsets[-1] + 20, len(data) - 30, len(data) - 1):
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(ValueError, match=r"(?i)checksum|crc"):
            read({"c/0/0/0": bytes(bad)}, level, "uint8")
