"""One full CT as whole processes: voxshelf, nii2zarr with shards, and the limit, in turn, in one run.

Prints wall and CPU seconds and peak memory (medians), and what each is of voxshelf's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MB of one process, by the operating system's own accounting."""
    started = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    if status:
        raise SystemExit(f"{command} ended with status {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="full")
    parser.add_argument("--runs", type=int, default=3)
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, out = Path(folder, "corpus"), Path(folder, "out")
        # In a process of its own: a child's peak memory is at least what its parent had when it was started.
        subprocess.run(
            [str(BIN / "voxshelf"), "phantom", str(corpus), "--subjects", "1", "--size", choices.size], check=True
        )
        ct = corpus / "imaging-data/images/CT/0001.nii.gz"
        ours = [str(BIN / "voxshelf"), "convert", str(corpus), str(out), "--volumes", "ct", "--workers", "0"]
        commands = {
            "voxshelf convert": ours,
            "nii2zarr --shard 256": [str(BIN / "nii2zarr"), "--shard", "256", str(ct), str(out)],
            "limit": [sys.executable, str(Path(__file__).with_name("limit.py")), str(ct), str(out)],
            "python, imports alone": [sys.executable, "-c", "import voxshelf.verbs.convert"],
        }
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
        for _ in range(choices.runs):
            for name, command in commands.items():
                found[name].append(measure(command))
                if out.is_dir():
                    shutil.rmtree(out)
                out.unlink(missing_ok=True)
        middle = {name: [statistics.median(run[i] for run in runs) for i in range(3)] for name, runs in found.items()}
        base = middle["voxshelf convert"]
        print(f"{ct.stat().st_size / 1e6:.0f} MB .nii.gz, median of {choices.runs} runs")
        print(f"{'':24}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}   ratio to ours: wall, CPU, peak")
        for name, row in middle.items():
            ratios = ", ".join(f"{value / own:.2f}" for value, own in zip(row, base, strict=True))
            print(f"{name:24}{row[0]:9.2f}{row[1]:9.2f}{row[2]:9.0f}   {ratios}")


if __name__ == "__main__":
    main()
