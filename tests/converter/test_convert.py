from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import openpyxl
import pytest

from converter.convert import ConvertSettings, convert, parse_subjects
from converter.corpusfile import read_corpus
from converter.events import Event, Planned, Report, VolumeDone
from converter.reader import Mirror
from corpus.errors import LayoutError, SettingsError
from corpus.models import to_json
from corpus.outcomes import SubjectOutcome
from corpus.stores import Store


def run(source: Path, mirror: Path, **choices: object) -> tuple[Report, list[Event]]:
    events: list[Event] = []
    settings = ConvertSettings(**{"corpus": read_corpus(str(source)), **choices})  # type: ignore[arg-type]
    return convert(str(source), str(mirror), settings, events.append), events


def contents(mirror: Path) -> dict[str, bytes]:
    files = (path for path in mirror.rglob("*") if path.is_file() and ".voxshelf" not in path.parts)
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def mirror(phantom_mirror: Path) -> Path:
    return phantom_mirror


def with_data_source(corpus: Path, tmp_path: Path, text: str) -> Path:
    """A copy of the corpus whose sheets name another source for subject 0002."""
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    for name in ("CT-details.xlsx", "PT-details.xlsx"):
        book = openpyxl.load_workbook(source / name)
        sheet = book.active
        assert sheet is not None
        column = [cell.value for cell in sheet[1]].index("Data-Source") + 1
        sheet.cell(3, column, text)
        book.save(source / name)
    return source


@pytest.fixture
def own(mirror: Path, tmp_path: Path) -> Path:
    """A copy of the mirror that a test may change."""
    return Path(shutil.copytree(mirror, tmp_path / "mirror"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0001", {"0001"}),
        ("0001,0003-0005", {"0001", "0003", "0004", "0005"}),
        (" 0007 , 0009 ", {"0007", "0009"}),
        ("case-7", {"case-7"}),
    ],
)
def test_selections(text: str, expected: set[str]) -> None:
    assert parse_subjects(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "0001,,0002", "../x"])
def test_a_senseless_selection(text: str) -> None:
    with pytest.raises(SettingsError, match=r"settings\.option"):
        parse_subjects(text)


def test_only_what_is_selected(corpus: Path, tmp_path: Path) -> None:
    report, events = run(
        corpus, tmp_path, licenses=frozenset({"CC-BY-4.0"}), roles=("ct", "ribs"), subjects=frozenset({"0001", "0002"})
    )
    # 0001 is CC-BY-NC-4.0: licence and ids both have to fit.
    assert {(e.subject, e.role) for e in events if isinstance(e, VolumeDone)} == {("0002", "ct"), ("0002", "ribs")}
    assert report.licenses == {"CC-BY-4.0": 1}


