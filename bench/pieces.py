"""Pieces of the conversion beside what was tried instead, on one synthetic CT and its organ map, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from numcodecs import blosc

from converter import codec
from converter.phantom import subject_volumes
from converter.pyramid import downsample
from corpus.geometry import Voxels

_RUNS = 5


def rate(nbytes: int, work: Callable[[], Any]) -> float:
    """MB/s of the quickest of some runs."""
    seconds = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return nbytes / min(seconds) / 1e6


def strided_mean(array: Voxels) -> Voxels:
    """The mean of 2 x 2 blocks as a sum over four strided views."""
    views = [array[:, y::2, x::2].astype(np.int32) for y, x in product((0, 1), (0, 1))]
    mean: Voxels = np.rint(sum(views) / 4).astype(array.dtype)
    return mean


def sorted_mode(array: Voxels) -> Voxels:
    """The middle of each sorted 2 x 2 x 2 block: what voting costs when every block is looked at."""
    views = [array[z::2, y::2, x::2] for z, y, x in product((0, 1), (0, 1), (0, 1))]
    middle: Voxels = np.sort(np.stack(views), axis=0)[4]
    return middle


def main() -> None:
    """Measure and print."""
    volumes = {volume.name.split("/")[-2]: volume for volume in subject_volumes(1, "full")}
    ct, organs = (np.ascontiguousarray(volumes[name].voxels.T)[128:160] for name in ("CT", "Organs"))
    corners = product((0, 16), range(0, 512, 128), range(0, 512, 128))
    chunks = [np.ascontiguousarray(ct[z : z + 16, y : y + 128, x : x + 128]) for z, y, x in corners]

    def encode_with_own_threads() -> None:
        blosc.use_threads = True
        for chunk in chunks:
            codec.encode(chunk, codec.DEFAULT)
        blosc.use_threads = False

    def encode_two_at_once() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda chunk: codec.encode(chunk, codec.DEFAULT), chunks))

    rows = [
        ("encode: blosc's own threads", ct, encode_with_own_threads),
        ("encode: two chunks at once", ct, encode_two_at_once),
        ("mean: strided views", ct, lambda: strided_mean(ct)),
        ("mean: ours, separable", ct, lambda: downsample(ct, (1, 2, 2), is_label=False)),
        ("mode: all blocks sorted", organs, lambda: sorted_mode(organs)),
        ("mode: ours, mixed blocks only", organs, lambda: downsample(organs, (2, 2, 2), is_label=True)),
    ]
    for name, array, work in rows:
        print(f"{name:32}{rate(array.nbytes, work):8.0f} MB/s of voxels")


if __name__ == "__main__":
    main()
