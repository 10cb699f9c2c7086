"""One conversion inside a process that has made one before, so that all imports are apart: prints seconds as JSON.

python -m bench.inside voxshelf|nii2zarr|limit SOURCE OUT [VOLUME]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.process import remove


def voxshelf(source: str, out: str, volume: str) -> Callable[[], object]:
    """`voxshelf convert SOURCE OUT --volumes VOLUME --workers 0`; SOURCE is a corpus."""
    from converter.convert import ConvertSettings, convert
    from converter.corpusfile import read_corpus

    settings = ConvertSettings(roles=(volume,), corpus=read_corpus(source), pictures=False)
    return lambda: convert(source, out, settings, lambda _: None)


def nii2zarr(source: str, out: str, volume: str) -> Callable[[], object]:
    """`nii2zarr --shard 256 SOURCE OUT`; SOURCE is a file."""
    from niizarr import nii2zarr as convert  # type: ignore[import-untyped]  # ships no types

    return lambda: convert(source, out, shard=256, label=volume == "organs")


def limit(source: str, out: str, _: str) -> Callable[[], object]:
    """Inflating and encoding alone; SOURCE is a file."""
    from bench.limit import main

    return lambda: main(source, out)


def run() -> None:
    name, source, out, *volume = sys.argv[1:]
    work = {"voxshelf": voxshelf, "nii2zarr": nii2zarr, "limit": limit}[name](source, out, *(volume or ["ct"]))
    # Some modules are imported by whoever needs them first; a worker of a cluster has them all.
    work()
    remove(Path(out))
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    run()
