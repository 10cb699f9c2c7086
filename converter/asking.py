"""A web server, asked one question at a time: no retries, no cookies, nothing decoded, errors of HTTP are answers."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from corpus.errors import NotFoundError, SettingsError, StoreError

_MOST_REDIRECTS: Final = 3


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

    Raises
    ------
    SettingsError
        It is no URL of a web server.
    """

    def __init__(self, url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        if _origin(url) is None:
            message = "not the URL of a web server"
            raise SettingsError("settings.url", message, place=url, hint="Give http://... or https://...")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})

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
            There was no answer, or not all of it.
        """
        url = f"{self.url}/{quote(key)}"
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
                # Not read(n), which takes a body that was cut for a whole one.
                body = response.read()
                return Answer(response.status, {name.lower(): text for name, text in response.getheaders()}, body)
        except TimeoutError as error:
            raise StoreError("store.timeout", f"no answer in {self._timeout_s:.0f} s", place=url) from error
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
