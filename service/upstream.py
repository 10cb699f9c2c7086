"""Objects as streams of bytes: what every place that they come from offers.

Opening tells all that headers need before the first byte flows, from one request. Keys are opaque.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from corpus.errors import RequestError
from service.ranges import ByteRange

Content = bytes | memoryview | AsyncIterator[bytes]
Method = Literal["GET", "HEAD"]

PIECE_BYTES: Final = 2**20
"""What is held of an answer at once. Less than that comes as a whole: a failure is then known before the status is."""


class Opened(msgspec.Struct, frozen=True):
    """An object that is about to be read.

    Attributes
    ----------
    size
        Bytes of the whole object.
    etag
        Strong and quoted: the same for the same bytes only.
    modified
        When it was written.
    start, stop
        Half-open range of bytes that was asked for.
    content
        The bytes of that range: at hand, or as pieces of about a MiB. Empty where no body was asked for.
    """

    size: int
    etag: str
    modified: datetime
    start: int
    stop: int
    content: Content

    @property
    def pieces(self) -> AsyncIterator[bytes]:
        """The bytes as pieces, also where they are at hand."""
        return _one(self.content) if isinstance(self.content, bytes | memoryview) else self.content


class Upstream(Protocol):
    """Where objects come from."""

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        """Open an object.

        Parameters
        ----------
        key
            Relative to the mirror.
        wanted
            Which bytes; None for all.
        body
            Whether the bytes are wanted at all.

        Raises
        ------
        NotFoundError
            There is no such object.
        RequestError
            The range lies outside the object, whose size is the error's place.
        StoreError
            Upstream failed, or refused. Never to be taken for a missing object: a reader would fill in air. Also
            raised between two pieces, when the object changed or upstream broke off for good.
        """

    async def presigned(self, key: str, method: Method) -> str | None:
        """Return a URL at which anybody gets an object for a while; None where storage has no such thing."""

    def path_of(self, key: str) -> str | None:
        """Return the local file of an object; None where objects are not files."""


def resolve(wanted: ByteRange | None, size: int) -> tuple[int, int]:
    """Return the half-open range of bytes in an object of `size` bytes.

    Raises
    ------
    RequestError
        The range holds no byte of it; the error's place is the size, which the answer has to name.
    """
    try:
        return wanted.within(size) if wanted else (0, size)
    except RequestError as error:
        raise RequestError(error.code, error.message, place=str(size)) from None


async def _one(content: bytes | memoryview) -> AsyncIterator[bytes]:
    if content:
        yield bytes(content)
