"""What obstore itself reads from an S3: random ranges, many at once, in one process that does nothing else.

The job comes as JSON on standard input, what was found goes as JSON to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from typing import Any

import obstore
from obstore.store import from_url

from bench.ranges import Found, Job


async def run(url: str, job: Job) -> Found:
    """Read ranges until the time is over."""
    store: Any = from_url(url, client_options={"allow_http": True})
    chance = random.Random(job.seed)
    end = time.perf_counter() + job.seconds
    answers = 0

    async def reader() -> None:
        nonlocal answers
        while time.perf_counter() < end:
            path, size = chance.choice(job.objects)
            start = chance.randrange(size - job.range_bytes + 1)
            data = await obstore.get_range_async(store, path, start=start, length=job.range_bytes)
            answers += len(data) == job.range_bytes

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(reader() for _ in range(job.connections)))
    wall_s = time.perf_counter() - started
    return Found(answers, answers * job.range_bytes, 0, wall_s, time.process_time() - cpu)


def in_process(url: str, job: Job, env: dict[str, str]) -> Found:
    """Run a job in a process of its own."""
    command = [sys.executable, "-m", "bench.objects", url]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=True, env=env)
    return Found(*json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], Job(*json.load(sys.stdin))))), flush=True)
    # obstore's threads may abort an interpreter that tidies up while they still run.
    os._exit(0)
