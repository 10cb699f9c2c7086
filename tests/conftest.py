"""Fixtures that several folders share: a phantom corpus, its mirror, and real servers in processes of their own."""

from __future__ import annotations

import functools
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.phantom import write_phantom
from converter.phantom_sheets import Row, workbook

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


ORDERS = ["RAS", "LAS", "LPS", "LPI", "RPI", "ALS", "AIR", "PIR", "PSR", "LIA", "IPL", "SAL"]


@pytest.fixture(scope="session")
def orders_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject per voxel order: a CT with two levels, its label map in the next order, an oblique PET; scaled."""

    def reordered(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Image:
        return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))

    def save(image: nib.Nifti1Image, role: str, subject: str, slope: float = 1.0, inter: float = 0.0) -> None:
        made = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        made.header.set_slope_inter(slope, inter)
        path = folder / "imaging-data" / role / f"{subject}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Gzipped by hand: nibabel would give the stored numbers a new slope.
        path.write_bytes(gzip.compress(made.to_bytes(), 1, mtime=0))

    folder = tmp_path_factory.mktemp("orders") / "corpus"
    random = np.random.default_rng(4)
    upright = np.array([[0.9, 0, 0, -36.0], [0, 1.1, 0, -25.5], [0, 0, 1.3, 3.25], [0, 0, 0, 1]])
    ct = nib.Nifti1Image(random.integers(-1024, 3000, (80, 44, 30)).astype("i2"), upright)
    ct.header.set_xyzt_units("mm")
    labels = np.zeros((80, 44, 30), "u1")
    labels[22:29, 15:21, 9:16] = 8
    labels[50:60, 20:25, 5:9] = 4
    organs = nib.Nifti1Image(labels, upright)
    organs.header.set_xyzt_units("mm")
    turned = np.eye(4)
    turned[:3, :3] = euler2mat(0.2, -0.15, 0.1) @ np.diag([7.0, 9.0, 8.0])
    turned[:3, 3] = -60, -50, -20
    pet = nib.Nifti1Image(random.integers(0, 60_000, (16, 12, 11)).astype("u2"), turned)
    pet.header.set_xyzt_units("mm")
    for number, codes in enumerate(ORDERS):
        subject = f"{number + 1:04d}"
        save(reordered(ct, codes), "images/CT", subject, 2.0, -5.0)
        save(reordered(organs, ORDERS[number - 1]), "ground-truth/Organs", subject)
        save(reordered(pet, codes), "images/PT", subject, 0.25, 3.0)
    rows: list[Row] = [{"Patient": n + 1, "Data-Source": "AutoPET Challenge"} for n in range(len(ORDERS))]
    (folder / "CT-details.xlsx").write_bytes(workbook(rows))
    return folder


@pytest.fixture(scope="session")
def orders_mirror(orders_corpus: Path) -> Path:
    """That corpus, converted. Tests must not change it."""
    folder = orders_corpus.parent / "mirror"
    report = convert(
        str(orders_corpus), str(folder), ConvertSettings(corpus=read_corpus(str(orders_corpus))), lambda _: None
    )
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


class Web:
    """A real HTTP server of a folder, which gives ranges and index pages, and counts the bytes of files it sends."""

    def __init__(self, folder: Path) -> None:
        self.ranges: list[tuple[str, int, int]] = []
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder), web=self)
        )
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def sent(self, name: str) -> int:
        return sum(stop - start for path, start, stop in self.ranges if path.endswith(name))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, web: Web, **options: Any) -> None:
        self._web = web
        self._wanted: tuple[int, int] | None = None
        super().__init__(*args, **options)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
        if not path.is_file():
            super().do_GET()
            return
        size = path.stat().st_size
        start, stop = 0, size
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, size - int(last))
            stop = min(int(last) + 1 if first and last else size, size)
        self.send_response(206 if asked else 200)
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        self._web.ranges.append((self.path, start, stop))
        with path.open("rb") as file:
            file.seek(start)
            self.wfile.write(file.read(stop - start))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    server = Web(tmp_path)
    yield server
    server.close()


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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
