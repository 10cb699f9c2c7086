"""Servers as processes of their own, on loopback, stopped by their ids."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

BIN = Path(sys.executable).parent
PEERS = Path(__file__).parents[1] / "tests" / "conformance" / "peers"
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "voxshelf",
    "AWS_SECRET_ACCESS_KEY": "voxshelf-secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_START_S: Final = 60.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Running(NamedTuple):
    """A server that answers: where, and as which process."""

    base: str
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds that it and its workers have taken so far, user and system."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in [self.pid, *workers]]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS

    def rss_mb(self) -> float:
        """Return the memory that it holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port(highest: int = 65535) -> int:
    """Return a port that nothing listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= highest:
            return port


@contextlib.contextmanager
def started(command: list[str], health: str, env: dict[str, str] | None = None) -> Iterator[Running]:
    """Start a server and wait for any answer of `health`, a path; ``{port}`` in the command becomes a free one."""
    port = str(free_port())
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        words = [word.replace("{port}", port) for word in command]
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        try:
            if not _answers(process, base + health):
                log.seek(0)
                raise SystemExit(f"{words} does not answer: {log.read().decode(errors='replace')[-1000:]}")
            yield Running(base, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    end = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return True
        except OSError:
            pass
        time.sleep(0.05)  # it is another program: only its answers tell that it is up
    return False


def voxshelf(mirror: str, env: dict[str, str] | None = None) -> contextlib.AbstractContextManager[Running]:
    """Our service, as one process."""
    return started([str(BIN / "voxshelf"), "serve", mirror, "--port", "{port}"], "/healthz", env)


def nginx(folder: Path, held: int | None = None) -> contextlib.AbstractContextManager[Running]:
    """nginx with one worker, sendfile on, and up to `held` files held open; `SystemExit` where it is not installed."""
    more = [] if held is None else [str(held)]
    return started([sys.executable, str(PEERS / "nginx.py"), str(folder), "{port}", *more], "/")


def zarr_http_server(python: Path, store: Path) -> contextlib.AbstractContextManager[Running]:
    """zarr-http-server of a folder, by the Python of an environment that has it."""
    return started([str(python), str(PEERS / "serve_zarr_http_server.py"), str(store), "{port}"], "/zarr.json")


@contextlib.contextmanager
def seaweedfs(bucket: str) -> Iterator[tuple[Running, dict[str, str]]]:
    """SeaweedFS with an empty bucket, and the environment that clients of it need."""
    with tempfile.TemporaryDirectory() as folder:
        # Every port is given, so that runs side by side do not meet; gRPC takes each port + 10000.
        ports = [f"-{name}.port={free_port(50000)}" for name in ("master", "volume", "filer", "admin")]
        fixed = ["-ip=127.0.0.1", f"-bucket={bucket}", "-webdav=false", "-admin.ui=false"]
        fixed += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        command = [str(BIN / "weed"), "mini", f"-dir={folder}", *fixed, *ports, "-s3.port={port}"]
        with started(command, "/healthz", KEYS) as running:
            yield running, {**KEYS, "AWS_ENDPOINT_URL": running.base}


def upload(folder: Path, url: str, env: dict[str, str]) -> None:
    """Copy a folder into a bucket."""
    program = "import sys, s3fs; s3fs.S3FileSystem().put(sys.argv[1] + '/', sys.argv[2], recursive=True)"
    subprocess.run([sys.executable, "-c", program, str(folder), f"{url}/"], check=True, env={**os.environ, **env})
