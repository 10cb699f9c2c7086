"""Trying again where a store failed for a moment: which errors pass by themselves, how long to wait, when to give up.

What the clients do by themselves (s3fs 2026.9, botocore 1.4x): s3fs sends a request up to five times within two
seconds when the connection timed out or broke, also in the middle of a body, and when S3 says SlowDown. botocore, with
its defaults, sends each of these up to five times more, also for a refused connection and the statuses 500, 502, 503,
504 and 429; fsspec's HTTP client never tries again. The two multiply: a store that takes connections and says nothing
would hold up one request for 5 x 5 x 15 seconds. So `corpus.stores` switches botocore's off, and what s3fs gives up
on, or HTTP, is tried again here, for a bounded time.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from corpus.errors import StoreError

if TYPE_CHECKING:
    import tenacity

PATIENCE_S: Final = 120.0
"""No new try begins later than this after the first one."""

_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 15.0

_PASSING_NUMBERS: Final = frozenset({errno.EBUSY, errno.EREMOTEIO, errno.EIO})
"""What s3fs makes of the statuses 503, 500, and of those that it does not know (429, 502, 504)."""

_PASSING_NAMES: Final = frozenset(
    {"HTTPClientError", "ConnectionError", "ResponseParserError", "ClientConnectionError", "ClientPayloadError"}
)
"""Classes of botocore and aiohttp, which are only there where they are used: connections that were refused, broke,
timed out, or brought something that is no answer."""

_LASTING_NAMES: Final = frozenset({"SSLError", "ClientSSLError", "ClientConnectorCertificateError"})
"""Among these: a certificate does not get better by waiting."""

_SAID_AFTER: Final = 4
_LOG: Final = logging.getLogger(__name__)


def is_passing(error: BaseException) -> bool:
    """Whether an error of object storage or of HTTP may be gone a moment later.

    A missing object, a refused access, wrong credentials and a wrong URL stay what they are.
    """
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING_NUMBERS:
        return True
    status = getattr(error, "status", None)
    if isinstance(status, int):  # aiohttp's, of a web server
        return status >= 500 or status in {408, 429}
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _PASSING_NAMES) and not names & _LASTING_NAMES


def persistently[T](call: Callable[[], T]) -> T:
    """Call until it succeeds, fails for good, or patience is at its end; the last error is raised as it is.

    Waits grow from half a second to 15, and are drawn at random, so that many workers do not come back at once.

    Parameters
    ----------
    call
        May be repeated without harm.
    """
    import tenacity  # of no use to files of this machine

    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_passing),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
        stop=_is_enough,
        before_sleep=_say,
        reraise=True,
    )
    return again(call)


def patiently[T](call: Callable[[], T], place: str) -> T:
    """Call as `persistently` does; what is still out of reach then is an error of ours, all others are as they were.

    Raises
    ------
    StoreError
        Patience is at its end.
    """
    try:
        return persistently(call)
    except Exception as error:
        # What is wrong with the file itself is for the caller to name.
        if not is_passing(error):
            raise
        raise StoreError("store.unreachable", f"{type(error).__name__}: {error}", place=place) from error


class PatientFetch:
    """Fetches ranges of a file, as fsspec's caches ask for them, again where that fails for a moment."""

    def __init__(self, fetch: Callable[[int, int], bytes], place: str) -> None:
        self._fetch = fetch
        self._place = place

    def __call__(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`."""
        return patiently(lambda: self._fetch(start, end), self._place)


def _is_enough(state: tenacity.RetryCallState) -> bool:
    return (state.seconds_since_start or 0.0) + state.upcoming_sleep >= PATIENCE_S


def _say(state: tenacity.RetryCallState) -> None:
    # Once, and not at once: whoever waits for minutes wants to know why, perhaps because the address is wrong.
    if state.attempt_number == _SAID_AFTER and state.outcome is not None:
        error = state.outcome.exception()
        _LOG.warning("no answer, trying again for up to %.0f s: %s: %s", PATIENCE_S, type(error).__name__, error)
