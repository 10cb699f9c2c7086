"""Stores of objects, on a real folder and in memory."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from corpus.errors import NotFoundError, SettingsError, StoreError
from corpus.listing import SourceListing
from corpus.stores import Store, open_file
from tests.conftest import Web


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def local(folder: Path) -> Store:
    return Store(str(folder))


@pytest.fixture(params=["local", "file URL", "memory"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A folder, the same by URL, and a store that is not local."""
    if request.param != "memory":
        yield Store(str(folder) if request.param == "local" else folder.as_uri())
        return
    url = f"memory://{uuid.uuid4().hex}/mirror"
    yield Store(url)
    memory = fsspec.filesystem("memory")
    if memory.exists(url):
        memory.rm(url, recursive=True)


class TestObjects:
    def test_what_is_put_is_got(self, store: Store) -> None:
        content = bytes(range(256)) * 100
        store.put("a/b/c.bin", content)
        store.put("empty", b"")
        assert store.get("a/b/c.bin") == content
        assert store.get("empty") == b""
        with store.open("a/b/c.bin") as file:
            assert file.read() == content
            assert (file.seek(-7, 2), file.read()) == (len(content) - 7, content[-7:])

    def test_a_second_put_replaces_all_of_the_first(self, store: Store) -> None:
        store.put("a", b"a long one")
        store.put("a", b"short")
        assert store.get("a") == b"short"
        assert store.sizes() == {"a": 5}

    def test_only_objects_exist(self, store: Store) -> None:
        store.put("a/b", b"1")
        assert store.exists("a/b")
        assert not store.exists("a")
        assert not store.exists("a/c")
        assert not store.exists("a/b/c")

    @pytest.mark.parametrize("key", ["missing", "missing/too", "a/missing", "a", "a/b/c"])
    def test_what_is_no_object_is_not_found(self, store: Store, key: str) -> None:
        """Neither is a folder, nor what would lie below an object: on S3 these are missing keys."""
        store.put("a/b", b"1")
        with pytest.raises(NotFoundError) as caught:
            store.get(key)
        assert caught.value.code == "not-found.key"
        assert caught.value.place == f"{store.url}/{key}"
        with pytest.raises(NotFoundError) as caught, store.open(key):
            pass
        assert caught.value.place == f"{store.url}/{key}"

    def test_many_are_got_without_the_missing_ones(self, store: Store) -> None:
        written = {f"a/{number}": bytes([number]) * number for number in range(40)}
        for key, data in written.items():
            store.put(key, data)
        assert store.get_many([*written, "a/40", "missing/one"]) == written
        assert store.get_many(["a/7"]) == {"a/7": written["a/7"]}
        assert store.get_many(["missing"]) == {}
        assert store.get_many(iter([])) == {}


class TestCreate:
    def test_only_the_first_one_writes(self, store: Store) -> None:
        assert store.create("a/lease", b"one")
        assert not store.create("a/lease", b"two")
        assert store.get("a/lease") == b"one"
        assert store.keys() == ["a/lease"]

    def test_whoever_wrote_it_is_told_so_again(self, store: Store) -> None:
        """As when the answer to a first try was lost."""
        assert store.create("lease", b"one")
        assert store.create("lease", b"one")

    def test_it_may_come_back(self, store: Store) -> None:
        store.create("lease", b"one")
        store.delete("lease")
        assert store.create("lease", b"two")


def test_a_sweep_takes_what_a_killed_process_left_growing(local: Store, folder: Path) -> None:
    local.put("a", b"1")
    (folder / ".voxshelf/growing/tmpxyz").write_bytes(b"half of it")
    local.sweep()
    assert local.keys() == ["a"]
    local.put("b", b"2")
    assert local.keys() == ["a", "b"]


