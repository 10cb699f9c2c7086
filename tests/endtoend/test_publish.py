"""A licensed part of a mirror in a public bucket, read by anybody; and a publication that is killed again and again."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import xarray as xr

from converter.convert import ConvertSettings, convert
from converter.copying import copy_mirror
from converter.copyplan import CopySettings
from converter.corpusfile import read_corpus
from corpus.catalog import read_catalog
from corpus.errors import LayoutError
from corpus.manifest import read_manifest
from corpus.outcomes import ObjectRecord
from corpus.stores import Store
from tests.conftest import BIN

pytestmark = pytest.mark.slow

SEED = 20261125
LOG = logging.getLogger(__name__)
OPEN = frozenset({"CC-BY-4.0"})
"""Licence of 0002 to 0004; 0001 is CC-BY-NC-4.0."""
PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": ["arn:aws:s3:::open", "arn:aws:s3:::open/*"],
        }
    ],
}


@pytest.fixture(scope="module")
def client(s3: dict[str, str]) -> Any:
    """An S3 client that has the keys, with a bucket `open` that anybody may read."""
    import s3fs

    fs = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )
    fs.call_s3("create_bucket", Bucket="open")
    fs.call_s3("put_bucket_policy", Bucket="open", Policy=json.dumps(PUBLIC))
    return fs


@pytest.fixture(scope="module")
def published(client: Any, s3: dict[str, str], corpus: Path, voxshelf: Callable[..., Any]) -> dict[str, Any]:
    """Two subjects converted into a private bucket, and the open one of them published; the result of `publish`."""
    options = ["--subjects", "0001,0002", "--volumes", "ct,organs", "--workers", "0", "--no-pictures"]
    voxshelf("convert", corpus, "s3://voxshelf/private", *options, env=s3)
    told = voxshelf("publish", "s3://voxshelf/private", "s3://open/data", "--license", "CC-BY-4.0", "--json", env=s3)
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [event["type"] for event in events] == ["planned", "subject", "result"]
    assert events[0]["through_memory"] is False
    result: dict[str, Any] = events[-1]
    return result


def listed(client: Any, prefix: str) -> dict[str, bytes]:
    client.invalidate_cache()
    found: dict[str, bytes] = client.cat(client.find(prefix))
    return {key.removeprefix(f"{prefix}/"): data for key, data in found.items()}


def test_nothing_of_another_licence_is_in_the_public_bucket(client: Any, published: dict[str, Any]) -> None:
    assert (published["subjects"], published["licenses"]) == (1, {"CC-BY-4.0": 1})
    private, public = listed(client, "voxshelf/private"), listed(client, "open")
    assert [key for key in private if "/0001." in key], "there is something that must not go along"
    assert not [key for key in public if "0001" in key or ".voxshelf" in key]
    assert not [key for key, data in public.items() if b"CC-BY-NC" in data]
    store = {key: data for key, data in private.items() if key.startswith("subjects/0002.ome.zarr")}
    assert {key.removeprefix("data/"): data for key, data in public.items() if "/subjects/" in key} == store


def test_objects_say_their_type_and_how_long_they_may_be_kept(s3: dict[str, str], published: dict[str, Any]) -> None:
    with httpx.Client(base_url=f"{s3['AWS_ENDPOINT_URL']}/open/data") as anybody:
        chunk = anybody.head("/subjects/0002.ome.zarr/ct/scale0/ct/c/0/0/0").headers
        assert (chunk["content-type"], "immutable" in chunk["cache-control"]) == ("application/octet-stream", True)
        kinds = {"mirror.json": "json", "catalog.parquet": "parquet", "subjects/0002.ome.zarr/zarr.json": "json"}
        for key, kind in kinds.items():
            told = anybody.head(f"/{key}").headers
            assert told["content-type"].endswith(kind)
            assert told["cache-control"].startswith("no-cache")


def test_one_line_reads_it_from_the_bucket_and_through_the_service(
    s3: dict[str, str], published: dict[str, Any], serve: Callable[..., Any]
) -> None:
    def liver_mean(url: str) -> float:
        tree = xr.open_datatree(f"{url}/0002.ome.zarr", engine="zarr", zarr_format=3)
        ct, organs = tree["ct/scale0/ct"], tree["ct/labels/organs/scale0/organs"]
        return float(ct.where(organs == 9).mean())

    with serve("s3://open/data", s3) as base:
        served = liver_mean(f"{base}/zarr")
    direct = liver_mean(f"{s3['AWS_ENDPOINT_URL']}/open/data/subjects")
    assert direct == served
    assert direct == direct, "there are voxels"  # a mean of nothing is NaN


def test_the_next_run_copies_nothing_and_a_withdrawal_leaves_nothing(
    client: Any, s3: dict[str, str], published: dict[str, Any], voxshelf: Callable[..., Any], tmp_path: Path
) -> None:
    # Credentials of its own for each side, as of two providers: the bytes come through memory.
    config = tmp_path / "config"
    keys = f"aws_access_key_id={s3['AWS_ACCESS_KEY_ID']}\naws_secret_access_key={s3['AWS_SECRET_ACCESS_KEY']}\n"
    config.write_text(f"[profile one]\n{keys}[profile two]\n{keys}")
    env = {**s3, "AWS_CONFIG_FILE": str(config)}
    command = ["publish", "s3://open/data", "s3://voxshelf/again", "--source-profile", "one", "--profile", "two"]
    planned, _, result = map(json.loads, voxshelf(*command, "--json", env=env).stdout.splitlines())
    assert (planned["through_memory"], result["copied"], result["objects"]) == (True, 1, published["objects"])
    assert listed(client, "voxshelf/again") == {
        key.removeprefix("data/"): data for key, data in listed(client, "open").items()
    }
    _, result = map(json.loads, voxshelf(*command, "--json", env=env).stdout.splitlines())
    assert (result["copied"], result["already"]) == (0, 1)
    done = json.loads(voxshelf("unpublish", "s3://voxshelf/again", "0002", "--json", env=s3).stdout)
    assert (done["left"], done["listed"], done["objects"]) == ([], False, published["objects"] + 1)
    assert [key for key in listed(client, "voxshelf/again") if "0002" in key] == []


# Twenty kills. A new interpreter that loads all packages takes longer than the copy, so that most runs are forked from
# one that has loaded them: each is the command, in a process of its own, that gets a SIGKILL.
FORKS = """
import glob, os, random, signal, sys
import converter.copying, voxshelf.verbs.publish
from corpus.stores import Store
from voxshelf.cli import cli

