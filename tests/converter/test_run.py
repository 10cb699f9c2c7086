from __future__ import annotations

import os
import time

import pytest

from converter.run import executor
from corpus.errors import SettingsError, StoreError


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