def test_nothing_selected_is_an_error_and_publishes_nothing(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings\.no-subjects"):
        run(corpus, tmp_path / "mirror", subjects=frozenset({"9999"}))
    with pytest.raises(LayoutError, match=r"layout\.not-a-mirror"):
        Mirror(str(tmp_path / "mirror"))


def test_a_second_run_does_nothing_and_changes_nothing(corpus: Path, own: Path) -> None:
    before = contents(own)
    report, events = run(corpus, own)
    assert (report.converted, report.already) == (0, 36)
    assert events[0] == Planned(0, 0, 36, "this process")
    assert contents(own) == before


def test_a_volume_left_without_its_subject_s_end_is_kept_and_the_rest_is_done(corpus: Path, own: Path) -> None:
    # As after a crash: two volumes of 0002 have their records, the others and the subject's end are not there.
    before = contents(own)
    outcomes = own / ".voxshelf/outcomes/0002"
    for record in outcomes.iterdir():
        if record.name not in {"ct.json", "organs.json"}:
            record.unlink()
    store = own / "subjects/0002.ome.zarr"
    (store / "zarr.json").unlink()
    (store / "ct/zarr.json").unlink()
    shutil.rmtree(store / "pet/scale0")
    (store / "ct/labels/ribs/scale0/ribs/c/0/0/0").write_bytes(b"half a shard")
    (store / "ct/labels/ribs/scale0/leftover").write_bytes(b"of another settings")
    report, _ = run(corpus, own)
    assert (report.converted, report.already) == (7, 29)
    assert contents(own) == before


def test_a_run_that_died_before_the_tables_publishes_on_the_next_one(corpus: Path, own: Path) -> None:
    before = contents(own)
    (own / "mirror.json").unlink()
    (own / "regions.parquet").write_bytes(b"")
    report, _ = run(corpus, own)
    assert report.converted == 0
    assert contents(own) == before


def test_a_corrected_licence_reaches_the_store_without_converting_again(
    corpus: Path, own: Path, tmp_path: Path
) -> None:
    source = with_data_source(corpus, tmp_path, "AutoPET Challenge")
    report, _ = run(source, own)
    assert report.converted == 0
    assert report.licenses == {"CC-BY-4.0": 2, "CC-BY-NC-4.0": 2}
    root = json.loads((own / "subjects/0002.ome.zarr/zarr.json").read_text())
    assert root["attributes"]["voxshelf"]["license"]["id"] == "CC-BY-NC-4.0"


def test_a_changed_source_is_refused_for_that_subject_alone(corpus: Path, own: Path, tmp_path: Path) -> None:
    before = contents(own)
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    ct = source / "imaging-data/images/CT/0003.nii.gz"
    ct.write_bytes(ct.read_bytes() + b"\0" * 8)  # padding: another file of the same voxels
    report, _ = run(source, own)
    assert [(finding.place, finding.code) for finding in report.failures] == [("0003", "settings.changed")]
    assert "--overwrite" in report.failures[0].hint
    assert contents(own) == before


def test_a_subject_that_is_no_longer_in_the_source_stays_and_is_named(corpus: Path, own: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    for path in source.rglob("0003.nii.gz"):
        path.unlink()
    report, _ = run(source, own)
    assert [finding.place for finding in report.warnings if finding.code == "warning.not-in-source"] == ["0003"]
    assert report.subjects == 4


def test_overwrite_converts_anew(corpus: Path, own: Path, tmp_path: Path) -> None:
    before = contents(own)
    (own / "subjects/0004.ome.zarr/ct/scale0/ct/c/0/0/0").write_bytes(b"rubbish")
    report, _ = run(corpus, own, overwrite=True, subjects=frozenset({"0004"}))
    assert report.converted == 9
    assert contents(own) == before


def test_without_spreadsheets_every_licence_is_unknown(corpus: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    (source / "PT-details.xlsx").unlink()
    (source / "CT-details.xlsx").write_bytes(b"not a spreadsheet")
    report, _ = run(source, tmp_path / "mirror", roles=("ribs",))
    assert report.licenses == {"unknown": 4}
    assert [finding.code for finding in report.failures] == ["source.sheet-unreadable"]


def test_a_label_map_without_its_ct_stands_apart(corpus: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    (source / "imaging-data/images/CT/0001.nii.gz").unlink()
    run(source, tmp_path / "mirror", subjects=frozenset({"0001"}), roles=("ct", "organs"))
    mirror = Mirror(str(tmp_path / "mirror"))
    row = mirror.catalog.volume("0001", "organs")
    assert row["image_path"] == "labels_organs"
    assert "warning.label-grid" in row["warnings"]


def test_a_damaged_ct_is_added_once_it_is_mended_and_its_label_maps_stay(
    corpus: Path, mirror: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    ct = source / "imaging-data/images/CT/0001.nii.gz"
    ct.write_bytes(ct.read_bytes()[:-100])
    report, _ = run(source, tmp_path / "mirror")
    assert [finding.code for finding in report.failures] == ["source.gzip-truncated"]
    shutil.copy(corpus / "imaging-data/images/CT/0001.nii.gz", ct)
    report, _ = run(source, tmp_path / "mirror")
    assert (report.converted, report.already) == (1, 35)
    assert contents(tmp_path / "mirror") == contents(mirror)


def test_label_maps_that_stood_apart_need_overwrite_once_their_ct_is_there(corpus: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    ct = source / "imaging-data/images/CT/0001.nii.gz"
    ct.unlink()
    chosen: dict[str, Any] = {"subjects": frozenset({"0001"}), "roles": ("ct", "organs")}
    run(source, tmp_path / "mirror", **chosen)
    shutil.copy(corpus / "imaging-data/images/CT/0001.nii.gz", ct)
    # Only the CT waits: what else is new is converted.
    chosen["roles"] = ("ct", "pet", "organs", "ribs")
    for converted, already in ((2, 1), (0, 3)):
        report, _ = run(source, tmp_path / "mirror", **chosen)
        assert [finding.code for finding in report.failures] == ["settings.changed"]
        assert (report.converted, report.already) == (converted, already)
        assert Mirror(str(tmp_path / "mirror")).catalog.subject("0001")["has_ct"] is False
    report, _ = run(source, tmp_path / "mirror", overwrite=True, **chosen)
    assert not report.failures
    assert Mirror(str(tmp_path / "mirror")).catalog.volume("0001", "organs")["image_path"] == "ct/labels/organs"


def test_a_record_of_a_volume_that_is_not_there_any_more_is_not_believed(corpus: Path, own: Path) -> None:
    # A run stored the CT and ended; what then happened to its shards is not known.
    before = contents(own)
    (own / ".voxshelf/outcomes/0002/subject.json").unlink()
    shutil.rmtree(own / "subjects/0002.ome.zarr/ct/scale0/ct/c")
    report, _ = run(corpus, own)
    assert (report.converted, report.already) == (1, 35)
    assert contents(own) == before


def test_a_volume_that_was_stored_without_its_subject_s_new_end_is_published_by_the_next_run(
    corpus: Path, own: Path
) -> None:
    # As when finishing failed after a CT that was missing had been converted.
    before = contents(own)
    key = own / ".voxshelf/outcomes/0002/subject.json"
    outcome = msgspec.json.decode(key.read_bytes(), type=SubjectOutcome)
    key.write_bytes(
        to_json(msgspec.structs.replace(outcome, volumes=tuple(v for v in outcome.volumes if v.role != "pet")))
    )
    run(corpus, own)
    assert contents(own) == before


def test_a_withdrawn_licence_is_applied_at_once_whatever_is_selected(corpus: Path, own: Path, tmp_path: Path) -> None:
    source = with_data_source(corpus, tmp_path, "withdrawn")
    run(source, own, licenses=frozenset({"CC-BY-NC-4.0"}))
    assert Mirror(str(own)).catalog.subject("0002")["license"] == "unknown"
    root = json.loads((own / "subjects/0002.ome.zarr/zarr.json").read_text())
    assert root["attributes"]["voxshelf"]["license"]["id"] == "unknown"


def test_a_source_says_itself_which_corpus_it_is(corpus: Path, tmp_path: Path) -> None:
    assert read_corpus(str(corpus)).name == "voxshelf phantom"
    assert read_corpus(str(tmp_path)).name == "ENHANCE.PET 1.6k"


def test_no_document_of_a_mirror_tells_where_it_was_made(mirror: Path, corpus: Path) -> None:
    keys = Store(str(mirror)).keys()
    for key in keys:
        if not key.startswith(".voxshelf/"):
            data = (mirror / key).read_bytes()
            assert str(corpus).encode() not in data
            assert str(mirror).encode() not in data
