"""The limit of a conversion: inflate with isal, and blosc-encode the level-0 chunks once. No pyramid, hash or check."""

from __future__ import annotations

import sys

import numpy as np
from isal import igzip
from numcodecs import blosc

DEPTH, EDGE = 16, 128


def main(source: str, out: str) -> None:
    blosc.use_threads = False
    with igzip.open(source, "rb") as file, open(out, "wb") as sink:  # noqa: PTH123
        header = file.read(352)
        nx, ny, nz = np.frombuffer(header[42:48], dtype="<i2")
        dtype = {2: "u1", 4: "<i2", 16: "<f4", 512: "<u2"}[int(np.frombuffer(header[70:72], dtype="<i2")[0])]
        for z in range(0, int(nz), DEPTH):
            depth = min(DEPTH, int(nz) - z)
            size = depth * int(ny) * int(nx) * np.dtype(dtype).itemsize
            row = np.frombuffer(file.read(size), dtype=dtype).reshape(depth, ny, nx)
            for y in range(0, int(ny), EDGE):
                for x in range(0, int(nx), EDGE):
                    chunk = np.ascontiguousarray(row[:, y : y + EDGE, x : x + EDGE])
                    sink.write(blosc.compress(chunk, b"zstd", 1, blosc.SHUFFLE))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