class TestListing:
    def test_names_are_those_directly_below(self, store: Store) -> None:
        for key in ("a/z", "a/b/c", "a/b/d", "b"):
            store.put(key, b"1")
        assert store.names("a") == ["b", "z"]
        assert store.names("missing") == []

    def test_keys_are_relative_and_sorted(self, store: Store) -> None:
        for key in ("b", "a/z", "a/b/c", "ab/d"):
            store.put(key, key.encode())
        assert store.keys() == ["a/b/c", "a/z", "ab/d", "b"]
        assert store.keys("a") == ["a/b/c", "a/z"]
        assert store.keys("a/b") == ["a/b/c"]
        assert store.sizes("a") == {"a/b/c": 5, "a/z": 3}

    def test_there_are_none_in_a_store_that_does_not_exist(self, store: Store) -> None:
        assert store.keys() == []
        assert store.keys("a/b") == []
        assert store.sizes() == {}

    def test_a_listing_sees_later_writes(self, store: Store) -> None:
        store.put("a/1", b"1")
        assert store.keys("a") == ["a/1"]
        store.put("a/2", b"22")
        store.delete("a/1")
        assert store.sizes("a") == {"a/2": 2}


class TestDelete:
    def test_takes_what_lies_below_and_nothing_beside(self, store: Store) -> None:
        for key in ("a/b", "a/c/d", "ab", "a.txt"):
            store.put(key, b"1")
        store.delete("a")
        assert store.keys() == ["a.txt", "ab"]

    def test_takes_a_single_object(self, store: Store) -> None:
        store.put("a/b", b"1")
        store.put("a/c", b"2")
        store.delete("a/b")
        assert store.keys() == ["a/c"]

    def test_of_nothing_is_silent(self, store: Store) -> None:
        store.delete("missing")
        store.put("a", b"1")
        store.delete("missing/too")
        assert store.keys() == ["a"]


class TestPlaces:
    def test_a_trailing_slash_changes_nothing(self, folder: Path) -> None:
        Store(f"{folder}/").put("a", b"1")
        assert Store(str(folder)).keys() == Store(f"{folder}/").keys() == ["a"]

    def test_a_relative_path_is_told_in_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = Store("mirror")
        store.put("a", b"1")
        assert store.url == str(tmp_path / "mirror")
        assert (tmp_path / "mirror" / "a").read_bytes() == b"1"

    def test_making_a_store_writes_nothing(self, folder: Path) -> None:
        Store(str(folder))
        assert not folder.exists()

    @pytest.mark.parametrize("name", ["with blank", "release [2026]", "what?", "a*b", "\u00e4\u2260", "50%25"])
    def test_signs_of_patterns_and_urls_are_plain_signs_in_a_path(self, tmp_path: Path, name: str) -> None:
        store = Store(str(tmp_path / name))
        store.put("a/1", b"1")
        store.put("a/2", b"22")
        assert (tmp_path / name / "a" / "1").read_bytes() == b"1"
        assert store.sizes() == {"a/1": 1, "a/2": 2}
        assert store.get("a/2") == b"22"
        assert store.get_many(["a/1", "a/2", "a/3"]) == {"a/1": b"1", "a/2": b"22"}
        store.delete("a")
        assert store.keys() == []

    @pytest.mark.parametrize("kind", [Store, SourceListing])
    def test_an_unknown_protocol_is_a_wrong_setting(self, kind: type) -> None:
        with pytest.raises(SettingsError, match="nosuch") as caught:
            kind("nosuch://bucket/prefix")
        assert (caught.value.code, caught.value.place) == ("settings.url", "nosuch://bucket/prefix")

    def test_only_a_folder_is_local(self, folder: Path) -> None:
        assert Store(str(folder)).is_local
        assert Store(folder.as_uri()).is_local
        assert not Store("memory://nothing").is_local


class Interrupted(BaseException):
    """What ends a process, such as KeyboardInterrupt, which pytest takes for itself."""


