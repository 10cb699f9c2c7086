from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import RequestError
from service.ranges import ByteRange, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", ByteRange(0, 9)),
        ("bytes=5-", ByteRange(5, None)),
        ("bytes=-516", ByteRange(None, 516)),
        ("Bytes=1-2", ByteRange(1, 2)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        (f"bytes=0-{10**18 - 1}", ByteRange(0, 10**18 - 1)),
        (f"bytes=0-{10**18}", None),
        ("bytes=\u0661-\u0662", None),
    ],
)
def test_parsing(header: str | None, expected: ByteRange | None) -> None:
    assert parse_range(header) == expected


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_closed_ranges_are_what_slicing_gives(data: bytes, first: int, length: int) -> None:
    wanted = ByteRange(first, first + length)
    expected = data[first : first + length + 1]
    if not expected:
        with pytest.raises(RequestError, match=r"request\.range"):
            wanted.within(len(data))
    else:
        start, stop = wanted.within(len(data))
        assert data[start:stop] == expected


@given(st.binary(min_size=1, max_size=50), st.integers(1, 60))
def test_suffixes_are_what_slicing_gives(data: bytes, count: int) -> None:
    start, stop = ByteRange(None, count).within(len(data))
    assert data[start:stop] == data[-count:]


@pytest.mark.parametrize("size", [0, 10])
def test_a_suffix_of_nothing_cannot_be_given(size: int) -> None:
    with pytest.raises(RequestError):
        ByteRange(None, 0).within(size)
