"""The service beside its peers, in turn, in one run, on one mirror of a full CT.

Random ranges of 200 kB over 32 connections, one server process: from a folder beside nginx (sendfile, one worker) and
zarr-http-server, none of which logs requests, and ours with its access log besides; from SeaweedFS beside what obstore
itself reads there. Then one liver as a cut-out, beside downloading the whole .nii.gz and opening it.

nginx has to be installed (apt-get install nginx-light); without it its rows are left out. zarr-http-server gets an
environment of its own in the user's cache. The client is `bench.ranges`: when it takes nearly a core (the column
"client"), it and not the server is what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from bench import objects, ranges, servers
from bench.ranges import Job
from bench.servers import Running

STORE = "subjects/0001.ome.zarr"
ARRAY = "ct/scale0/ct"
WARMING_S = 0.5
Server = contextlib.AbstractContextManager[Running]


class Row(NamedTuple):
    """Medians of a server: MB/s of bodies, its CPU seconds for a GB, and the part of a core that the client took."""

    mb_per_s: float
    cpu_s_per_gb: float
    client: float


def median(rows: list[Row]) -> Row:
    """Return the median of each figure."""
    return Row(*map(statistics.median, zip(*rows, strict=True)))


def made(folder: Path, size: str) -> Path:
    """Make a corpus and its mirror unless they are there, and return the mirror."""
    if (folder / "mirror" / "mirror.json").exists():
        return folder / "mirror"
    commands = [
        ["phantom", str(folder / "corpus"), "--subjects", "1", "--size", size],
        ["convert", str(folder / "corpus"), str(folder / "mirror"), "--volumes", "ct,organs"],
    ]
    for arguments in commands:
        subprocess.run([str(servers.BIN / "voxshelf"), *arguments], check=True, capture_output=True)
    return folder / "mirror"


def peer_python() -> Path | None:
    """Return the Python of the peers' environment, which the conformance suite makes."""
    command = [sys.executable, str(servers.PEERS.parent / "peers.py"), "--python"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def true_ranges(base: str, prefix: str, folder: Path, paths: list[str]) -> None:
    """Stop unless a server gives the bytes of the files."""
    chance = random.Random(1)
    for path in paths:
        whole = (folder / path).read_bytes()
        start = chance.randrange(len(whole) - 1000)
        request = urllib.request.Request(f"{base}{prefix}/{path}", headers={"Range": f"bytes={start}-{start + 999}"})
        with urllib.request.urlopen(request) as answer:
            if answer.status != 206 or answer.read() != whole[start : start + 1000]:
                raise SystemExit(f"{base}{prefix}/{path} gives other bytes than the file")


def measured(running: Running, job: Job) -> Row:
    """Read ranges from a server once."""
    before = running.cpu_s()
    found = ranges.in_process(job._replace(port=int(running.base.rpartition(":")[2])))
    if found.failures:
        raise SystemExit(f"{found.failures} of {found.answers} answers of {running.base} were no 206")
    return Row(found.mb_per_s, (running.cpu_s() - before) / (found.bytes / 1e9), found.cpu_s / found.wall_s)


def show(title: str, rows: dict[str, Row]) -> None:
    """Print rows and their ratios to ours."""
    print(f"\n{title}\n{'':26}{'MB/s':>9}{'CPU s/GB':>10}{'client':>8}   ours is")
    for name, row in rows.items():
        print(
            f"{name:26}{row.mb_per_s:9.0f}{row.cpu_s_per_gb:10.2f}{row.client:8.2f}"
            f"   {rows['voxshelf'].mb_per_s / row.mb_per_s:.2f} of it"
        )


def of_folder(mirror: Path) -> dict[str, tuple[str, Callable[[], Server]]]:
    """Return the servers of a folder: the prefix of a store's keys, and how each is started."""
    own, quiet = "/zarr/0001.ome.zarr", {"VOXSHELF_SERVE_ACCESS_LOG": "false"}
    found: dict[str, tuple[str, Callable[[], Server]]] = {
        "voxshelf": (own, lambda: servers.voxshelf(str(mirror), quiet)),
        "voxshelf, access log": (own, lambda: servers.voxshelf(str(mirror))),
    }
    if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        found["nginx, sendfile"] = (f"/{STORE}", lambda: servers.nginx(mirror))
        # As ours does, and nginx does not of itself.
        found["nginx, files held open"] = (f"/{STORE}", lambda: servers.nginx(mirror, held=200))
    else:
        print("without nginx, which is not installed")
    if python := peer_python():
        found["zarr-http-server"] = ("", lambda: servers.zarr_http_server(python, mirror / STORE))
    return found


def from_folder(mirror: Path, job: Job, rounds: int) -> dict[str, Row]:
    """Measure the servers of a folder in turn, each time a new process: where its memory happens to lie counts, too."""
    rows: dict[str, list[Row]] = {}
    known = of_folder(mirror)
    for _ in range(rounds):
        for name, (prefix, start) in known.items():
            asked = job._replace(objects=[(f"{prefix}/{path}", size) for path, size in job.objects])
            with start() as server:
                true_ranges(server.base, prefix, mirror / STORE, [path for path, _ in job.objects])
                measured(server, asked._replace(seconds=WARMING_S))
                rows.setdefault(name, []).append(measured(server, asked))
    return {name: median(each) for name, each in rows.items()}


def from_s3(mirror: Path, job: Job, rounds: int) -> dict[str, Row]:
    """Measure our service in front of SeaweedFS, and obstore itself, in turn."""
    rows: dict[str, list[Row]] = {"voxshelf": [], "obstore itself": []}
    with servers.seaweedfs("bench") as (_, env):
        servers.upload(mirror, "s3://bench/mirror", env)
        with servers.voxshelf("s3://bench/mirror", env) as ours:
            paths = [(f"/zarr/0001.ome.zarr/{path}", size) for path, size in job.objects]
            keys = [(f"{STORE}/{path}", size) for path, size in job.objects]
            true_ranges(ours.base, "/zarr/0001.ome.zarr", mirror / STORE, [path for path, _ in job.objects])
            for _ in range(rounds):
                rows["voxshelf"].append(measured(ours, job._replace(objects=paths)))
                own = objects.in_process("s3://bench/mirror", job._replace(objects=keys), {**os.environ, **env})
                rows["obstore itself"].append(Row(own.mb_per_s, own.cpu_s / (own.bytes / 1e9), 0.0))
    return {name: median(each) for name, each in rows.items()}


def timed(read: Callable[[], tuple[int, object]], rounds: int) -> tuple[float, int]:
    """Return the median of seconds, and the bytes that crossed the wire."""
    seconds, count = [], 0
    for _ in range(rounds):
        started = time.perf_counter()
        count, _ = read()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), count


