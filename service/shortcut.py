"""A shortcut for what most requests are: a small range of an object that the system has in memory.

The server hands such a request over before it becomes one of ASGI's. All that a request may need to be decided on, and
everything that is unusual about it, goes the usual way; so nothing here refuses anything, and no answer here differs
from the usual one by a byte.
"""

from __future__ import annotations

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
from service.answers import headers_of
from service.cors import HEADERS
from service.folder import Folder
from service.limits import Limits
from service.observation import KEYS_ROUTE, Observed
from service.ranges import parse_range
from service.reader import Reader, readable_key
from service.routes.zarr import PREFIX, headers_of_key
from service.settings import Rule, ServiceSettings

_USUAL: Final = frozenset({b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"})
"""Request headers that change nothing once the connection stays, and ``Range``; others take the usual way."""
_PLAIN: Final = re.compile(rb"%s[A-Za-z0-9._/-]+" % PREFIX.encode())
_MOST_KEYS: Final = 10_000
"""Whose headers are remembered; more than a few subjects have."""


class Answer(msgspec.Struct, frozen=True):
    """An answer: its status, its headers as lines, and its body."""

    status: int
    head: bytes
    body: memoryview


class _Key(msgspec.Struct, frozen=True):
    """What does not change about an object while the same tables are in use.

    Its path here, its key in the mirror, and the lines of headers that do not follow from its bytes.
    """

    path: str
    stored: str
    head: bytes


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

    def answer(self, client: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> Answer | None:
        """Return the answer to a GET request, counted and logged; None where it takes the usual way.

        Parameters
        ----------
        client
            Address of who asks.
        url, headers
            As they were sent, with the headers' names in lower case.
        """
        started = time.perf_counter()
        asked = b""
        for name, value in headers:
            if name == b"range" and not asked:
                asked = value
            elif name not in _USUAL:
                return None
        wanted = parse_range(asked.decode("latin-1")) if asked else None
        try:
            key = self._key(url)
            if key is None or not self._limits.have_room(client):
                return None
            opened = self._folder.at_hand(key.stored, wanted)
        except VoxshelfError:
            return None  # the usual way says it
        if opened is None or not isinstance(opened.content, memoryview):
            return None
        size, name = len(opened.content), self._observed.next_id()
        status = 200 if wanted is None else 206
        about = _lines(headers_of(opened, ranged=wanted is not None))
        head = b"%s%sx-request-id: %s\r\n\r\n" % (about, key.head, name)
        self._limits.count(client, size)
        self._observed.note(KEYS_ROUTE, (client, "GET", key.path), (status, size, True), name, started)
        return Answer(status, head, opened.content)

    def _key(self, url: bytes) -> _Key | None:
        """Return what is known of a key; None where it can be none, or where not everybody may read it."""
        catalog = self._reader.settled()
        if catalog is not self._catalog or len(self._keys) >= _MOST_KEYS:
            self._catalog, self._keys = catalog, {}
        known = self._keys.get(url)
        if known is None and catalog is not None and _PLAIN.fullmatch(url):
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
        self._answered = False

    def on_headers_complete(self) -> None:
        self._answered = self._is_simple() and self._answer()
        if not self._answered:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._answered:
            super().on_message_complete()

    def _is_simple(self) -> bool:
        """Whether the connection is one that stays, with no other answer of it under way."""
        return (
            self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request
            # Its reader has taken the answer before: so one who is slow holds the bytes of one.
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _answer(self) -> bool:
        answer = self._shortcut.answer(self.client[0] if self.client else "", self.url, self.headers)
        if answer is None:
            return False
        # The date.
        always = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.writelines([STATUS_LINE[answer.status], always, answer.head, answer.body])
        self.on_response_complete()
        return True


def protocol_of(app: FastAPI) -> Any:
    """Return what uvicorn takes as ``http``: its own protocol, and for a mirror in a folder one with the shortcut."""
    settings: ServiceSettings = app.state.settings
    if isinstance(app.state.upstream, Folder) and not settings.accel_prefix:
        return partial(_Protocol, shortcut=Shortcut(app.state))
    return "auto"


def _lines(headers: dict[str, str]) -> bytes:
    return "".join([f"{name.lower()}: {text}\r\n" for name, text in headers.items()]).encode("latin-1")
