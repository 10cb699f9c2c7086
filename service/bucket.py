"""Objects of a bucket, or of another web server, streamed through obstore; the only module that imports it.

Trying again is done here and not by obstore, so that its time is bounded as a whole, an answer that broke off goes on
where it stopped, and each try is counted. Readers in notebooks (fsspec) never try again by themselves.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.exceptions import NotFoundError as UpstreamNotFoundError
from obstore.store import S3Store, from_url

from corpus.errors import NotFoundError, RequestError, SettingsError, StoreError
from service.metrics import Metrics
from service.ranges import ByteRange
from service.settings import ServiceSettings
from service.upstream import PIECE_BYTES, Method, Opened, resolve

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_TRIES: Final = 3
_WAITS_S: Final = (0.1, 0.4)
# `timeout` covers the body too, which a slow reader may take long to drain; what must end early is timed here.
_CLIENT: Final[ClientConfig] = {"timeout": "24h", "connect_timeout": "2s"}
_NO_RETRY: Final[RetryConfig] = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
_STATUS: Final = re.compile(r"status code: (\d{3})")
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})


class Bucket:
    """Objects of a bucket prefix, or of another HTTP server.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``; credentials and endpoint come from the environment (``AWS_...``).
    settings
        Times, and how URLs are signed.
    metrics
        Where tries are counted.

    Raises
    ------
    SettingsError
        The URL cannot be used.
    """

    def __init__(self, url: str, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._try_s = settings.upstream_timeout_s / _TRIES
        self._store = _store_of(url, os.environ.get("AWS_ENDPOINT_URL", ""))
        self._signer = _store_of(url, settings.redirect_endpoint) if settings.redirect_endpoint else self._store

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open an object with one request, which is repeated where upstream fails for a moment."""
        if not body or wanted == ByteRange(None, 0):
            meta = await self._asked("head", key, lambda: obstore.head_async(self._store, key))
            return _opened(meta, *resolve(wanted, meta["size"]), b"")
        try:
            result, data = await self._asked("get", key, lambda: self._get(key, _range(wanted)))
        except _OutsideError:
            # Storage does not tell the size along with its refusal, and the answer has to.
            await self.open(key, wanted, body=False)
            raise StoreError("store.unreachable", "upstream refuses a range of the object", place=key) from None
        start, stop = result.range
        return _opened(result.meta, start, stop, self._pieces(result, key) if data is None else data)

    async def presigned(self, key: str, method: Method) -> str | None:
        """Return a URL that is signed for one method; only S3 has such."""
        if not isinstance(self._signer, S3Store):
            return None
        valid = timedelta(seconds=self._settings.redirect_s)
        return await self._asked("sign", key, lambda: obstore.sign_async(self._signer, method, key, valid))

    def path_of(self, key: str) -> str | None:  # noqa: ARG002  # the protocol's
        """Return None: objects are not files."""
        return None

    async def _get(self, key: str, options: Any) -> tuple[obstore.GetResult, bytes | None]:
        result = await obstore.get_async(self._store, key, options=options)
        start, stop = result.range
        if stop - start > PIECE_BYTES:
            return result, None
        return result, bytes(await result.bytes_async())

    async def _pieces(self, result: obstore.GetResult, key: str) -> AsyncIterator[bytes]:
        at, stop, etag = *result.range, result.meta["e_tag"]
        for left in reversed(range(_TRIES)):
            stream = result.stream(min_chunk_size=PIECE_BYTES)
            try:
                while at < stop:
                    async with asyncio.timeout(self._try_s):
                        piece = bytes(await anext(stream))
                    at += len(piece)
                    yield piece
                return
            except (BaseError, OSError, StopAsyncIteration) as error:
                if not left or etag is None:
                    raise StoreError("store.unreachable", f"broke off: {type(error).__name__}", place=key) from error
            result = await self._resumed(key, at, stop, etag)

    async def _resumed(self, key: str, at: int, stop: int, etag: str) -> obstore.GetResult:
        """Return the rest of an object, of the same bytes or not at all."""
        options = {"range": (at, stop), "if_match": etag}
        result = await self._asked("resume", key, lambda: obstore.get_async(self._store, key, options=options))  # type: ignore[arg-type]  # a TypedDict
        # Some servers do not know If-Match.
        if result.meta["e_tag"] != etag or result.range != (at, stop):
            raise StoreError("store.changed", "the object changed while it was read", place=key)
        return result

    async def _asked[T](self, operation: str, key: str, ask: Callable[[], Awaitable[T]]) -> T:
        for wait in (*_WAITS_S, None):
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._try_s):
                    answer = await ask()
            except (BaseError, OSError) as error:
                self._metrics.upstream(operation, type(error).__name__, time.perf_counter() - started)
                if wait is None or not _is_passing(error):
                    raise self._meaning(error, key) from error
            else:
                self._metrics.upstream(operation, "ok", time.perf_counter() - started)
                return answer
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  # not a secret
        raise AssertionError("the last try returns or raises")

    def _meaning(self, error: Exception, key: str) -> Exception:
        denied = isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError)
        missing = isinstance(error, FileNotFoundError | UpstreamNotFoundError)
        if missing or (denied and self._settings.upstream_denied_is_missing):
            return NotFoundError("not-found.key", "there is no such object", place=key)
        if denied:
            return StoreError("store.denied", "the object store refused access", place=key)
        if isinstance(error, PreconditionError):
            return StoreError("store.changed", "the object changed while it was read", place=key)
        if isinstance(error, TimeoutError):
            return StoreError("store.timeout", "the object store did not answer in time", place=key)
        status = _status(error)
        if status == 416:
            return _OutsideError("request.range", "the range lies outside the object", place=key)
        said = f"the object store answered {status}" if status else "the object store cannot be reached"
        return StoreError("store.unreachable", said, place=key)


class _OutsideError(RequestError):
    """Upstream refused a range; what size the object has is not known yet."""


def _store_of(url: str, endpoint: str) -> Any:
    # An endpoint of the operator's own may speak plain HTTP; obstore refuses that unless told.
    plain = endpoint.startswith("http://") or url.startswith("http://")
    client: ClientConfig = {**_CLIENT, "allow_http": True} if plain else _CLIENT
    options: Any = {"endpoint": endpoint} if endpoint and url.startswith("s3://") else {}
    try:
        return from_url(url, client_options=client, retry_config=_NO_RETRY, **options)
    except (BaseError, ValueError) as error:
        raise SettingsError("settings.url", str(error), place=url) from error


def _is_passing(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in _PASSING
    return not isinstance(error, FileNotFoundError | UpstreamNotFoundError)


def _status(error: Exception) -> int | None:
    # obstore has classes for a few statuses, and tells the others in its message only.
    found = _STATUS.search(str(error).partition("\n")[0])
    return int(found[1]) if found else None


def _opened(meta: Any, start: int, stop: int, content: bytes | AsyncIterator[bytes]) -> Opened:
    etag = meta["e_tag"] or f'"{int(meta["last_modified"].timestamp() * 1000):x}-{meta["size"]:x}"'
    return Opened(meta["size"], etag, meta["last_modified"], start, stop, content)


def _range(wanted: ByteRange | None) -> Any:
    if wanted is None:
        return None
    if wanted.first is None:
        return {"range": {"suffix": wanted.last}}
    if wanted.last is None:
        return {"range": {"offset": wanted.first}}
    return {"range": (wanted.first, wanted.last + 1)}
