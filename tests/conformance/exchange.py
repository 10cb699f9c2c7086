"""One HTTP exchange, nothing tidied up: no redirects, no retries, no decoding, the path sent as it is written."""

from __future__ import annotations

import http.client
from typing import NamedTuple
from urllib.parse import urlsplit

from probes import FailedError


class Answer(NamedTuple):
    """What came back. Names of headers are matched without case; a missing one is an empty string."""

    status: int
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header."""
        return self.headers.get(name.lower(), "")


class Server:
    """A server under test.

    Parameters
    ----------
    base
        URL of a Zarr hierarchy, without the slash at its end.
    timeout_s
        Longest silence that is waited for.
    """

    def __init__(self, base: str, timeout_s: float = 15.0) -> None:
        self.base = base.rstrip("/")
        self.timeout_s = timeout_s
        address = urlsplit(self.base)
        self._https = address.scheme == "https"
        self._host, self._port, self.root = address.hostname or "", address.port, address.path

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self.timeout_s)

    def get(self, key: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> Answer:
        """Ask for a key on a connection of its own.

        Raises
        ------
        FailedError
            The connection ended early, or nothing came in time.
        """
        connection = self.connect()
        try:
            return self.ask(connection, key, headers, method=method)
        finally:
            connection.close()

    def ask(
        self,
        connection: http.client.HTTPConnection,
        key: str,
        headers: dict[str, str] | None = None,
        *,
        method: str = "GET",
    ) -> Answer:
        """Ask for a key on a connection that is open."""
        try:
            connection.putrequest(method, f"{self.root}/{key}", skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
        except TimeoutError as error:
            raise FailedError(f"no answer to {method} {key[:60]} within {self.timeout_s} s") from error
        except (http.client.HTTPException, OSError) as error:
            raise FailedError(f"{method} {key[:60]} ended in {type(error).__name__}: {error}") from error
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
