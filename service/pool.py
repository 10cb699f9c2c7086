"""Where the service decodes and compresses: a bounded number of threads, for a bounded number of answers.

Nothing of it runs on the event loop, where it would hold up every other stream; and each answer under way holds decoded
voxels, so that their number bounds the memory.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from corpus.errors import StoreError, VoxshelfError

_log = logging.getLogger(__name__)

_HELD_BYTES: Final = 2**22
"""An answer of up to so many bytes is decoded whole before its status is sent, so that damage is an error with a code.
A longer one breaks off where the damage is."""


class Pool:
    """Threads, and turns to use them.

    Parameters
    ----------
    threads
        How many jobs run at once.
    answers
        How many answers may be under way at once.
    wait_s
        How long another one waits for its turn.
    """

    def __init__(self, threads: int, answers: int, wait_s: float = 30.0) -> None:
        self._wait_s = wait_s
        self._threads = anyio.CapacityLimiter(threads)
        self._answers = anyio.Semaphore(answers)

    async def run[**Given, Result](
        self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Return what a function returns, called in a thread."""
        return await anyio.to_thread.run_sync(lambda: work(*args, **kwargs), limiter=self._threads)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until one more answer may hold decoded voxels.

        Raises
        ------
        StoreError
            None of the others came to an end in time.
        """
        with anyio.move_on_after(self._wait_s) as waiting:
            await self._answers.acquire()
        if waiting.cancelled_caught:
            raise StoreError("store.busy", f"no answer ended within {self._wait_s:g} s")
        try:
            yield
        finally:
            self._answers.release()

    async def begun(self, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Return the same pieces, of which the first are at hand: what goes wrong until then is raised here."""
        taking = self._in_turn(pieces)
        held: list[bytes] = []
        async for piece in taking:
            held.append(piece)
            if sum(map(len, held)) > _HELD_BYTES:
                break
        return _chained(held, taking)

    async def _in_turn(self, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async with self.turn():
            try:
                async for piece in pieces:
                    yield piece
            finally:
                await pieces.aclose()


async def _chained(held: list[bytes], rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        while held:
            yield held.pop(0)
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


class DecodedResponse(StreamingResponse):
    """A streamed answer that lets go of what it holds as soon as its reader hangs up, and not some time later."""

    body_iterator: AsyncGenerator[bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await super().__call__(scope, receive, send)
        except VoxshelfError as error:
            # The status is long gone. Without its last message the server closes the connection, so that every client
            # sees a cut transfer; a proper end would be taken for the whole.
            scope["app"].state.metrics.cut.inc()
            _log.error("an answer was cut: %s", error)  # the error says all of it
        finally:
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()
