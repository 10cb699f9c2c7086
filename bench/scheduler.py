"""A whole corpus whose jobs do nothing: what planning, scheduling, resuming and publishing cost by themselves.

At two sizes, so that growth is seen: what is linear takes as long per task at both.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench import pretended
from bench.bucket import Workers
from converter.convert import ConvertSettings, convert, read_infos
from converter.corpusfile import read_corpus
from converter.events import Event, Planned
from converter.inventory import take_inventory
from converter.plan import DEFAULT
from converter.publish import publish
from converter.run import Executor, Serial, executor, results
from converter.schedule import Schedule
from corpus.models import CorpusInfo
from corpus.stores import Store


class Clock:
    """Wall time, and the CPU time of this process: on a shared machine only the second says what the code takes."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def show(self, what: str, tasks: int) -> None:
        """Print what it took so far, in all and per task."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        each = f"{wall / tasks * 1e3:14.3f}{cpu / tasks * 1e3:13.3f}"
        print(f"{what:46}{tasks:8}{wall:9.2f}{cpu:9.2f}{each}", flush=True)


@contextmanager
def timed(what: str, tasks: int) -> Iterator[None]:
    """Print how long a block takes, in all and per task."""
    clock = Clock()
    yield
    clock.show(what, tasks)


def schedule_of(corpus: Path, mirror: Path, about: CorpusInfo) -> tuple[Schedule, int]:
    """A schedule of all that is in the corpus, and its number of jobs."""
    inventory = take_inventory(str(corpus))
    infos, _ = read_infos(inventory, about.name)
    schedule = Schedule(Store(str(mirror)), about, about.contents.roles, DEFAULT, lambda _: None)
    for subject, files in inventory.subjects.items():
        schedule.add(files, infos[subject], None)
    return schedule, sum(len(files.files) + 1 for files in inventory.subjects.values())


def run(what: str, place: Executor, made: pretended.Pretended, mirror: Path, about: CorpusInfo) -> None:
    """Run the whole schedule on a place, with jobs that do nothing."""
    schedule, jobs = schedule_of(made.corpus, mirror, about)
    idle = pretended.Idle(place, made.model)
    with timed(what, jobs):
        schedule.work(idle)
    if schedule.failures:
        raise SystemExit(f"failed: {schedule.failures[0]}")


@contextmanager
def scheduler_of(cluster: Workers, tasks: int) -> Iterator[None]:
    """Print what the process of Dask's scheduler took for a block."""
    before = cluster.cpu_s()[1]
    yield
    cpu = cluster.cpu_s()[1] - before
    print(
        f"{'  of it the process of the scheduler':46}{tasks:8}{'':9}{cpu:9.2f}{'':14}{cpu / tasks * 1e3:13.3f}",
        flush=True,
    )


def alone(place: Executor, jobs: int) -> None:
    """Run as many jobs that take and give nothing: what the place itself costs."""
    with timed("Dask alone, jobs that take and give nothing", jobs):
        work = ((f"nothing {number}", pretended.nothing, ()) for number in range(jobs))
        for _ in results(place, work):
            pass


def resume(made: pretended.Pretended, mirror: Path, about: CorpusInfo, volumes: int) -> None:
    """Convert a corpus of which all is there."""
    clock = Clock()

    def listen(event: Event) -> None:
        if isinstance(event, Planned):
            clock.show("resuming: known that nothing is to do", volumes)
            if event.volumes or event.already != volumes:
                raise SystemExit(f"there was something to do: {event}")

    convert(str(made.corpus), str(mirror), ConvertSettings(corpus=about), listen)
    clock.show("resuming: tables and report page written too", volumes)


def measure(folder: Path, subjects: int, workers: int) -> None:
    """Take all figures at one size."""
    made = pretended.make(folder, subjects)
    about, mirror, volumes = read_corpus(str(made.corpus)), folder / "mirror", subjects * len(pretended.ROLES)
    heading = f"{'tasks':>8}{'wall s':>9}{'CPU s':>9}{'wall ms a task':>15}{'CPU ms':>12}"
    print(f"\n{subjects} subjects, {volumes} volumes\n{'':46}{heading}")
    with timed("listing, spreadsheets, and what is to do", volumes):
        schedule_of(made.corpus, mirror, about)
    run("scheduling, jobs in this process", Serial(), made, mirror, about)
    with closing(Workers(workers, dict(os.environ), folder)) as cluster, executor(0, cluster.address) as place:
        with scheduler_of(cluster, volumes + subjects):
            run(f"scheduling, a Dask cluster of {workers}", place, made, mirror, about)
        with scheduler_of(cluster, volumes):
            alone(place, volumes)
    pretended.finished(made, mirror)
    with timed("publishing", volumes):
        publish(Store(str(mirror)), about)
    resume(made, mirror, about, volumes)
    # Of the process that plans and keeps the results, without Dask's scheduler.
    print(f"peak memory so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1667, help="of nine volumes each")
    parser.add_argument("--workers", type=int, default=2)
    choices = parser.parse_args()
    for subjects in (choices.subjects // 4, choices.subjects):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), subjects, choices.workers)
            shutil.rmtree(Path(folder, "mirror"))


if __name__ == "__main__":
    main()
