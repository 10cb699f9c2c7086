"""OME-Zarr 0.5 turned into 0.6 in place: the same mirror as one converted with 0.6, also after any interruption."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from converter import upgrade as module
from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.events import Report
from converter.upgrade import SubjectUpgraded, Upgrade, UpgradePlanned, upgrade
from converter.verify import VerifySettings, verify
from corpus import layout
from corpus.catalog import read_mirror
from corpus.errors import LayoutError, SettingsError
from corpus.models import to_json
from corpus.outcomes import SubjectOutcome, VolumeOutcome
from corpus.stores import Store

TWO = frozenset({"0001", "0002"})
ROLES = ("ct", "pet", "organs")


def run(source: Path, mirror: Path, **choices: Any) -> Report:
    settings = ConvertSettings(**{"corpus": read_corpus(str(source)), "subjects": TWO, "roles": ROLES, **choices})
    return convert(str(source), str(mirror), settings, lambda _: None)


def contents(mirror: Path) -> dict[str, Any]:
    """Every object of a mirror; records without the time that each volume took, the report of a run left out."""
    found: dict[str, Any] = {}
    for path in sorted(mirror.rglob("*")):
        key = path.relative_to(mirror).as_posix()
        if not path.is_file() or key.endswith("report.json"):
            continue
        kind = SubjectOutcome if key.endswith("/subject.json") else VolumeOutcome
        found[key] = _timeless(path.read_bytes(), kind) if "/outcomes/" in key else path.read_bytes()
    return found


def _timeless(data: bytes, kind: type[SubjectOutcome | VolumeOutcome]) -> Any:
    record = msgspec.json.decode(data, type=kind)
    if isinstance(record, SubjectOutcome):
        volumes = tuple(msgspec.structs.replace(volume, seconds=0.0) for volume in record.volumes)
        return msgspec.structs.replace(record, volumes=volumes)
    return msgspec.structs.replace(record, seconds=0.0)


@pytest.fixture(scope="module")
def older(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    assert not run(corpus, folder).failures
    return folder


@pytest.fixture
def own(older: Path, tmp_path: Path) -> Path:
    """A copy of the mirror with 0.5 that a test may change."""
    return Path(shutil.copytree(older, tmp_path / "mirror"))


@pytest.fixture(scope="module")
def newer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newer")
    assert not run(corpus, folder, ome_version="0.6").failures
    return folder


@pytest.fixture(scope="module")
def wanted(newer: Path) -> dict[str, Any]:
    return contents(newer)


def up(mirror: Path, subjects: frozenset[str] | None = None, *, dry_run: bool = False) -> tuple[Upgrade, list[Any]]:
    events: list[Any] = []
    return upgrade(str(mirror), subjects, events.append, dry_run=dry_run), events


def test_an_upgraded_mirror_is_the_one_that_convert_writes(own: Path, corpus: Path, wanted: dict[str, Any]) -> None:
    done, events = up(own)
    assert (done.upgraded, done.already, done.left, done.failures) == (2, 0, 0, ())
    assert events == [UpgradePlanned(2, 0), SubjectUpgraded("0001", ()), SubjectUpgraded("0002", ())]
    assert contents(own) == wanted
    assert verify(str(own), VerifySettings(source=str(corpus)), lambda _: None).findings == ()
    report = run(corpus, own)
    assert (report.converted, report.already) == (0, 6)
    assert contents(own) == wanted


def test_only_documents_of_groups_are_written(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []
    original = Store.put
    monkeypatch.setattr(Store, "put", lambda store, key, data: (put.append(key), original(store, key, data))[1])
    up(own)
    inside = [key for key in put if key.startswith("subjects/") and not key.endswith(".sha256")]
    assert {key.rpartition("/")[2] for key in inside} == {"zarr.json"}
    assert len(inside) == len(set(inside)) == 2 * 6, "each document once"
    assert {json.loads((own / key).read_text())["node_type"] for key in inside} == {"group"}
    for subject in TWO:
        of_subject = [key for key in put if f"/{subject}" in key]
        end = [f"{layout.store_key(subject)}/zarr.json", layout.manifest_key(subject)]
        assert of_subject[-3:] == [*end, layout.subject_outcome_key(subject)]
        first_record = next(i for i, key in enumerate(of_subject) if key.startswith(".voxshelf"))
        images = [i for i, key in enumerate(of_subject) if "/labels/" in key and key.count("/") == 5]
        assert max(images) < first_record, "no record vouches for a document that is not there yet"
    assert put[0] == layout.settings_key()
    assert put[-1] == layout.MIRROR_JSON


def test_a_second_upgrade_writes_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up(own)
    put: list[str] = []
    monkeypatch.setattr(Store, "put", lambda _, key, __: put.append(key))
    done, _ = up(own)
    assert (done.upgraded, done.already, done.left) == (0, 2, 0)
    assert put == []


def test_a_dry_run_changes_nothing(own: Path, older: Path) -> None:
    done, events = up(own, dry_run=True)
    assert (done.upgraded, done.left) == (0, 2)
    assert events == [UpgradePlanned(2, 0)]
    assert contents(own) == contents(older)


class KilledError(BaseException):
    """Nothing that anyone catches, as a kill is."""


def kill_after(puts: int, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [puts]
    original = Store.put

    def put(store: Store, key: str, data: bytes) -> None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        original(store, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", put)
        # One after the other, so that the same ones are there each time.
        patch.setattr(module, "_AT_ONCE", 1)
        with pytest.raises(KilledError):
            up(mirror)


# Of the 27 objects that an upgrade of two subjects puts: the note, then for each subject 2 documents, 3 records, 4
# documents above them and the subject's record, then 6 of the publication.
@pytest.mark.parametrize("puts", [1, 2, 3, 6, 8, 10, 15, 21, 24, 26])
def test_after_a_kill_either_command_ends_in_the_same_state(
    own: Path,
    corpus: Path,
    wanted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    puts: int,
) -> None:
    kill_after(puts, own, monkeypatch)
    other = Path(shutil.copytree(own, tmp_path / "other"))
    assert not up(own)[0].failures
    report = run(corpus, other, ome_version="0.6")
    assert (report.converted, report.failures) == (0, ())
    assert contents(own) == contents(other) == wanted


def test_a_portion_is_said_in_mirror_json_and_convert_does_the_rest(
    own: Path, corpus: Path, wanted: dict[str, Any]
) -> None:
    done, _ = up(own, frozenset({"0002"}))
    assert (done.upgraded, done.left) == (1, 1)
    assert read_mirror(Store(str(own))).ome_versions == {"0.5": 1, "0.6": 1}
    assert verify(str(own), VerifySettings(), lambda _: None).findings == ()
    # Whatever is selected, and without being told the version.
    report = run(corpus, own, subjects=frozenset({"0002"}))
    assert (report.converted, report.failures) == (0, ())
    assert contents(own) == wanted


@pytest.mark.parametrize("overwrite", [False, True])
def test_versions_do_not_mix(own: Path, older: Path, corpus: Path, overwrite: bool) -> None:
    with pytest.raises(SettingsError, match=r"settings\.changed") as caught:
        run(corpus, own, ome_version="0.6", overwrite=overwrite)
    assert f"voxshelf upgrade {own}" in caught.value.hint
    assert contents(own) == contents(older)
    up(own)
    with pytest.raises(SettingsError, match=r"settings\.changed") as caught:
        run(corpus, own, ome_version="0.5", overwrite=overwrite)
    assert "upgrade" not in caught.value.hint


def test_a_mirror_keeps_the_levels_that_it_was_begun_with(corpus: Path, older: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    run(corpus, few, levels="few", subjects=frozenset({"0001"}))
    assert not run(corpus, few).failures  # without being told
    up(few)
    assert not verify(str(few), VerifySettings(deep=True), lambda _: None).findings
    with pytest.raises(SettingsError, match="begun with few levels"):
        run(corpus, few, levels="all")
    image = json.loads((few / "subjects/0002.ome.zarr/ct/zarr.json").read_text())["attributes"]["ome"]
    factors = image["multiscales"][0]["metadata"]["factors"]
    assert factors[:2] == [[1, 1, 1], [1, 4, 4]]
    with pytest.raises(SettingsError, match="begun with all levels"):
        run(corpus, older, levels="few")


def test_a_first_conversion_that_ended_early_keeps_its_version(
    corpus: Path, newer: Path, wanted: dict[str, Any], tmp_path: Path
) -> None:
    own = Path(shutil.copytree(newer, tmp_path / "mirror"))
    (own / "mirror.json").unlink()
    with pytest.raises(SettingsError, match=r"settings\.changed"):
        run(corpus, own, ome_version="0.5")
    run(corpus, own)
    assert contents(own) == wanted


def test_a_volume_of_an_unfinished_subject_is_not_taken_over_in_the_older_version(
    own: Path, corpus: Path, wanted: dict[str, Any]
) -> None:
    # Converted with 0.5 and not finished when the mirror was upgraded.
    (own / layout.subject_outcome_key("0001")).unlink()
    (own / "subjects/0001.ome.zarr/zarr.json").unlink()
    up(own)
    report = run(corpus, own)
    assert (report.converted, report.already) == (3, 3)
    assert contents(own) == wanted


def test_a_mirror_of_before_the_versions_is_0_5(own: Path, corpus: Path, older: Path) -> None:
    (own / layout.settings_key()).unlink()
    record = json.loads((own / "mirror.json").read_text())
    del record["ome_versions"]
    (own / "mirror.json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=r"settings\.changed"):
        run(corpus, own, ome_version="0.6")
    assert not run(corpus, own).failures
    assert read_mirror(Store(str(own))).ome_versions == {"0.5": 2}


def test_a_subject_that_lost_objects_is_named_and_the_others_are_upgraded(own: Path, corpus: Path) -> None:
    (own / "subjects/0001.ome.zarr/pet/scale0/pet/c/0/0/0").unlink()
    done, events = up(own)
    assert (done.upgraded, done.left) == (1, 1)
    assert [(each.place, each.code) for each in done.failures] == [
        ("subjects/0001.ome.zarr/pet/scale0/pet/c/0/0/0", "store.read-back")
    ]
    assert [event.subject for event in events[1:] if event.findings] == ["0001"]
    # A conversion leaves it alone as well, and says so.
    report = run(corpus, own)
    assert [each.code for each in report.failures] == ["store.read-back"]
    assert read_mirror(Store(str(own))).ome_versions == {"0.5": 1, "0.6": 1}


def test_arrays_that_this_version_would_describe_otherwise_are_left_alone(own: Path, older: Path) -> None:
    for key in (layout.outcome_key("0001", "pet"), layout.subject_outcome_key("0001")):
        text = (own / key).read_text()
        (own / key).write_text(re.sub(r'"units":"[^"H]+"', '"units":"SUV"', text))
    changed = contents(own)
    assert changed != contents(older)
    done, _ = up(own, frozenset({"0001"}))
    (failure,) = done.failures
    assert (failure.code, "pet" in failure.place) == ("layout.metadata", True)
    assert "--overwrite" in failure.hint
    assert {k: v for k, v in contents(own).items() if "settings" not in k} == {
        k: v for k, v in changed.items() if "settings" not in k
    }


def test_what_cannot_be_upgraded(own: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings\.no-subjects"):
        up(own, frozenset({"9999"}))
    with pytest.raises(LayoutError, match=r"layout\.not-a-mirror"):
        up(tmp_path / "nothing")
    shutil.rmtree(own / ".voxshelf")
    with pytest.raises(LayoutError, match="records are not there"):
        up(own)


def test_records_of_a_newer_settings_file_are_refused(own: Path, corpus: Path) -> None:
    (own / layout.settings_key()).write_bytes(to_json({"version": 1}))
    with pytest.raises(LayoutError, match=r"layout\.metadata"):
        run(corpus, own)
