"""Starts a server in front of the suite's own upstream, as a process that is stopped by its id."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from upstream import BUCKET, Upstream

_START_S = 60.0


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: str, upstream: Upstream, at: str) -> Iterator[str]:
    """Start a server and give the URL of the hierarchy that it serves.

    Parameters
    ----------
    command
        How to start it. ``{port}`` is where it has to listen; ``{upstream}`` is the upstream's URL, ``{origin}`` the
        same without the bucket, ``{s3}`` the same as ``s3://``, for which the environment names endpoint and keys.
    upstream
        What it has to stand in front of.
    at
        Path of the hierarchy at the server.
    """
    port = free_port()
    words = {"port": port, "upstream": upstream.url, "origin": upstream.origin, "s3": f"s3://{BUCKET}"}
    keys = {"AWS_ACCESS_KEY_ID": "conformance", "AWS_SECRET_ACCESS_KEY": "conformance", "AWS_REGION": "us-east-1"}
    env = {**os.environ, **keys, "AWS_ENDPOINT_URL": upstream.origin}
    with tempfile.TemporaryFile() as log:
        arguments = shlex.split(command.format(**words))
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            _wait(process, port, f"/{at}/zarr.json".replace("//", "/"))
            yield f"http://127.0.0.1:{port}/{at}".rstrip("/")
        except SystemExit as error:
            log.seek(0)
            raise SystemExit(f"{error}\n{log.read().decode(errors='replace')[-2000:]}") from None
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    end = time.monotonic() + _START_S
    status = None
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode} before it answered")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
            if status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)  # it is another program: only its answers tell that it is up
    raise SystemExit(f"no 200 from {path} within {_START_S:.0f} s; the last status was {status}")


def root_of(folder: str) -> Path:
    """Return a folder that exists."""
    path = Path(folder)
    if not path.is_dir():
        raise SystemExit(f"{folder} is no folder")
    return path
