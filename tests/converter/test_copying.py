"""A licensed part of a mirror copied to another store: what goes along, in which order, and what is done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from converter.convert import ConvertSettings, convert
from converter.copying import Copied, CopyPlanned, copy_mirror, places
from converter.copyplan import CopySettings, plan_copy
from converter.corpusfile import read_corpus
from converter.hosting import estimate, read_prices
from converter.lease import lease
from converter.subset import commit, only, read_tables, without
from converter.verify import VerifySettings, verify
from corpus import layout
from corpus.catalog import read_catalog, table_bytes
from corpus.errors import LayoutError, SettingsError, StoreError
from corpus.manifest import manifest_bytes, read_manifest
from corpus.outcomes import ObjectRecord
from corpus.stores import Store

OPEN = frozenset({"CC-BY-4.0"})
"""Licence of 0002 to 0004; 0001 is CC-BY-NC-4.0."""


@pytest.fixture(scope="module")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of few objects. Tests must not change it."""
    folder = tmp_path_factory.mktemp("plain")
    assert not convert(str(corpus), str(folder), few(corpus), lambda _: None).failures
    return folder


def few(corpus: Path, **choices: Any) -> ConvertSettings:
    return ConvertSettings(corpus=read_corpus(str(corpus)), roles=("ct",), pictures=False, **choices)


@pytest.fixture
def own(plain: Path, tmp_path: Path) -> Path:
    """A mirror that a test may change."""
    return Path(shutil.copytree(plain, tmp_path / "own"))


def publish(mirror: Path, to: Path, **choices: Any) -> tuple[Copied, CopyPlanned]:
    events: list[Any] = []
    settings = CopySettings(**{"licenses": OPEN, **choices})
    return copy_mirror(Store(str(mirror)), Store(str(to)), settings, events.append), events[0]


def contents(mirror: Path) -> dict[str, bytes]:
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in mirror.rglob("*") if path.is_file()}


