"""A withdrawn consent: nothing is left, and nothing comes back."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from converter.convert import ConvertSettings, convert
from converter.copying import copy_mirror
from converter.copyplan import CopySettings
from converter.corpusfile import read_corpus
from converter.events import Report
from converter.verify import VerifySettings, verify
from converter.withdraw import Withdrawn, withdraw
from corpus.catalog import read_catalog
from corpus.errors import LayoutError, NotFoundError
from corpus.stores import Store

TWO = frozenset({"0002", "0003"})


def run(corpus: Path, mirror: Path, **choices: Any) -> Report:
    settings = ConvertSettings(corpus=read_corpus(str(corpus)), subjects=TWO, roles=("ct",), **choices)
    return convert(str(corpus), str(mirror), settings, lambda _: None)


@pytest.fixture(scope="module")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    assert not run(corpus, folder).failures
    return folder


@pytest.fixture
def own(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "mirror"))


def gone(mirror: Path, subject: str = "0002") -> list[Withdrawn]:
    return withdraw(str(mirror), [subject], lambda _: None)


def traces(mirror: Path, subject: str = "0002") -> list[str]:
    """Files that bear a subject's id in their name or as a word in their text, but for the private list."""
    files = [path for path in mirror.rglob("*") if path.is_file() and path.name != "withdrawn.json"]
    word = re.compile(rf"(?<![\w.]){subject}(?!\w)".encode())
    found = [path for path in files if subject in path.relative_to(mirror).as_posix() or word.search(path.read_bytes())]
    return [path.relative_to(mirror).as_posix() for path in found]


def test_nothing_is_left_of_a_subject(own: Path) -> None:
    before = traces(own)
    assert {".voxshelf/report/pictures/0002.webp", "subjects/0002.ome.zarr.sha256", "catalog.parquet"} <= set(before)
    held = [path for path in own.rglob("*") if path.is_file() and "0002" in path.relative_to(own).as_posix()]
    (done,) = gone(own)
    assert (done.objects, done.bytes) == (len(held), done.bytes)
    assert (done.left, done.listed, done.is_gone) == ((), False, True)
    assert traces(own) == []
    assert verify(str(own), VerifySettings(), lambda _: None).findings == ()
    assert json.loads((own / ".voxshelf/withdrawn.json").read_text()) == ["0002"]


def test_the_tables_come_first_then_records_then_the_root(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    put, delete = Store.put, Store.delete
    monkeypatch.setattr(Store, "put", lambda store, key, data: (seen.append(key), put(store, key, data))[1])
    monkeypatch.setattr(Store, "delete", lambda store, key: (seen.append(f"-{key}"), delete(store, key))[1])
    gone(own)
    order = [".voxshelf/withdrawn.json", "catalog.parquet", "mirror.json", "-.voxshelf/outcomes/0002"]
    order += ["-subjects/0002.ome.zarr/zarr.json", "-subjects/0002.ome.zarr"]
    assert [key for key in seen if key in order] == order


def test_the_next_conversion_does_not_bring_it_back_unless_told_to(own: Path, corpus: Path) -> None:
    gone(own)
    report = run(corpus, own)
    assert [(found.code, found.place) for found in report.warnings if found.code == "warning.withdrawn"] == [
        ("warning.withdrawn", "0002")
    ]
    assert (report.converted, report.subjects) == (0, 1)
    report = run(corpus, own, overwrite=True)
    assert (report.converted, report.subjects) == (1, 1), "not even then"
    report = run(corpus, own, bring_back=frozenset({"0002"}))
    assert (report.converted, report.subjects) == (1, 2)
    assert not (own / ".voxshelf/withdrawn.json").exists()


@pytest.mark.parametrize("stopped_before", ["catalog.parquet", "-.voxshelf/outcomes/0002", "-subjects/0002.ome.zarr"])
def test_a_withdrawal_that_was_cut_short_is_ended_by_the_next_conversion(
    own: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, stopped_before: str
) -> None:
    put, delete = Store.put, Store.delete

    def step(name: str) -> None:
        if name == stopped_before:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", lambda store, key, data: (step(key), put(store, key, data))[1])
        patch.setattr(Store, "delete", lambda store, key: (step(f"-{key}"), delete(store, key))[1])
        with pytest.raises(KeyboardInterrupt):
            gone(own)
    report = run(corpus, own)
    assert report.subjects == 1
    assert [path for path in own.rglob("*") if "0002" in path.name] == []
    assert gone(own)[0].is_gone, "which may be asked for again"


def test_a_copy_without_records_loses_it_in_the_same_way(plain: Path, tmp_path: Path) -> None:
    copy = Store(str(tmp_path))
    copy_mirror(Store(str(plain)), copy, CopySettings(), lambda _: None)
    assert gone(tmp_path)[0].is_gone
    assert traces(tmp_path) == []
    assert set(read_catalog(copy).subjects) == {"0003"}
    assert verify(str(tmp_path), VerifySettings(), lambda _: None).findings == ()
    done = copy_mirror(Store(str(plain)), copy, CopySettings(), lambda _: None)
    assert [found.place for found in done.warnings] == ["0002"]
    assert traces(tmp_path) == [], "the next publication does not bring it back"
    done = copy_mirror(Store(str(plain)), copy, CopySettings(bring_back=frozenset({"0002"})), lambda _: None)
    assert (done.copied, done.subjects, done.warnings) == (1, 2, ())


def test_what_is_withdrawn_from_the_mirror_leaves_its_copies_with_the_next_publication(
    own: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy_mirror(Store(str(own)), Store(str(copy)), CopySettings(), lambda _: None)
    gone(own)
    assert copy_mirror(Store(str(own)), Store(str(copy)), CopySettings(), lambda _: None).removed == 1
    assert traces(copy) == []


def test_a_mistyped_id_does_not_pass_for_a_withdrawal(own: Path) -> None:
    before = traces(own)
    with pytest.raises(NotFoundError, match=r"not-found\.subject"):
        withdraw(str(own), ["0002", "002"], lambda _: None)
    assert traces(own) == before, "nothing was done"


def test_a_list_that_cannot_be_read_stops_everything(own: Path, corpus: Path) -> None:
    (own / ".voxshelf/withdrawn.json").write_text("{")
    with pytest.raises(LayoutError, match="not a list of ids"):
        run(corpus, own)
