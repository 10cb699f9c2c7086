"""Runs a compose file without an engine: each service's own command as a process, with its own environment.

A container has a network address of its own, and so has each process here: hosts and listening addresses of the file
are replaced by addresses in 127.0.0.0/8, and the ports stay those of the file. Mounts are folders. What an engine adds
beyond that (users, read-only file systems, limits) is not shown by this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from random import SystemRandom
from typing import Any

import yaml

from tests.conftest import BIN

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<kind>:[-?])?(?P<rest>[^}]*)\}")
_PATIENCE_S = 120


def interpolated(text: str, env: dict[str, str]) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` as compose does."""

    def value(found: re.Match[str]) -> str:
        if given := env.get(found["name"]):
            return given
        if found["kind"] == ":-":
            return found["rest"]
        raise ValueError(f"{found['name']} is not set: {found['rest']}")

    return VARIABLE.sub(value, text)


def dockerfile_value(path: Path, instruction: str) -> str:
    """Return what the last such instruction of a Dockerfile says, in one line."""
    text = path.read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction} (.+)$", text, re.MULTILINE)[-1]


class Composed:
    """The services of a compose file as processes.

    Parameters
    ----------
    file
        The compose file.
    folder
        Becomes every mount and /tmp, and takes the logs.
    env
        What stands in ``.env``.
    """

    def __init__(self, file: Path, folder: Path, env: dict[str, str]) -> None:
        self.services: dict[str, Any] = yaml.safe_load(interpolated(file.read_text(), env))["services"]
        self.folder = folder
        # A net of its own for each run, so that two of them on one machine do not meet.
        random = SystemRandom()
        self._net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.hosts = {name: f"{self._net}.{10 * (number + 1)}" for number, name in enumerate(self.services)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *, replica: int = 0) -> None:
        """Start a server after what it depends on, as `compose up` does, and wait for its own health check."""
        self._start_dependencies(name)
        label = f"{name}-{replica}"
        if label in self._processes:
            return
        with self._log(label).open("wb") as log:
            command, env = self._command(name, replica), self._environment(name, replica)
            process = subprocess.Popen(command, env=env, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
        self._processes[label] = process
        self._wait(name, replica, process)

    def run(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a job to its end, as `compose run` does: options replace its `command`."""
        self._start_dependencies(name)
        command, env = self._command(name, 0, options), self._environment(name, 0)
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        self._log(f"{name}-job").write_text(done.stdout + done.stderr)
        return done

    def logs(self) -> dict[str, str]:
        """Return what each process has printed."""
        return {path.stem: path.read_text() for path in self.folder.glob("*.log")}

    def close(self) -> None:
        """Stop all, the last started first."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start_dependencies(self, name: str) -> None:
        for dependency, wanted in self.services[name].get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            self.start(dependency)

    def _wait(self, name: str, replica: int, process: subprocess.Popen[bytes]) -> None:
        kind, *check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        check, env = self._moved(check, name, replica), self._environment(name, replica)
        check[0] = self._program(check[0])
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{name} ended: {self.logs()[f'{name}-{replica}'][-2000:]}"
            if subprocess.run(check, env=env, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} is not healthy: {self.logs()[f'{name}-{replica}'][-2000:]}")

    def _command(self, name: str, replica: int, options: tuple[str, ...] = ()) -> list[str]:
        service = self.services[name]
        entrypoint = service.get("entrypoint") or yaml.safe_load(
            dockerfile_value(ROOT / service["build"]["dockerfile"], "ENTRYPOINT")
        )
        command = self._moved([*entrypoint, *(options or service.get("command", []))], name, replica)
        return [self._program(command[0]), *command[1:]]

    def _environment(self, name: str, replica: int) -> dict[str, str]:
        own = self.services[name].get("environment", {})
        moved = dict(zip(own, self._moved(list(own.values()), name, replica), strict=True))
        # Nothing of this process but the way to programs: what a service needs must stand in the file.
        path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
        return {"PATH": path, "HOME": str(self.folder), "PYTHONUNBUFFERED": "1", **moved}

    def _moved(self, texts: list[str], name: str, replica: int) -> list[str]:
        return [self._moved_text(str(text), name, replica) for text in texts]

    def _moved_text(self, text: str, name: str, replica: int) -> str:
        head, last = self.hosts[name].rsplit(".", 1)
        text = re.sub(r"\b(127\.0\.0\.1|0\.0\.0\.0)\b", f"{head}.{int(last) + replica}", text)
        for host, address in self.hosts.items():
            text = re.sub(rf"(?<=//){host}(?=:\d)", address, text)
        return re.sub(r"(?<![\w/:])/(tmp|data|corpus)\b", lambda found: str(self._mount(name, found[1])), text)

    def _mount(self, name: str, path: str) -> Path:
        for volume in self.services[name].get("volumes", []):
            if isinstance(volume, dict) and volume["target"] == f"/{path}":
                return Path(volume["source"])
        mount = self.folder / f"{name}-{path}"
        mount.mkdir(exist_ok=True)
        return mount

    def _log(self, label: str) -> Path:
        return self.folder / f"{label}.log"

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
        assert found, f"{name} is not installed"
        return found
