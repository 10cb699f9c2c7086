from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from converter.ahead import ahead, beside


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


def test_items_are_taken_in_another_thread_and_no_more_than_said() -> None:
    taken: list[str] = []

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(threading.current_thread().name)
            yield number

    for number, item in enumerate(beside(items(), most=2, name="taker")):
        time.sleep(0.01)  # long enough to run ahead, if it could
        assert item == number
        assert len(taken) <= number + 4
    assert taken == ["taker"] * 9


def test_what_taking_an_item_raises_comes_behind_the_items_before_it() -> None:
    items = beside((6 // number for number in (2, 1, 0)), most=5, name="taker")
    assert [next(items), next(items)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert next(items, None) is None


def test_leaving_early_ends_the_thread() -> None:
    with closing(beside(iter(int, 1), most=1, name="taker")) as items:
        next(items)
        assert [thread for thread in threading.enumerate() if thread.name == "taker"]
    assert not [thread for thread in threading.enumerate() if thread.name == "taker"]
