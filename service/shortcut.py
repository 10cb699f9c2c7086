"""A shortcut for what most requests are: a small range of an object that the system has in memory.

The server hands such a request over as it was received, before it is parsed and becomes one of ASGI's. All that a
request may need to be decided on, and everything that is unusual about it, goes the usual way; so nothing here refuses
anything, and no answer here differs from the usual one by a byte.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import time
from functools import partial
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from starlette.datastructures import State
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from corpus import layout
from corpus.catalog import Catalog
from corpus.errors import VoxshelfError
from service.access import Access, license_of_row
from service.answered import Answered, new_id
from service.answers import about_object
from service.cors import HEADERS
from service.folder import Folder, Held
from service.limits import Limits
from service.observation import KEYS_ROUTE
from service.ranges import ByteRange, range_of
from service.reader import Reader, readable_key
from service.routes.zarr import PREFIX, headers_of_key
from service.settings import Rule, ServiceSettings
from service.upstream import PIECE_BYTES

_log = logging.getLogger(__name__)
_RANGE_BEGINS: Final = (b"\r\nR", b"\r\nr")
_USUAL: Final = re.compile(
    rb"\r\n((host|user-agent|accept|accept-encoding): [ -~]*\r\n|connection: keep-alive\r\n)+\r\n", re.IGNORECASE
)
"""Request headers that change nothing; a request with any other beside ``Range`` takes the usual way."""
_PLAIN: Final = re.compile(rb"%s[A-Za-z0-9._/-]+" % PREFIX.encode())
_MOST_KEYS: Final = 10_000
"""Whose headers are remembered; more than a few subjects have."""
_MOST_FILES: Final = 200
"""That are held open, and never more than a fifth of what the process may have open: connections need the others."""
_LONGEST_HELD_S: Final = 30.0
"""That a file stays open, used or not: one that was deleted takes its place on the disk until it is closed."""
_MOST_CLIENTS: Final = 1000
"""Whose usual headers are remembered."""
_LONGEST_FIELDS: Final = 2000
"""Of headers that are."""


class _Key(msgspec.Struct):
    """What is known about an object while the same tables are in use.

    Its path here, its key in the mirror, the lines of headers that do not follow from its bytes; and its file, and the
    heads of answers that are the whole or a part of it, to be filled in, while it is held.
    """

    path: str
    stored: str
    lines: bytes
    held: Held | None = None
    whole: bytes = b""
    part: bytes = b""

    def hold(self, held: Held) -> None:
        """Make ready for answers from a file."""
        self.held = held
        about, lines = (text.replace(b"%", b"%%") for text in (_lines(about_object(held.about())), self.lines))
        begin, end = b"%%s%scontent-length: %%d\r\n" % about, b"%sx-request-id: %%s\r\n\r\n" % lines
        self.whole = STATUS_LINE[200] + begin + end
        self.part = STATUS_LINE[206] + begin + b"content-range: bytes %%d-%%d/%d\r\n" % held.size + end


class Shortcut:
    """Decides which requests are answered at once.

    Parameters
    ----------
    state
        Of the application, whose reader, rules, limits and counters these answers share.
    """

    def __init__(self, state: State) -> None:
        self._reader: Reader = state.reader
        self._access: Access = state.access
        self._limits: Limits = state.limits
        self._answered: Answered = state.answered
        self._folder: Folder = state.upstream
        self._catalog: Catalog | None = None
        self._keys: dict[bytes, _Key] = {}
        self._holding: list[_Key] = []
        self._share = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 5
        self._closing: asyncio.TimerHandle | None = None
        self._room = memoryview(bytearray(PIECE_BYTES))
        self._clients: set[bytes] = set()

    def answer(self, client: str, request: bytes, always: bytes) -> tuple[bytes, memoryview] | None:
        """Return head and body of the answer to a GET request, counted and logged; None where it takes the usual way.

        Parameters
        ----------
        client
            Address of who asks.
        request
            As it was received. What is not one whole request takes the usual way.
        always
            Lines of headers that each answer has.

        Returns
        -------
        tuple of bytes and memoryview
            What is to be sent. The next answer takes the same room, so it has to be copied or sent before.
        """
        started = time.perf_counter()
        line, _, fields = request.partition(b" HTTP/1.1")
        others, wanted = _without_range(fields)
        # Its end, because what was taken out of it must not have stood behind it.
        if not (line.startswith(b"GET ") and request.endswith(b"\r\n\r\n") and self._are_usual(others)):
            return None
        who, key = self._limits.ready(client), self._key(line[4:])
        found = None if who is None or key is None else self._found(key, wanted)
        if who is None or key is None or found is None:
            return None
        start, data = found
        count, name = len(data), new_id()
        who.allowance_bytes -= count
        status = 200 if wanted is None else 206
        self._answered.note(KEYS_ROUTE, (client, "GET", key.path), (status, count, True), name, started)
        if wanted is None:
            return key.whole % (always, count, name), data
        return key.part % (always, count, start, start + count - 1, name), data

    def _found(self, key: _Key, wanted: ByteRange | None) -> tuple[int, memoryview] | None:
        """Return where a range begins, and its bytes; None where the usual way finds them, or says why not."""
        try:
            held = key.held or self._hold(key)
            start, stop = wanted.within(held.size) if wanted else (0, held.size)
        except VoxshelfError:
            return None
        if stop - start > PIECE_BYTES:
            return None
        data = self._room[: stop - start]
        if held.read(start, data):
            return start, data
        key.held = None
        return None

    def _hold(self, key: _Key) -> Held:
        if len(self._holding) >= min(_MOST_FILES, self._share):
            self._let_go()
        held = self._folder.held(key.stored)
        key.hold(held)
        self._holding.append(key)
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(_LONGEST_HELD_S, self._let_go)
        return held

    def _let_go(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        for key in self._holding:
            key.held = None
        self._holding = []

    def _are_usual(self, fields: bytes) -> bool:
        """Whether these are header lines, and the end of them, that change nothing."""
        if fields in self._clients:
            return True
        if len(fields) > _LONGEST_FIELDS or not _USUAL.fullmatch(fields):
            return False
        if len(self._clients) >= _MOST_CLIENTS:
            self._clients.clear()
        self._clients.add(fields)
        return True

    def _key(self, url: bytes) -> _Key | None:
        """Return what is known of a key; None where it can be none, or where not everybody may read it."""
        catalog = self._reader.settled()
        if catalog is None:
            return None
        if catalog is not self._catalog or len(self._keys) >= _MOST_KEYS:
            self._let_go()
            self._catalog, self._keys = catalog, {}
        known = self._keys.get(url)
        if known is None and _PLAIN.fullmatch(url):
            known = self._looked_up(catalog, url.decode())
            if known is not None:
                self._keys[url] = known
        return known

    def _looked_up(self, catalog: Catalog, path: str) -> _Key | None:
        store, _, key = path.removeprefix(PREFIX).partition("/")
        subject = store.removesuffix(layout.STORE_SUFFIX)
        try:
            stored = None if subject == store else readable_key(catalog, subject, key)
            row = catalog.subject(subject)
        except VoxshelfError:  # the usual way says it
            return None
        if stored is None or self._access.rule(license_of_row(row)) is not Rule.OPEN:
            return None
        headers = headers_of_key(stored, self._access.grant_to_anybody(row))
        return _Key(path, stored, _lines({**headers, **HEADERS}))


class _Protocol(HttpToolsProtocol):
    """The server's protocol, which asks the shortcut first."""

    def __init__(self, *, shortcut: Shortcut, **others: Any) -> None:
        super().__init__(**others)
        self._shortcut = shortcut
        # Whether the parser has seen the end of a request, and nothing of another one.
        self._between = True
        self._answered_at = 0.0
        self._address = ""
        self._number = -1
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_lines = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if self.scheme == "http":  # what is encrypted goes the loop's way
            self._number = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        if not (self._between and self._is_free() and self._answer(data)):
            super().data_received(data)

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        # Moved on only here: a timer for each answer would cost more than reading it.
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._keep_alive(left)
        else:
            super().timeout_keep_alive_handler()

    def _keep_alive(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _is_free(self) -> bool:
        """Whether the connection stays, has no other answer under way, and its reader took most of what was sent."""
        return (
            getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _answer(self, request: bytes) -> bool:
        try:
            answer = self._shortcut.answer(self._address, request, self._usual_lines())
        except Exception:  # noqa: BLE001  # a bug must not cost the reader an answer: the usual way has one
            _log.exception("the shortcut failed")
            answer = None
        if answer is None:
            return False
        self._send(*answer)
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep_alive(self.timeout_keep_alive)
        return True

    def _usual_lines(self) -> bytes:
        """Return the headers of every answer; the server makes others each second, since one is the date."""
        if self._headers is not self.server_state.default_headers:
            self._headers = self.server_state.default_headers
            self._header_lines = b"".join([b"%s: %s\r\n" % header for header in self._headers])
        return self._header_lines

    def _send(self, head: bytes, body: memoryview) -> None:
        """Send an answer, or what the connection takes of it, at once; the loop's way would be two packets."""
        sent = 0
        if not self.transport.get_write_buffer_size():
            try:
                sent = os.writev(self._number, (head, body))
            except OSError:
                sent = 0  # the loop meets it again, and closes the connection
        if sent < len(head) + len(body):
            self.transport.write((head + body)[sent:])  # a copy: the next answer takes the same room


def protocol_of(app: FastAPI) -> Any:
    """Return what uvicorn takes as ``http``: its own protocol, and for a mirror in a folder one with the shortcut."""
    settings: ServiceSettings = app.state.settings
    if isinstance(app.state.upstream, Folder) and not settings.accel_prefix:
        return partial(_Protocol, shortcut=Shortcut(app.state))
    return "auto"


def _without_range(fields: bytes) -> tuple[bytes, ByteRange | None]:
    """Return header lines without the one of a range, and that range; all lines where it is written in a rare way."""
    before, _, rest = fields.partition(b"ange: bytes=")
    limits, _, after = rest.partition(b"\r\n")
    first, dash, last = limits.partition(b"-")
    wanted = range_of(first, last) if dash and before.endswith(_RANGE_BEGINS) else None
    return (before[:-1] + after, wanted) if wanted else (fields, None)


def _lines(headers: dict[str, str]) -> bytes:
    return "".join([f"{name.lower()}: {text}\r\n" for name, text in headers.items()]).encode("latin-1")
