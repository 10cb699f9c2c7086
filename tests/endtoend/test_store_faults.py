"""S3 that answers 503, breaks off, or says nothing: a real server behind a proxy that spoils requests."""

from __future__ import annotations

import gc
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
import s3fs

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.events import Report
from converter.phantom import write_phantom
from corpus import retries
from corpus.errors import StoreError
from corpus.stores import Store, open_file
from tests.faults import Fault, Proxy, proxy_of

pytestmark = pytest.mark.slow

SEED = 20261125


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    write_phantom(str(folder), subjects=1)
    return folder


@pytest.fixture
def proxy(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What this process takes for S3; it waits a second for an answer, where users' runs wait fifteen, and
    a fifth of a second between two tries."""
    with proxy_of(s3["AWS_ENDPOINT_URL"]) as proxy:
        for name, value in {**s3, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 1)
        monkeypatch.setattr(retries, "_LONGEST_WAIT_S", 0.2)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
        s3fs.S3FileSystem.clear_instance_cache()
        with warnings.catch_warnings():
            # s3fs leaves the closing of its connections to the end of the process.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def run(source: str, mirror: str) -> Report:
    settings = ConvertSettings(corpus=read_corpus(source))
    return convert(source, mirror, settings, lambda _: None)


def contents(store: Store) -> dict[str, bytes]:
    return store.get_many(key for key in store.sizes() if not key.startswith(".voxshelf/"))


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    mirror = tmp_path_factory.mktemp("undisturbed")
    assert not run(str(corpus), str(mirror)).failures
    return contents(Store(str(mirror)))


def now_and_then(share: float, faults: list[str]) -> Callable[[str, str], Fault]:
    logging.getLogger(__name__).warning("seed %d", SEED)
    rng = random.Random(SEED)
    following = cycle(faults)
    return lambda *_: next(following) if rng.random() < share else None


def test_a_store_that_fails_now_and_then_is_asked_again_and_nobody_notices(
    proxy: Proxy, corpus: Path, expected: dict[str, bytes]
) -> None:
    faults = ["503", "drop", "cut", "500", "429", "stall"]
    proxy.plan = now_and_then(0.02, faults)
    assert not run(str(corpus), "s3://voxshelf/now-and-then").failures
    assert {fault for fault, _, _ in proxy.faults} == set(faults), proxy.faults
    proxy.plan = lambda *_: None
    assert contents(Store("s3://voxshelf/now-and-then")) == expected


def test_a_store_that_is_down_for_seconds_is_waited_for(proxy: Proxy) -> None:
    left = iter(["503"] * 8)
    proxy.plan = lambda method, _: next(left, None) if method == "PUT" else None
    store = Store("s3://voxshelf/down")
    store.put("a", b"1")
    assert len(proxy.faults) == 8
    assert store.get("a") == b"1"


def test_a_source_that_breaks_in_the_middle_is_read_on_from_there(proxy: Proxy, tmp_path: Path) -> None:
    data = random.Random(SEED).randbytes(2**19)
    Store("s3://voxshelf/source").put("a/0001.nii.gz", data)
    ranges: list[str] = []

    def twice_each(method: str, path: str) -> Fault:
        if method != "GET" or "0001" not in path:
            return None
        ranges.append(path)
        return None if len(ranges) % 8 == 7 else "cut"

    proxy.plan = twice_each
    with open_file("s3://voxshelf/source/a/0001.nii.gz", read_ahead_bytes=2**18) as file:
        read = b"".join(iter(lambda: file.read(100_000), b""))
    assert read == data
    # s3fs by itself gives up after five; and never is more fetched again than the range that broke.
    assert len(proxy.faults) >= 6


def test_a_store_that_stays_away_ends_the_run_with_its_place_and_a_hint(
    proxy: Proxy, corpus: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PATIENCE_S", 0.5)
    mirror = "s3://voxshelf/away"
    # It goes away with the CT's first shard, and stays so for the shards of all volumes.
    proxy.plan = lambda method, path: "503" if method == "PUT" and "/c/" in path else None
    with pytest.raises(StoreError, match="3 volumes in a row failed with a store") as caught:
        run(str(corpus), mirror)
    assert caught.value.code == "store.unreachable"
    assert caught.value.place.startswith("s3://voxshelf/away/subjects/0001.ome.zarr/")
    assert "goes on where it stopped" in caught.value.hint
    assert not Store(mirror).exists("mirror.json")
    proxy.plan = lambda *_: None
    assert not run(str(corpus), mirror).failures
    assert contents(Store(mirror)) == expected


def test_a_source_that_stays_away_ends_the_run_as_well(
    proxy: Proxy, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    for name, data in files.items():
        for subject in ("0001", "0002", "0003"):
            Store("s3://voxshelf/corpus").put(name.replace("0001", subject), data)
    monkeypatch.setattr(retries, "PATIENCE_S", 0.2)
    proxy.plan = lambda _, path: "503" if ".nii.gz" in path and "list-type" not in path else None
    with pytest.raises(StoreError, match="3 volumes in a row failed with a store") as caught:
        run("s3://voxshelf/corpus", str(tmp_path / "mirror"))
    assert caught.value.code == "store.unreachable"
    assert "0003.nii.gz" in caught.value.place


def test_a_failure_is_never_taken_for_a_missing_object(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE_S", 0.2)
    store = Store("s3://voxshelf/there")
    store.put("mirror.json", b"{}")
    proxy.plan = lambda *_: "503"
    for call in (store.exists, store.get, store.keys):
        with pytest.raises(StoreError) as caught:
            call("mirror.json")
        assert caught.value.code == "store.unreachable"


def test_what_is_refused_is_not_asked_for_again(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    proxy.plan = lambda _, path: asked.append(path)  # type: ignore[func-returns-value]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError) as caught:
        Store("s3://voxshelf/refused").put("a", b"1")
    assert caught.value.code == "store.denied"
    assert len(asked) == 1


def test_only_one_creates_an_object(proxy: Proxy) -> None:
    store = Store("s3://voxshelf/created")
    assert store.create("lease", b"one")
    assert not store.create("lease", b"two")
    assert store.get("lease") == b"one"
