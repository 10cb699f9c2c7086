from __future__ import annotations

import csv
import io
import itertools
import operator
import random
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from corpus.catalog import SCHEMAS, Catalog, MirrorRecord
from corpus.errors import RequestError
from corpus.models import CorpusInfo
from service.representations import csv_answer
from service.search import SORTS, Index, Position, SubjectFilter, SubjectQuery, page_of
from service.summaries import label_rows

INDICATIONS = ["LYMPHOMA", "MELANOMA", "LUNG_CANCER", None]


def subject_row(number: int, **cells: Any) -> dict[str, Any]:
    draw = random.Random(number)
    row: dict[str, Any] = {
        "subject": f"{number:04}",
        "corpus": "synthetic",
        "release": "2025" if number % 3 else "2026",
        "source_institution": ["AutoPET Challenge", "University Hospital Leipzig (DE)"][number % 2],
        "license": ["CC-BY-NC-4.0", "CC-BY-4.0"][number % 2],
        "attribution": "synthetic",
        "indication": draw.choice(INDICATIONS),
        "sex": draw.choice(["F", "M", None]),
        "age_years": draw.choice([None, float(draw.randrange(20, 40))]),
        "weight_kg": draw.uniform(50, 100),
        "height_m": None,
        "scanner": "Biograph mCT",
        "details": '{"PT: Year":"2017"}',
        "has_ct": True,
        "has_pet": number % 5 > 0,
        "families_present": ["organs"],
        "gaps": [],
        "store": f"subjects/{number:04}.ome.zarr",
        "bytes": draw.randrange(10),
    }
    return dict.fromkeys(SCHEMAS["catalog"].names) | row | cells


def catalog_of(rows: list[dict[str, Any]], labels: int = 3) -> Catalog:
    """A catalogue as it is read from a mirror; label n is missing where n divides the subject's number."""
    volumes = [
        {"subject": row["subject"], "volume": volume, "warnings": [], "array_path": f"{volume}/scale0/{volume}"}
        for row in rows
        for volume in ("ct", *(["pet"] if row["has_pet"] else []), "labels/organs")
    ]
    regions = [
        {"subject": row["subject"], "family": "organs", "value": n, "name": f"label_{n}", "volume_ml": float(n)}
        for row in rows
        for n in range(1, labels + 1)
        if n == 1 or int(row["subject"]) % n
    ]
    tables = {
        name: pa.Table.from_pylist(content, SCHEMAS[name])
        for name, content in (("catalog", rows), ("volumes", volumes), ("regions", regions))
    }
    record = MirrorRecord(
        layout_version=1,
        corpus=CorpusInfo("synthetic", "1", "Nobody."),
        software="0",
        subjects=len(rows),
        licenses={},
        tables={},
    )
    return Catalog(record, tables)


@pytest.fixture(scope="module")
def index() -> Index:
    return Index(catalog_of([subject_row(number) for number in range(1, 41)]))


FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({}, bool),
    ({"license": ["CC-BY-4.0"]}, lambda row: row["license"] == "CC-BY-4.0"),
    ({"license": ["CC-BY-4.0", "CC-BY-NC-4.0"]}, bool),
    ({"sex": ["F"]}, lambda row: row["sex"] == "F"),
    ({"age_min": 25, "age_max": 30}, lambda row: row["age_years"] is not None and 25 <= row["age_years"] <= 30),
    ({"age_max": 30}, lambda row: row["age_years"] is not None and row["age_years"] <= 30),
    ({"institution": ["autopet challenge"]}, lambda row: row["source_institution"] == "AutoPET Challenge"),
    ({"indication": ["LYMPHOMA", "MELANOMA"]}, lambda row: row["indication"] in {"LYMPHOMA", "MELANOMA"}),
    ({"release": ["2026"]}, lambda row: row["release"] == "2026"),
    ({"has_volume": ["pet", "organs"]}, lambda row: row["has_pet"]),
    ({"has_volume": ["labels/organs"]}, bool),
    ({"has_volume": ["ribs"]}, operator.not_),
    ({"has_label": ["label_2", "label_3"]}, lambda row: int(row["subject"]) % 2 > 0 and int(row["subject"]) % 3 > 0),
    ({"has_label": ["label_9"]}, operator.not_),
    ({"q": "leipzig  BIOGRAPH"}, lambda row: "Leipzig" in row["source_institution"]),
    ({"q": "nowhere"}, operator.not_),
    ({"sex": ["M"], "has_label": ["label_2"]}, lambda row: row["sex"] == "M" and int(row["subject"]) % 2 > 0),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS, ids=[str(wanted) for wanted, _ in FILTERS])
def test_filters(index: Index, wanted: dict[str, Any], expected: Callable[[dict[str, Any]], bool]) -> None:
    found = [row["subject"] for row in index.find(SubjectFilter(**wanted))]
    assert found == [name for name, row in index.catalog.subjects.items() if expected(row)]


@pytest.mark.parametrize("sort", SORTS)
def test_sorting_puts_unknown_values_last_and_equal_ones_by_subject(index: Index, sort: Any) -> None:
    column = sort.removeprefix("-")
    rows = index.find(SubjectFilter(sort=sort))
    known = [row for row in rows if row[column] is not None]
    assert rows[: len(known)] == known
    assert len(rows) == 40
    for before, after in itertools.pairwise(known):
        if before[column] == after[column]:
            assert before["subject"] < after["subject"]
        else:
            assert (before[column] > after[column]) == sort.startswith("-")


