"""A Dask scheduler and workers as processes of their own, which come and go as a test wants."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import BIN, free_port, running


class Cluster:
    """A scheduler that runs, and the workers that were started.

    Attributes
    ----------
    file
        Its scheduler file.
    logs
        Folder with what each process printed.
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.file, self.logs = folder / "scheduler.json", folder
        self._env = {**os.environ, **env}
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def start_worker(self, name: str, *options: str) -> None:
        """Start a worker without waiting for it."""
        command = [str(BIN / "dask"), "worker", "--scheduler-file", str(self.file), "--name", name, "--no-nanny"]
        command += ["--no-dashboard", "--local-directory", str(self.logs), "--host", "127.0.0.1", *options]
        with (self.logs / f"{name}.log").open("wb") as log:
            self._workers[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self._env)

    def kill_worker(self, name: str) -> None:
        """End a worker as a machine that fails does."""
        process = self._workers.pop(name)
        process.kill()
        process.wait()

    def pid(self, name: str) -> int:
        return self._workers[name].pid

    def close(self) -> None:
        """End all workers."""
        for name in list(self._workers):
            self.kill_worker(name)


@contextmanager
def cluster(folder: Path, env: dict[str, str] | None = None) -> Iterator[Cluster]:
    """A scheduler without workers."""
    port = free_port()
    command = [str(BIN / "dask"), "scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--dashboard-address", f"127.0.0.1:{port}", "--scheduler-file", str(folder / "scheduler.json")]
    with running(command, f"http://127.0.0.1:{port}/health", folder / "scheduler.log", env):
        started = Cluster(folder, env or {})
        for _ in range(600):
            if started.file.exists() and started.file.read_text().endswith("}"):
                break
            time.sleep(0.05)
        try:
            yield started
        finally:
            started.close()
