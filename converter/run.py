"""Where work runs: this process, a local Dask cluster, or one that is running. The only module that knows Dask.

All three take the same jobs in the same way, so that whatever fails on a cluster can be looked at without one. Dask is
imported when a cluster is wanted: it takes longer to load than a small conversion to run.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from corpus.errors import SettingsError, StoreError

if TYPE_CHECKING:
    import distributed

type Job = Callable[..., Any]


class Executor(Protocol):
    """Runs jobs and hands back what they return.

    Attributes
    ----------
    slots
        How many jobs are worth having under way at once.
    place
        Where they run, for people.
    memory_bytes
        Memory limit of the smallest worker; None where there is none.
    """

    slots: int
    place: str
    memory_bytes: int | None

    def submit(self, name: str, job: Job, *arguments: Any) -> None:
        """Start a job; `name` is what people see of it."""

    def next_done(self) -> tuple[str, Any]:
        """Wait for any job, and return its name and its result, or the exception that ended it."""


class Serial:
    """Runs each job in this process when its result is asked for."""

    slots = 1
    place = "this process"
    memory_bytes: int | None = None

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Job, tuple[Any, ...]]] = deque()

    def submit(self, name: str, job: Job, *arguments: Any) -> None:
        """Put a job into the queue."""
        self._waiting.append((name, job, arguments))

    def next_done(self) -> tuple[str, Any]:
        """Run the next job."""
        name, job, arguments = self._waiting.popleft()
        try:
            return name, job(*arguments)
        except Exception as error:  # noqa: BLE001  # the caller decides, as it does for a cluster's jobs
            return name, error


class Cluster:
    """Runs jobs on a Dask cluster.

    Parameters
    ----------
    client
        Connected to the scheduler.
    """

    def __init__(self, client: distributed.Client) -> None:
        import distributed

        self._killed = distributed.KilledWorker
        self._address: str = client.scheduler_info(n_workers=0)["address"]
        self._client = client
        # With results, which then come while others are worked on, and cost nobody a round trip of waiting.
        self._done = distributed.as_completed(with_results=True, raise_errors=False)
        self._names: dict[str, str] = {}
        # Keys must be new for each run: a scheduler remembers the results of old ones.
        self._run = uuid.uuid4().hex[:8]
        self.slots = 2 * max(1, sum(client.nthreads().values()))
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self.memory_bytes: int | None = min((w["memory_limit"] for w in workers if w["memory_limit"]), default=None)
        self.place: str = client.dashboard_link or "a Dask cluster without a dashboard"

    def submit(self, name: str, job: Job, *arguments: Any) -> None:
        """Send a job to the scheduler; the dashboard shows its name."""
        key = f"{name}-{self._run}"
        self._names[key] = name
        self._done.add(self._client.submit(job, *arguments, key=key, pure=False))

    def next_done(self) -> tuple[str, Any]:
        """Wait for the next job; a job whose worker died over and over comes back as an error.

        Raises
        ------
        StoreError
            The scheduler was lost, and with it all that is under way.
        """
        future, result = next(self._done)
        name = self._names.pop(future.key)
        if future.status in {"cancelled", "lost"}:
            # Nobody here cancels: so does the client with all its jobs when the scheduler goes away.
            raise StoreError("store.scheduler-lost", f"{len(self._names) + 1} jobs were under way", place=self._address)
        if future.status != "finished":
            error = future.exception()
            lost = isinstance(error, self._killed)
            result = StoreError("store.worker-lost", str(error), place=name) if lost else error
        future.release()
        return name, result


def results(place: Executor, jobs: Iterable[tuple[str, Job, tuple[Any, ...]]]) -> Iterator[tuple[str, Any]]:
    """Run independent jobs, a bounded number at a time.

    Parameters
    ----------
    place
        Where they run.
    jobs
        Name, function and arguments of each; taken only when there is room for it.

    Yields
    ------
    tuple
        Name of a job and its result, or the exception that ended it, as they come.
    """
    waiting = iter(jobs)
    running = 0
    while True:
        for name, job, arguments in islice(waiting, place.slots + 1 - running):
            place.submit(name, job, *arguments)
            running += 1
        if not running:
            return
        yield place.next_done()
        running -= 1


@contextmanager
def executor(workers: int, scheduler: str | None) -> Iterator[Executor]:
    """Yield the place where jobs run.

    Parameters
    ----------
    workers
        0 for this process, else the number of worker processes of a local cluster.
    scheduler
        Address of a running scheduler; takes the place of `workers`.

    Raises
    ------
    SettingsError
        The scheduler cannot be reached.
    """
    if scheduler is None and workers == 0:
        yield Serial()
        return
    yield from _running(scheduler) if scheduler is not None else _local(workers)


def _local(workers: int) -> Iterator[Executor]:
    import distributed

    # One thread each: a job brings its own, for inflating and encoding.
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield Cluster(client)


def _running(scheduler: str) -> Iterator[Executor]:
    import distributed

    try:
        client = distributed.Client(scheduler)
    except (OSError, ValueError, TimeoutError) as error:
        hint = "Is the scheduler running, and are its host and port right (tcp://host:8786)?"
        raise SettingsError("settings.option", f"no scheduler answers: {error}", place=scheduler, hint=hint) from error
    with client:
        yield Cluster(client)
