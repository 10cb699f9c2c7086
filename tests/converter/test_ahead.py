from __future__ import annotations

import threading
from contextlib import closing

import pytest

from converter.ahead import ahead


def test_results_come_in_order_and_no_more_is_started_than_said() -> None:
    started: list[int] = []
    items = ahead(range(20), lambda number: started.append(number) or 10 * number, most=3)
    for taken, (item, result) in enumerate(items):
        assert (item, result.result()) == (taken, 10 * taken)
        assert len(started) <= taken + 4
    assert sorted(started) == list(range(20))


def test_work_on_the_next_item_goes_on_while_the_first_waits() -> None:
    second = threading.Event()

    def work(number: int) -> bool:
        if number == 1:
            second.set()
        return second.wait(60)

    assert [result.result() for _, result in ahead([0, 1], work, most=2)] == [True, True]


def test_an_error_is_that_item_s_alone() -> None:
    pairs = list(ahead([1, 0, 2], lambda number: 6 // number, most=2))
    assert [pairs[0][1].result(), pairs[2][1].result()] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        pairs[1][1].result()


def test_leaving_early_waits_for_nothing_and_starts_nothing_more() -> None:
    gate, started = threading.Event(), []

    def work(number: int) -> None:
        started.append(number)
        gate.wait(60)

    with closing(ahead(range(100), work, most=2)) as items:
        next(items)
    gate.set()
    assert len(started) <= 3
