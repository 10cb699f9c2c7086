"""Turns and threads: nobody holds what he does not use any more, and the event loop goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import ClientDisconnect

from corpus.errors import LayoutError, StoreError
from service.answered import Answered
from service.metrics import Metrics
from service.pool import DecodedResponse, Pool

pytestmark = pytest.mark.anyio
MIB = bytes(2**20)


class Source:
    """Pieces without end, or until something happens."""

    def __init__(self, count: int = 10**9, error: Exception | None = None) -> None:
        self.made = 0
        self.closed = False
        self._count = count
        self._error = error

    async def pieces(self) -> AsyncGenerator[bytes]:
        try:
            while self.made < self._count:
                await anyio.lowlevel.checkpoint()
                self.made += 1
                yield MIB
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def is_free(pool: Pool) -> bool:
    try:
        async with pool.turn():
            return True
    except StoreError:
        return False


async def test_a_short_answer_gives_its_turn_back_before_it_is_sent() -> None:
    pool, source = Pool(1, 1, 0.05), Source(3)
    begun = await pool.begun(source.pieces())
    assert source.closed
    assert await is_free(pool)
    assert [piece async for piece in begun] == [MIB] * 3


async def test_a_long_answer_keeps_its_turn_and_is_not_made_in_advance() -> None:
    pool, source = Pool(1, 1, 0.05), Source(100)
    begun = await pool.begun(source.pieces())
    await anyio.sleep(0.05)
    assert source.made <= 6, "a slow reader holds a few pieces"
    assert not await is_free(pool)
    assert len([piece async for piece in begun]) == 100
    assert await is_free(pool)


@pytest.mark.parametrize("after", [0, 2, 4])
async def test_what_goes_wrong_early_is_raised_before_the_status_is_sent(after: int) -> None:
    pool = Pool(1, 1, 0.05)
    with pytest.raises(LayoutError):
        await pool.begun(Source(after, LayoutError("layout.voxels", "damaged")).pieces())
    assert await is_free(pool)


async def test_what_goes_wrong_late_ends_the_answer_without_its_end() -> None:
    pool = Pool(1, 1, 0.05)
    response = DecodedResponse(await pool.begun(Source(9, LayoutError("layout.voxels", "damaged")).pieces()))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = SimpleNamespace(state=SimpleNamespace(metrics=Metrics(Answered(log=False))))
    scope = {"type": "http", "method": "GET", "app": app}
    await response(scope, anyio.sleep_forever, send)  # type: ignore[arg-type]  # never asked
    assert b"voxshelf_cut_answers_total 1.0" in app.state.metrics.page()
    assert [message.get("more_body") for message in sent] == [None, *[True] * 9], "no last message: the server hangs up"
    assert await is_free(pool)
    begun = await pool.begun(Source(9, LayoutError("layout.voxels", "damaged")).pieces())
    got = [await anext(begun) for _ in range(9)]
    with pytest.raises(LayoutError):
        await anext(begun)
    assert len(got) == 9
    assert await is_free(pool)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_reader_who_hangs_up_lets_go_of_everything(spec: str) -> None:
    pool, source = Pool(1, 1, 0.05), Source()
    response = DecodedResponse(await pool.begun(source.pieces()))
    gone = anyio.Event()
    sent = 0

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == 20:
            gone.set()
            if spec == "2.4":
                raise OSError("gone")
        await anyio.lowlevel.checkpoint()

    scope = {"type": "http", "method": "GET", "asgi": {"spec_version": spec}}
    with anyio.fail_after(5):
        with suppress(ClientDisconnect):
            await response(scope, receive, send)
    assert source.closed
    assert source.made < 40
    assert await is_free(pool)


async def test_jobs_run_beside_the_event_loop_and_not_more_than_allowed() -> None:
    pool = Pool(2, 1)
    running, most, lock = 0, 0, threading.Lock()

    def job() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)  # stands for decoding
        with lock:
            running -= 1
        return threading.get_ident()

    ticks = 0
    idents = []

    async def one() -> None:
        idents.append(await pool.run(job))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
        while len(idents) < 8:
            await anyio.sleep(0.001)
            ticks += 1
    assert most == 2
    assert threading.get_ident() not in idents
    assert ticks > 8