class TestAtomicPut:
    @pytest.mark.parametrize("step", ["replace", "fchmod"])
    @pytest.mark.parametrize("before", [None, b"the old object"])
    def test_a_put_that_fails_leaves_the_old_object_and_nothing_else(
        self, local: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: bytes | None
    ) -> None:
        if before is not None:
            local.put("a/b", before)

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(StoreError, match="No space left") as caught:
            local.put("a/b", b"the new object")
        assert (caught.value.code, caught.value.place) == ("store.full", f"{folder}/a/b")
        files = {path.name: path.read_bytes() for path in (folder / "a").glob("*")}
        assert files == ({} if before is None else {"b": before})

    def test_an_interrupted_one_does_as_well(self, local: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object) -> None:
            raise Interrupted

        local.put("a/b", b"the old object")
        monkeypatch.setattr(os, "replace", interrupt)
        with pytest.raises(Interrupted):
            local.put("a/b", b"the new object")
        assert {path.name: path.read_bytes() for path in (folder / "a").iterdir()} == {"b": b"the old object"}

    def test_what_cannot_be_written_leaves_nothing(self, local: Store, folder: Path) -> None:
        local.put("a/b", b"the old object")
        with pytest.raises(TypeError):
            local.put("a/b", [b"the new", "text"])  # type: ignore[list-item]
        assert {path.name: path.read_bytes() for path in (folder / "a").iterdir()} == {"b": b"the old object"}
        assert local.keys() == ["a/b"]

    def test_a_reader_sees_the_old_object_until_the_new_one_is_whole(
        self, local: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        replace = os.replace

        def watch(path: str, target: Path) -> None:
            seen.append((local.get("a"), Path(path).read_bytes()))
            replace(path, target)

        local.put("a", b"old")
        monkeypatch.setattr(os, "replace", watch)
        local.put("a", b"new")
        assert seen == [(b"old", b"new")]
        assert local.get("a") == b"new"

    def test_others_may_read_what_was_put(self, local: Store, folder: Path) -> None:
        local.put("a", b"1")
        assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o644


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (PermissionError(13, "Permission denied"), "store.denied"),
            (ConnectionResetError(104, "reset by peer"), "store.unreachable"),
            (TimeoutError("too slow"), "store.unreachable"),
            (OSError(5, "Input/output error"), "store.unreachable"),
            (type("ClientError", (Exception,), {"__module__": "botocore.exceptions"})("no"), "store.unreachable"),
            (type("ServerError", (Exception,), {"__module__": "aiohttp.client"})("no"), "store.unreachable"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
    )
    def test_of_the_storage_are_ours(
        self, local: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        for name in ("cat_file", "info", "find"):
            monkeypatch.setattr(type(local._fs), name, fail)
        for call in (local.get, local.exists, local.sizes, local.keys):
            with pytest.raises(StoreError) as caught:
                call("a/b")
            assert (caught.value.code, caught.value.place) == (code, f"{folder}/a/b")
            assert caught.value.__cause__ is error

    def test_a_failure_among_many_is_not_taken_for_a_missing_object(
        self, local: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(5, "Input/output error")

        local.put("a", b"1")
        monkeypatch.setattr(type(local._fs), "cat_file", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            local.get_many(["a", "b"])

    def test_mistakes_of_ours_pass_through(self, local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(type(local._fs), "cat_file", fail)
        with pytest.raises(ZeroDivisionError):
            local.get("a")


class TestZarr:
    def test_writes_only_when_asked_to(self, local: Store, folder: Path) -> None:
        array = zarr.create_array(local.zarr("subject/ct", read_only=False), shape=(3,), dtype="i2")
        array[:] = np.arange(3)
        assert (folder / "subject" / "ct" / "zarr.json").is_file()
        reader = zarr.open_array(local.zarr("subject/ct"))
        assert np.asarray(reader[:]).tolist() == [0, 1, 2]
        assert local.zarr("subject/ct").read_only
        with pytest.raises(ValueError, match="read-only"):
            zarr.open_array(local.zarr("subject/ct"), mode="r+")


class TestSourceListing:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        root = tmp_path / "source"
        (root / "images" / "CT").mkdir(parents=True)
        (root / "images" / "CT" / "0001.nii.gz").write_bytes(b"gzip")
        (root / "labels.json").write_bytes(b"{}")
        return root

    @pytest.mark.parametrize("end", ["", "/"])
    def test_names_are_relative(self, source: Path, end: str) -> None:
        assert SourceListing(f"{source}{end}").sizes == {"images/CT/0001.nii.gz": 4, "labels.json": 2}

    def test_files_are_read_and_opened(self, source: Path) -> None:
        listing = SourceListing(str(source))
        with open_file(listing.url("images/CT/0001.nii.gz")) as file:
            assert file.read() == b"gzip"

    def test_a_folder_that_is_not_there_is_a_wrong_setting(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="no such folder") as caught:
            SourceListing(str(tmp_path / "nowhere"))
        assert (caught.value.code, caught.value.place) == ("settings.url", str(tmp_path / "nowhere"))

    def test_an_empty_folder_has_no_files(self, tmp_path: Path) -> None:
        assert SourceListing(str(tmp_path)).sizes == {}

    def test_an_archive_is_a_source_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "a b.ZIP").write_bytes(b"123")
        listing = SourceListing(str(tmp_path / "a b.ZIP"))
        assert listing.sizes == {"a b.ZIP": 3}
        with open_file(listing.url("a b.ZIP")) as file:
            assert file.read() == b"123"

    def test_a_folder_may_be_called_like_an_archive(self, tmp_path: Path) -> None:
        (tmp_path / "all.zip").mkdir()
        (tmp_path / "all.zip" / "a").write_bytes(b"1")
        assert SourceListing(str(tmp_path / "all.zip")).sizes == {"a": 1}


class TestWeb:
    def test_an_index_is_followed_down_and_names_are_those_of_the_files(self, tmp_path: Path, web: Web) -> None:
        names = ["source/a", "source/b c/100% #1?.nii", "source/gr\u00f6\u00dfer/d/e.zip", "beside/x"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        for end in ("", "/"):
            listing = SourceListing(f"{web.base}/source{end}")
            assert set(listing.sizes) == {name.removeprefix("source/") for name in names[:3]}
            assert listing.unreadable == {}
            for name in listing.sizes:
                with open_file(listing.url(name)) as file:
                    assert file.read() == f"source/{name}".encode()

    def test_links_that_lead_elsewhere_or_nowhere(self, tmp_path: Path, web: Web) -> None:
        links = ["?C=N;O=D", "/", "../", "a.nii", "/s/b.nii", "gone.nii", "lost/", "https://example.org/c.nii", "#top"]
        page = "".join(f'<a href="{link}">x</a>' for link in links)
        (tmp_path / "s").mkdir()
        (tmp_path / "s/index.html").write_text(page)
        for name in ("a.nii", "b.nii"):
            (tmp_path / "s" / name).write_bytes(b"1")
        listing = SourceListing(f"{web.base}/s")
        assert listing.sizes == {"a.nii": 1, "b.nii": 1}
        assert set(listing.unreadable) == {"gone.nii", "lost/"}

    def test_an_archive_is_taken_by_its_name_whatever_signature_follows(self, tmp_path: Path, web: Web) -> None:
        (tmp_path / "a b.zip").write_bytes(b"123")
        listing = SourceListing(f"{web.base}/a%20b.zip?signature=abc/def")
        assert listing.sizes == {"a b.zip": 3}
        with open_file(listing.url("a b.zip")) as file:
            assert file.read() == b"123"

    def test_nothing_behind_the_stop_is_fetched(self, tmp_path: Path, web: Web) -> None:
        (tmp_path / "a").write_bytes(bytes(range(256)) * 100)
        with open_file(f"{web.base}/a", read_ahead_bytes=1000, stop=550) as file:
            file.seek(500)
            assert file.read(10) == bytes(range(244, 254))
        assert [span[1:] for span in web.ranges] == [(500, 550)]

    def test_no_such_place(self, web: Web) -> None:
        for name in ("nowhere", "nowhere.zip"):
            with pytest.raises(SettingsError, match="no such folder or archive"):
                SourceListing(f"{web.base}/{name}")
