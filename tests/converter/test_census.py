"""Counts of a source, and the release that they fit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from converter.census import RELEASES, mixed_releases, ranges_text, take_census
from converter.convert import parse_subjects
from converter.inventory import Inventory, SubjectFiles
from converter.source import SourceFile
from corpus.catalog import Catalog, MirrorRecord, build_tables
from corpus.contents import ENHANCE_PET
from corpus.findings import warning
from corpus.models import CorpusInfo, SubjectInfo


def inventory_of(*numbers: int, without: tuple[str, ...] = (), twice: tuple[str, ...] = ()) -> Inventory:
    subjects = {}
    for subject in (f"{number:04d}" for number in numbers):
        files = {role: SourceFile("", f"{role}/{subject}", 10) for role in ENHANCE_PET.roles}
        for place in without:
            if place.startswith(f"{subject}/"):
                del files[place.partition("/")[2]]
        findings = tuple(warning("warning.duplicate", place) for place in twice if place.startswith(f"{subject}/"))
        subjects[subject] = SubjectFiles(subject, files, findings)
    return Inventory("", subjects, (), (), (), 0)


def infos_of(inventory: Inventory) -> dict[str, SubjectInfo]:
    return {subject: SubjectInfo(subject=subject, license="CC-BY-4.0") for subject in inventory.subjects}


def census(inventory: Inventory, release: str | None = None) -> Any:
    return take_census(inventory, infos_of(inventory), release)


@pytest.mark.parametrize("release", list(RELEASES))
def test_a_release_is_told_only_when_all_its_ids_are_there(release: str) -> None:
    count = RELEASES[release]
    whole = census(inventory_of(*range(1, count + 1), without=("0007/pet",)))
    assert (whole.release, whole.guessed, whole.expected) == (release, True, count)
    assert whole.volumes["pet"].missing == ("0007",)
    assert whole.volumes["ct"].missing == ()
    for numbers in (range(1, count), range(2, count + 1), range(2, count + 2)):
        other = census(inventory_of(*numbers))
        assert (other.release, other.guessed, other.expected, other.beyond) == (None, False, None, ())


def test_counts_against_a_release_that_is_given() -> None:
    found = census(inventory_of(1, 2, 1600, without=("0002/ribs",), twice=("0001/ct", "0001/ct", "0002/ct")), "2025")
    assert (found.release, found.guessed, found.expected, found.subjects, found.files) == ("2025", False, 1597, 3, 26)
    assert (found.volumes["ct"].found, found.volumes["ct"].duplicates, found.volumes["ct"].bytes) == (3, 2, 30)
    assert found.beyond == ("1600",)
    assert ranges_text(found.volumes["ct"].missing) == "0003-1597"
    assert ranges_text(found.volumes["labels/ribs"].missing) == "0002-1597"
    assert found.licenses == {"CC-BY-4.0": 3}
    assert found.bytes == 260


def test_without_a_release_nothing_is_expected_but_what_other_volumes_show() -> None:
    found = census(inventory_of(1, 5, without=("0005/ct",)))
    assert found.volumes["ct"].missing == ("0005",)
    assert found.volumes["pet"].missing == ()


@pytest.mark.parametrize(
    ("subjects", "text"),
    [
        ((), ""),
        (("0001",), "0001"),
        (("0001", "0002", "0004", "0009", "0010"), "0001-0002,0004,0009-0010"),
        (("9", "10", "sub-01", "sub-02"), "9,10,sub-01,sub-02"),
    ],
)
def test_ids_as_the_command_line_takes_them(subjects: tuple[str, ...], text: str) -> None:
    assert ranges_text(subjects) == text
    if text:
        assert parse_subjects(text) == set(subjects)


def catalog_of(subjects: dict[str, tuple[str, list[tuple[str, str]]]]) -> Catalog:
    rows = {
        "catalog": [
            {"subject": subject, "source_institution": institution, "families_present": ["organs"]}
            for subject, (institution, _) in subjects.items()
        ],
        "volumes": [],
        "regions": [
            {"subject": subject, "family": family, "name": name}
            for subject, (_, regions) in subjects.items()
            for family, name in regions
        ],
    }
    schemas = {name: table.schema for name, table in build_tables([], CORPUS).items()}
    tables = {name: pa.Table.from_pylist(rows[name], schemas[name]) for name in rows}
    mirror = MirrorRecord(layout_version=1, corpus=CORPUS, software="", subjects=len(subjects), licenses={}, tables={})
    return Catalog(mirror, tables)


CORPUS = CorpusInfo("corpus", "unspecified", "")
AUTOPET, LEIPZIG, DAVIS = "AutoPET Challenge", "University Hospital Leipzig (DE)", "University of California Davis (US)"
HEAD, BODY = [("organs", "liver"), ("organs", "brain")], [("organs", "liver")]


@pytest.mark.parametrize(
    ("subjects", "messages"),
    [
        ({"a": (AUTOPET, HEAD), "b": (LEIPZIG, BODY)}, []),
        ({"a": (AUTOPET, BODY), "b": (DAVIS, BODY), "c": (LEIPZIG, BODY)}, []),
        ({"a": (AUTOPET, HEAD), "b": (AUTOPET, BODY)}, ["1 of 2 subjects of AutoPET"]),
        ({"a": (AUTOPET, [("peripheral_bones", "skull")]), "b": (DAVIS, BODY)}, ["Davis came in 2026"]),
        ({}, []),
    ],
)
def test_two_releases_in_one_mirror_are_told_by_their_heads(subjects: dict[str, Any], messages: list[str]) -> None:
    findings = mixed_releases(catalog_of(subjects))
    assert [finding.code for finding in findings] == ["warning.release-mixed"] * len(messages)
    assert all(message in finding.message for finding, message in zip(findings, messages, strict=True))
