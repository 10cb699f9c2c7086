"""What a run leaves behind: sums, groups, and a page that is safe to open."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from converter import report, thumbnail
from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.events import Event, Planned, Report, VolumeDone
from converter.page import Entry, findings_of, render
from converter.publish import completed_subjects
from converter.run import Serial
from corpus.catalog import Catalog, read_catalog
from corpus.errors import SourceError
from corpus.findings import failure, warning
from corpus.stores import Store

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def done(role: str, seconds: float, *, stored: bool = True, codes: tuple[str, ...] = ()) -> VolumeDone:
    return VolumeDone("0001", role, stored, 3_000_000, 2_000_000, seconds, tuple(warning(c, "0001") for c in codes))


def a_report(volumes: tuple[VolumeDone, ...], **fields: Any) -> Report:
    plain: dict[str, Any] = {"failures": (), "warnings": (), "subjects": 1, "licenses": {"unknown": 1}, "seconds": 4.0}
    stored = sum(volume.stored for volume in volumes)
    return Report(**{"converted": stored, "already": 5, "volumes": volumes, **plain, **fields})


class TestReport:
    def test_sums(self) -> None:
        told = report.totals(a_report((done("ct", 2), done("pet", 1), done("ribs", 3, stored=False))))
        assert told == {
            "volumes_stored": 2,
            "volumes_failed": 1,
            "source_bytes": 9_000_000,
            "stored_bytes": 6_000_000,
            "seconds": 4.0,
            "volume_seconds": 6.0,
            "mb_per_s": 2.25,
        }

    def test_a_run_that_took_no_time_has_no_rate(self) -> None:
        assert report.totals(a_report((), seconds=0.0))["mb_per_s"] is None

    def test_the_slowest_come_first_and_are_few(self) -> None:
        volumes = tuple(done("ct", seconds) for seconds in (3, 9, 1, *range(20)))
        assert [volume.seconds for volume in report.slowest(a_report(volumes))] == [
            19,
            18,
            17,
            16,
            15,
            14,
            13,
            12,
            11,
            10,
        ]

    def test_a_hint_is_there_once_for_many_findings(self) -> None:
        many = [failure(SourceError("source.not-3d", f"{n} dimensions"), f"{n}.nii") for n in range(1600)]
        one = failure(SourceError("source.not-3d", "odd", hint="Another."), "odd.nii")
        groups = report.grouped([one, *many])
        assert [(group["code"], group["count"]) for group in groups] == [("source.not-3d", 1600), ("source.not-3d", 1)]
        assert json.dumps(groups).count(many[0].hint) == 1
        assert groups[0]["findings"][7] == {"place": "7.nii", "message": "7 dimensions"}

    def test_the_document_tells_of_each_volume(self) -> None:
        told = report.document(a_report((done("organs", 2, codes=("warning.label-empty",)),)))
        assert told["volumes"] == [
            {
                "subject": "0001",
                "volume": "organs",
                "stored": True,
                "source_bytes": 3_000_000,
                "stored_bytes": 2_000_000,
                "seconds": 2,
                "mb_per_s": 1.5,
                "codes": ["warning.label-empty"],
            }
        ]
        assert told["slowest"] == ["0001/organs"]

    def test_the_recorder_passes_everything_on_and_keeps_the_volumes(self) -> None:
        heard: list[Event] = []
        recorder = report.Recorder(heard.append)
        events = [Planned(2, 6, 0, "here"), done("ct", 1), done("pet", 2)]
        for event in events:
            recorder(event)
        whole = recorder.completed(a_report((), seconds=0.0))
        assert heard == events
        assert whole.volumes == tuple(events[1:])
        assert whole.seconds > 0


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def catalog(phantom_mirror: Path) -> Catalog:
    return read_catalog(Store(str(phantom_mirror)))


class TestPage:
    def test_one_row_per_subject_with_its_picture(self, phantom_mirror: Path) -> None:
        folder = phantom_mirror / ".voxshelf/report"
        page = Page((folder / "index.html").read_text())
        assert len(page.all("article")) == 4
        pictures = page.all("img")
        assert [picture["src"] for picture in pictures] == [f"pictures/000{n}.webp" for n in range(1, 5)]
        assert all(picture["loading"] == "lazy" for picture in pictures)
        for picture in pictures:
            with Image.open(folder / str(picture["src"])) as image:
                assert image.height == thumbnail.SIDE_PIXELS
        assert "CC-BY-NC-4.0" in page.text
        assert "data-warned" not in "".join(str(a) for a in page.all("article"))

    def test_nothing_comes_from_elsewhere(self, phantom_mirror: Path) -> None:
        text = (phantom_mirror / ".voxshelf/report/index.html").read_text()
        page = Page(text)
        links = [a.get(key) for _, a in page.tags for key in ("src", "href", "srcset", "action") if a.get(key)]
        assert all(re.fullmatch(r"pictures/[0-9]{4}\.webp", str(link)) for link in links)
        assert "url(" not in text
        assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")

    def test_what_spreadsheets_say_is_text(self, catalog: Catalog) -> None:
        row = dict.fromkeys(("subject", "license", "indication", "sex", "scanner", "source_institution"), EVIL)
        entry = Entry(
            {**row, "age_years": 61.0, "gaps": [EVIL]}, (failure(SourceError("source.not-3d", EVIL), EVIL),), EVIL
        )
        page = Page(render(catalog, [entry]))
        assert len(page.all("script")) == 1
        assert [set(image) for image in page.all("img")] == [{"loading", "decoding", "height", "alt", "src"}]
        assert page.all("img")[0]["src"] == EVIL
        assert page.text.count("<script>alert(1)</script>") >= 7

    def test_findings_come_from_the_record_or_else_from_the_tables(
        self, catalog: Catalog, phantom_mirror: Path
    ) -> None:
        outcome = completed_subjects(Store(str(phantom_mirror)))["0001"]
        flag = warning("warning.label-side", "0001/organs", "kidneys")
        gap = warning("warning.volume-missing", "0001/pet")
        bad = failure(SourceError("source.not-3d", "four"), "ct.nii")
        volumes = (msgspec.structs.replace(outcome.volumes[0], findings=(bad,)), *outcome.volumes[1:])
        outcome = msgspec.structs.replace(outcome, quality=(flag,), findings=(gap,), volumes=volumes)
        # Failures first; a gap has a line of its own.
        assert findings_of(catalog, "0001", outcome) == (bad, flag)
        assert findings_of(catalog, "0001", None) == ()

    def test_a_page_of_1600_rows_stays_small(self, catalog: Catalog) -> None:
        row = catalog.subjects["0001"]
        flags = (warning("warning.label-side", "0001/organs", "7 of 7 signs: " + "kidney " * 20),)
        page = render(
            catalog, [Entry({**row, "subject": f"{n:04d}"}, flags, f"pictures/{n:04d}.webp") for n in range(1600)]
        )
        assert len(page) < 2_500_000
        assert page.count(flags[0].hint.split("'")[0]) == 1


class TestPictures:
    def test_a_subject_that_cannot_be_drawn_is_stored_all_the_same(self, corpus: Path, tmp_path: Path) -> None:
        (tmp_path / ".voxshelf/report/pictures/0001.webp").mkdir(parents=True)  # no file can be put there
        settings = ConvertSettings(corpus=read_corpus(str(corpus)), roles=("ct", "ribs"), subjects=frozenset({"0001"}))
        told = convert(str(corpus), str(tmp_path), settings, lambda _: None)
        assert (told.converted, told.subjects, told.failures) == (2, 1, ())
        assert "no picture" in (tmp_path / ".voxshelf/report/index.html").read_text()

    def test_without_pictures_when_they_are_not_wanted(self, corpus: Path, tmp_path: Path) -> None:
        settings = ConvertSettings(
            corpus=read_corpus(str(corpus)), roles=("ct", "ribs"), subjects=frozenset({"0001"}), pictures=False
        )
        convert(str(corpus), str(tmp_path), settings, lambda _: None)
        assert not (tmp_path / ".voxshelf/report/pictures").exists()

    def test_a_page_that_cannot_be_written_is_a_warning(self, corpus: Path, tmp_path: Path) -> None:
        (tmp_path / ".voxshelf/report/index.html").mkdir(parents=True)
        settings = ConvertSettings(corpus=read_corpus(str(corpus)), roles=("ribs",), subjects=frozenset({"0001"}))
        told = convert(str(corpus), str(tmp_path), settings, lambda _: None)
        assert [finding.code for finding in told.warnings if "page" in finding.code] == ["warning.report-page"]
        assert told.subjects == 1

    def test_any_mirror_gets_its_page_elsewhere(self, phantom_mirror: Path, tmp_path: Path) -> None:
        # As fetched from a bucket: without what is the converter's own, and with one store that lost its documents.
        mirror = shutil.copytree(phantom_mirror, tmp_path / "mirror", ignore=shutil.ignore_patterns(".voxshelf"))
        (mirror / "subjects/0003.ome.zarr/zarr.json").unlink()
        before = sorted(path for path in mirror.rglob("*"))
        out = tmp_path / "look"
        subjects, findings, index = report.make_report(str(mirror), str(out), Serial(), redraw=False)
        assert (subjects, index) == (4, str(out / "index.html"))
        assert [Path(finding.place).relative_to(mirror) for finding in findings] == [
            Path("subjects/0003.ome.zarr/zarr.json")
        ]
        assert (out / "index.html").read_text().count("no picture") == 1
        assert sorted(path.name for path in (out / "pictures").iterdir()) == ["0001.webp", "0002.webp", "0004.webp"]
        assert sorted(path for path in mirror.rglob("*")) == before
        assert (out / "pictures/0001.webp").read_bytes() == (
            phantom_mirror / ".voxshelf/report/pictures/0001.webp"
        ).read_bytes()

    def test_a_subject_that_is_unpublished_loses_its_picture(self, phantom_mirror: Path, tmp_path: Path) -> None:
        from converter.publish import unpublish

        mirror = shutil.copytree(phantom_mirror, tmp_path / "mirror")
        store = Store(str(mirror))
        unpublish(store, ["0002"], read_catalog(store).mirror.corpus)
        assert sorted(path.stem for path in (mirror / ".voxshelf/report/pictures").iterdir()) == [
            "0001",
            "0003",
            "0004",
        ]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
class TestBrowser:
    def dump(self, url: str, tmp_path: Path, *options: str) -> str:
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
        ]
        found = subprocess.run([*command, *options, url], capture_output=True, text=True, check=True, timeout=60)
        return found.stdout

    def test_the_filter_hides_rows_and_counts(self, catalog: Catalog, tmp_path: Path) -> None:
        flag = (warning("warning.label-side", "0002/organs", "kidneys"),)
        entries = [Entry(row, flag if subject == "0002" else (), "") for subject, row in catalog.subjects.items()]
        (tmp_path / "index.html").write_text(render(catalog, entries))
        text = self.dump(f"file://{tmp_path}/index.html#label-side", tmp_path, "--dump-dom")
        assert "1 of 4 subjects" in text
        hidden = [attributes for attributes in Page(text).all("article") if "hidden" in attributes]
        assert len(hidden) == 3

    def test_the_pictures_are_seen(self, phantom_mirror: Path, tmp_path: Path) -> None:
        shot = tmp_path / "shot.png"
        url = f"file://{phantom_mirror}/.voxshelf/report/index.html"
        self.dump(url, tmp_path, "--window-size=1200,900", "--hide-scrollbars", f"--screenshot={shot}")
        with Image.open(shot) as image:
            assert image.size == (1200, 900)
            # Nothing on the page but the label maps is as colourful, and the PET is the only large white.
            pixels = list(image.convert("HSV").get_flattened_data())
            assert sum(s > 90 and v > 60 for _, s, v in pixels) > 5000
            assert sum(v > 240 and s < 10 for _, s, v in pixels) > 20000
