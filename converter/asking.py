"""A web server, asked one question at a time: no retries, no cookies, nothing decoded, errors of HTTP are answers."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from corpus.errors import NotFoundError, SettingsError, StoreError

_MOST_BYTES: Final = 2**27
_MOST_REDIRECTS: Final = 3
_PATIENCE: Final = 3
"""Questions in a row without an answer in time, after which no other is asked."""
GIVEN_UP: Final = f"the last {_PATIENCE} questions got no answer in time"


class Answer(NamedTuple):
    """What a server said.

    Attributes
    ----------
    status
        Of HTTP.
    headers
        By name in lower case.
    body
        As it came, not decoded.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """A place on a web server.

    Parameters
    ----------
    url
        ``http://`` or ``https://``.
    timeout_s
        How long it may say nothing.
    headers
        Sent with every question.
    deadline_s
        How long one answer may take in all, redirects included; a server that sends a byte now and then is never
        silent for `timeout_s`.

    Raises
    ------
    SettingsError
        It is no URL of a web server.
    """

    def __init__(
        self, url: str, timeout_s: float, headers: Mapping[str, str] | None = None, *, deadline_s: float = 120.0
    ) -> None:
        if _origin(url) is None:
            message = "not the URL of a web server"
            raise SettingsError("settings.url", message, place=url, hint="Give http://... or https://...")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._headers = dict(headers or {})
        self._unanswered = 0

    @property
    def has_given_up(self) -> bool:
        """Whether so many questions in a row got no answer in time that no other is asked."""
        return self._unanswered >= _PATIENCE

    def ask(self, method: str, key: str, **headers: str) -> Answer:
        """Ask for a key, and return the answer whatever its status; redirects are followed, as readers do.

        A token is not sent along to another host.

        Parameters
        ----------
        method
            Of HTTP.
        key
            Below the URL.
        headers
            By name, with ``_`` for ``-``.

        Raises
        ------
        StoreError
            There was no answer, or not all of it, or not in time; or it was not asked (`has_given_up`).
        """
        url = f"{self.url}/{quote(key)}"
        if self.has_given_up:
            raise StoreError("store.timeout", f"not asked: {GIVEN_UP}", place=url)
        try:
            answer = self._in_time(method, url, headers)
        except StoreError as error:
            self._unanswered = self._unanswered + 1 if error.code == "store.timeout" else 0
            raise
        self._unanswered = 0
        return answer

    def _in_time(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        # Names, connections, TLS and answers each wait in their own way; a thread that is left behind bounds them all.
        told: Future[Answer] = Future()

        def ask() -> None:
            try:
                told.set_result(self._follow(method, url, headers))
            except Exception as error:  # noqa: BLE001  # any, since it is raised again where it is waited for
                told.set_exception(error)

        threading.Thread(target=ask, name="asking", daemon=True).start()
        try:
            return told.result(self._deadline_s)
        except TimeoutError as error:
            message = f"the answer was not complete after {self._deadline_s:g} s"
            raise StoreError("store.timeout", message, place=url) from error

    def _follow(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        sent = {**self._headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        for _ in range(_MOST_REDIRECTS):
            answer = self._once(method, url, sent)
            if answer.status not in {301, 302, 307, 308} or "location" not in answer.headers:
                return answer
            before, url = url, urljoin(url, answer.headers["location"])
            if _origin(url) is None:
                raise StoreError("store.unreachable", f"a redirect to {url!r}", place=before)
            if _origin(url) != _origin(before):
                sent = {name: text for name, text in sent.items() if name.lower() != "authorization"}
        raise StoreError("store.unreachable", f"more than {_MOST_REDIRECTS} redirects", place=url)

    def _once(self, method: str, url: str, headers: dict[str, str]) -> Answer:
        parts = urlsplit(url)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.netloc, timeout=self._timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=self._timeout_s)
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.putrequest(method, path or "/", skip_accept_encoding=True)
            for name, text in headers.items():
                connection.putheader(name, text)
            connection.endheaders()
            with connection.getresponse() as response:
                body = response.read(_MOST_BYTES + 1)
                if len(body) > _MOST_BYTES:
                    raise StoreError("store.unreachable", f"the answer has more than {_MOST_BYTES} bytes", place=url)
                if response.length:  # read(n) takes a body that was cut for a whole one
                    raise http.client.IncompleteRead(body, response.length)
                return Answer(response.status, {name.lower(): text for name, text in response.getheaders()}, body)
        except TimeoutError as error:
            raise StoreError("store.timeout", f"no answer in {self._timeout_s:g} s", place=url) from error
        except (OSError, http.client.HTTPException) as error:
            raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=url) from error
        finally:
            connection.close()

    def get(self, key: str) -> bytes:
        """Return the bytes of an object.

        Raises
        ------
        NotFoundError
            The server says that there is none.
        StoreError
            There was no answer, or another one.
        """
        answer = self.ask("GET", key)
        if answer.status == 404:
            raise NotFoundError("not-found.key", "there is no such object", place=f"{self.url}/{key}")
        if answer.status != 200:
            raise StoreError("store.unreachable", f"status {answer.status}", place=f"{self.url}/{key}")
        return answer.body


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port of a URL of a web server; None for anything else."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        return None
    return (parts.scheme, host, port) if parts.scheme in {"http", "https"} and host else None
