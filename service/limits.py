"""How much of the service one client, and all of them together, may use at once.

Limits go by bytes and by requests under way, never by their number: a region is many small ranges, and readers in
notebooks (fsspec) fail at the first 429. So a request over a limit waits a while before it is refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from functools import lru_cache
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corpus.errors import RequestError
from service import errors
from service.metrics import Metrics
from service.settings import ServiceSettings

_BURST_S: Final = 10.0
_WAITING_PER_SLOT: Final = 4
_FORGET_ABOVE: Final = 1000
OPERATION: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths of the operator, whose checks must get through when the service is full."""


class Client(msgspec.Struct):
    """What one client uses.

    Attributes
    ----------
    slots
        A place for each request under way.
    requests
        Requests under way or waiting.
    allowance_bytes
        May be sent at once; below 0 after a large answer.
    counted_s
        When the allowance was brought up to date.
    """

    slots: asyncio.Semaphore
    requests: int
    allowance_bytes: float
    counted_s: float


class Limits:
    """Lets requests through, makes them wait, or refuses them.

    Parameters
    ----------
    app
        The application behind.
    settings
        The limits.
    metrics
        Where refusals are counted.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._clients: dict[str, Client] = {}
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in OPERATION:
            await self._app(scope, receive, send)
            return
        client = self._client(scope["client"][0] if scope.get("client") else "")
        client.requests += 1
        try:
            if not await self._admitted(client):
                await self._refuse("request.rate", scope, receive, send)
                return
            try:
                await self._run(client, scope, receive, send)
            finally:
                client.slots.release()
        finally:
            client.requests -= 1

    async def _run(self, client: Client, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way >= self._settings.most_requests:
            await self._refuse("request.busy", scope, receive, send)
            return

        async def counting(message: Message) -> None:
            client.allowance_bytes -= len(message.get("body", b""))
            await send(message)

        self._under_way += 1
        try:
            await self._app(scope, receive, counting if self._settings.client_bytes_per_s else send)
        finally:
            self._under_way -= 1

    def ready(self, address: str) -> Client | None:
        """Return who asks, if a request of theirs would be let through without waiting; who answers it counts it."""
        client = self._client(address)
        # Their number, since asking the semaphore takes longer.
        full = (
            client.requests >= self._settings.client_requests
            or self._under_way >= self._settings.most_requests
            or self._lack_s(client)
        )
        return None if full else client

    def _client(self, address: str) -> Client:
        name = _network(address)
        client = self._clients.get(name)
        if client is None:
            self._forget()
            burst = self._settings.client_bytes_per_s * _BURST_S
            slots = asyncio.Semaphore(self._settings.client_requests)
            client = self._clients[name] = Client(slots, 0, burst, time.monotonic())
        return client

    async def _admitted(self, client: Client) -> bool:
        """Wait for a slot and an allowance; whether they came in time. The caller has the slot then."""
        if client.requests > self._settings.client_requests * (1 + _WAITING_PER_SLOT):
            return False
        if not client.slots.locked() and not self._lack_s(client):
            return await client.slots.acquire()
        try:
            async with asyncio.timeout(self._settings.client_wait_s):
                await client.slots.acquire()
                try:
                    while lack_s := self._lack_s(client):  # noqa: ASYNC110  # it is time that brings the allowance
                        await asyncio.sleep(lack_s)
                except asyncio.CancelledError:
                    client.slots.release()
                    raise
        except TimeoutError:
            return False
        return True

    def _lack_s(self, client: Client) -> float:
        """Return how long it takes until the client may be sent bytes again."""
        rate = self._settings.client_bytes_per_s
        if not rate:
            return 0.0
        now = time.monotonic()
        client.allowance_bytes = min(rate * _BURST_S, client.allowance_bytes + (now - client.counted_s) * rate)
        client.counted_s = now
        return max(0.0, -client.allowance_bytes / rate)

    async def _refuse(self, code: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.limited.labels(code).inc()
        wait_s = math.ceil(self._settings.client_wait_s / 2) or 1
        await errors.answer(RequestError(code, "too much at once"), wait_s)(scope, receive, send)

    def _forget(self) -> None:
        # Clients that have nothing under way, and no debt, are as good as new ones.
        if len(self._clients) < _FORGET_ABOVE:
            return
        idle = [name for name, client in self._clients.items() if not client.requests and not self._lack_s(client)]
        for name in idle:
            del self._clients[name]


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """Return whose address it is: a household has 2^64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    # A listener for both families sees IPv4 clients as ::ffff:192.0.2.1, which are not one household.
    return str(parsed.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
