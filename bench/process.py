"""One process under the operating system's own accounting."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What a process took: wall and CPU seconds, and its peak memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def environment() -> dict[str, str]:
    """Return our environment, except that modules are compiled once, as they are for a user, and not at each start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measure(command: list[str]) -> Usage:
    """Run a command to its end; what it prints is thrown away."""
    started = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    pid = os.posix_spawn(command[0], command, environment(), file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    if status:
        raise SystemExit(f"{command} ended with status {status}")
    return Usage(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def remove(out: Path) -> None:
    """Remove a file or folder, where there is one."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
