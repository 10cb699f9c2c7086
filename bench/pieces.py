"""Pieces of the conversion of one full CT and its organ map, beside what was tried instead: CPU and wall seconds.

The least of some runs, in one process. Also what the parts of a conversion cost that are no encoding: hashing, levels,
statistics, reading back; and the gzip around what the service cuts out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rapidgzip
import tensorstore
import tinybrain
import zarr
import zlib_ng.gzip_ng
import zlib_ng.zlib_ng
from isal import igzip, isal_zlib
from numcodecs import blosc
from zarr.codecs import BloscCodec

from converter.phantom import nifti_bytes, subject_volumes
from converter.pyramid import downsample
from converter.readback import ReadBack
from converter.shards import ShardWriter
from converter.statistics import IntensityStatistics, LabelStatistics
from converter.trial import Trial
from corpus import chunking
from corpus.geometry import Grid, Triple, Voxels
from corpus.models import CodecChoice, Level

_RUNS = 3
_CHUNK: Triple = (16, 128, 128)
_SHARD: Triple = (128, 512, 512)
_CHOICE = CodecChoice("shuffle", 1)


def show(name: str, work: Callable[[], Any]) -> None:
    """Print the least CPU and wall seconds of some runs, and the size of what came out where it is bytes."""
    walls, cpus, result = [], [], None
    for _ in range(_RUNS):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    size = f"{result / 1e6:9.1f} MB" if isinstance(result, int) and not isinstance(result, bool) else ""
    print(f"  {name:44}{min(cpus):8.3f}{min(walls):9.3f}{size}")


def read_all(file: Any) -> None:
    """Read a file to its end, in pieces."""
    with file:
        while file.read(2**20):
            pass


def inflating(data: bytes) -> None:
    """Inflaters, on the .nii.gz of the CT."""
    show("zlib, by Python's gzip", lambda: read_all(gzip.GzipFile(fileobj=io.BytesIO(data))))
    show("zlib-ng", lambda: read_all(zlib_ng.gzip_ng.GzipNGFile(fileobj=io.BytesIO(data))))  # type: ignore[no-untyped-call]  # ships no types for it
    show("rapidgzip, one thread", lambda: read_all(rapidgzip.open(io.BytesIO(data), parallelization=1)))
    show("rapidgzip, two threads", lambda: read_all(rapidgzip.open(io.BytesIO(data), parallelization=2)))
    show("isal (kept)", lambda: read_all(igzip.IGzipFile(fileobj=io.BytesIO(data))))


def chunks_of(array: Voxels) -> list[Voxels]:
    """The inner chunks of whole rows."""
    depth = len(array) // 16 * 16
    corners = product(range(0, depth, 16), range(0, 512, 128), range(0, 512, 128))
    return [np.ascontiguousarray(array[z : z + 16, y : y + 128, x : x + 128]) for z, y, x in corners]


def by_zarr(array: Voxels, pipeline: str) -> int:
    """Write level 0 with a pipeline of zarr, all of it at once."""
    with tempfile.TemporaryDirectory() as folder, zarr.config.set({"codec_pipeline.path": pipeline}):
        compressor = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2, blocksize=2**19)
        sharded = zarr.create_array(
            folder, shape=array.shape, dtype=array.dtype, chunks=_CHUNK, shards=_SHARD, compressors=compressor
        )
        sharded[:] = array
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def by_shards(array: Voxels, level: Level, put: Callable[[str, bytes], object]) -> int:
    """Write level 0 slab by slab, as the converter does."""
    from concurrent.futures import ThreadPoolExecutor

    sizes: list[int] = []

    def keep(key: str, data: Sequence[bytes]) -> None:
        sizes.append(sum(map(len, data)))
        put(key, b"".join(data))

    with ThreadPoolExecutor(2) as pool:
        writer = ShardWriter(level, "int16", keep, pool, Trial())
        for z in range(0, len(array), 16):
            writer.write(array[z : z + 16])
        writer.close()
    return sum(sizes)


def encoding(ct: Voxels, level: Level) -> None:
    """Ways from voxels to shards."""
    chunks = chunks_of(ct)
    for name, blocks in (("blosc's own blocks", 0), ("one block a chunk (kept)", 2**19)):
        show(f"blosc alone: {name}", lambda b=blocks: sum(len(blosc.compress(c, b"zstd", 1, 1, b)) for c in chunks))  # type: ignore[misc]  # a lambda's default
    show("zarr, default pipeline", lambda: by_zarr(ct, "zarr.core.codec_pipeline.BatchedCodecPipeline"))
    show("zarr, fused pipeline", lambda: by_zarr(ct, "zarr.core.codec_pipeline.FusedCodecPipeline"))
    show("zarr, zarrs pipeline", lambda: by_zarr(ct, "zarrs.ZarrsCodecPipeline"))
    show("ours, slab by slab, with the trial (kept)", lambda: by_shards(ct, level, lambda *_: None))


def downsampling(ct: Voxels, organs: Voxels) -> None:
    """The first level of each, halved along all axes."""
    turned = ct.T, organs.T  # tinybrain is at its best with the first axis fastest
    means, modes = ({"method": method, "downsample_factors": [2, 2, 2]} for method in ("mean", "mode"))

    def stored(array: Voxels, how: dict[str, Any]) -> None:
        tensorstore.downsample(tensorstore.array(array), how["downsample_factors"], how["method"]).read().result()

    show("mean: tensorstore", lambda: stored(ct, means))
    show("mean: tinybrain", lambda: tinybrain.downsample_with_averaging(turned[0], (2, 2, 2)))
    show(
        "mean: ours (kept)", lambda: [downsample(ct[z : z + 16], (2, 2, 2), is_label=False) for z in range(0, 287, 16)]
    )
    show("mode: tensorstore", lambda: stored(organs, modes))
    show("mode: tinybrain", lambda: tinybrain.downsample_segmentation(turned[1], (2, 2, 2)))
    show("mode: ours (kept)", lambda: by_slabs(organs, is_label=True))


def by_slabs(array: Voxels, *, is_label: bool) -> None:
    """The next level, as the converter makes it."""
    for z in range(0, len(array), 16):
        downsample(array[z : z + 16], (2, 2, 2), is_label=is_label)


def the_rest(data: bytes, ct: Voxels, organs: Voxels, level: Level) -> None:
    """What a conversion does besides inflating and encoding."""
    shards: dict[str, bytes] = {}
    by_shards(ct, level, shards.__setitem__)

    def read_back() -> None:
        with ReadBack(level, "int16", lambda key: io.BytesIO(shards[key]), "ct") as back:
            for key in shards:
                back.expect(key)
            back.sha256()

    def count(statistics: Any, array: Voxels) -> None:
        for z in range(0, len(array), 16):
            statistics.update(array[z : z + 16])

    show("SHA-256 of the file", lambda: hashlib.sha256(data).digest())
    show("SHA-256 of the voxels", lambda: hashlib.sha256(ct).digest())
    show("reading back: decode, check, SHA-256", read_back)
    show("statistics of the CT", lambda: count(IntensityStatistics(), ct))
    show("regions of the organ map", lambda: count(LabelStatistics(level.grid), organs))


def gzipping(ct: Voxels) -> None:
    """Compressors, on the trunk: a megabyte at a time, as the service does."""
    voxels = memoryview(np.ascontiguousarray(ct[100:160, 150:380, 150:330])).cast("B")

    def packed(packer: Any) -> int:
        parts = (packer.compress(voxels[start : start + 2**20]) for start in range(0, len(voxels), 2**20))
        return sum(map(len, parts)) + len(packer.flush())

    for level in (1, 2):
        show(f"zlib, level {level}", lambda n=level: packed(zlib.compressobj(n, wbits=31)))  # type: ignore[misc]  # a lambda's default
    for level in (1, 2):
        show(f"zlib-ng, level {level}", lambda n=level: packed(zlib_ng.zlib_ng.compressobj(n, wbits=31)))  # type: ignore[misc]
    for level in (0, 1, 2, 3):
        name = f"isal, level {level}{' (kept)' if level == 2 else ''}"
        show(name, lambda n=level: packed(isal_zlib.compressobj(n, wbits=31)))  # type: ignore[misc]


def main() -> None:
    """Measure and print."""
    volumes = {volume.name.split("/")[-2]: volume for volume in subject_volumes(1, "full")}
    ct, organs = (np.ascontiguousarray(volumes[name].voxels.T) for name in ("CT", "Organs"))
    data = nifti_bytes(volumes["CT"])
    grid = Grid.of(ct.shape, np.diag([0.98, 0.98, 3, 1]))
    level = Level((1, 1, 1), grid, _CHUNK, chunking.shard(grid.shape_zyx, _CHUNK, 2))
    print(f"a CT of {ct.nbytes / 1e6:.0f} MB, {len(data) / 1e6:.0f} MB as .nii.gz{'':13}CPU s   wall s")
    parts: list[tuple[str, Callable[[], None]]] = [
        ("inflating", lambda: inflating(data)),
        ("encoding level 0", lambda: encoding(ct, level)),
        ("the first level", lambda: downsampling(ct, organs)),
        ("the rest", lambda: the_rest(data, ct, organs, level)),
        ("gzip around a box of 60 x 230 x 180 voxels", lambda: gzipping(ct)),
    ]
    for title, work in parts:
        print(title)
        work()


if __name__ == "__main__":
    main()
