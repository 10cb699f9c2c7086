from __future__ import annotations

import errno
from collections.abc import Callable

import aiohttp
import pytest
from botocore import exceptions
from fsspec.exceptions import FSTimeoutError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from corpus import retries
from corpus.retries import is_passing, persistently


def answer(status: int) -> aiohttp.ClientResponseError:
    url = URL("http://127.0.0.1/a")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(info, (), status=status)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        FSTimeoutError(),
        OSError(errno.EBUSY, "503"),
        OSError(errno.EIO, "429"),
        exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1"),
        exceptions.ReadTimeoutError(endpoint_url="http://127.0.0.1"),
        exceptions.ResponseStreamingError(error="cut"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        answer(503),
        answer(429),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_what_may_be_gone_in_a_moment(error: Exception) -> None:
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "404"),
        PermissionError(errno.EACCES, "403"),
        OSError(errno.EINVAL, "400"),
        OSError(errno.ENOSPC, "full"),
        exceptions.NoCredentialsError(),
        exceptions.SSLError(endpoint_url="https://127.0.0.1", error="certificate"),
        exceptions.ParamValidationError(report="a bucket's name"),
        answer(404),
        answer(416),
        ValueError("ours"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_what_stays_as_it_is(error: Exception) -> None:
    assert not is_passing(error)


def failing(times: int, error: Exception) -> tuple[Callable[[], int], list[int]]:
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return 7

    return call, calls


def test_it_is_called_until_it_succeeds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    call, calls = failing(6, TimeoutError("slow"))
    assert persistently(call) == 7
    assert len(calls) == 7
    assert [record.message for record in caplog.records] == [
        "no answer, trying again for up to 120 s: TimeoutError: slow"
    ]


def test_what_stays_is_raised_at_once() -> None:
    error = PermissionError(errno.EACCES, "403")
    call, calls = failing(9, error)
    with pytest.raises(PermissionError) as caught:
        persistently(call)
    assert caught.value is error
    assert len(calls) == 1


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE_S", 0.05)
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    error = TimeoutError("for ever")
    call, calls = failing(10**6, error)
    with pytest.raises(TimeoutError) as caught:
        persistently(call)
    assert caught.value is error
    assert 1 < len(calls) < 1000
