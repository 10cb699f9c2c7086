"""Small subjects converted from a folder into a real S3, with one worker process and with two.

CPU seconds are those of the command and its workers; the server's own are told apart. What scheduling costs is the
CPU time of the command itself, which runs client and scheduler, over the number of tasks.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

BIN = Path(sys.executable).parent
VOLUMES_A_SUBJECT: Final = 9
_STARTUP_S: Final = 120


def free_port() -> int:
    """A port whose number plus 10000 is free as well, for gRPC."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1]) % 40000 + 10000
            try:
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port


@contextmanager
def bucket(folder: Path) -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """A SeaweedFS with an empty bucket: the environment to reach it, and its process."""
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3", "admin")}
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}
    env = {**os.environ, **keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}"}
    command = [str(BIN / "weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-bucket=voxshelf", "-webdav=false"]
    command += ["-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        server = psutil.Popen(command, stdout=log, stderr=log, env=env)
    try:
        wait_for(f"{env['AWS_ENDPOINT_URL']}/healthz")
        yield env, server
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(10 * _STARTUP_S):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)  # it is another program: only its answers tell that it is up
    raise SystemExit(f"no answer from {url}")


class Workers:
    """A Dask scheduler and worker processes of one thread each, of which each is measured by itself."""

    def __init__(self, count: int, env: dict[str, str], folder: Path) -> None:
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
        here = ["--dashboard-address", "127.0.0.1:0"]
        self.scheduler = psutil.Popen(
            [str(BIN / "dask"), "scheduler", "--host", "127.0.0.1", "--port", str(port), *here], **quiet
        )
        worker = [str(BIN / "dask"), "worker", self.address, "--nthreads", "1", "--host", "127.0.0.1", "--no-nanny"]
        self.workers = [psutil.Popen([*worker, *here, "--local-directory", str(folder)], **quiet) for _ in range(count)]
        self._wait(count)

    def _wait(self, count: int) -> None:
        import distributed

        with distributed.Client(self.address, timeout=_STARTUP_S) as client:
            client.wait_for_workers(count, timeout=_STARTUP_S)
            # Imports are made once in the life of a worker, and are left out; else few volumes would carry them all.
            client.run(importlib.import_module, "voxshelf.verbs.convert")
            client.run(importlib.import_module, "converter.thumbnail")

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds so far, of the workers and of the scheduler."""
        return sum(map(cpu_of, self.workers)), cpu_of(self.scheduler)

    def close(self) -> None:
        """Stop all of them."""
        # Their work is done; a worker that has lost its scheduler takes its time to go.
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(corpus: Path, subjects: int, count: int) -> None:
    """Convert with some workers into an empty bucket, and print what it took."""
    with tempfile.TemporaryDirectory() as name, bucket(Path(name)) as (env, server):
        cluster = Workers(count, env, Path(name))
        try:
            (workers, scheduler), started = cluster.cpu_s(), time.perf_counter()
            server_s, client_s = cpu_of(server), children_cpu_s()
            command = [str(BIN / "voxshelf"), "convert", str(corpus), "s3://voxshelf/mirror"]
            command += ["--scheduler", cluster.address, "--subjects", f"0001-{subjects:04d}"]
            subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wall_s = time.perf_counter() - started
            now_workers, now_scheduler = cluster.cpu_s()
            server_s, client_s = cpu_of(server) - server_s, children_cpu_s() - client_s
        finally:
            cluster.close()
    volumes = subjects * VOLUMES_A_SUBJECT
    size_mb = sum(file.stat().st_size for file in corpus.rglob("*.nii.gz")) / 1e6
    tasks = volumes + subjects
    print(
        f"{count} workers{wall_s:10.1f}{(now_workers - workers) / volumes * 1e3:16.1f}{size_mb / wall_s:14.2f}"
        f"{(now_scheduler - scheduler) / tasks * 1e3:16.2f}{client_s:11.1f}{server_s:11.1f}",
        flush=True,
    )


def children_cpu_s() -> float:
    """CPU seconds of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--size", default="small")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        phantom = ["phantom", str(corpus), "--subjects", str(choices.subjects), "--size", choices.size]
        subprocess.run([str(BIN / "voxshelf"), *phantom], check=True)
        print("             wall s  worker CPU ms   MB source  scheduler CPU  command        S3")
        print("                        a volume       a second    ms a task     CPU s     CPU s")
        for count in (1, 2):
            measure(corpus, choices.subjects, count)


if __name__ == "__main__":
    main()
