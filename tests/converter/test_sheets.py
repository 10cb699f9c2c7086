"""Spreadsheets: what they say is taken, and nothing that they do not say."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import permutations
from random import Random
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.description import ENHANCE_PET, SheetRule, SubjectRule
from converter.sheets import Conflict, Row, conflicts, describe_subject, merged, pet_units, read_sheet
from corpus.errors import SourceError

Xlsx = Callable[..., bytes]

AUTOPET = "AutoPET Challenge"
LEIPZIG = "University Hospital Leipzig (DE)"
CAREGGI = "Azienda Ospedaliero Universitaria Careggi (IT)"


def describe(ct: dict[str, Any], pet: dict[str, Any]) -> Any:
    return describe_subject("0001", {"CT": ct, "PT": pet}, "Corpus")


def rows_of(*sheet: Any) -> dict[str, Row]:
    """The rows of a sheet, those of one subject as one."""
    return {subject: merged(rows) for subject, rows in read_sheet(*sheet).items()}


@pytest.mark.parametrize(
    "header",
    [
        "Patient|Age|Sex|Weight [kg]|Height [m]|Data-Source|Diagnosis|Scanner Model|Units",
        "PATIENT|age|SEX|weight (kg)|HEIGHT_M|data source|indication|Manufacturer Model|UNITS",
        "patient | Age [years]|sex\t|Weight_kg|Height-[m]|Data_Source|DIAGNOSIS|scanner-model|units:",
    ],
)
def test_headers_are_compared_without_case_and_punctuation(xlsx: Xlsx, header: str) -> None:
    rows = rows_of(
        xlsx([header.split("|"), [1, 81.8, "f", 70, 1.7, LEIPZIG, "lung cancer", "Biograph 16", "BQML"]]), "x"
    )
    assert rows == {
        "0001": {
            "age_years": 81.8,
            "sex": "f",
            "weight_kg": 70,
            "height_m": 1.7,
            "source_institution": LEIPZIG,
            "indication": "lung cancer",
            "scanner": "Biograph 16",
            "pet_units": "BQML",
        }
    }


def test_columns_may_stand_in_any_order(xlsx: Xlsx) -> None:
    assert rows_of(xlsx([["Sex", "Patient"], ["M", 7]]), "x") == {"0007": {"sex": "M"}}


@pytest.mark.parametrize(
    ("cell", "subject"),
    [(1, "0001"), (1.0, "0001"), ("1", "0001"), ("0001", "0001"), (" 1032 ", "1032"), ("1.0", "0001"), (1683, "1683")],
)
def test_the_patient_in_any_spelling(xlsx: Xlsx, cell: object, subject: str) -> None:
    assert list(rows_of(xlsx([["Patient", "Sex"], [cell, "F"]]), "x")) == [subject]


@pytest.mark.parametrize("cell", [None, "", "n/a", "sum", 1.5, 0, -3, True, "1-3", "nan", "inf"])
def test_rows_of_nobody_are_left_out(xlsx: Xlsx, cell: object) -> None:
    assert list(rows_of(xlsx([["Patient", "Sex"], [cell, "F"], [2, "M"]]), "x")) == ["0002"]


@pytest.mark.parametrize("blank", [None, "", "  ", "nan", "NaN", "N/A", "na", "None", "-"])
def test_missing_cells_are_missing(xlsx: Xlsx, blank: str | None) -> None:
    header = ["Patient", "Age", "Sex", "Weight [kg]", "Data-Source", "Units", "Year"]
    rows = rows_of(xlsx([header, [1, *[blank] * 6]]), "x")
    assert rows == {"0001": {}}
    info = describe(rows["0001"], rows["0001"])
    assert (info.age_years, info.sex, info.weight_kg, info.pet_units) == (None, None, None, None)
    assert (info.license, info.source_institution, info.extra) == ("unknown", None, {})


def test_rows_shorter_than_the_header(xlsx: Xlsx) -> None:
    assert rows_of(xlsx([["Patient", "Age", "Sex"], [1, 50], [2]]), "x") == {"0001": {"age_years": 50}, "0002": {}}


def test_columns_without_a_header_are_dropped(xlsx: Xlsx) -> None:
    assert rows_of(xlsx([["Patient", None, "Sex"], [1, "stray", "F"]]), "x") == {"0001": {"sex": "F"}}


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (81.8, 81.8),
        (81, 81.0),
        ("81.8", 81.8),
        ("81,8", 81.8),
        (" 81 ", 81.0),
        ("081Y", None),
        ("old", None),
        (0, None),
        (-5, None),
        ("inf", None),
        (True, None),
        (date(2020, 1, 2), None),
        ("1e400", None),
    ],
)
@pytest.mark.parametrize("field", ["age_years", "weight_kg", "height_m"])
def test_numbers(field: str, cell: object, number: float | None) -> None:
    assert getattr(describe({}, {field: cell}), field) == number


@pytest.mark.parametrize(
    ("cell", "sex"), [("F", "F"), ("f", "F"), (" female", "F"), ("Male", "M"), ("m", "M"), ("X", None), (1, None)]
)
def test_sex(cell: object, sex: str | None) -> None:
    assert describe({}, {"sex": cell}).sex == sex


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("BQML", "Bq/ml"),
        ("Bq/ml", "Bq/ml"),
        (" bq / mL ", "Bq/ml"),
        ("CNTS", "CNTS"),
        ("counts", "CNTS"),
        ("SUV", "SUV"),
        ("g/ml", "SUV"),
        ("kBq/ml", None),
        ("PROPCNTS", None),
        ("", None),
        (None, None),
    ],
)
def test_units_are_never_guessed(text: str | None, unit: str | None) -> None:
    assert pet_units(text) == unit


def test_the_unit_is_that_of_the_pet_sheet(xlsx: Xlsx) -> None:
    ct_rule, pet_rule = ENHANCE_PET.sheets
    sheet = xlsx([["Patient", "Units"], [1, " BQML "]])
    as_ct, as_pet = (rows_of(sheet, "x", rule)["0001"] for rule in (ct_rule, pet_rule))
    assert (describe(as_ct, {}).pet_units, describe(as_ct, {}).extra) == (None, {"CT: Units": " BQML "})
    assert (describe({}, as_pet).pet_units, describe({}, as_pet).extra) == ("BQML", {})


@pytest.mark.parametrize(
    ("header", "cell", "field", "number"),
    [
        ("Height [cm]", 168, "height_m", 1.68),
        ("height (mm)", "1680", "height_m", 1.68),
        ("Height_m", 1.68, "height_m", 1.68),
        ("HEIGHT in inches", 70, "height_m", None),
        ("Height", 168, "height_m", None),
        ("Height [furlongs]", 1, "height_m", None),
        ("Weight [g]", 70500, "weight_kg", 70.5),
        ("weight/kg", "70,5", "weight_kg", 70.5),
        ("Weight [lb]", 100, "weight_kg", 45.359237),
        ("Weight", 70, "weight_kg", None),
        ("Age", 81.8, "age_years", 81.8),
        ("Age [months]", 30, "age_years", 2.5),
        ("Age group", 3, "age_years", None),
    ],
)
def test_units_in_headers_are_parsed_and_never_guessed(
    xlsx: Xlsx, header: str, cell: object, field: str, number: float | None
) -> None:
    info = describe({}, rows_of(xlsx([["Patient", header], [1, cell]]), "x")["0001"])
    assert getattr(info, field) == (None if number is None else pytest.approx(number, rel=1e-12))
    # What was not understood is kept as it stood there.
    assert info.extra == ({f"PT: {header}": str(cell)} if number is None else {})


# Sheets as text


RULE = SheetRule(columns={"subject": ("image_id",), "age_years": ("age",), "sex": ("gender",)}, files=("meta.csv",))
IDS = SubjectRule(pattern="s[0-9]{4}")


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_text_sheet_by_any_delimiter(delimiter: str, start: str) -> None:
    rows = [["image_id", "age", "gender", "note"], ["s0001", "61.5", "f", "ä"], [" s0002 ", "", "m", ""]]
    text = start + "\r\n".join(delimiter.join(row) for row in rows)
    assert rows_of(text.encode(), "some.csv", RULE, IDS) == {
        "s0001": {"age_years": "61.5", "sex": "f", "note": "ä"},
        "s0002": {"sex": "m"},
    }


def test_quoted_cells_may_hold_the_delimiter() -> None:
    sheet = b'image_id;note\ns0001;"a;b"\nx0001;c\n'
    assert rows_of(sheet, "some.csv", RULE, IDS) == {"s0001": {"note": "a;b"}}


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"a;b\n1;2\n"])
def test_a_text_sheet_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        rows_of(data, "some.csv", RULE, IDS)
    assert (caught.value.code, caught.value.place) == ("source.sheet-unreadable", "some.csv")


# Licences: what is not sure is unknown.


@pytest.mark.parametrize(
    ("ct", "pet", "spdx"),
    [
        (AUTOPET, AUTOPET, "CC-BY-NC-4.0"),
        (LEIPZIG, LEIPZIG, "CC-BY-4.0"),
        (LEIPZIG, "University Hospital Leipzig (DE). ", "CC-BY-4.0"),
        (LEIPZIG, "UNIVERSITY HOSPITAL LEIPZIG (Germany)\t", "CC-BY-4.0"),
        (None, LEIPZIG, "CC-BY-4.0"),
        (AUTOPET, None, "CC-BY-NC-4.0"),
        (None, None, "unknown"),
        (AUTOPET, LEIPZIG, "unknown"),
        (LEIPZIG, AUTOPET, "unknown"),
        (LEIPZIG, "Somewhere Else", "unknown"),
        ("Somewhere Else", LEIPZIG, "unknown"),
        ("Somewhere Else", "Somewhere Else", "unknown"),
        ("University Hospital", None, "unknown"),
        # Of one licence, but one of the two would be named for what the other gave.
        (LEIPZIG, CAREGGI, "unknown"),
    ],
)
def test_licences_fail_closed(xlsx: Xlsx, ct: str | None, pet: str | None, spdx: str) -> None:
    sheets = [rows_of(xlsx([["Patient", "Data-Source"], [1, source]]), "x")["0001"] for source in (ct, pet)]
    assert describe(*sheets).license == spdx


def test_two_rows_of_one_subject_that_disagree_prove_nothing(xlsx: Xlsx) -> None:
    for sources in ((AUTOPET, LEIPZIG), (LEIPZIG, AUTOPET)):
        sheet = xlsx([["Patient", "Data-Source"], [1, sources[0]], [1.0, sources[1]]])
        row = rows_of(sheet, "x").get("0001", {})
        assert describe(row, row).license == "unknown"


def test_rows_that_complete_each_other_are_one(xlsx: Xlsx) -> None:
    sheet = xlsx([["Patient", "Weight [kg]", "Data-Source", "Foo"], [1, 80, LEIPZIG, None], [1, 80, None, "x"]])
    info = describe({}, rows_of(sheet, "x")["0001"])
    assert (info.weight_kg, info.source_institution, info.extra) == (80, LEIPZIG, {"PT: Foo": "x"})
    assert merged([{"Foo": "1", "weight_kg": 80}, {"Bar": "2", "weight_kg": 80}, {}]) == {
        "Foo": "1",
        "weight_kg": 80,
        "Bar": "2",
    }


@pytest.mark.parametrize("same", ["70", "70.0", " 70 ", 70.0])
def test_one_number_is_no_contradiction_however_it_is_typed(same: object) -> None:
    assert merged([{"weight_kg": 70, "sex": "F"}, {"weight_kg": same, "sex": "F "}]) == {"weight_kg": 70, "sex": "F"}


def test_what_rows_of_a_subject_do_not_agree_on_is_unknown_and_kept_as_text(xlsx: Xlsx) -> None:
    header = ["Patient", "Weight [kg]", "Sex", "Age", "Data-Source", "Foo", "Indication"]
    rows = [[1, 80, "F", 50, LEIPZIG, None, "melanoma"], [1, 81, "M", None, LEIPZIG, "x", "melanoma"]]
    row = rows_of(xlsx([header, *rows]), "x")["0001"]
    info = describe({}, row)
    assert (info.weight_kg, info.sex, info.age_years, info.indication) == (None, None, None, "melanoma")
    # Both rows are of this institution, whoever's they are.
    assert info.source_institution == LEIPZIG
    assert info.extra == {
        "PT: Foo": "blank or x",
        "PT: age_years": "50 or blank",
        "PT: sex": "F or M",
        "PT: weight_kg": "80 or 81",
    }
    assert conflicts({"CT": {}, "PT": row}) == (
        "PT Foo: blank or x, PT age_years: 50 or blank, PT sex: F or M, PT weight_kg: 80 or 81"
    )
    assert conflicts({"CT": {"weight_kg": 80}, "PT": {"weight_kg": 80}}) == ""


def test_a_source_that_only_one_of_two_contradicting_rows_names_gives_no_licence(xlsx: Xlsx) -> None:
    sheet = xlsx([["Patient", "Weight [kg]", "Data-Source"], [1, 80, LEIPZIG], [1, 81, None]])
    assert describe({}, rows_of(sheet, "x")["0001"]).license == "unknown"


@pytest.mark.parametrize(
    ("one", "other"),
    [("090000", "90000"), ("007", 7), (12345678901234567, 12345678901234568), ("1,000", 1), ("BQML", "CNTS")],
)
def test_what_only_looks_like_one_number_is_a_contradiction(one: object, other: object) -> None:
    assert isinstance(merged([{"Foo": one}, {"Foo": other}])["Foo"], Conflict)


@pytest.mark.parametrize("cells", [("0", "0.0"), (350, "350.0"), ("x", "x ")])
def test_what_is_said_twice_is_kept_as_its_shortest_text(cells: tuple[object, object]) -> None:
    assert merged([{"Foo": cells[0]}, {"Foo": cells[1]}]) == merged([{"Foo": cells[1]}, {"Foo": cells[0]}])
    assert merged([{"Foo": cells[1]}, {"Foo": cells[0]}]) == {"Foo": cells[0]}


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_third_row_settles_nothing_wherever_it_stands(order: tuple[int, ...]) -> None:
    rows: list[Row] = [{"weight_kg": 80}, {"weight_kg": 81}, {"source_institution": LEIPZIG, "weight_kg": 80}]
    row = merged([rows[number] for number in order])
    assert (str(row["weight_kg"]), str(row["source_institution"])) == ("80 or 81", f"{LEIPZIG} or blank")
    assert (describe({}, row).weight_kg, describe({}, row).license) == (None, "unknown")
    del rows[2]["weight_kg"]
    row = merged([rows[number] for number in order])
    assert (str(row["weight_kg"]), describe({}, row).license) == ("80 or 81", "unknown")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, "1", "1.0", "01", 2, "x", "x "]), max_size=3),
        max_size=4,
    ),
    st.randoms(),
)
def test_rows_in_any_order_are_the_same_row(rows: list[Row], random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = merged(rows), merged(shuffled)
    assert one == other
    # Nothing is lost, and nothing known that a row denies.
    assert one.keys() == {name for row in rows for name in row}
    for name, cell in one.items():
        said = {str(row[name]).strip().removesuffix(".0") for row in rows if name in row}
        assert said == {str(cell).strip().removesuffix(".0")} or isinstance(cell, Conflict)


@pytest.mark.parametrize(
    ("header", "cell", "field", "number"),
    [
        ("Weight [kg]", "80 kg", "weight_kg", 80.0),
        ("Weight [kg]", "80,5kg", "weight_kg", 80.5),
        ("Weight [kg]", "176.37 lb", "weight_kg", 80.0),
        ("Height [cm]", "1.70 m", "height_m", 1.7),
        ("Height [m]", "170 CM", "height_m", 1.7),
        ("Age", "50 Y", "age_years", 50.0),
        ("Age", "18 months", "age_years", 1.5),
    ],
)
def test_units_in_cells_are_parsed(xlsx: Xlsx, header: str, cell: str, field: str, number: float) -> None:
    info = describe({}, rows_of(xlsx([["Patient", header], [1, cell]]), "x")["0001"])
    assert getattr(info, field) == pytest.approx(number, rel=1e-4)
    assert info.extra == {}


@pytest.mark.parametrize("cell", ["heavy", "80 stone", "80-85", "12 st 3 lb"])
def test_what_is_no_number_is_kept_as_text(xlsx: Xlsx, cell: str) -> None:
    info = describe({}, rows_of(xlsx([["Patient", "Weight [kg]"], [1, cell]]), "x")["0001"])
    assert (info.weight_kg, info.extra) == (None, {"PT: weight_kg": cell})


def test_attribution_names_the_institution() -> None:
    info = describe({}, {"source_institution": "university hospital leipzig (Germany)."})
    assert info.source_institution == LEIPZIG
    assert info.attribution == f"Corpus, images from {LEIPZIG}"
    assert "unnamed" in describe({}, {}).attribution


def test_the_pet_sheet_has_the_word_on_the_patient() -> None:
    info = describe({"age_years": 40, "sex": "F", "scanner": "CT one"}, {"age_years": 41.5})
    assert (info.age_years, info.sex, info.scanner) == (41.5, "F", "CT one")


def test_unknown_columns_are_kept_as_text(xlsx: Xlsx) -> None:
    header = ["Patient", "Height [ells]", "Year", "Half Life [s]", "Injection"]
    when = datetime(2011, 2, 3, 4, 5, 6, tzinfo=UTC).replace(tzinfo=None)
    row = rows_of(xlsx([header, [1, 170, 2009, 6586.2, when]]), "x")["0001"]
    info = describe({"Year": 2008, "kVp": 120}, row)
    assert info.height_m is None
    assert info.extra == {
        "CT: Year": "2008",
        "CT: kVp": "120",
        "PT: Half Life [s]": "6586.2",
        "PT: Height [ells]": "170",
        "PT: Injection": "2011-02-03 04:05:06",
        "PT: Year": "2009",
    }
    assert list(info.extra) == sorted(info.extra)


def test_values_of_formulas_are_read(xlsx: Xlsx) -> None:
    # Without a cached value the cell is missing, and never the text of the formula.
    assert rows_of(xlsx([["Patient", "Age"], [1, "=40+2"]]), "x") == {"0001": {}}


def test_the_first_sheet_counts() -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["Patient", "Sex"])
    workbook.active.append([3, "M"])
    workbook.create_sheet("notes").append(["nothing", "of", "interest"])
    buffer = io.BytesIO()
    workbook.save(buffer)
    assert rows_of(buffer.getvalue(), "x") == {"0003": {"sex": "M"}}


# What is no sheet


def test_a_sheet_without_patients_is_refused(xlsx: Xlsx) -> None:
    for rows in ([["Age", "Sex"], [1, 2]], [], [[None, None]], [["Impatient"], [1]]):
        with pytest.raises(SourceError, match="Patient") as caught:
            rows_of(xlsx(rows), "some.xlsx")
        assert (caught.value.code, caught.value.place) == ("source.sheet-unreadable", "some.xlsx")


@pytest.mark.parametrize("data", [b"", b"Patient,Age\n1,2\n", b"<html>", b"PK\3\4" + bytes(100), b"PK\5\6" + bytes(18)])
def test_what_is_no_workbook_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        rows_of(data, "some.xlsx")
    assert caught.value.code == "source.sheet-unreadable"


def test_another_zip_is_no_workbook(zipped: Callable[..., bytes]) -> None:
    with pytest.raises(SourceError) as caught:
        rows_of(zipped({"0001.nii.gz": b"x"}), "some.xlsx")
    assert caught.value.code == "source.sheet-unreadable"


def test_a_cut_workbook_is_refused(xlsx: Xlsx) -> None:
    data = xlsx([["Patient", "Sex"], [1, "F"]])
    for kept in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(SourceError) as caught:
            rows_of(data[: int(kept * len(data))], "x")
        assert caught.value.code == "source.sheet-unreadable"


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_damaged_workbook_is_refused_or_read(xlsx: Xlsx, place: float, bit: int) -> None:
    data = bytearray(xlsx([["Patient", "Sex"], [1, "F"]]))
    data[int(place * len(data))] ^= 1 << bit
    rows: dict[str, Any] | None = None
    try:
        rows = rows_of(bytes(data), "x")
    except SourceError as error:
        code = error.code
    else:
        code = "read"
    assert (code, rows) in [("read", {"0001": {"sex": "F"}}), ("source.sheet-unreadable", None)]


def test_a_broken_page_is_refused(xlsx: Xlsx, zipped: Callable[..., bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(xlsx([["Patient"], [1]]))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in ("xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml"):
        with pytest.raises(SourceError) as caught:
            rows_of(zipped(members | {name: b"<cut off"}), "x")
        assert caught.value.code == "source.sheet-unreadable"
