"""Inner chunks, decoded by numcodecs; test_shards.py has zarr decode them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Blosc, blosc

from corpus import codec
from corpus.models import CodecChoice

CHOICES = [CodecChoice(shuffle, level) for level, shuffle in product((1, 2, 3), ("noshuffle", "shuffle", "bitshuffle"))]
SHAPE = (16, 32, 32)
RANDOM = np.random.default_rng(5)


def noise(kind: str) -> np.ndarray:
    return RANDOM.integers(0, 255, (*SHAPE, np.dtype(kind).itemsize), dtype=np.uint8).view(kind)[..., 0]


def smooth() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return (1000 * np.sin(z / 9) + 30 * y + x + RANDOM.integers(0, 20, SHAPE)).astype("<i2")


def size(samples: list[np.ndarray], choice: CodecChoice) -> int:
    return sum(len(codec.encode(sample, choice)) for sample in samples)


# The check value of CRC-32C in the catalogue of parametrised CRC algorithms, and RFC 3720 B.4.
@pytest.mark.parametrize(
    ("data", "crc"), [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"", 0)]
)
def test_checksum_is_crc32c_little_endian_behind_the_data(data: bytes, crc: int) -> None:
    assert codec.checksummed(data) == data + crc.to_bytes(4, "little")


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("kind", ["u1", "<i2", "<f4", "<f8"])
def test_numcodecs_decodes(kind: str, choice: CodecChoice) -> None:
    chunk = noise(kind)
    stored = codec.encode(chunk, choice)
    assert codec.checksummed(stored[:-4]) == stored
    assert bytes(Blosc().decode(stored[:-4])) == chunk.tobytes()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("kind", ["u1", "<i2", "<f4"])
def test_the_header_of_blosc_says_what_was_chosen(kind: str, choice: CodecChoice) -> None:
    # https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
    header = codec.encode(np.zeros(SHAPE, kind), choice)[:16]
    flags, typesize = header[2], header[3]
    assert typesize == np.dtype(kind).itemsize
    assert bool(flags & 1) == (choice.shuffle == "shuffle")
    assert bool(flags & 4) == (choice.shuffle == "bitshuffle")
    assert flags >> 5 == 4  # zstd
    assert int.from_bytes(header[4:8], "little") == np.zeros(SHAPE, kind).nbytes


def test_a_level_is_a_level() -> None:
    chunk = np.cumsum(RANDOM.integers(0, 3, SHAPE), axis=2).astype("<i2")
    sizes = [size([chunk], CodecChoice("noshuffle", level)) for level in (1, 3)]
    assert sizes[0] != sizes[1]


@settings(max_examples=20, deadline=None)
@given(pattern=st.binary(min_size=1, max_size=64), choice=st.sampled_from(CHOICES))
def test_bytes_are_the_same_every_time_and_in_every_thread(pattern: bytes, choice: CodecChoice) -> None:
    chunk: np.ndarray[Any, Any] = np.resize(np.frombuffer(pattern, "u1"), 2 * 2**14).view("<i2").reshape(16, 32, 32)
    alone = codec.encode(chunk, choice)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: codec.encode(chunk, choice), range(8))) == {alone}


def test_bytes_do_not_depend_on_the_number_of_threads_of_blosc() -> None:
    # Threads of blosc put its blocks one behind the other as they are ready: in another order now and then.
    chunk = np.cumsum(RANDOM.integers(-5, 6, (64, 64, 64)), axis=2).astype("<i2")
    before = blosc.get_nthreads()
    try:
        found = set()
        for threads in (1, 4):
            blosc.set_nthreads(threads)
            found |= {codec.encode(chunk, choice) for choice in CHOICES[:2] for _ in range(25)}
    finally:
        blosc.set_nthreads(before)
    assert len(found) == 2
