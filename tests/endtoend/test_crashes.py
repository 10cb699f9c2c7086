"""kill -9 of the command, of a worker and of the scheduler, a full disk, a worker over its memory limit: after a rerun
the mirror is, object for object, that of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.phantom import write_phantom
from converter.reader import Mirror
from corpus.errors import LayoutError
from tests.conftest import BIN, free_port, running

pytestmark = pytest.mark.slow

SEED = 20261125
RNG = random.Random(SEED)
LOG = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small subjects."""
    folder = tmp_path_factory.mktemp("two")
    write_phantom(str(folder), subjects=2)
    return folder


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nobody disturbed makes."""
    mirror = tmp_path_factory.mktemp("undisturbed")
    settings = ConvertSettings(corpus=read_corpus(str(corpus)))
    assert not convert(str(corpus), str(mirror), settings, lambda _: None).failures
    return contents(mirror)


def contents(mirror: Path) -> dict[str, bytes]:
    files = (path for path in mirror.rglob("*") if path.is_file() and ".voxshelf" not in path.parts)
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in files}


def go_on(corpus: Path, mirror: Path, *, break_lock: bool = False) -> None:
    """The rerun, in this process, which is quick; it leaves nothing behind of what grew when it was killed."""
    settings = ConvertSettings(corpus=read_corpus(str(corpus)), break_lock=break_lock)
    assert not convert(str(corpus), str(mirror), settings, lambda _: None).failures
    assert not [*(mirror / ".voxshelf/growing").glob("*")]


@contextmanager
def started(corpus: Path, mirror: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, with its events on its output."""
    command = [str(BIN / "voxshelf"), "convert", str(corpus), str(mirror), "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], kind: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == kind:
            return
    assert process.stderr is not None
    pytest.fail(f"the run ended before the event {kind}: {process.stderr.read()}")


KILLED_AT_A_PUT = """
import os, signal, sys
from corpus.stores import Store
from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus

source, mirror, number, moment = sys.argv[1:]
put, left = Store.put, int(number)

def put_or_die(store, key, data):
    global left
    left -= 1
    if left == 0 and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    put(store, key, data)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Store.put = put_or_die
convert(source, mirror, ConvertSettings(corpus=read_corpus(source)), lambda _: None)
"""


def kill_at(corpus: Path, mirror: Path, number: int, moment: str) -> None:
    LOG.warning("seed %d: killed %s put %d", SEED, moment, number)
    command = [sys.executable, "-c", KILLED_AT_A_PUT, str(corpus), str(mirror), str(number), moment]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, f"it ended by itself with {done.returncode}: {done.stderr}"


def test_the_command_is_killed_at_one_object_after_the_other(
    corpus: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    # Each run goes on where the one before was killed, so that all stages see it.
    mirror = tmp_path / "mirror"
    for _ in range(5):
        kill_at(corpus, mirror, RNG.randint(1, 150), RNG.choice(["before", "after"]))
    go_on(corpus, mirror)
    assert contents(mirror) == expected


def test_the_command_is_killed_while_it_publishes(corpus: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    go_on(corpus, mirror)
    for key in ("mirror.json", "catalog.parquet", "volumes.parquet", "regions.parquet"):
        (mirror / key).unlink()
    for number in (2, 4, 6):
        kill_at(corpus, mirror, number, "before")
        # Without its commit nobody reads it.
        with pytest.raises(LayoutError, match=r"layout\.not-a-mirror"):
            Mirror(str(mirror))
    go_on(corpus, mirror)
    assert contents(mirror) == expected


def test_the_command_is_killed_at_any_moment(corpus: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    for _ in range(2):
        wait_s = RNG.uniform(0, 0.8)
        LOG.warning("seed %d: killed %.3f s after its first event", SEED, wait_s)
        with started(corpus, mirror, "--workers", "2") as process:
            wait_for(process, "planned")
            time.sleep(wait_s)
            process.kill()
    go_on(corpus, mirror)
    assert contents(mirror) == expected


def test_workers_are_killed(corpus: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    with started(corpus, mirror, "--workers", "2") as process:
        wait_for(process, "planned")
        for _ in range(2):
            children = psutil.Process(process.pid).children()
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            victim = RNG.choice(workers)
            LOG.warning("seed %d: killed worker %d", SEED, workers.index(victim))
            victim.kill()
            time.sleep(RNG.uniform(0, 0.5))
        _, errors = process.communicate(timeout=120)
    # A job whose worker dies is given to another one: nobody has to run anything again.
    assert process.returncode == 0, errors
    assert contents(mirror) == expected


@contextmanager
def cluster(folder: Path, *worker_options: str, env: dict[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """A scheduler and one worker, processes of their own; gives the address and the scheduler's process id."""
    port, dashboard, own = free_port(), free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--dashboard-address", f"127.0.0.1:{dashboard}"]
    worker = [str(BIN / "dask"), "worker", address, "--nthreads", "1", "--host", "127.0.0.1", *worker_options]
    worker += ["--dashboard-address", f"127.0.0.1:{own}", "--local-directory", str(folder)]
    with ExitStack() as stack:
        command = [str(BIN / "dask"), "scheduler", *options]
        stack.enter_context(running(command, f"http://127.0.0.1:{dashboard}/health", folder / "scheduler", env))
        scheduler = next(c.pid for c in psutil.Process().children() if str(port) in c.cmdline())
        stack.enter_context(running(worker, f"http://127.0.0.1:{own}/health", folder / "worker", env))
        yield address, scheduler


def test_the_scheduler_is_killed(corpus: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    with (
        cluster(tmp_path) as (address, scheduler),
        started(corpus, mirror, "--scheduler", address) as process,
    ):
        wait_for(process, "volume")
        os.kill(scheduler, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 4, errors
        assert "[store.scheduler-lost]" in errors
        assert "hint: Start the scheduler anew" in errors
        # The worker may still be writing its last volume, which does no harm.
        go_on(corpus, mirror)
        assert contents(mirror) == expected


HOG = """
import time

class Hog:
    name = "hog"

    def setup(self, worker):
        pass

    def teardown(self, worker):
        pass

    def transition(self, key, start, finish, **_):
        if finish == "executing" and key.startswith("organs 0002"):
            self.held = b"x" * 10**9
            time.sleep(5)

async def dask_setup(worker):
    from distributed.diagnostics.plugin import WorkerPlugin
    await worker.plugin_add(type("Plugin", (Hog, WorkerPlugin), {})())
"""


def test_a_worker_over_its_memory_limit(corpus: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    mirror, preload = tmp_path / "mirror", tmp_path / "hog.py"
    preload.write_text(HOG)
    env = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    options = ["--memory-limit", "800MB", "--preload", str(preload)]
    with (
        cluster(tmp_path, *options, env=env) as (address, _),
        started(corpus, mirror, "--scheduler", address) as process,
    ):
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    failures = json.loads(output.splitlines()[-1])["failures"]
    # Jobs that waited at the same worker may be lost with it.
    assert {finding["code"] for finding in failures} == {"store.worker-lost"}
    assert "organs 0002" in {finding["place"] for finding in failures}
    go_on(corpus, mirror)
    assert contents(mirror) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes, which is really full when it is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "voxshelf-test", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"only root may mount a small disk: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk: Path, corpus: Path, expected: dict[str, bytes], voxshelf: Callable[..., Any]) -> None:
    mirror = small_disk / "mirror"
    done = voxshelf("convert", corpus, mirror, "--workers", "0", status=4)
    assert "[store.full]" in done.stderr
    assert "hint: Make room" in done.stderr
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    go_on(corpus, mirror)
    assert contents(mirror) == expected


def test_two_runs_on_one_mirror(
    corpus: Path, expected: dict[str, bytes], tmp_path: Path, voxshelf: Callable[..., Any]
) -> None:
    mirror = tmp_path / "mirror"
    with started(corpus, mirror, "--workers", "0") as process:
        wait_for(process, "planned")
        process.send_signal(signal.SIGSTOP)
        done = voxshelf("convert", corpus, mirror, "--workers", "0", status=4)
        assert "[store.locked]" in done.stderr
        assert f"process {process.pid} on" in done.stderr
        go_on(corpus, mirror, break_lock=True)
        assert contents(mirror) == expected
        # The one that was robbed wakes up, and must not publish.
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 4, errors
        assert "[store.lock-lost]" in errors
    go_on(corpus, mirror)
    assert contents(mirror) == expected
