"""A publication that is killed again and again, on a disk and from bucket to bucket, while somebody reads the copy."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import xarray as xr

from converter.convert import ConvertSettings, convert
from converter.copying import copy_mirror
from converter.copyplan import CopySettings
from converter.corpusfile import read_corpus
from corpus import layout
from corpus.catalog import read_catalog
from corpus.errors import LayoutError, VoxshelfError
from corpus.manifest import read_manifest
from corpus.outcomes import ObjectRecord
from corpus.stores import Store
from tests.conftest import BIN

pytestmark = pytest.mark.slow

SEED = 20261125
LOG = logging.getLogger(__name__)
OPEN = frozenset({"CC-BY-4.0"})
"""Licence of 0002 to 0004; 0001 is CC-BY-NC-4.0."""
SUBJECTS = ("0001", "0002", "0003", "0004")
NEVER = 10**6
READY = 2
"""Processes that load their packages while one is at work: loading takes longer than the copy."""


@pytest.fixture(scope="module")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of four subjects with few objects."""
    folder = tmp_path_factory.mktemp("plain")
    settings = ConvertSettings(corpus=read_corpus(str(corpus)), roles=("ct",), pictures=False)
    assert not convert(str(corpus), str(folder), settings, lambda _: None).failures
    return folder


type Version = Callable[[str], object]
"""Tells whether an object was written anew, be it with the same bytes; None where there is none."""


def version_on_disk(folder: Path) -> Version:
    def version(key: str) -> object:
        try:
            told = (folder / key).stat()
        except FileNotFoundError:
            return None
        return told.st_ino, told.st_mtime_ns

    return version


def version_in_bucket(store: Store, log: Path) -> Version:
    """By what a doomed process is about to write, since S3 tells the time in seconds."""

    def version(key: str) -> object:
        writes = log.read_text().split("\n").count(key) if log.exists() else 0
        data = store.get_many([key]).get(key)
        return None if data is None else (data, writes)

    return version


class Watcher:
    """Reads a copy over and over, as anybody may, until something is wrong with it.

    A subject that the tables list must be complete; so must one that has a root, for whoever knows its address. What
    was seen while the tables and the root were replaced does not count: the subject may have been on its way out.
    """

    def __init__(self, source: Store, copy: Store, version: Version, *, opens_every: int, pause_s: float) -> None:
        self._copy = copy
        self._version = version
        self._opens_every = opens_every
        self._pause_s = pause_s
        self._expected = {subject: read_manifest(source, subject) or {} for subject in SUBJECTS}
        self.looks = self.listed = self.unlisted = self.opened = 0
        self.faults: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self.faults and not self._ended.wait(self._pause_s):
            try:
                self.faults += self._look()
            except VoxshelfError as error:
                self.faults.append(repr(error))
            self.looks += 1

    def _look(self) -> list[str]:
        tables = self._version(layout.MIRROR_JSON)
        try:
            listed = frozenset(read_catalog(self._copy).subjects)
        except LayoutError:
            listed = frozenset()  # no publication yet, or tables that are being replaced
        faults = []
        for subject in SUBJECTS:
            root = f"{layout.store_key(subject)}/zarr.json"
            promises = {root: self._version(root), layout.MIRROR_JSON: tables if subject in listed else None}
            if not any(promises.values()):
                continue
            found = list(self._look_at(subject))
            held = [key for key, seen in promises.items() if seen is not None and self._version(key) == seen]
            if held:
                self.listed += subject in listed
                self.unlisted += subject not in listed
                faults += [f"{fault}, with the same {held} before and after" for fault in found]
        return faults

    def _look_at(self, subject: str) -> Iterator[str]:
        objects = self._copy.get_many(self._expected[subject])
        for key, sha256 in self._expected[subject].items():
            if key not in objects:
                yield f"{key} is not there"
            elif ObjectRecord.of(key, objects[key]).sha256 != sha256:
                yield f"{key} is another one"
        if self.looks % self._opens_every == 0:
            try:
                store = self._copy.zarr(layout.store_key(subject))
                with xr.open_datatree(store, engine="zarr", zarr_format=3) as tree:  # type: ignore[arg-type]
                    self.opened += tree["ct/scale0/ct"].values.size > 0
            except (OSError, KeyError, ValueError) as error:
                yield f"{subject}: {error!r}"


