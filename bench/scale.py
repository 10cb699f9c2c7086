"""Many small subjects: what a volume costs with one worker and with two, and whether time is linear in subjects.

Then a cluster's scheduler is asked all the while how many jobs each of its workers has: one without a job would wait
for the command that hands them out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.bucket import Workers
from bench.process import measure

BIN = Path(sys.executable).parent
VOLUMES_A_SUBJECT = 9
_LOOK_S = 0.05


def jobs_of_workers(dask_scheduler: Any) -> list[int]:
    """How many jobs each worker has, under way or waiting; runs in the scheduler."""
    return [len(worker.processing) for worker in dask_scheduler.workers.values()]


def waiting(convert: list[str], folder: Path, workers: int) -> None:
    """Convert on a cluster, and print how often one of its workers had nothing to do."""
    import distributed

    with closing(Workers(workers, dict(os.environ), folder)) as cluster, distributed.Client(cluster.address) as client:
        looks: list[list[int]] = []
        command, null = [*convert, "--scheduler", cluster.address], subprocess.DEVNULL
        with subprocess.Popen(command, stdout=null, stderr=null) as process:
            while process.poll() is None:
                looks.append(client.run_on_scheduler(jobs_of_workers))
                time.sleep(_LOOK_S)  # between two looks: asking all the time would take the scheduler from its work
        if process.returncode:
            raise SystemExit(f"convert ended with status {process.returncode}")
    busy = [number for number, jobs in enumerate(looks) if any(jobs)]
    during = looks[busy[0] : busy[-1] + 1]
    idle = sum(not all(jobs) for jobs in during)
    fewest = sorted(sum(jobs) for jobs in during)[len(during) // 20]
    print(f"\n{workers} workers of a cluster, asked {len(during)} times between the first job and the last:")
    print(
        f"one had no job {idle} times ({100 * idle / len(during):.1f} %); 19 times of 20 they had {fewest} jobs or more"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--size", default="small")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, mirror = Path(folder, "corpus"), Path(folder, "mirror")
        phantom = ["phantom", str(corpus), "--subjects", str(choices.subjects), "--size", choices.size]
        subprocess.run([str(BIN / "voxshelf"), *phantom], check=True)
        convert = [str(BIN / "voxshelf"), "convert", str(corpus), str(mirror)]
        print(f"{'':28}{'wall s':>9}{'CPU s':>9}{'CPU ms a volume':>17}{'wall ms a volume':>18}")
        for workers in (0, 1, 2):
            for share in (4, 2, 1):
                subjects = choices.subjects // share
                usage = measure([*convert, "--workers", str(workers), "--subjects", f"0001-{subjects:04d}"])
                shutil.rmtree(mirror)
                volumes = subjects * VOLUMES_A_SUBJECT
                per = f"{usage.cpu_s / volumes * 1e3:17.1f}{usage.wall_s / volumes * 1e3:18.1f}"
                print(
                    f"{workers} workers, {subjects:4} subjects    {usage.wall_s:9.1f}{usage.cpu_s:9.1f}{per}",
                    flush=True,
                )
        waiting(convert, Path(folder), 2)


if __name__ == "__main__":
    main()