mirror, copy, seed, kills = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)

def run(options, number, moment):
    left = number
    def dying(call):
        def wrapped(*arguments):
            nonlocal left
            left -= 1
            if left <= 0 and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            call(*arguments)
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return wrapped
    for name in ("put", "delete", "delete_keys"):
        setattr(Store, name, dying(getattr(Store, name)))
    Store.flush = lambda store: None  # waits for all disks of the machine, which no SIGKILL needs
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    cli.main(["publish", mirror, copy, *options], standalone_mode=False)

killed = 0
while killed < kills:
    options = rng.choice([["--license", "CC-BY-4.0"], []])
    number, moment = rng.randint(1, 60), rng.choice(["before", "after"])
    # A subject without its manifest is replaced: it leaves the tables, and comes back.
    for path in rng.sample(found := sorted(glob.glob(copy + "/subjects/*.sha256")), min(1, len(found))):
        os.unlink(path)
    child = os.fork()
    if child == 0:
        try:
            run(options, number, moment)
        except SystemExit as end:
            os._exit(end.code or 0)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(99)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"it failed by itself with {os.waitstatus_to_exitcode(status)}")
    killed += os.WIFSIGNALED(status)
"""


@pytest.fixture(scope="module")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of four subjects with few objects."""
    folder = tmp_path_factory.mktemp("plain")
    settings = ConvertSettings(corpus=read_corpus(str(corpus)), roles=("ct",), pictures=False)
    assert not convert(str(corpus), str(folder), settings, lambda _: None).failures
    return folder


class Watcher:
    """Reads a mirror over and over, as anybody may: every subject that its tables list must be complete."""

    def __init__(self, mirror: Path, source: Path) -> None:
        self._mirror = mirror
        store = Store(str(source))
        self._expected = {f"000{number}": read_manifest(store, f"000{number}") or {} for number in range(1, 5)}
        self.looks = self.subjects = self.opened = 0
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
        while not self._ended.wait(0.01):
            before = self._commit()
            try:
                subjects = list(read_catalog(Store(str(self._mirror))).subjects)
            except LayoutError:
                continue  # no publication yet, or tables that are being replaced
            found = [fault for subject in subjects for fault in self._look_at(subject)]
            # A subject that was taken out of the tables meanwhile may be on its way out.
            self.faults += found if self._commit() == before else []
            self.looks += 1
            self.subjects += len(subjects)

    def _commit(self) -> tuple[int, int] | None:
        try:
            told = (self._mirror / "mirror.json").stat()
        except FileNotFoundError:
            return None
        return told.st_ino, told.st_mtime_ns

    def _look_at(self, subject: str) -> Iterator[str]:
        for key, sha256 in self._expected[subject].items():
            try:
                if ObjectRecord.of(key, (self._mirror / key).read_bytes()).sha256 != sha256:
                    yield f"{key} is another one"
            except FileNotFoundError:
                yield f"{key} is not there"
        if self.looks % 20 == 0:
            try:
                store = self._mirror / f"subjects/{subject}.ome.zarr"
                with xr.open_datatree(store, engine="zarr", zarr_format=3) as tree:
                    self.opened += tree["ct/scale0/ct"].values.size > 0
            except (OSError, KeyError, ValueError) as error:
                yield f"{subject}: {error!r}"


def test_a_publication_that_is_killed_twenty_times(plain: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    publish(plain, copy)
    with Watcher(copy, plain) as watcher:
        command = [sys.executable, "-c", FORKS, str(plain), str(copy), str(SEED), "17"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        rng = random.Random(SEED)
        for _ in range(3):
            kill_the_command(plain, copy, rng.uniform(0, 0.3))
        publish(plain, copy)
    assert watcher.faults == []
    assert watcher.looks > 20
    assert watcher.subjects > 20
    assert watcher.opened > 0
    publish(plain, tmp_path / "undisturbed")
    assert contents(copy) == contents(tmp_path / "undisturbed")


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


def publish(mirror: Path, copy: Path) -> None:
    done = copy_mirror(Store(str(mirror)), Store(str(copy)), CopySettings(licenses=OPEN), lambda _: None)
    assert (done.failures, done.subjects) == ((), 3)


def contents(mirror: Path) -> dict[str, bytes]:
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
