"""Probes of keys that climb, lie or flood, and of methods that write."""

from __future__ import annotations

from functools import partial

from probes import MUST, SHOULD, expect, probe
from target import Target

refusals = partial(probe, "refusals")


def refused(target: Target, *keys: str) -> None:
    """Expect an answer that is neither data nor a fault of the server, and a server that goes on."""
    for key in keys:
        status = target.server.get(key).status
        expect(400 <= status < 500, f"{key[:60]} gave {status}")
    expect(target.server.get("zarr.json").status == 200, "zarr.json could not be read afterwards")


@refusals("climb", MUST)
def climb(target: Target) -> None:
    """Keys with `..` that lead out of the hierarchy are refused."""
    deep = "../" * 12
    refused(target, f"{deep}etc/passwd", f"c/{deep}etc/passwd")


@refusals("climb-encoded", MUST)
def climb_encoded(target: Target) -> None:
    """The same with dots or slashes percent-encoded, once and twice."""
    keys = ["%2e%2e/" * 12, "..%2f" * 12, "%252e%252e%252f" * 12]
    refused(target, *(f"{key}etc/passwd" for key in keys))


@refusals("encoded-slash", SHOULD)
def encoded_slash(target: Target) -> None:
    """An encoded slash is not taken for a slash."""
    refused(target, target.key.replace("/", "%2f"))


@refusals("empty-segment", SHOULD)
def empty_segment(target: Target) -> None:
    """A key with an empty segment is another key, and not there."""
    refused(target, target.key.replace("/", "//", 1))


@refusals("backslash", MUST)
def backslash(target: Target) -> None:
    """Backslashes, plain or encoded, are no separators."""
    refused(target, target.key.replace("/", "\\"), target.key.replace("/", "%5c"), "..%5c..%5cwindows%5cwin.ini")


@refusals("nul", MUST)
def nul(target: Target) -> None:
    """A key with a NUL is refused."""
    refused(target, f"{target.key}%00", f"{target.key}%00.json")


@refusals("long-key", MUST)
def long_key(target: Target) -> None:
    """A key of 10 kB is refused."""
    refused(target, "x" * 10_000, "c/" * 5_000 + "0")


@refusals("not-utf8", MUST)
def not_utf8(target: Target) -> None:
    """A key that is not UTF-8 is refused."""
    refused(target, "%ff%fe%fd")


@refusals("writes", MUST)
def writes(target: Target) -> None:
    """POST, PUT and DELETE change nothing and are refused."""
    for method in ("POST", "PUT", "DELETE"):
        status = target.server.get(target.key, {"Content-Length": "0"}, method=method).status
        expect(400 <= status < 500 or status == 501, f"{method} gave {status}")
    expect(target.server.get(target.key).body == target.body, "the object is another one afterwards")


@refusals("bad-range", MUST)
def bad_range(target: Target) -> None:
    """A Range header that makes no sense gives the whole, 400 or 416, never some other bytes."""
    for text in ("bytes=", "bytes=-", "bytes=9-3", "bytes=a-b", "bytes=0x0-0x9", f"bytes=0-{10**30}", "bytes=--5"):
        answer = target.server.get(target.key, {"Range": text})
        whole = answer.status in {200, 206} and answer.body == target.body
        expect(whole or answer.status in {400, 416}, f"{text} gave {answer.status} and {len(answer.body)} bytes")
