"""SUV only where the sheet proves it: the formula, when it may not be used, and a phantom whose truth is known."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.events import Report
from converter.phantom import _pt_row, make_subject
from converter.reader import Mirror
from converter.sheets import describe_subject, merged, read_sheet
from converter.suv import Suv, suv_of
from corpus.models import SubjectInfo

CELLS = {
    "Injected Dose [MBq]": "350",
    "Injection Time": "09:00:00",
    "Acquisition Time": "10:00:00",
    "Half Life [s]": "6586.2",
}
EXPECTED = 70 * 1000 / (350e6 * 0.5 ** (3600 / 6586.2))


def suv(units: str | None = "BQML", weight: float | None = 70.0, **cells: str | None) -> Suv:
    """The factor for a sheet with all fields, some cells replaced (or left out: None); _ stands for a blank."""
    changed = {header.replace("_", " "): text for header, text in cells.items()}
    extra = {f"PT: {header}": text for header, text in {**CELLS, **changed}.items() if text is not None}
    return suv_of(SubjectInfo(subject="0001", weight_kg=weight, pet_units=units, extra=extra))


def with_columns(cells: dict[str, str], **options: str) -> Suv:
    """The factor for a sheet with exactly these columns."""
    extra = {f"PT: {header}": text for header, text in cells.items()}
    return suv_of(SubjectInfo(**{"subject": "0001", "weight_kg": 70.0, "pet_units": "BQML", "extra": extra, **options}))  # type: ignore[arg-type]


def replaced(header: str, other: str, text: str | None = None) -> dict[str, str]:
    return {other if name == header else name: text or cell if name == header else cell for name, cell in CELLS.items()}


def test_the_formula_and_the_fields_it_used() -> None:
    known = suv()
    assert known.factor == pytest.approx(EXPECTED)
    for field in ("Weight", "Units", *CELLS):
        assert field in known.basis
    # The sheet does not say to what time the values are decay corrected: said, not hidden.
    assert "assumed" in known.basis
    assert "assumed" not in suv(DecayCorrection="START").basis


@pytest.mark.parametrize(
    ("header", "other", "text"),
    [
        ("Injected Dose [MBq]", "RadionuclideTotalDose", "350000000"),
        ("Injected Dose [MBq]", "injected_activity (kBq)", "350000"),
        ("Injected Dose [MBq]", "Injected dose in mCi", "9.4594594594"),
        ("Injected Dose [MBq]", "(0018,1074)", "3.5e8"),
        ("Injected Dose [MBq]", "Injected Dose [GBq]", "0,35"),
        ("Half Life [s]", "RadionuclideHalfLife", "6586.2"),
        ("Half Life [s]", "Half-life [min]", "109.77"),
        ("Half Life [s]", "Half life (h)", "1.8295"),
        ("Injection Time", "Radiopharmaceutical Start Time", "090000"),
        ("Injection Time", "Radiopharmaceutical Start Time (0018,1072)", "090000.000000"),
        ("Acquisition Time", "AcquisitionTime", "100000.00"),
        ("Acquisition Time", "Acquisition DateTime", "20150101100000.0"),
        ("Acquisition Time", "Acquisition DateTime", "2015-01-01 10:00:00"),
    ],
)
def test_headers_units_and_times_in_other_spellings(header: str, other: str, text: str) -> None:
    assert with_columns(replaced(header, other, text)).factor == pytest.approx(EXPECTED, rel=1e-6)


def test_a_scan_after_midnight() -> None:
    late = suv(Injection_Time="23:30:00", Acquisition_Time="00:30:00")
    assert late.factor == pytest.approx(EXPECTED)
    dated = suv(Injection_Time="2015-01-01 23:30:00", Acquisition_Time="2015-01-02 00:30:00")
    assert dated.factor == pytest.approx(EXPECTED)
    next_day = suv(Injection_Time="2015-01-01 09:00:00", Acquisition_Time="2015-01-02 10:00:00")
    assert (next_day.factor, next_day.is_implausible) == (None, True)


def test_the_scan_begins_with_the_series_unless_that_is_a_later_reconstruction() -> None:
    # The acquisition time is that of one bed position: QIBA takes the series time where it is not after that.
    first = suv(Series_Time="09:50:00")
    assert first.factor == pytest.approx(70 * 1000 / (350e6 * 0.5 ** (3000 / 6586.2)))
    assert "Series Time" in first.basis
    assert suv(Series_Time="16:00:00").factor == pytest.approx(EXPECTED)
    ge = suv(**{"Series Time": "16:00:00", "(0009,100d)": "09:55:00"})
    assert ge.factor == pytest.approx(70 * 1000 / (350e6 * 0.5 ** (3300 / 6586.2)))
    alone = suv(Series_Time="10:00:00", Acquisition_Time=None)
    assert alone.factor is None
    assert "acquisition" in alone.basis


def test_decay_corrected_to_the_injection_the_dose_is_not_decayed() -> None:
    assert suv(DecayCorrection="ADMIN").factor == pytest.approx(70 * 1000 / 350e6)
    times = {"Injection Time": None, "Acquisition Time": None, "Half Life [s]": None}
    assert suv(DecayCorrection="ADMIN", **times).factor == pytest.approx(70 * 1000 / 350e6)


@pytest.mark.parametrize("missing", CELLS)
def test_a_missing_field_is_no_factor_and_says_which(missing: str) -> None:
    known = suv(**{missing: None})
    assert (known.factor, known.is_implausible) == (None, False)
    assert known.basis.startswith("none: the sheet gives no ")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weight": None}, "weight"),
        ({"units": None}, "unit"),
        ({"units": "PROPCNTS"}, "PROPCNTS"),
        ({"units": "CNTS"}, "CNTS"),
        ({"units": "SUV"}, "kind"),
        ({"units": "GML", "SUVType": "LBM"}, "another kind"),
        ({"DecayCorrection": "NONE"}, "NONE"),
        ({"Corrected_Image": "['NORM', 'ATTN']"}, "decay"),
        ({"units": "CNTS", "(7053,1000)": "0"}, "CNTS"),
    ],
)
def test_what_the_sheet_does_not_allow(options: dict[str, str | None], reason: str) -> None:
    known = suv(**options)  # type: ignore[arg-type]
    assert (known.factor, known.is_implausible) == (None, False)
    assert reason in known.basis


@pytest.mark.parametrize(
    "cells",
    [
        {"Injected Dose [MBq]": "0.35"},  # GBq under the wrong header
        {"Injected Dose [MBq]": "350000000"},  # Bq under the wrong header
        {"Injected Dose [MBq]": "-350"},
        {"Injected Dose [MBq]": "1e999"},
        {"Injected Dose [MBq]": "about 350"},
        {"Injected Dose [MBq]": None, "Injected Dose [min]": "350"},
        {"Injected Dose [MBq]": None, "Injected Dose": "350"},  # without a unit it is DICOM's, Bq
        {"RadionuclideTotalDose": "360000000"},  # and the other column says 350 MBq
        {"Half Life [s]": "109.77"},  # minutes
        {"Half Life [s]": "nan"},
        {"Injection Time": "10:00:00"},  # wiped: both alike
        {"Injection Time": "10:20:00"},  # after the scan
        {"Injection Time": "01:00:00"},  # of another study
        {"Injection Time": "9:00"},
        {"Injection Time": "90000"},  # 09:00:00 without its zero, or 25 hours in seconds
        {"Injection Time": "24:00:00"},
        {"Injection Time": "09:60:00"},
        {"Injection Time": "20151301090000"},
        {"Injection Time": None, "Injection Time [s]": "090000"},
        {"Corrected Image": "['ATTN', 'DECY'] or ['NORM']"},  # rows that contradict each other
        {"DecayCorrection": "ADMIN or blank"},
    ],
    ids=str,
)
def test_what_cannot_be_true_is_no_factor_and_is_flagged(cells: dict[str, str | None]) -> None:
    known = suv(**cells)
    assert (known.factor, known.is_implausible) == (None, True), known.basis


@pytest.mark.parametrize("weight", [0.5, 700.0])
def test_an_implausible_weight(weight: float) -> None:
    assert suv(weight=weight).is_implausible


def test_a_tracer_of_days_needs_days() -> None:
    undated = {"Half Life [s]": "282240"}
    known = suv(**undated)
    assert known.factor is None
    assert "days" in known.basis
    dated = {"Injection Time": "2015-01-01 09:00:00", "Acquisition Time": "2015-01-04 09:00:00"}
    factor = suv(**undated, **dated).factor
    assert factor == pytest.approx(70 * 1000 / (350e6 * 0.5 ** (3 * 86400 / 282240)))


def test_counts_need_the_scanner_s_own_factor() -> None:
    assert suv("CNTS", **{"(7053,1000)": "0.00042"}).factor == 0.00042
    activity = suv("CNTS", **{"(7053,1000)": "0", "(7053,1009)": "1.5"})
    assert activity.factor == pytest.approx(1.5 * EXPECTED)
    # The way over Bq/ml needs all that Bq/ml needs.
    assert suv("CNTS", weight=None, **{"(7053,1009)": "1.5"}).factor is None
    # For Bq/ml these columns say nothing.
    assert suv(**{"SUV Scale Factor": "0.5"}).factor == pytest.approx(EXPECTED)


def test_grams_per_millilitre_are_suv_by_body_weight() -> None:
    assert suv("GML").factor == suv("g/ml", SUVType="BW").factor == 1.0
    assert suv("SUV", **{"SUV Type": "bw"}).factor == 1.0


def test_the_ct_sheet_says_nothing_of_the_tracer() -> None:
    extra = {f"CT: {header}": text for header, text in CELLS.items()}
    info = SubjectInfo(subject="0001", weight_kg=70.0, pet_units="BQML", extra=extra)
    assert suv_of(info).factor is None


@given(
    cells=st.dictionaries(
        st.sampled_from([*CELLS, "Series Time", "DecayCorrection", "Corrected Image", "(7053,1000)", "(7053,1009)"]),
        st.one_of(
            st.text(string.printable, max_size=20), st.floats().map(str), st.times().map(str), st.datetimes().map(str)
        ),
    ),
    units=st.sampled_from(["BQML", "CNTS", "GML", "SUV", "", None]),
    weight=st.one_of(st.none(), st.floats(1e-3, 1e6)),
)
def test_whatever_the_cells_hold_there_is_a_sensible_factor_or_a_reason(
    cells: dict[str, str], units: str | None, weight: float | None
) -> None:
    known = with_columns(cells, pet_units=units, weight_kg=weight)  # type: ignore[arg-type]
    if known.factor is None:
        assert known.basis.startswith("none: ")
    else:
        assert known.factor > 0
        assert known.basis.startswith("QIBA")


# The phantom: its PET is drawn in SUV, and its sheet is made apart from the drawing.


def info_of(number: int, xlsx: Callable[..., bytes]) -> SubjectInfo:
    row = _pt_row(make_subject(number), 0)
    rows = read_sheet(xlsx([list(row), list(row.values())]), "PT-details.xlsx")
    return describe_subject(f"{number:04d}", {"PT": merged(rows[f"{number:04d}"])}, "phantom")


@pytest.mark.parametrize(
    ("number", "reason"),
    [(1, ""), (2, ""), (4, ""), (5, ""), (6, "no weight"), (3, "CNTS"), (7, "CNTS"), (13, "no weight")],
)
def test_the_factor_is_that_of_the_phantom_or_the_gap_is_named(
    number: int, reason: str, xlsx: Callable[..., bytes]
) -> None:
    known = suv_of(info_of(number, xlsx))
    if reason:
        assert known.factor is None
        assert reason in known.basis
    else:
        assert known.factor == pytest.approx(1 / make_subject(number).units_per_suv)


@pytest.fixture(scope="module")
def mirror(phantom_mirror: Path) -> Path:
    return phantom_mirror


@pytest.mark.parametrize("subject", ["0001", "0002", "0004"])
def test_pixels_times_factor_are_the_suv_that_was_drawn(mirror: Path, subject: str) -> None:
    opened = Mirror(str(mirror))
    factor = opened.catalog.volume(subject, "pet")["suv_factor"]
    pet = xr.open_datatree(mirror / f"subjects/{subject}.ome.zarr", engine="zarr")["pet/scale0/pet"]
    regions = {row["name"]: row for row in opened.catalog.regions[subject]}
    for organ, drawn in (("liver", 2.3), ("bladder", 18.0)):
        place = {axis: regions[organ][f"centroid_{axis}_mm"] for axis in "xyz"}
        assert float(pet.sel(place, method="nearest")) * factor == pytest.approx(drawn, rel=0.3), organ


def test_the_metadata_name_the_fields_or_the_reason(mirror: Path) -> None:
    def attributes(subject: str, image: str) -> dict[str, object]:
        path = mirror / f"subjects/{subject}.ome.zarr/{image}/zarr.json"
        told: dict[str, object] = json.loads(path.read_text())["attributes"]["voxshelf"]
        return told

    rows = Mirror(str(mirror)).catalog
    known, counts = attributes("0001", "pet"), attributes("0003", "pet")
    assert known["suv_factor"] == rows.volume("0001", "pet")["suv_factor"] is not None
    assert "Injected Dose [MBq]" in str(known["suv_factor_from"])
    assert counts["suv_factor"] is rows.volume("0003", "pet")["suv_factor"] is None
    assert "CNTS" in str(counts["suv_factor_from"])
    assert "suv_factor" not in attributes("0001", "ct")


# A corrected sheet.


def run(source: Path, mirror: Path) -> Report:
    return convert(str(source), str(mirror), ConvertSettings(corpus=read_corpus(str(source))), lambda _: None)


def contents(mirror: Path) -> dict[str, bytes]:
    files = (path for path in mirror.rglob("*") if path.is_file())
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in files}


def corrected(corpus: Path, folder: Path, **cells: object) -> Path:
    """The PET of the first subject alone, with other cells in its PET sheet."""
    source = folder / f"corpus{len(list(folder.iterdir()))}"
    for path in [*corpus.rglob("PT/0001.nii.gz"), corpus / "CT-details.xlsx", corpus / "PT-details.xlsx"]:
        to = source / path.relative_to(corpus)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    book = openpyxl.load_workbook(source / "PT-details.xlsx")
    sheet = book.worksheets[0]
    header = [cell.value for cell in sheet[1]]
    for name, cell in cells.items():
        sheet.cell(2, header.index(name) + 1).value = cell  # type: ignore[assignment]
    book.save(source / "PT-details.xlsx")
    return source


@pytest.mark.parametrize(
    "cells", [{"Injected Dose [MBq]": 201.5}, {"Units": "CNTS"}, {"Weight [kg]": None}, {"Units": None}], ids=str
)
def test_a_corrected_cell_is_told_anew_and_no_voxel_is_written(
    corpus: Path, tmp_path: Path, cells: dict[str, object]
) -> None:
    mirror, anew = tmp_path / "mirror", tmp_path / "anew"
    run(corrected(corpus, tmp_path), mirror)
    shards = {path: path.stat().st_mtime_ns for path in mirror.rglob("c/*/*/*")}
    before = contents(mirror)
    changed = corrected(corpus, tmp_path, **cells)
    report = run(changed, mirror)
    assert (report.converted, report.already, report.failures) == (0, 1, ())
    assert {path: path.stat().st_mtime_ns for path in mirror.rglob("c/*/*/*")} == shards
    # Object for object what a conversion of the corrected corpus gives, records included but for their times.
    run(changed, anew)
    records = ".voxshelf/"
    told = {key: data for key, data in contents(mirror).items() if not key.startswith(records)}
    assert told == {key: data for key, data in contents(anew).items() if not key.startswith(records)}
    assert told["volumes.parquet"] != before["volumes.parquet"]
    # And a third run finds nothing to do.
    settled = contents(mirror)
    run(changed, mirror)
    assert {key: data for key, data in contents(mirror).items() if "report" not in key} == {
        key: data for key, data in settled.items() if "report" not in key
    }


def test_an_implausible_cell_is_reported_and_gives_no_factor(corpus: Path, tmp_path: Path) -> None:
    report = run(corrected(corpus, tmp_path, **{"Injection Time": "03:00:00"}), tmp_path / "mirror")
    finding = next(finding for finding in report.warnings if finding.code == "warning.suv-implausible")
    assert finding.place == "0001/pet"
    assert "plausible" in finding.message
    assert finding.hint
    assert Mirror(str(tmp_path / "mirror")).catalog.volume("0001", "pet")["suv_factor"] is None


def test_a_second_sheet_that_contradicts_the_first_is_told_and_nothing_is_guessed(
    corpus: Path, tmp_path: Path, xlsx: Callable[..., bytes]
) -> None:
    source = corrected(corpus, tmp_path)
    (source / "PET-details.xlsx").write_bytes(xlsx([["Patient", "Weight [kg]", "Foo"], [1, 123, "x"]]))
    report = run(source, tmp_path / "mirror")
    finding = next(finding for finding in report.warnings if finding.code == "warning.rows-conflict")
    assert finding.place == "0001"
    assert "PT weight_kg: " in finding.message
    assert not report.failures
    row = Mirror(str(tmp_path / "mirror")).catalog.subjects["0001"]
    assert row["weight_kg"] is None
    assert "123" in json.loads(row["details"])["PT: weight_kg"]
    assert Mirror(str(tmp_path / "mirror")).catalog.volume("0001", "pet")["suv_factor"] is None
