"""Converts on a Slurm cluster, with as many workers as there is work for (needs ``pip install dask-jobqueue``).

Run it where jobs are submitted; it stays until the conversion has ended::

    python infra/hpc/slurm.py --account ACCOUNT --partition PARTITION --maximum 40 -- SRC MIRROR [OPTIONS]

The scheduler runs in this process, and each worker is a Slurm job of one volume at a time. Workers find the keys of
object storage in ``~/.aws`` or in the environment that Slurm hands on: never write keys into a job script, which others
may read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from dask_jobqueue import SLURMCluster


def main() -> None:
    """Start a cluster, convert, and stop it."""
    choices = _choices()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        with make_cluster(choices, file) as cluster:
            if choices.show:
                print(cluster.job_script())
                return
            cluster.adapt(minimum_jobs=choices.minimum, maximum_jobs=choices.maximum)
            command = ["voxshelf", "convert", *choices.arguments, "--scheduler", str(file)]
            done = subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=False)
    sys.exit(done.returncode)


def make_cluster(choices: argparse.Namespace, file: Path) -> SLURMCluster:
    """Return a cluster without workers, whose scheduler file is `file`."""
    return SLURMCluster(
        account=choices.account,
        queue=choices.partition,
        walltime=choices.walltime,
        cores=1,
        processes=1,
        memory=choices.memory,
        interface=choices.interface,
        local_directory="${TMPDIR:-/tmp}",
        death_timeout=60,
        # Shortly before Slurm ends the job, the worker takes its leave. One that is killed counts as lost, and a volume
        # that has lost several workers is given up.
        worker_extra_args=["--lifetime", choices.lifetime, "--lifetime-stagger", "5m", "--no-dashboard"],
        job_script_prologue=choices.prologue,
        log_directory=choices.logs,
        scheduler_options={"scheduler_file": str(file), "dashboard_address": choices.dashboard},
    )


def _choices() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--account")
    parser.add_argument("--partition")
    parser.add_argument("--minimum", type=int, default=1, metavar="JOBS")
    parser.add_argument("--maximum", type=int, default=20, metavar="JOBS")
    parser.add_argument("--memory", default="4GB", help="Of each worker.")
    parser.add_argument("--walltime", default="08:00:00", help="Of each job.")
    parser.add_argument("--lifetime", default="460m", help="Of each worker: a little less than the walltime.")
    parser.add_argument("--interface", help="Network interface that nodes reach each other by, such as ib0.")
    parser.add_argument("--dashboard", default="127.0.0.1:8787", metavar="HOST:PORT")
    parser.add_argument("--logs", metavar="FOLDER", help="Where jobs write what they print.")
    parser.add_argument("--prologue", action="append", default=[], metavar="LINE", help="Such as 'module load x'.")
    parser.add_argument("--show", action="store_true", help="Print the script of a worker's job, and do nothing else.")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="Of `voxshelf convert`.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