def opened(url: str) -> tuple[int, nib.Nifti1Image]:
    """Download a .nii.gz and open all of it."""
    with urllib.request.urlopen(url) as answer:
        data = answer.read()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    np.asarray(image.dataobj)
    return len(data), image


def liver(folder: Path, mirror: Path, rounds: int) -> None:
    """Measure one liver as a cut-out beside the whole file, both from our own machine."""
    name = "imaging-data/images/CT/0001.nii.gz"
    with (
        servers.voxshelf(str(mirror)) as ours,
        servers.started(
            [sys.executable, "-m", "http.server", "{port}", "-b", "127.0.0.1", "-d", str(folder / "corpus")], f"/{name}"
        ) as files,
    ):
        cut = f"{ours.base}/v1/subjects/0001/ct/cutout?label=liver&margin_mm=10&format=nii.gz"
        try:
            _, part = opened(cut)
        except urllib.error.HTTPError as error:
            print(f"\nno cut-out: {cut} gave {error.code}")
            return
        _, whole = opened(f"{files.base}/{name}")
        same_voxels(part, whole)
        rows = {
            "cut-out": timed(lambda: opened(cut), rounds),
            "whole .nii.gz": timed(lambda: opened(f"{files.base}/{name}"), rounds),
        }
    print(f"\none liver with 10 mm around it, {part.shape} of {whole.shape} voxels\n{'':26}{'ms':>9}{'kB':>10}")
    for title, (seconds, count) in rows.items():
        print(f"{title:26}{seconds * 1e3:9.0f}{count / 1e3:10.0f}")


def same_voxels(part: nib.Nifti1Image, whole: nib.Nifti1Image) -> None:
    """Stop unless the cut-out is what the whole holds at its place."""
    origin = np.rint(np.linalg.inv(whole.affine) @ part.affine @ [0, 0, 0, 1])[:3].astype(int)
    box = tuple(slice(start, start + n) for start, n in zip(origin, part.shape, strict=True))
    if not np.array_equal(np.asarray(part.dataobj), np.asarray(whole.dataobj)[box]):
        raise SystemExit("the cut-out holds other voxels than the file")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", help="of the synthetic subject")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--range-kb", type=int, default=200)
    parser.add_argument("--parts", default="folder,s3,liver", help="which of them")
    parser.add_argument("--folder", help="where corpus and mirror are made, or found again; else a temporary one")
    choices = parser.parse_args()
    parts = set(choices.parts.split(","))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(choices.folder or temporary)
        mirror = made(folder, choices.size)
        files = [path for path in (mirror / STORE / ARRAY / "c").rglob("*") if path.is_file()]
        large = [path for path in files if path.stat().st_size >= 2000 * choices.range_kb]
        known = [(path.relative_to(mirror / STORE).as_posix(), path.stat().st_size) for path in large]
        job = Job(0, known, 1000 * choices.range_kb, choices.connections, choices.seconds)
        what = f"{choices.range_kb} kB ranges, {choices.connections} connections, median of {choices.rounds}"
        if "folder" in parts:
            show(f"from a folder: {what}", from_folder(mirror, job, choices.rounds))
        if "s3" in parts:
            show(f"from SeaweedFS: {what}", from_s3(mirror, job, choices.rounds))
        if "liver" in parts:
            liver(folder, mirror, choices.rounds)


if __name__ == "__main__":
    main()