def pages(index: Callable[[], Index], **query: Any) -> Iterator[list[str]]:
    cursor = None
    for _ in range(60):
        asked = SubjectQuery(cursor=cursor, **query)
        page, cursor = page_of(index().find(asked), asked)
        yield [row["subject"] for row in page]
        if cursor is None:
            return
    pytest.fail("the pages do not end")


@given(sort=st.sampled_from(SORTS), limit=st.integers(1, 45))
def test_pages_are_the_list_in_pieces(index: Index, sort: Any, limit: int) -> None:
    found = list(pages(lambda: index, sort=sort, limit=limit))
    assert list(itertools.chain(*found)) == [row["subject"] for row in index.find(SubjectFilter(sort=sort))]
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)


@given(
    sort=st.sampled_from(SORTS),
    limit=st.integers(1, 12),
    lost=st.sets(st.integers(1, 40), max_size=15),
    gained=st.integers(0, 10),
)
def test_pages_stay_in_step_when_a_publication_comes_between(
    index: Index, sort: Any, limit: int, lost: set[int], gained: int
) -> None:
    kept = [number for number in range(1, 41) if number not in lost]
    newer = Index(catalog_of([subject_row(number) for number in [*kept, *range(41, 41 + gained)]]))
    asked = iter([index])
    seen = list(itertools.chain(*pages(lambda: next(asked, newer), sort=sort, limit=limit)))
    assert len(seen) == len(set(seen)), "no subject shows twice"
    assert {f"{number:04}" for number in kept} <= set(seen), "none that was there all along is left out"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%%%",
        "xyz",
        "é",
        "A" * 999,
        Position("age_years", 3.0, "0001").encode(),
        Position("subject", 3.0, "0001").encode(),
    ],
)
def test_cursors_that_are_none_of_ours(cursor: str) -> None:
    with pytest.raises(RequestError, match=r"request\.parameter"):
        Position.decode(cursor, "subject")


@given(value=st.none() | st.floats(allow_nan=False, allow_infinity=False), subject=st.text(max_size=9))
def test_cursors_come_back(value: float | None, subject: str) -> None:
    position = Position("age_years", value, subject)
    assert Position.decode(position.encode(), "age_years") == position


FORMULAS = ['=cmd|"/c calc"!A1', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("formula", [*FORMULAS, 'plain, "quoted"\nÄ'])
def test_csv_comes_back_and_runs_nothing(formula: str) -> None:
    rows = [subject_row(n, indication=formula, weight_kg=-1.5, gaps=["pet", "ribs"]) for n in range(1, 251)]
    answer = csv_answer(Request({"type": "http", "headers": []}), rows, SCHEMAS["catalog"].names, "x.csv")
    read = list(csv.DictReader(io.StringIO(bytes(answer.body).decode(), newline="")))
    assert len(read) == 250
    assert read[0]["indication"] == (f"'{formula}" if formula in FORMULAS else formula)
    assert read[0]["weight_kg"] == "-1.5"
    assert read[0]["height_m"] == ""
    assert read[0]["gaps"] == "pet;ribs"
    assert list(read[0]) == SCHEMAS["catalog"].names


def test_a_whole_corpus_is_prepared_once_and_its_regions_stay_columns() -> None:
    catalog = catalog_of([subject_row(number) for number in range(1, 1601)], labels=130)
    index = Index(catalog)
    query = SubjectQuery(has_label=["label_7", "label_11"], sex=["F"], q="biograph", sort="-age_years")
    found = index.find(query)
    assert [row["subject"] for row in sorted(found, key=lambda row: str(row["subject"]))] == [
        row["subject"]
        for row in catalog.subjects.values()
        if row["sex"] == "F" and int(row["subject"]) % 7 and int(row["subject"]) % 11
    ]
    order, labels, counts = index._orders["-age_years"], index.labels, index.statistics
    assert [id(row) for row in index.find(query)] == [id(row) for row in found], (
        "rows are those of the table, no copies"
    )
    assert index._orders["-age_years"] is order
    assert (index.labels is labels, index.statistics is counts) == (True, True)
    assert counts["regions"] > 190_000
    assert len(catalog.regions["0077"]) == sum(n == 1 or 77 % n > 0 for n in range(1, 131))


def test_the_median_volume_leaves_out_what_may_be_cut_off() -> None:
    regions = [
        {"subject": str(n), "family": "organs", "value": 5, "name": "liver", "volume_ml": volume, "touches_edge": cut}
        for n, (volume, cut) in enumerate([(1500.0, False), (1700.0, False), (10.0, True), (20.0, True)])
    ]
    other = {**regions[0], "value": 200, "name": "unexpected_200", "touches_edge": True}
    rows = label_rows(pa.Table.from_pylist([*regions, other], SCHEMAS["regions"]))
    found = {row["name"]: (row["subjects"], row["volume_ml_median"]) for row in rows if row["subjects"]}
    assert found == {"unexpected_200": (1, None), "liver": (4, 1600.0)}


def test_labels_that_the_mirror_has_come_first() -> None:
    region = {"subject": "1", "value": 5, "volume_ml": 1.0, "touches_edge": False}
    own = [{**region, "family": "total", "name": "liver"}, {**region, "family": "organs", "name": "other"}]
    published, labels = (label_rows(pa.Table.from_pylist(rows, SCHEMAS["regions"])) for rows in ([], own))
    assert {(row["family"], row["name"]) for row in labels[:2]} == {("total", "liver"), ("organs", "other")}
    assert labels[2:] == published
