"""A client that reads random ranges over many connections, and costs as little as it can.

One thread and an epoll loop. It looks at the head of each answer and lets the kernel throw the body away (MSG_TRUNC),
so that no byte of it is copied: beside any server it takes a small part of a core, and tells how much. Run as a process
of its own: the job comes as JSON on standard input, what was found goes as JSON to standard output.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import subprocess
import sys
import time
from typing import NamedTuple

_LONGEST_HEAD = 8192
_SINK = bytearray(2**20)


class Job(NamedTuple):
    """What is read: from which server, which objects (path and size), how, and for how long."""

    port: int
    objects: list[tuple[str, int]]
    range_bytes: int
    connections: int
    seconds: float
    seed: int = 0


class Found(NamedTuple):
    """What was read: answers and bytes of bodies, failures, wall seconds, and the client's own CPU seconds."""

    answers: int
    bytes: int
    failures: int
    wall_s: float
    cpu_s: float

    @property
    def mb_per_s(self) -> float:
        """Bytes of bodies a second, in MB."""
        return self.bytes / self.wall_s / 1e6


class Connection:
    """One connection, with at most one request under way."""

    def __init__(self, job: Job, chance: random.Random) -> None:
        self._job, self._chance = job, chance
        self.socket = socket.create_connection(("127.0.0.1", job.port))
        self.socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._head, self._left = b"", 0

    def ask(self) -> None:
        """Send the next request; it is small enough for the send buffer of an idle connection."""
        path, size = self._chance.choice(self._job.objects)
        start = self._chance.randrange(size - self._job.range_bytes + 1)
        text = f"GET {path} HTTP/1.1\r\nHost: bench\r\nRange: bytes={start}-{start + self._job.range_bytes - 1}\r\n\r\n"
        self.socket.send(text.encode())
        self._head = b""

    def receive(self) -> int | None:
        """Take what is there; return the status once an answer is whole."""
        if not self._left and not self._take_head():
            return None
        while self._left:
            try:
                count = self.socket.recv_into(_SINK, min(self._left, len(_SINK)), socket.MSG_TRUNC)
            except BlockingIOError:
                return None
            if not count:
                raise ConnectionError("the server hung up")
            self._left -= count
        return int(self._head[9:12])

    def _take_head(self) -> bool:
        """Read the head and no more than that: what follows it stays with the kernel."""
        try:
            seen = self.socket.recv(_LONGEST_HEAD, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        if not seen:
            raise ConnectionError("the server hung up")
        end = seen.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._head = self.socket.recv(end + 4)
        lowered = self._head.lower()
        at = lowered.index(b"content-length:") + len(b"content-length:")
        self._left = int(lowered[at : lowered.index(b"\r\n", at)])
        return True


def run(job: Job) -> Found:
    """Read ranges until the time is over."""
    chance = random.Random(job.seed)
    selector = selectors.DefaultSelector()
    for _ in range(job.connections):
        connection = Connection(job, chance)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.ask()
    answers = failures = 0
    started = time.perf_counter()
    cpu = time.process_time()
    while time.perf_counter() - started < job.seconds:
        for key, _ in selector.select(1.0):
            connection = key.data
            status = connection.receive()
            if status is None:
                continue
            answers += status == 206
            failures += status != 206
            connection.ask()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return Found(answers, answers * job.range_bytes, failures, wall_s, cpu_s)


def in_process(job: Job) -> Found:
    """Run a job in a process of its own."""
    command = [sys.executable, "-m", "bench.ranges"]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=True)
    return Found(*json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(run(Job(*json.load(sys.stdin)))))
