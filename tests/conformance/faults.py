"""Probes of a server in front of an upstream that fails: a fault must look like one, and never like zeros."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from clients import boxes_of, needs
from exchange import Answer, Server
from probes import MUST, SHOULD, FailedError, SkippedError, expect, probe
from target import Target
from upstream import Fault, Upstream, other

faults = partial(probe, "faults")
NOT_ASKED: Final = "upstream was not asked: the server does not read from it, or kept what it had read"


class Behind(NamedTuple):
    """A server under test and the upstream that it stands in front of.

    Attributes
    ----------
    target
        The server.
    upstream
        What it reads from.
    patience_s
        Longest time it may take to give up on an upstream that is silent.
    """

    target: Target
    upstream: Upstream
    patience_s: float

    @contextlib.contextmanager
    def failing(self, kind: str, times: int = 10**9) -> Iterator[Fault]:
        """Let upstream fail with the object for the length of a block, which has to ask upstream for it."""
        with self.upstream.failing(kind, self.target.key, times) as fault:
            yield fault
        if not fault.seen:
            raise SkippedError(NOT_ASKED)

    def recovered(self) -> None:
        """Expect that the object can be read."""
        expect(self.target.server.get(self.target.key).body == self.target.body, "no recovery afterwards")


def is_fault(answer: Answer) -> bool:
    """Return whether clients take a status for a fault: some take 403, and all take 404, for a chunk of zeros."""
    return answer.status in {412, 416, 429} or 500 <= answer.status < 600


def whole_or_error(behind: Behind, *allowed: bytes, headers: dict[str, str] | None = None) -> None:
    """Expect a broken connection, a status that is a fault, or one of the allowed bodies."""
    try:
        answer = behind.target.server.get(behind.target.key, headers)
    except FailedError:
        return
    good = answer.status in {200, 206} and answer.body in allowed
    expect(good or is_fault(answer), f"status {answer.status} and {len(answer.body)} bytes")


def persistent(behind: Behind, kind: str) -> None:
    """Expect that a fault of upstream that stays is answered as one: whole, in part, and for HEAD."""
    with behind.failing(kind):
        for method, headers in (("GET", {}), ("GET", {"Range": "bytes=-64"}), ("HEAD", {})):
            answer = behind.target.server.get(behind.target.key, headers, method=method)
            # What a cache still has is right as long as its bytes are, and so is the whole instead of a range.
            right = {behind.target.body, behind.target.body[-64:]} if method == "GET" else {b""}
            kept = answer.status in {200, 206} and answer.body in right
            refused = method == "HEAD" and answer.status in {405, 501}  # it never has HEAD
            expect(kept or refused or is_fault(answer), f"{method} {headers or ''} gave {answer.status}")
            expect(kept or "immutable" not in answer.header("Cache-Control"), "the error may be kept for ever")
    behind.recovered()


def add_statuses() -> None:
    """Register one probe for each status of upstream."""
    meanings = {"403": "refuses", "429": "is asked too often", "500": "breaks", "503": "is overloaded"}
    for status, meaning in meanings.items():

        def run(behind: Behind, status: str = status) -> None:
            persistent(behind, status)

        run.__doc__ = f"When upstream {meaning} ({status}), the answer is a fault (5xx or 429), never 404 or 403."
        faults(f"fault-{status}", MUST)(run)


add_statuses()


@faults("fault-status", SHOULD)
def fault_status(behind: Behind) -> None:
    """A fault of upstream is answered 502, 503 or 504 with Retry-After, for pages of other origins too."""
    for kind in ("403", "500", "503"):
        with behind.failing(kind):
            answer = behind.target.server.get(behind.target.key, {"Origin": "https://viewer.example"})
        expect(answer.status in {502, 503, 504}, f"{kind} gave {answer.status}")
        expect(answer.header("Retry-After").isdigit(), f"Retry-After {answer.header('Retry-After')!r}")
        expect(answer.header("Access-Control-Allow-Origin"), "no Access-Control-Allow-Origin")


@faults("fault-once", SHOULD)
def once(behind: Behind) -> None:
    """A fault of upstream that passes (one 503) is tried again inside, since fsspec never tries again."""
    with behind.failing("503", times=1):
        answer = behind.target.server.get(behind.target.key, {"Range": "bytes=0-99"})
    expect(answer.status == 206 and answer.body == behind.target.body[:100], f"status {answer.status}")


@faults("fault-cut", MUST)
def cut(behind: Behind) -> None:
    """A body that upstream cuts short never comes as a whole one."""
    with behind.failing("cut"):
        whole_or_error(behind, behind.target.body)
    behind.recovered()


@faults("fault-cut-range", MUST)
def cut_range(behind: Behind) -> None:
    """The same for a range."""
    with behind.failing("cut"):
        whole_or_error(behind, behind.target.body, behind.target.body[:5000], headers={"Range": "bytes=0-4999"})


@faults("fault-changed", MUST)
def changed(behind: Behind) -> None:
    """An object that changes while it is read comes as the old one, the new one or an error, never as a mixture."""
    old = behind.target.body
    with behind.failing("change", times=1):
        whole_or_error(behind, old, other(old))


@faults("fault-changed-later", MUST)
def changed_later(behind: Behind) -> None:
    """If an object changes between its index and its chunk, both are of one version or refused, and so is If-Range."""
    key, old = behind.target.key, behind.target.body
    server, etag = behind.target.server, behind.target.object[1].header("ETag")
    server.get(key, {"Range": "bytes=-64"})
    with behind.failing("none"):
        behind.upstream.changed.update(behind.upstream.keys_of(key))
        versions = [(old[-64:], old[:100]), (other(old)[-64:], other(old)[:100])]
        # An index may be kept for a while, but what is read by it has to be of the same object, or is refused once.
        for may_refuse in (True, False):
            answers = [server.get(key, {"Range": text}) for text in ("bytes=-64", "bytes=0-99")]
            found = tuple(answer.body for answer in answers)
            if found == (old, old):
                raise SkippedError("the server ignores ranges, and kept what it had read")
            refused = may_refuse and any(is_fault(answer) for answer in answers)
            expect(found in versions or refused, "the index is of one version, the chunk of another")
        again = server.get(key, {"Range": "bytes=0-99", "If-Range": etag})
        expect(again.body in {old[:100], other(old)}, f"If-Range gave {again.status}, {len(again.body)} bytes")


@faults("fault-frozen", MUST)
def frozen(behind: Behind) -> None:
    """When upstream does not answer at all, the server gives up in time, and says so."""
    with behind.failing("freeze"):
        started = time.monotonic()
        answer = _patient(behind).get(behind.target.key, {"Range": "bytes=0-99"})
        took = time.monotonic() - started
    expect(is_fault(answer), f"status {answer.status} after {took:.0f} s")


@faults("fault-frozen-others", MUST)
def frozen_others(behind: Behind) -> None:
    """While upstream is silent about one object, others are served."""
    others = (key for key, answer in behind.target.objects() if key != behind.target.key and answer.status == 200)
    key = next(others, behind.target.array.within("zarr.json"))
    whole = behind.target.server.get(key).body
    connections = []
    with behind.failing("freeze"):
        for _ in range(8):
            connections.append(behind.target.server.connect())
            connections[-1].request("GET", f"{behind.target.server.root}/{behind.target.key}")
        expect(behind.target.server.get(key).body == whole, "another object was not served")
    for connection in connections:
        connection.close()
    behind.recovered()


@faults("fault-stalled", MUST)
def stalled(behind: Behind) -> None:
    """When upstream falls silent in the middle of a body, the answer ends in time and not as a whole one."""
    with behind.failing("stall"):
        try:
            answer = _patient(behind).get(behind.target.key)
        except FailedError as error:
            expect("no answer" not in str(error), f"nothing happened for {behind.patience_s:.0f} s")
            return
    expect(is_fault(answer) or answer.body == behind.target.body, f"{answer.status} and {len(answer.body)} bytes")


def _patient(behind: Behind) -> Server:
    return Server(behind.target.server.base, behind.patience_s)


@faults("fault-no-air", MUST)
def no_air(behind: Behind) -> None:
    """zarr over fsspec never reads zeros where upstream refuses, is overloaded or cuts a body short."""
    needs("zarr", "fsspec", "aiohttp")
    import numpy as np
    import zarr

    target = behind.target
    array = zarr.open_array(f"{target.server.base}/{target.array.path}", mode="r", zarr_format=3)
    asked = 0
    for kind, (name, box) in itertools.product(("403", "503", "cut"), boxes_of(target.array).items()):
        true = target.copy[box]
        with behind.upstream.failing(kind, target.key) as fault:
            try:
                found = array[box]
            except Exception:  # noqa: BLE001 - whatever it is, the user of the client sees that something is wrong
                found = true
        asked += fault.seen
        right = np.array_equal(np.asarray(found), true, equal_nan=true.dtype.kind == "f")
        expect(right, f"the client took {kind} for zeros in the {name}")
    if not asked:
        raise SkippedError(NOT_ASKED)