class Doomed:
    """Processes that run `voxshelf publish` one after the other; the next ones are loading their packages meanwhile."""

    def __init__(self, bytecode: Path) -> None:
        # Whatever the machine is set to, packages are compiled once, and not by each process.
        self._env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
        self._processes = ExitStack()
        self._loading: deque[subprocess.Popen[str]] = deque()

    def __enter__(self) -> Self:
        for _ in range(READY):
            self._load()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._loading:
            process.kill()
        self._processes.close()

    def _load(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("doomed.py"))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._env)
        self._loading.append(self._processes.enter_context(process))

    def run(self, orders: object, kill_after_s: float | None) -> int:
        """The status of the next process, which is killed at the latest after this time."""
        process = self._loading.popleft()
        self._load()
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.communicate(json.dumps(orders) + "\n", timeout=60 if kill_after_s is None else kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            assert kill_after_s is not None, "it hangs"
        return process.returncode


def kill_again_and_again(source: str, copy: Store, log: Path, kills: int, watcher: Watcher) -> None:
    rng, killed, finished = random.Random(SEED), 0, False
    with Doomed(log.with_name("bytecode")) as doomed:
        while killed < kills and not watcher.faults:
            options = rng.choice([["--license", "CC-BY-4.0"], []])
            write, moment = rng.randint(1, 60), rng.choice(["before", "after", "at any time"])
            # A subject without its manifest is replaced: it leaves the tables, and comes back.
            manifests = [key for key in copy.keys(layout.SUBJECTS) if key.endswith(layout.MANIFEST_SUFFIX)]
            copy.delete_keys(rng.sample(manifests, min(1, len(manifests))))
            wait_s = rng.uniform(0, 0.6) if moment == "at any time" else None
            if killed % 4 == 3 and not finished:
                write, moment, wait_s = NEVER, "after", None  # so that there is something to lose
            finished = write == NEVER
            status = doomed.run([[source, copy.url, *options, "--json"], write, moment, str(log)], wait_s)
            LOG.warning("seed %d: %s, write %d, %s, %s s: %d", SEED, options, write, moment, wait_s, status)
            assert status in {-signal.SIGKILL, 0}, "it failed by itself"
            killed += status != 0


def test_a_publication_that_is_killed_twenty_times(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    copy = Store(str(folder))
    publish(plain, folder)
    with Watcher(Store(str(plain)), copy, version_on_disk(folder), opens_every=20, pause_s=0.02) as watcher:
        kill_again_and_again(str(plain), copy, tmp_path / "log", 17, watcher)
        rng = random.Random(SEED)
        for _ in range(3):
            if not watcher.faults:
                kill_the_command(plain, folder, rng.uniform(0, 0.3))
        publish(plain, folder)
    assert_nothing_was_wrong(watcher)
    publish(plain, tmp_path / "undisturbed")
    assert contents(copy) == contents(Store(str(tmp_path / "undisturbed")))


def test_a_publication_from_bucket_to_bucket_that_is_killed_twenty_times(
    plain: Path, s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    source, copy = Store("s3://voxshelf/killed/from"), Store("s3://voxshelf/killed/to")
    copy_mirror(Store(str(plain)), source, CopySettings(), lambda _: None)
    publish(source.url, copy.url)
    log = tmp_path / "log"
    with Watcher(source, copy, version_in_bucket(copy, log), opens_every=5, pause_s=0.05) as watcher:
        kill_again_and_again(source.url, copy, log, 20, watcher)
        if not watcher.faults:
            publish(source.url, copy.url)
    assert_nothing_was_wrong(watcher)
    undisturbed = Store("s3://voxshelf/killed/undisturbed")
    publish(source.url, undisturbed.url)
    assert contents(copy) == contents(undisturbed)


def assert_nothing_was_wrong(watcher: Watcher) -> None:
    LOG.warning("%d looks: %d listed, %d not", watcher.looks, watcher.listed, watcher.unlisted)
    assert not watcher.faults, watcher.faults[:9]
    assert watcher.looks > 20
    assert watcher.listed > 20
    assert watcher.opened > 0


def kill_the_command(mirror: Path, copy: Path, wait_s: float) -> None:
    command = [str(BIN / "voxshelf"), "publish", str(mirror), str(copy), "--license", "CC-BY-4.0", "--json"]
    (copy / "subjects/0002.ome.zarr.sha256").write_bytes(b"")  # there must be something to do
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "planned"
        time.sleep(wait_s)
        process.kill()
    LOG.warning("seed %d: killed %.3f s after its plan, %s", SEED, wait_s, process.returncode)
    assert process.returncode in {-signal.SIGKILL, 0}


def publish(mirror: str | Path, copy: str | Path) -> None:
    done = copy_mirror(Store(str(mirror)), Store(str(copy)), CopySettings(licenses=OPEN), lambda _: None)
    assert (done.failures, done.subjects) == ((), 3)


def contents(store: Store) -> dict[str, bytes]:
    return store.get_many(store.keys())
