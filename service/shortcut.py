"""A shortcut for what most requests are: a small range of an object that the system has in memory.

The server hands such a request over as it was received, before it is parsed and becomes one of ASGI's. All that a
request may need to be decided on, and everything that is unusual about it, goes the usual way; so nothing here refuses
anything, and no answer here differs from the usual one by a byte.
"""

from __future__ import annotations

import logging
import re
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
from service.answers import about_object
from service.cors import HEADERS
from service.folder import AtHand, Folder
from service.limits import Limits
from service.observation import KEYS_ROUTE, Observed
from service.ranges import parse_range
from service.reader import Reader, readable_key
from service.routes.zarr import PREFIX, headers_of_key
from service.settings import Rule, ServiceSettings

_log = logging.getLogger(__name__)
_RANGE: Final = re.compile(rb"^[Rr]ange: ([ -~]*)\r\n", re.MULTILINE)
_USUAL: Final = re.compile(
    rb"((host|user-agent|accept|accept-encoding): [ -~]*\r\n|connection: keep-alive\r\n)+\r\n", re.IGNORECASE
)
"""Request headers that change nothing; a request with any other beside ``Range`` takes the usual way."""
_PLAIN: Final = re.compile(rb"%s[A-Za-z0-9._/-]+" % PREFIX.encode())
_MOST_KEYS: Final = 10_000
"""Whose headers are remembered; more than a few subjects have."""
_MOST_CLIENTS: Final = 1000
"""Whose usual headers are remembered."""
_LONGEST_FIELDS: Final = 2000
"""Of headers that are."""


class Answer(msgspec.Struct, frozen=True):
    """An answer: its status, its headers as lines, and its body."""

    status: int
    head: bytes
    body: memoryview


class _Key(msgspec.Struct):
    """What is known about an object while the same tables are in use.

    Its path here, its key in the mirror, the lines of headers that do not follow from its bytes, and the lines that do,
    of the file that had this stamp.
    """

    path: str
    stored: str
    lines: bytes
    stamp: tuple[int, int, int] | None = None
    about: bytes = b""

    def about_file(self, found: AtHand) -> bytes:
        """Return the lines that tell of the object's bytes, whatever part of them was asked for."""
        if found.stamp != self.stamp:
            self.stamp, self.about = found.stamp, _lines(about_object(found.opened()))
        return self.about


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
        self._observed: Observed = state.observed
        self._folder: Folder = state.upstream
        self._catalog: Catalog | None = None
        self._keys: dict[bytes, _Key] = {}
        self._clients: set[bytes] = set()

    def answer(self, client: str, request: bytes) -> Answer | None:
        """Return the answer to a GET request, counted and logged; None where it takes the usual way.

        Parameters
        ----------
        client
            Address of who asks.
        request
            As it was received. What is not one whole request takes the usual way.
        """
        started = time.perf_counter()
        line, _, fields = request.partition(b" HTTP/1.1\r\n")
        asked = _RANGE.search(fields)
        others = fields[: asked.start()] + fields[asked.end() :] if asked else fields
        # Its end, because what was taken out of it must not have stood behind it.
        if not (line.startswith(b"GET ") and request.endswith(b"\r\n\r\n") and self._are_usual(others)):
            return None
        wanted = parse_range(asked[1].decode()) if asked else None
        try:
            key = self._key(line[4:])
            if key is None or not self._limits.have_room(client):
                return None
            found = self._folder.at_hand(key.stored, wanted)
        except VoxshelfError:
            return None  # the usual way says it
        if found is None:
            return None
        count, name = len(found.data), self._observed.next_id()
        status, part = (200, b"") if wanted is None else (206, b"content-range: %s\r\n" % found.content_range)
        head = b"%scontent-length: %d\r\n%s%sx-request-id: %s\r\n\r\n"
        head %= key.about_file(found), count, part, key.lines, name
        self._limits.count(client, count)
        self._observed.note(KEYS_ROUTE, (client, "GET", key.path), (status, count, True), name, started)
        return Answer(status, head, found.data)

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
        stored = None if subject == store else readable_key(catalog, subject, key)
        if stored is None:
            return None
        row = catalog.subject(subject)
        if self._access.rule(license_of_row(row)) is not Rule.OPEN:
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
            answer = self._shortcut.answer(self.client[0] if self.client else "", request)
        except Exception:  # noqa: BLE001  # a bug must not cost the reader an answer: the usual way has one
            _log.exception("the shortcut failed")
            answer = None
        if answer is None:
            return False
        # The date.
        always = b"".join([b"%s: %s\r\n" % header for header in self.server_state.default_headers])
        self.transport.write(STATUS_LINE[answer.status] + always + answer.head)
        if answer.body:
            self.transport.write(answer.body)
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep_alive(self.timeout_keep_alive)
        return True


def protocol_of(app: FastAPI) -> Any:
    """Return what uvicorn takes as ``http``: its own protocol, and for a mirror in a folder one with the shortcut."""
    settings: ServiceSettings = app.state.settings
    if isinstance(app.state.upstream, Folder) and not settings.accel_prefix:
        return partial(_Protocol, shortcut=Shortcut(app.state))
    return "auto"


def _lines(headers: dict[str, str]) -> bytes:
    return "".join([f"{name.lower()}: {text}\r\n" for name, text in headers.items()]).encode("latin-1")
