"""Many clients at once on the service in front of SeaweedFS, which freezes in the middle.

Clients mix ranges of shards (the bytes are compared), queries of the catalogue and cut-outs, with a short pause after
each; some more read slowly, and some hang up in the middle. Each has an address of its own (X-Forwarded-For), so that
the limits of one client are not what is measured. SeaweedFS is stopped (SIGSTOP) for a while and goes on: until then,
and for as long as the service may wait for it, 502, 503 and 504 are clean answers; at any other time they are errors.
Exit status 1 if there is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from bench import servers
from bench.servers import Running

STORE: Final = "subjects/0001.ome.zarr"
FAULTS: Final = frozenset({502, 503, 504})
MIX: Final = {"range": 0.7, "catalogue": 0.2, "cut-out": 0.1}
QUERIES: Final = ("/v1/subjects", "/v1/subjects?has_label=liver&limit=2", "/v1/subjects/0001", "/v1/subjects/0002")
CUT: Final = "/v1/subjects/0001/ct/cutout?label=spleen&margin_mm=5&format=nii.gz"
_PAUSE_S: Final = 0.1
_SLOW_BYTES: Final = 4096


class Plan(NamedTuple):
    """How many clients, for how long, and when upstream freezes; seconds."""

    clients: int
    slow: int
    hanging: int
    seconds: float
    freeze_s: float
    upstream_s: float

    @property
    def freeze(self) -> tuple[float, float]:
        """When upstream is silent, from the start on."""
        start = (self.seconds - self.freeze_s) / 2
        return start, start + self.freeze_s

    def excuses(self, begun_s: float, ended_s: float) -> bool:
        """Return whether an answer between these times may be a clean fault."""
        start, stop = self.freeze
        # What was asked while upstream was silent may be given up on a little later.
        return self.freeze_s > 0 and ended_s >= start and begun_s <= stop + 1.0


class Asked(NamedTuple):
    """One request: what, when (from the start on), for how long, and what came: "ok", "clean fault" or an error."""

    kind: str
    begun_s: float
    took_s: float
    came: str


class Load:
    """A run: its clients, and what they saw.

    Parameters
    ----------
    plan
        How much of what.
    base
        URL of the service.
    shards
        Objects that are read, by path: their true bytes.
    """

    def __init__(self, plan: Plan, base: str, shards: dict[str, bytes]) -> None:
        self.plan, self.base, self.shards = plan, base, shards
        self.asked: list[Asked] = []
        self.memory_mb: list[tuple[float, float]] = []
        self.mix = dict(MIX)
        self._started = time.monotonic()

    def now(self) -> float:
        """Return the seconds from the start on."""
        return time.monotonic() - self._started

    async def run(self, service: Running, upstream: Running) -> None:
        """Let everybody work until the time is over."""
        self._started = time.monotonic()
        work = [self._client(number) for number in range(self.plan.clients)]
        work += [self._slow_reader(number) for number in range(self.plan.slow)]
        work += [self._hanger() for _ in range(self.plan.hanging)]
        await asyncio.gather(*work, self._watch(service), self._freeze(upstream))

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        headers = {"X-Forwarded-For": f"10.1.{number // 250}.{number % 250 + 1}"}
        limit = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(headers=headers, timeout=limit) as session:
            while self.now() < self.plan.seconds:
                kind = chance.choices(list(self.mix), list(self.mix.values()))[0]
                begun = self.now()
                try:
                    came = await self._once(session, kind, chance)
                except (aiohttp.ClientError, TimeoutError) as error:
                    came = type(error).__name__
                # A body that upstream stopped in the middle of can only end by a broken connection.
                broken = came in {"ClientPayloadError", *(f"HTTP {status}" for status in FAULTS)}
                if broken and self.plan.excuses(begun, self.now()):
                    came = "clean fault"
                self.asked.append(Asked(kind, begun, self.now() - begun, came))
                await asyncio.sleep(chance.uniform(0, 2 * _PAUSE_S))

    async def _once(self, session: aiohttp.ClientSession, kind: str, chance: random.Random) -> str:
        if kind == "range":
            path, true = chance.choice(list(self.shards.items()))
            count = min(len(true), 200_000)
            start = chance.randrange(len(true) - count + 1)
            headers = {"Range": f"bytes={start}-{start + count - 1}"}
            async with session.get(self.base + path, headers=headers) as answer:
                body = await answer.read()
                if answer.status != 206:
                    return f"HTTP {answer.status}"
                return "ok" if body == true[start : start + count] else "WRONG BYTES"
        async with session.get(self.base + (CUT if kind == "cut-out" else chance.choice(QUERIES))) as answer:
            body = await answer.read()
            return "ok" if answer.status == 200 and body else f"HTTP {answer.status}"

    async def _slow_reader(self, number: int) -> None:
        """Take a whole shard a few kB at a time, through a small window."""
        chance = random.Random(number)
        while self.now() < self.plan.seconds:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await self._connection(small=True)
                writer.write(f"GET {chance.choice(list(self.shards))} HTTP/1.1\r\nHost: slow\r\n\r\n".encode())
                while await reader.read(_SLOW_BYTES) and self.now() < self.plan.seconds:  # noqa: ASYNC110 - slow on purpose
                    await asyncio.sleep(_PAUSE_S)
                writer.close()
            await asyncio.sleep(_PAUSE_S)

    async def _hanger(self) -> None:
        """Ask for a whole shard, take its beginning, and hang up."""
        path = max(self.shards, key=lambda each: len(self.shards[each]))
        while self.now() < self.plan.seconds:
            with contextlib.suppress(OSError):
                reader, writer = await self._connection(small=False)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: hanger\r\n\r\n".encode())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 2.0)
                writer.transport.abort()
            await asyncio.sleep(_PAUSE_S)

    async def _connection(self, *, small: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self.base)
        plain = socket.socket()
        if small:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BYTES)
        plain.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        await asyncio.get_running_loop().sock_connect(plain, (address.hostname, address.port))
        return await asyncio.open_connection(sock=plain, limit=2 * _SLOW_BYTES)

    async def _watch(self, service: Running) -> None:
        while self.now() < self.plan.seconds:
            self.memory_mb.append((self.now(), service.rss_mb()))
            await asyncio.sleep(0.5)

    async def _freeze(self, upstream: Running) -> None:
        if not self.plan.freeze_s:
            return
        start, stop = self.plan.freeze
        await asyncio.sleep(start - self.now())
        os.kill(upstream.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(stop - self.now())
        finally:
            os.kill(upstream.pid, signal.SIGCONT)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def summary(load: Load) -> dict[str, object]:
    """Return what is printed, as one document."""
    quiet = [each for each in load.asked if not load.plan.excuses(each.begun_s, each.begun_s + each.took_s)]
    kinds = {
        kind: {
            "requests": len(took := [each.took_s for each in quiet if each.kind == kind]),
            "p50_ms": round(1e3 * percentile(took, 0.5), 1),
            "p99_ms": round(1e3 * percentile(took, 0.99), 1),
        }
        for kind in load.mix
    }
    came = Counter(each.came for each in load.asked)
    after = [each for each in load.asked if each.begun_s > load.plan.freeze[1] + 1.0]
    faults = [each.took_s for each in load.asked if each.came == "clean fault"]
    fifth = max(1, len(load.memory_mb) // 5)
    curve = [round(mb) for _, mb in load.memory_mb]
    return {
        "plan": load.plan._asdict(),
        "requests": len(load.asked),
        "errors": {what: count for what, count in came.items() if what not in {"ok", "clean fault"}},
        "clean_faults": len(faults),
        "slowest_clean_fault_s": round(max(faults, default=0.0), 1),
        "after_freeze": dict(Counter(each.came for each in after)),
        "undisturbed": kinds,
        "rss_mb": curve[:: max(1, fifth // 2)],
        "rss_mb_second_and_last_fifth": [
            round(statistics.mean(curve[fifth : 2 * fifth] or curve)),
            round(statistics.mean(curve[-fifth:])),
        ],
    }


def show(found: dict[str, object]) -> None:
    """Print it for people."""
    for name, value in found.items():
        print(f"{name:30} {json.dumps(value)}")


def made(folder: Path, size: str) -> Path:
    """Make a corpus of a few subjects and its mirror, and return the mirror."""
    for arguments in (
        ["phantom", str(folder / "corpus"), "--subjects", "4", "--size", size],
        ["convert", str(folder / "corpus"), str(folder / "mirror"), "--volumes", "ct,pet,organs"],
    ):
        subprocess.run([str(servers.BIN / "voxshelf"), *arguments], check=True, capture_output=True)
    return folder / "mirror"


def measured(plan: Plan, mirror: Path) -> Load:
    """Start everything and run the plan."""
    with servers.seaweedfs("load") as (upstream, env):
        servers.upload(mirror, "s3://load/mirror", env)
        env["VOXSHELF_SERVE_UPSTREAM_TIMEOUT_S"] = str(plan.upstream_s)
        with servers.voxshelf("s3://load/mirror", env) as service:
            store = mirror / STORE
            files = [path for path in store.glob("*/scale0/*/c/**/*") if path.is_file()]
            shards = {f"/zarr/0001.ome.zarr/{path.relative_to(store).as_posix()}": path.read_bytes() for path in files}
            load = Load(plan, service.base, shards)
            asyncio.run(load.run(service, upstream))
    return load


def main() -> int:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--slow", type=int, default=5, help="more clients, which read slowly")
    parser.add_argument("--hanging", type=int, default=5, help="more clients, which hang up")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--freeze", type=float, default=10.0, help="for how long upstream is silent; 0 for not at all")
    parser.add_argument("--upstream-timeout", type=float, default=3.0, help="how long the service waits for upstream")
    parser.add_argument("--size", default="medium", help="of the synthetic subjects")
    parser.add_argument("--mirror", help="a mirror to take instead of a synthetic one; it must hold 0001 and 0002")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    counts = given.clients, given.slow, given.hanging
    plan = Plan(*counts, given.seconds, given.freeze, given.upstream_timeout)
    with tempfile.TemporaryDirectory() as folder:
        mirror = Path(given.mirror) if given.mirror else made(Path(folder), given.size)
        found = summary(measured(plan, mirror))
    if given.json:
        print(json.dumps(found))
    else:
        show(found)
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
