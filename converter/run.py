"""Where work runs: this process, a local Dask cluster, or one that is running. The only module that knows Dask.

All three take the same jobs in the same way, so that whatever fails on a cluster can be looked at without one. Dask is
imported when a cluster is wanted: it takes longer to load than a small conversion to run.
"""

from __future__ import annotations

import json
import pickle
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from corpus.errors import SettingsError, StoreError

if TYPE_CHECKING:
    import distributed

type Job = Callable[..., Any]

_LEAST_SLOTS: Final = 8
"""Jobs that a cluster is given whatever its size: workers to come need some to begin with, and a cluster that grows
with its load must see a load."""

_LOOK_S: Final = 5.0
"""How often a cluster is asked which workers it has, in seconds."""


class Executor(Protocol):
    """Runs jobs and hands back what they return.

    Attributes
    ----------
    slots
        How many jobs are worth having under way at once; may change as workers come and go.
    place
        Where they run, for people.
    memory_bytes
        Memory that a job has on the smallest worker of now; None where there is no limit.
    """

    slots: int
    place: str
    memory_bytes: int | None

    def submit(self, name: str, job: Job, *arguments: Any, peak_bytes: int = 0) -> None:
        """Take in a job, which may wait until a result is asked for.

        `name` is what people see of it, and `peak_bytes` the memory it takes.
        """

    def next_done(self) -> tuple[str, Any]:
        """Wait for any job, and return its name and its result, or the exception that ended it."""


class Serial:
    """Runs each job in this process when its result is asked for."""

    slots = 1
    place = "this process"
    memory_bytes: int | None = None

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Job, tuple[Any, ...]]] = deque()

    def submit(self, name: str, job: Job, *arguments: Any, peak_bytes: int = 0) -> None:
        """Put a job into the queue."""
        del peak_bytes  # there is no other place to run it
        self._waiting.append((name, job, arguments))

    def next_done(self) -> tuple[str, Any]:
        """Run the next job."""
        name, job, arguments = self._waiting.popleft()
        try:
            return name, job(*arguments)
        except Exception as error:  # noqa: BLE001  # the caller decides, as it does for a cluster's jobs
            return name, error


class Cluster:
    """Runs jobs on a Dask cluster, whose workers may come and go meanwhile.

    A job that a lost worker had is run by another. Keys of a store are never among what is sent: workers find their
    own in their environment, as this process does.

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
        # Sent together when a result is asked for: Dask takes half as long for ten jobs at once as for one after the
        # other.
        self._unsent: dict[str, bytes] = {}
        # Keys must be new for each run: a scheduler remembers the results of old ones.
        self._run = uuid.uuid4().hex[:8]
        self.slots = _LEAST_SLOTS
        self.memory_bytes: int | None = None
        workers = self._look()
        dashboard = client.dashboard_link or "which has no dashboard"
        self.place: str = f"a Dask cluster of {workers} workers, {dashboard}"

    def submit(self, name: str, job: Job, *arguments: Any, peak_bytes: int = 0) -> None:
        """Have a job sent to the scheduler; the dashboard shows its name."""
        key = f"{name}-{self._run}"
        self._names[key] = name
        # Packed here once, and not by each of Dask's layers: plans hold label tables, and records many objects.
        self._unsent[key] = pickle.dumps((peak_bytes, job, arguments))

    def _send(self) -> None:
        jobs, self._unsent = self._unsent, {}
        if jobs:
            self._done.update(self._client.map(_within_memory, list(jobs.values()), key=list(jobs), pure=False))

    def _look(self) -> int:
        """Learn what the workers of now can take, and return their number."""
        self._looked_s = time.monotonic()
        # Not scheduler_info(): the client refreshes it in the background, without the workers.
        scheduler = self._client.scheduler
        if scheduler is None:
            raise AssertionError("a client in use has a scheduler")
        workers = self._client.sync(scheduler.identity, n_workers=-1)["workers"].values()
        self.slots = max(_LEAST_SLOTS, 2 * sum(worker["nthreads"] for worker in workers))
        limits = [worker["memory_limit"] // worker["nthreads"] for worker in workers if worker["memory_limit"]]
        self.memory_bytes = min(limits, default=None)
        return len(workers)

    def next_done(self) -> tuple[str, Any]:
        """Wait for the next job; a job whose worker died over and over comes back as an error.

        Raises
        ------
        StoreError
            The scheduler was lost, and with it all that is under way.
        """
        if not self._done.has_ready():
            self._send()
        future, result = next(self._done)
        name = self._names.pop(future.key)
        if future.status in {"cancelled", "lost"}:
            # Nobody here cancels: so does the client with all its jobs when the scheduler goes away.
            raise StoreError("store.scheduler-lost", f"{len(self._names) + 1} jobs were under way", place=self._address)
        if future.status != "finished":
            error = future.exception()
            lost = isinstance(error, self._killed)
            result = StoreError("store.worker-lost", str(error), place=name) if lost else error
        else:
            result = pickle.loads(result)  # noqa: S301  # what our own job on a worker packed
        future.release()
        if time.monotonic() - self._looked_s > _LOOK_S:
            # A scheduler that is lost just now says so with the next job.
            with suppress(OSError):
                self._look()
        return name, result


def _within_memory(packed: bytes) -> bytes:
    """Run a job on a worker, if that has the memory: the bytes it takes, what to call, and with what.

    The plan was compared with the workers of its time. On a smaller one that came later, a volume would be killed,
    and then kill the next worker.

    Raises
    ------
    SettingsError
        The worker has less memory than the job takes.
    """
    from distributed import get_worker

    peak_bytes, job, arguments = pickle.loads(packed)  # noqa: S301  # what our own process packed
    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    if limit and peak_bytes > limit // worker.state.nthreads:
        message = f"needs up to {peak_bytes} bytes, this worker has {limit // worker.state.nthreads} for each thread"
        raise SettingsError("settings.memory", message, place=worker.address)
    return pickle.dumps(job(*arguments))


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
        Address of a running scheduler, or the path of its scheduler file (``*.json``); takes the place of `workers`.

    Raises
    ------
    SettingsError
        The scheduler file cannot be read, or the scheduler cannot be reached.
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

    address = _address(scheduler)
    try:
        client = distributed.Client(address)
    except (OSError, ValueError, TimeoutError) as error:
        hint = "Is the scheduler running, and are its host and port right (tcp://host:8786)?"
        raise SettingsError("settings.option", f"no scheduler answers: {error}", place=scheduler, hint=hint) from error
    with client:
        yield Cluster(client)


def _address(scheduler: str) -> str:
    """Return the address that a scheduler file names; of anything else, itself."""
    if not scheduler.endswith(".json"):
        return scheduler
    # Dask would wait for the file for ever; and it lies there still when its scheduler is long gone.
    try:
        address = json.loads(Path(scheduler).read_text())["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "It is what `dask scheduler --scheduler-file FILE` writes once it runs, on a disk that all hosts see."
        message = f"not the file of a scheduler: {error!r}"
        raise SettingsError("settings.option", message, place=scheduler, hint=hint) from error
    return str(address)
