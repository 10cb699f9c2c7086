"""The ``Range`` request header: parsing and resolving, free of I/O.

Source: RFC 9110, section 14. One range is served; a list of ranges is answered with the whole object, as S3 does.
"""

from __future__ import annotations

from typing import Final

import msgspec

from corpus.errors import RequestError

_DIGITS: Final = 18
"""No object has 10**18 bytes; what is longer would not fit the integers of object stores."""


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
    unit, _, limits = (header or "").strip().partition("=")
    first, dash, last = limits.partition("-")
    return range_of(first, last) if dash and unit.lower() == "bytes" else None


def range_of[Text: (bytes, str)](first: Text, last: Text) -> ByteRange | None:
    """Return the range from one number to another, either of which may be left out; None where they are no range."""
    both = first + last
    if not (both.isdigit() and both.isascii() and len(first) <= _DIGITS and len(last) <= _DIGITS):
        return None
    low, high = int(first) if first else None, int(last) if last else None
    if low is not None and high is not None and high < low:
        return None
    return ByteRange(low, high)
