from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import nibabel as nib
import pytest
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.settings import ServiceSettings
from service.shortcut import protocol_of
from tests.conftest import BIN, free_port, wait_until_healthy


@pytest.fixture
def client(served: str) -> Iterator[httpx.Client]:
    """Speaks to a service that runs as a process of its own."""
    with httpx.Client(base_url=served) as http:
        yield http


class Service(NamedTuple):
    """A service with what can be done to a process."""

    base: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path


StartService = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> StartService:
    """Starts `voxshelf serve` with settings in the environment: ``service(mirror, client_requests=3)``."""

    @contextmanager
    def start(mirror: str | Path, **settings: object) -> Iterator[Service]:
        port, folder = free_port(), tmp_path_factory.mktemp("service")
        env = {f"VOXSHELF_SERVE_{name.upper()}": str(value) for name, value in settings.items()}
        base = f"http://127.0.0.1:{port}"
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            command = [str(BIN / "voxshelf"), "serve", str(mirror), "--port", str(port)]
            process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **env})
            try:
                wait_until_healthy(process, f"{base}/healthz", folder / "err")
                yield Service(base, process, folder / "out", folder / "err")
            finally:
                process.kill()
                process.wait()

    return start


@pytest.fixture(scope="session")
def orders_client(orders_mirror: Path, serve: Callable[..., Any]) -> Iterator[httpx.Client]:
    """Speaks to a service of a mirror with a subject for each voxel order."""
    with serve(orders_mirror) as base, httpx.Client(base_url=base, timeout=60) as http:
        yield http


@pytest.fixture(scope="session")
def source_of() -> Callable[..., bytes]:
    """Bytes of a source file, inflated."""
    folders = {"ct": "images/CT", "pet": "images/PT", "organs": "ground-truth/Organs"}

    def read(corpus: Path, role: str, subject: str) -> bytes:
        return gzip.decompress((corpus / "imaging-data" / folders[role] / f"{subject}.nii.gz").read_bytes())

    return read


@pytest.fixture(scope="session")
def image_of() -> Callable[[bytes], nib.Nifti1Image]:
    """What nibabel makes of the bytes of a file."""

    def load(data: bytes) -> nib.Nifti1Image:
        raw = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        image = nib.Nifti1Image.from_stream(io.BytesIO(raw))
        assert isinstance(image, nib.Nifti1Image)
        return image

    return load


Serving = Callable[[ServiceSettings], AbstractContextManager[str]]
ServingApp = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serving_app() -> ServingApp:
    """Starts an application on a real socket; a context manager that gives the base URL."""

    @contextmanager
    def start(app: FastAPI, keep_alive_s: int = 5) -> Iterator[str]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            config = uvicorn.Config(app, http=protocol_of(app), log_level="info", timeout_keep_alive=keep_alive_s)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    return start


@pytest.fixture(scope="session")
def serving(serving_app: ServingApp) -> Serving:
    """Starts a service with settings of the test's own; a context manager that gives the base URL."""
    return lambda settings: serving_app(create_app(settings))
