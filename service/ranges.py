"""The ``Range`` request header: parsing and resolving, free of I/O.

Source: RFC 9110, section 14. One range is served; a list of ranges is answered with the whole object, as S3 does.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from corpus.errors import RequestError

# No object has 10**18 bytes; what is longer would not fit the integers of object stores.
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


class ByteRange(msgspec.Struct, frozen=True):
    """A range as it was asked for, before the object's size is known.

    Attributes
    ----------
    first
        First byte, or None for the last `last` bytes.
    last
        Last byte, included; None for the end of the object.
    """

    first: int | None
    last: int | None

    def within(self, size: int) -> tuple[int, int]:
        """Return the half-open range of bytes in an object of `size` bytes.

        Raises
        ------
        RequestError
            The range holds no byte of the object.
        """
        if self.first is None:
            start, stop = max(0, size - (self.last or 0)), size
        else:
            start, stop = self.first, size if self.last is None else min(size, self.last + 1)
        if start >= stop:
            raise RequestError("request.range", f"the range {self} lies outside the {size} bytes")
        return start, stop


def parse_range(header: str | None) -> ByteRange | None:
    """Return what a ``Range`` header asks for; None for the whole object.

    A header that cannot be understood, names another unit, or lists several ranges, is ignored, as the RFC allows.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None:
        return None
    low, high = match.groups()
    first, last = int(low) if low else None, int(high) if high else None
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)
