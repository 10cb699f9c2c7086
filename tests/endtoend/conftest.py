"""A proxy that counts what crosses the wire."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest


class Wire:
    """Forwards TCP connections to a server; counts requests and the bytes that come back."""

    def __init__(self, target: str) -> None:
        self._target = (urlsplit(target).hostname, urlsplit(target).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        self.bytes_received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        self.requests, self.bytes_received = [], 0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while data := source.recv(65536):
                if upwards:
                    self.requests += [
                        line.decode() for line in data.split(b"\r\n") if line.startswith((b"GET ", b"HEAD "))
                    ]
                else:
                    self.bytes_received += len(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@pytest.fixture
def wire(served: str) -> Iterator[Wire]:
    """A counting way to the service of the mirror."""
    proxy = Wire(served)
    yield proxy
    proxy.close()