@contextmanager
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The keys that are put and deleted, in order; deleted ones with a minus."""
    seen: list[str] = []
    put, delete = Store.put, Store.delete
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", lambda store, key, data: (seen.append(key), put(store, key, data))[1])
        patch.setattr(Store, "delete", lambda store, key: (seen.append(f"-{key}"), delete(store, key))[1])
        yield seen


def test_a_copy_is_the_mirror_that_convert_makes_of_the_subset(plain: Path, corpus: Path, tmp_path: Path) -> None:
    done, planned = publish(plain, tmp_path / "copy")
    assert (done.subjects, done.copied, done.licenses) == (3, 3, {"CC-BY-4.0": 3})
    assert (planned.subjects, planned.objects, planned.bytes) == (3, done.objects, done.bytes)
    convert(str(corpus), str(tmp_path / "subset"), few(corpus, licenses=OPEN), lambda _: None)
    expected = {key: data for key, data in contents(tmp_path / "subset").items() if not key.startswith(".voxshelf/")}
    assert contents(tmp_path / "copy") == expected
    assert not [key for key in expected if "0001" in key]
    checked = verify(str(tmp_path / "copy"), VerifySettings(), lambda _: None)
    assert (checked.subjects, checked.findings) == (3, ())


def test_verify_finds_a_damaged_object_of_a_copy_by_its_manifest(plain: Path, tmp_path: Path) -> None:
    publish(plain, tmp_path)
    chunk = tmp_path / "subjects/0002.ome.zarr/ct/nifti/c/0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    (tmp_path / "subjects/0003.ome.zarr/ct/nifti/c/0").unlink()
    found = verify(str(tmp_path), VerifySettings(), lambda _: None).findings
    assert {finding.place for finding in found} >= {
        "subjects/0002.ome.zarr/ct/nifti/c/0",
        "subjects/0003.ome.zarr/ct/nifti/c/0",
    }


def test_the_root_is_last_then_the_manifest_and_mirror_json_at_the_end(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written(monkeypatch) as seen:
        publish(plain, tmp_path, subjects=frozenset({"0002"}))
    inside = [key for key in seen if key.startswith("subjects/")]
    root = "subjects/0002.ome.zarr/zarr.json"
    assert inside[-2:] == [root, "subjects/0002.ome.zarr.sha256"]
    documents = [key.endswith("/zarr.json") for key in inside[:-1]]
    assert documents == sorted(documents), "data before documents"
    depths = [key.count("/") for key in inside[:-1] if key.endswith("/zarr.json")]
    assert depths == sorted(depths, reverse=True), "documents from the inside out"
    last = [key for key in seen if not key.startswith("-")][-1]
    assert (last, seen.index("catalog.parquet") > seen.index(root)) == ("mirror.json", True)


def test_a_second_run_copies_nothing(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(plain, tmp_path)
    with written(monkeypatch) as seen:
        done, _ = publish(plain, tmp_path)
    assert (done.copied, done.already, done.objects) == (0, 3, 0)
    assert not [key for key in seen if key.startswith("subjects/")]


def test_what_is_lost_or_damaged_in_the_copy_is_copied_again(plain: Path, tmp_path: Path) -> None:
    publish(plain, tmp_path)
    expected = contents(tmp_path)
    folder = tmp_path / "subjects/0002.ome.zarr/ct"
    (folder / "nifti/c/0").unlink()
    (folder / "scale0/ct/c/0/0/0").write_bytes(b"short")
    (folder / "zarr.json").write_bytes(b"{}")
    (folder / "stray").write_bytes(b"of nobody")
    done, _ = publish(plain, tmp_path)
    assert (done.copied, done.already, done.objects) == (1, 2, 4), "the root goes first and comes last"
    assert contents(tmp_path) == expected


def test_subjects_that_leave_go_out_of_the_tables_first(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(plain, tmp_path, licenses=None)
    assert "0001" in read_catalog(Store(str(tmp_path))).subjects, "licences that are known go along by default"
    with written(monkeypatch) as seen:
        done, planned = publish(plain, tmp_path)
    assert (done.removed, planned.leaving, done.subjects) == (1, 1, 3)
    assert seen.index("mirror.json") < seen.index("-subjects/0001.ome.zarr/zarr.json")
    assert not [key for key in contents(tmp_path) if "0001" in key]


def test_an_orphan_of_a_killed_run_is_removed_although_no_table_lists_it(plain: Path, tmp_path: Path) -> None:
    Store(str(tmp_path)).put("subjects/0001.ome.zarr/ct/nifti/c/0", b"of a subject that lost its licence meanwhile")
    publish(plain, tmp_path)
    assert not [key for key in contents(tmp_path) if "0001" in key]


def test_a_corrected_licence_moves_a_subject_at_once(own: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    source, settings = Store(str(own)), CopySettings()
    for copy, each in places(source, str(split), settings, None):
        copy_mirror(source, copy, each, lambda _: None)
    assert sorted(path.name for path in split.iterdir()) == ["CC-BY-4.0", "CC-BY-NC-4.0"]
    relicense(own, "0001", "CC-BY-4.0")
    for copy, each in places(source, str(split), settings, None):
        copy_mirror(source, copy, each, lambda _: None)
    assert not [key for key in contents(split / "CC-BY-NC-4.0") if "0001" in key]
    assert set(read_catalog(Store(str(split / "CC-BY-4.0"))).subjects) == {"0001", "0002", "0003", "0004"}
    assert read_catalog(Store(str(split / "CC-BY-NC-4.0"))).mirror.subjects == 0
    # And once more, with a place that holds nothing any more.
    for copy, each in places(source, str(split), settings, None):
        assert copy_mirror(source, copy, each, lambda _: None).copied == 0


def test_a_place_of_a_licence_that_is_not_selected_is_emptied(own: Path, tmp_path: Path) -> None:
    relicense(own, "0001", "unknown")
    split, source = tmp_path / "split", Store(str(own))
    chosen = CopySettings(licenses=frozenset({"unknown", "CC-BY-4.0"}))
    for copy, each in places(source, str(split), chosen, None):
        copy_mirror(source, copy, each, lambda _: None)
    assert set(read_catalog(Store(str(split / "unknown"))).subjects) == {"0001"}
    for copy, each in places(source, str(split), CopySettings(), None):
        copy_mirror(source, copy, each, lambda _: None)
    assert not [key for key in contents(split) if "0001" in key], "unknown has to be named each time"
    assert set(read_catalog(Store(str(split / "CC-BY-4.0"))).subjects) == {"0002", "0003", "0004"}


def note_written(store: Store, subject: str, key: str) -> None:
    digests = read_manifest(store, subject) or {}
    digests[key] = ObjectRecord.of(key, store.get(key)).sha256
    store.put(layout.manifest_key(subject), manifest_bytes(digests))


def relicense(mirror: Path, subject: str, spdx: str, *, root: bool = True) -> None:
    """Give a subject another licence, in the tables and in its root, as a corrected spreadsheet does."""
    store = Store(str(mirror))
    tables = read_tables(store)
    rows = tables["catalog"].to_pylist()
    for row in rows:
        row["license"] = spdx if row["subject"] == subject else row["license"]
    tables["catalog"] = pa.Table.from_batches([pa.RecordBatch.from_pylist(rows, tables["catalog"].schema)])
    if root:
        key = f"{layout.store_key(subject)}/zarr.json"
        document = json.loads(store.get(key))
        document["attributes"]["voxshelf"]["license"]["id"] = spdx
        store.put(key, json.dumps(document).encode())
        note_written(store, subject, key)
    mirror_json = json.loads(store.get("mirror.json"))
    commit(store, read_catalog(store).mirror.corpus, tables, mirror_json["ome_versions"])


def test_a_changed_document_is_replaced_in_place_and_the_subject_stays_listed(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    publish(own, copy, licenses=None)
    relicense(own, "0001", "CC-BY-4.0")
    with written(monkeypatch) as seen:
        done, _ = publish(own, copy, licenses=None)
    assert (done.copied, done.objects, done.licenses) == (1, 1, {"CC-BY-4.0": 4})
    manifest, root = "subjects/0001.ome.zarr.sha256", "subjects/0001.ome.zarr/zarr.json"
    assert [key for key in seen if key.startswith("subjects/")] == [manifest, root, manifest]
    assert seen.count("mirror.json") == 1


def test_replaced_voxels_are_out_of_the_tables_meanwhile(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    publish(own, copy)
    store, key = Store(str(own)), "subjects/0002.ome.zarr/ct/nifti/c/0"
    store.put(key, b"other bytes")
    from corpus.outcomes import ObjectRecord

    digests = read_manifest(store, "0002") or {}
    store.put(
        layout.manifest_key("0002"), manifest_bytes({**digests, key: ObjectRecord.of(key, b"other bytes").sha256})
    )
    put, during = Store.put, []

    def watch(store: Store, name: str, data: bytes) -> None:
        if name == key:
            during.append(set(read_catalog(Store(str(copy))).subjects))
            during.append((copy / "subjects/0002.ome.zarr/zarr.json").exists())
        put(store, name, data)

    monkeypatch.setattr(Store, "put", watch)
    publish(own, copy)
    assert during == [{"0003", "0004"}, False]
    assert set(read_catalog(Store(str(copy))).subjects) == {"0002", "0003", "0004"}


def test_an_object_that_is_not_the_recorded_one_is_never_published(own: Path, tmp_path: Path) -> None:
    chunk = own / "subjects/0002.ome.zarr/ct/nifti/c/0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    done, _ = publish(own, tmp_path / "copy")
    assert [(finding.code, finding.place) for finding in done.failures] == [
        ("layout.object", "subjects/0002.ome.zarr/ct/nifti/c/0")
    ]
    assert set(read_catalog(Store(str(tmp_path / "copy"))).subjects) == {"0003", "0004"}
    assert not (tmp_path / "copy/subjects/0002.ome.zarr/zarr.json").exists()


def test_a_licence_on_which_table_and_store_differ_is_never_published(own: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    publish(own, copy)
    relicense(own, "0001", "CC-BY-4.0", root=False)
    relicense(own, "0003", "CC0-1.0", root=False)
    done, _ = publish(own, copy, licenses=OPEN | {"CC0-1.0"})
    assert {finding.code for finding in done.failures} == {"layout.table-row"}
    assert not [key for key in contents(copy) if "0001" in key or "0003" in key]


def test_an_unknown_licence_has_to_be_named(own: Path, tmp_path: Path) -> None:
    relicense(own, "0001", "unknown")
    done, _ = publish(own, tmp_path / "copy", licenses=None)
    assert done.licenses == {"CC-BY-4.0": 3}
    done, _ = publish(own, tmp_path / "named", licenses=frozenset({"unknown"}))
    assert done.licenses == {"unknown": 1}


def test_a_mirror_without_manifests_is_copied_by_its_records(own: Path, tmp_path: Path) -> None:
    for path in own.glob("subjects/*.sha256"):
        path.unlink()
    publish(own, tmp_path / "copy")
    (tmp_path / "copy/subjects/0002.ome.zarr.sha256").read_bytes()
    again = tmp_path / "again"
    publish(tmp_path / "copy", again)
    assert contents(again) == contents(tmp_path / "copy"), "a copy can be copied"
    shutil.rmtree(own / ".voxshelf")
    done, _ = publish(own, tmp_path / "third")
    assert {finding.code for finding in done.failures} == {"layout.metadata"}


def test_torn_tables_of_a_run_that_was_killed_are_made_good(plain: Path, tmp_path: Path) -> None:
    publish(plain, tmp_path)
    expected = contents(tmp_path)
    (tmp_path / "catalog.parquet").write_bytes(b"of another publication")
    done, _ = publish(plain, tmp_path)
    assert done.already == 3
    assert contents(tmp_path) == expected


def test_places_where_a_copy_would_destroy_something_are_refused(own: Path, plain: Path, tmp_path: Path) -> None:
    for place in (own, own / "public"):
        with pytest.raises(SettingsError, match="it lies in MIRROR"):
            publish(own, place)
    with pytest.raises(SettingsError, match="a mirror that convert writes"):
        publish(plain, own)
    publish(plain, tmp_path / "copy")
    mirror = json.loads((tmp_path / "copy/mirror.json").read_text())
    mirror["corpus"]["name"] = "another one"
    (tmp_path / "copy/mirror.json").write_text(json.dumps(mirror))
    with pytest.raises(SettingsError, match="it holds another one"):
        publish(plain, tmp_path / "copy")


def test_a_selection_that_names_nobody_removes_nobody(plain: Path, tmp_path: Path) -> None:
    publish(plain, tmp_path / "copy")
    before = contents(tmp_path / "copy")
    with pytest.raises(SettingsError, match="no subject is selected"):
        publish(plain, tmp_path / "copy", subjects=frozenset({"1"}))
    assert contents(tmp_path / "copy") == before
    with pytest.raises(SettingsError, match="no subject is selected"):
        publish(plain, tmp_path / "new", licenses=frozenset({"CC0-1.0"}))


def test_a_mirror_in_the_middle_of_an_upgrade_is_refused(own: Path, tmp_path: Path) -> None:
    mirror = json.loads((own / "mirror.json").read_text())
    mirror["ome_versions"] = {"0.5": 2, "0.6": 2}
    (own / "mirror.json").write_text(json.dumps(mirror))
    with pytest.raises(LayoutError, match="an upgrade of the mirror has not ended"):
        publish(own, tmp_path / "copy")


def test_two_runs_on_one_copy(plain: Path, tmp_path: Path) -> None:
    with lease(Store(str(tmp_path))):
        owner = json.loads((tmp_path / ".voxshelf/lease.json").read_text())
        owner["host"] = "elsewhere"
        (tmp_path / ".voxshelf/lease.json").write_text(json.dumps(owner))
        with pytest.raises(StoreError, match=r"store\.locked"):
            publish(plain, tmp_path)
        done, _ = publish(plain, tmp_path, break_lock=True)
    assert done.copied == 3


def test_the_estimate_says_what_is_copied_and_what_it_costs(plain: Path, tmp_path: Path) -> None:
    source, copy = Store(str(plain)), Store(str(tmp_path / "copy"))
    prices = tmp_path / "prices.toml"
    prices.write_text(
        'name = "ours"\ncurrency = "EUR"\nstorage_per_gb_month = 1000\negress_per_gb = 100\n'
        "put_per_1000 = 10\nget_per_1000 = 1\n"
    )
    plan = plan_copy(source, copy, CopySettings(licenses=OPEN))
    told = estimate(plan, copy, read_prices(prices), 2.0)
    assert not (tmp_path / "copy").exists(), "nothing is written"
    done, _ = publish(plain, tmp_path / "copy")
    files = contents(tmp_path / "copy")
    held = sum(len(data) for key, data in files.items() if ".ome.zarr/" in key)
    assert (told.copy_objects, told.copy_bytes) == (done.objects, done.bytes)
    assert (told.objects, told.bytes) == (len(files), held)
    assert told.storage_cost_month == pytest.approx(held / 1e9 * 1000)
    assert told.egress_cost_month == pytest.approx(2 * held / 1e9 * 100)
    assert told.publication_cost == pytest.approx((told.puts * 10 + told.gets) / 1000)
    again = estimate(plan_copy(source, copy, CopySettings(licenses=OPEN)), copy, read_prices(None), 1.0)
    assert (again.copy_objects, again.already, again.objects) == (0, 3, told.objects)
    assert "example" in again.prices
    prices.write_text('name = "ours"')
    with pytest.raises(SettingsError, match="--prices"):
        read_prices(prices)


def test_rows_of_a_subset_are_written_as_those_of_a_conversion(plain: Path) -> None:
    tables = read_tables(Store(str(plain)))
    assert {name: table_bytes(table) for name, table in without(tables, ()).items()} == {
        name: (plain / f"{name}.parquet").read_bytes() for name in tables
    }
    assert only(tables, ["0003"])["catalog"]["subject"].to_pylist() == ["0003"]
