"""Fixtures that several folders share: a phantom corpus, its mirror, and real servers in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.phantom import write_phantom

BIN = Path(sys.executable).parent
Runner = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)  # a server of another program tells by its answer alone that it is up
    pytest.fail(f"no answer from {url}: {log.read_text()[-2000:]}")


@contextmanager
def running(command: list[str], health: str, log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """A server as a process of its own, stopped by its pid."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        try:
            wait_until_healthy(process, health, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def voxshelf() -> Runner:
    """The command line as users start it."""

    def run(
        *arguments: str | Path, status: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [BIN / "voxshelf", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small subjects, one of each institution."""
    folder = tmp_path_factory.mktemp("corpus")
    write_phantom(str(folder), subjects=4)
    return folder


@pytest.fixture(scope="session")
def phantom_mirror(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus, converted in this process. Tests must not change it."""
    folder = tmp_path_factory.mktemp("mirror")
    settings = ConvertSettings(workers=0, corpus=read_corpus(str(corpus)))
    report = convert(str(corpus), str(folder), settings, lambda _: None)
    assert not report.failures
    return folder


@pytest.fixture(scope="session")
def mirror(phantom_mirror: Path) -> Path:
    """The mirror under a short name, which a folder may use for another one."""
    return phantom_mirror


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """Starts `voxshelf serve` on a mirror; a context manager that gives the base URL."""

    @contextmanager
    def start(mirror: str | Path, env: dict[str, str] | None = None) -> Iterator[str]:
        port = free_port()
        command = [str(BIN / "voxshelf"), "serve", str(mirror), "--port", str(port)]
        base = f"http://127.0.0.1:{port}"
        log = tmp_path_factory.mktemp("serve") / "log"
        with running(command, f"{base}/healthz", log, env):
            yield base

    return start


@pytest.fixture(scope="session")
def served(phantom_mirror: Path, serve: Callable[..., object]) -> Iterator[str]:
    """Base URL of a service of the mirror."""
    with serve(phantom_mirror) as base:  # type: ignore[attr-defined]
        yield base


S3_ENV = {
    "AWS_ACCESS_KEY_ID": "voxshelf",
    "AWS_SECRET_ACCESS_KEY": "voxshelf-secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server with an empty bucket `voxshelf`; gives the environment that clients need."""
    folder = tmp_path_factory.mktemp("s3")
    # Every port is given, so that test runs side by side do not meet; gRPC takes each port + 10000.
    names = ["master.port", "volume.port", "filer.port", "s3.port", "admin.port"]
    ports = {name: _port_with_grpc() for name in names}
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    env = {**S3_ENV, "AWS_ENDPOINT_URL": endpoint}
    options = [f"-{name}={port}" for name, port in ports.items()]
    command = [
        str(BIN / "weed"),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-bucket=voxshelf",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        *options,
    ]
    with running(command, f"{endpoint}/healthz", folder / "log", env):
        yield env


def _port_with_grpc() -> int:
    while True:
        port = free_port()
        if port >= 50000:
            port -= 20000
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
