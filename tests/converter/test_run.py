from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from converter.run import Cluster, executor, results
from corpus.errors import SettingsError, StoreError
from tests.cluster import Cluster as Processes
from tests.cluster import cluster


def double(number: int) -> int:
    return 2 * number


def fail(text: str) -> None:
    raise ValueError(text)


def die() -> None:
    os._exit(9)


@pytest.mark.parametrize("workers", [0, 2])
def test_all_places_run_the_same_jobs_in_the_same_way(workers: int) -> None:
    with executor(workers, None) as place:
        for number in range(5):
            place.submit(f"job {number}", double, number)
        place.submit("job bad", fail, "because")
        results = dict(place.next_done() for _ in range(6))
    error = results.pop("job bad")
    assert isinstance(error, ValueError)
    assert results == {f"job {number}": 2 * number for number in range(5)}


@pytest.mark.slow
def test_a_job_that_kills_its_workers_comes_back_as_an_error_and_others_go_on() -> None:
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), executor(2, None) as place:
        place.submit("ct 0001", die)
        name, error = place.next_done()
        assert name == "ct 0001"
        assert isinstance(error, StoreError)
        assert error.code == "store.worker-lost"
        place.submit("ct 0002", double, 4)
        assert place.next_done() == ("ct 0002", 8)


def test_a_scheduler_that_does_not_answer() -> None:
    import dask

    started = time.monotonic()
    short = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with short, pytest.raises(SettingsError) as caught, executor(0, "tcp://127.0.0.1:9"):
        pytest.fail("nothing listens there")
    assert "tcp://" in caught.value.hint
    assert time.monotonic() - started < 60


# A running cluster --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with cluster(tmp_path_factory.mktemp("dask")) as started:
        yield started


@pytest.fixture
def processes(scheduler: Processes) -> Iterator[Processes]:
    """A scheduler without workers."""
    yield scheduler
    scheduler.close()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is looked at after each job."""
    monkeypatch.setattr("converter.run._LOOK_S", 0.0)


def until(place: Cluster, holds: Callable[[], bool]) -> None:
    """Run jobs until the cluster has changed; ends by the time limit of the test."""
    while not holds():
        place.submit("wait", time.sleep, 0.1)
        place.next_done()


@pytest.mark.slow
def test_slots_and_memory_follow_the_workers(processes: Processes, often: None) -> None:
    with executor(0, str(processes.file)) as place:
        assert isinstance(place, Cluster)
        assert (place.slots, place.memory_bytes) == (8, None)
        assert "0 workers" in place.place
        processes.start_worker("large", "--nthreads", "5", "--memory-limit", "10 GB")
        until(place, lambda: place.slots == 10)
        # Five jobs at once share the memory of their worker.
        assert place.memory_bytes == 2 * 10**9
        processes.start_worker("small", "--nthreads", "1", "--memory-limit", "1 GB")
        until(place, lambda: place.slots == 12)
        assert place.memory_bytes == 10**9
        processes.kill_worker("large")
        until(place, lambda: place.slots == 8)
        assert place.memory_bytes == 10**9
        # Planned for the large one, as it were: refused where it would be killed, and the worker lives on.
        place.submit("ct 0001", double, 1, peak_bytes=2 * 10**9)
        _, error = place.next_done()
        assert isinstance(error, SettingsError)
        assert error.code == "settings.memory"
        place.submit("ct 0002", os.getpid, peak_bytes=10**9)
        assert place.next_done() == ("ct 0002", processes.pid("small"))


@pytest.mark.slow
def test_what_a_lost_worker_had_is_run_by_one_that_joined(processes: Processes, tmp_path: Path) -> None:
    processes.start_worker("one", "--nthreads", "1")
    with executor(0, str(processes.file)) as place:
        place.submit("started", os.getpid)
        assert place.next_done() == ("started", processes.pid("one"))
        mark = tmp_path / "begun"
        place.submit("first", mark_and_wait, str(mark), processes.pid("one"))
        for number in range(5):
            place.submit(f"job {number}", os.getpid)
        with ThreadPoolExecutor(1) as asking:  # jobs are sent when a result is asked for
            ran = asking.submit(lambda: dict(place.next_done() for _ in range(6)))
            while not mark.exists():
                time.sleep(0.01)
            processes.kill_worker("one")
            processes.start_worker("two", "--nthreads", "1")
        assert ran.result() == dict.fromkeys(["first", *(f"job {number}" for number in range(5))], processes.pid("two"))


def mark_and_wait(mark: str, pid: int) -> int:
    """Wait for ever in the process that will be killed; anywhere else, return at once."""
    Path(mark).touch()
    while os.getpid() == pid:
        time.sleep(0.1)
    return os.getpid()


@pytest.mark.slow
def test_thousands_of_jobs_are_taken_in_a_bounded_window_and_shown_by_name(processes: Processes) -> None:
    import distributed

    processes.start_worker("one", "--nthreads", "4")
    taken = done = most = 0
    seen: set[str] = set()

    def jobs() -> Iterator[tuple[str, Callable[..., int], tuple[int, ...]]]:
        nonlocal taken, most
        for number in range(1000):
            taken += 1
            most = max(most, taken - done)
            yield f"ct {number:04d}", abs, (-number,)

    with executor(0, str(processes.file)) as place, distributed.Client(scheduler_file=str(processes.file)) as client:
        for name, result in results(place, jobs()):
            done += 1
            assert name == f"ct {result:04d}"
            if done == 42:
                seen = set(client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.task_prefixes]))
    assert done == 1000
    assert most <= 10  # two for each of four threads, one in hand, and the one that is being handed out
    # By these names the dashboard's streams and bars go.
    assert "ct 0040" in seen


@pytest.mark.parametrize("content", [None, "", "[]", '{"id": "Scheduler-1"}'])
def test_a_scheduler_file_that_is_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "scheduler.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as caught, executor(0, str(file)):
        pytest.fail("there is no scheduler")
    assert caught.value.place == str(file)
    assert "--scheduler-file" in caught.value.hint
