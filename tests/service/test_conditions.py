"""What requests say of ETags, by the comparisons of RFC 9110, section 8.8.3.2."""

from __future__ import annotations

import pytest

from service.conditions import means_bytes, names, names_bytes

DATE = "Sat, 28 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("said", "etag", "weakly", "strongly"),
    [
        # The four rows of the standard's table, then lists and stars.
        ('W/"1"', 'W/"1"', True, False),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', True, False),
        ('"1"', '"1"', True, True),
        ('"1"', 'W/"1"', True, False),
        ('"2",W/"1" , "3"', '"1"', True, False),
        ('"2", "1"', '"1"', True, True),
        ('"2", "3"', '"1"', False, False),
        ("*", '"1"', True, True),
        ("*", 'W/"1"', True, True),
        ("", '"1"', False, False),
        ("1", '"1"', False, False),
    ],
)
def test_a_tag_is_named(said: str, etag: str, *, weakly: bool, strongly: bool) -> None:
    assert names(said, etag) is weakly
    assert names_bytes(said, etag) is strongly


@pytest.mark.parametrize(
    ("said", "etag", "modified", "meant"),
    [
        ('"1"', '"1"', None, True),
        ('"1"', '"2"', None, False),
        ('W/"1"', 'W/"1"', DATE, False),
        (DATE, '"1"', DATE, True),
        (DATE, '"1"', None, False),
        ("Sat, 28 Nov 2026 10:00:01 GMT", '"1"', DATE, False),
        ("*", '"1"', DATE, False),
    ],
)
def test_bytes_are_meant(said: str, etag: str, modified: str | None, *, meant: bool) -> None:
    assert means_bytes(said, etag, modified) is meant
