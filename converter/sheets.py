"""The spreadsheets of a corpus: one row per subject, under headers that differ between releases.

Headers are compared without case and punctuation, and may end in a unit. A missing or senseless cell is None, never 0.
What is in no known column, or in a unit that is not known, is kept as text under its own header, and what is no number
where one should be under our name of the column. So is what rows that contradict each other do not agree on.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from python_calamine import CalamineError, CalamineWorkbook

from converter.description import ENHANCE_PET, FIELDS, SheetRule, SubjectRule
from converter.labeltables import delimited
from corpus.errors import SourceError
from corpus.licenses import INSTITUTIONS, UNKNOWN, Institution, License, attribution_of, institution_of, license_of
from corpus.models import SubjectInfo

Row = dict[str, Any]

_UNITS: Final[dict[str, dict[str, float]]] = {
    "age_years": {"": 1, "y": 1, "yr": 1, "yrs": 1, "year": 1, "years": 1, "months": 12, "days": 365.25},
    "weight_kg": {"kg": 1, "g": 1000, "lb": 1 / 0.45359237, "lbs": 1 / 0.45359237},
    "height_m": {"m": 1, "cm": 100, "mm": 1000, "in": 1 / 0.0254, "inch": 1 / 0.0254, "inches": 1 / 0.0254},
}
"""How many of a unit in a header make one of ours. A weight or height without a unit is no number of ours."""
_MEASURE: Final = re.compile(r"([0-9]+(?:[.,][0-9]+)?)\s*([A-Za-z]+)\.?")
_WHOLE: Final = re.compile(r"^(0|[1-9][0-9]{0,14})\.0+$")
EITHER: Final = " or "
"""Between what contradicting rows say of a subject, in one cell."""
_BLANK: Final = "blank"
_PET_UNITS: Final = {"bqml": "Bq/ml", "cnts": "CNTS", "counts": "CNTS", "suv": "SUV", "gml": "SUV"}


def read_sheet(
    data: bytes, place: str, rule: SheetRule = ENHANCE_PET.sheets[-1], ids: SubjectRule = ENHANCE_PET.subject
) -> dict[str, list[Row]]:
    """Read one spreadsheet.

    Parameters
    ----------
    data
        Bytes of an .xlsx, .csv or .tsv file.
    place
        Its name; its end says what it is, .xlsx where it says nothing.
    rule
        What its columns mean.
    ids
        What the id of a subject looks like.

    Returns
    -------
    dict
        Subject id to its rows, mostly one; a row has our column names, and unknown headers as they are.

    Raises
    ------
    SourceError
        It is no spreadsheet, or has no column of subjects.
    """
    rows = _text_cells(data, place) if place.lower().endswith((".csv", ".tsv")) else _workbook_cells(data, place)
    header = [str(cell).strip() if cell is not None else "" for cell in rows[0]] if rows else []
    columns = [_column(name, rule) for name in header]
    if "subject" not in [field for field, _ in columns]:
        message = f"no column {rule.columns['subject'][0]!r} among {header}"
        raise SourceError("source.sheet-unreadable", message, place=place)
    found: dict[str, list[Row]] = {}
    for cells in rows[1:]:
        row = {
            name: _in_our_unit(cell, name, divisor)
            for (name, divisor), cell in zip(columns, cells, strict=False)
            if name and not _is_blank(cell)
        }
        subject = _subject_id(row.pop("subject", None), ids)
        if subject:
            found.setdefault(subject, []).append(row)
    return found


def _text_cells(data: bytes, place: str) -> list[Any]:
    try:
        return delimited(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError("source.sheet-unreadable", f"{type(error).__name__}: {error}", place=place) from error


def _workbook_cells(data: bytes, place: str) -> list[Any]:
    try:
        cells = CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(0).to_python()
    except (CalamineError, OSError, ValueError) as error:
        raise SourceError("source.sheet-unreadable", f"{type(error).__name__}: {error}", place=place) from error
    return [[_as_shown(cell) for cell in row] for row in cells]


def _as_shown(cell: object) -> object:
    # A workbook knows one kind of number only, and shows whole ones without a point.
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _column(header: str, rule: SheetRule) -> tuple[str, float]:
    """Return our name of a column, or its own where we have none, and how many of its unit make one of ours."""
    name = _bare(header)
    for field, spellings in rule.columns.items():
        units = _UNITS.get(field, {"": 1.0})
        for spelling in map(_bare, spellings):
            if name.startswith(spelling) and name.removeprefix(spelling) in units:
                return field, units[name.removeprefix(spelling)]
    return header, 1.0


def _bare(header: str) -> str:
    return re.sub(r"[^a-z0-9]", "", header.casefold())


def _in_our_unit(cell: object, name: str, divisor: float) -> object:
    units = _UNITS.get(name, {})
    written = _MEASURE.fullmatch(cell.strip()) if isinstance(cell, str) else None
    if written and written[2].casefold() in units:  # its own unit, not the header's
        cell, divisor = written[1], units[written[2].casefold()]
    number = None if divisor == 1 else _number(cell)
    return cell if number is None else number / divisor


def describe_subject(
    subject: str,
    rows: Mapping[str, Row],
    corpus_name: str,
    institutions: tuple[Institution, ...] | None = INSTITUTIONS,
    fixed: License = UNKNOWN,
) -> SubjectInfo:
    """Return what the sheets say of a subject; of a field that several name, the last one has the word.

    Parameters
    ----------
    subject
        Id.
    rows
        Its `merged` row by the kind of the sheet (``CT``, ``PT``); empty where a sheet does not list it.
    corpus_name
        For the attribution.
    institutions
        Whose name gives the licence; None where it does not follow the institution.
    fixed
        Licence of all subjects, where it does not follow the institution.
    """
    row = {name: cell for sheet in rows.values() for name, cell in sheet.items()}
    named = [str(sheet["source_institution"]) for sheet in rows.values() if "source_institution" in sheet]
    known = institutions or ()
    institution = institution_of(named[-1], known) if named else None
    # Two sheets that contradict each other prove nothing: fail closed.
    agreed = len({institution_of(name, known) for name in named}) == 1
    by_institution = license_of(institution, known) if agreed else UNKNOWN
    attributed = institution or institutions is not None
    return SubjectInfo(
        subject=subject,
        source_institution=institution,
        license=(fixed if institutions is None else by_institution).id,
        attribution=attribution_of(institution, corpus_name, known) if attributed else corpus_name,
        indication=_text(row.get("indication")),
        sex=_sex(row.get("sex")),
        **{name: _number(row.get(name)) for name in _UNITS},
        scanner=_text(row.get("scanner")),
        pet_units=_text(row.get("pet_units")),
        extra=_extra(rows),
    )


def _extra(rows: Mapping[str, Row]) -> dict[str, str]:
    extra = {
        f"{kind}: {name}" if kind else name: str(cell)
        for kind, sheet in rows.items()
        for name, cell in sheet.items()
        if name not in FIELDS or isinstance(cell, Conflict) or (name in _UNITS and _number(cell) is None)
    }
    return dict(sorted(extra.items()))


def pet_units(text: str | None) -> str | None:
    """Return the unit of a PET as we spell it, or None where the sheet's spelling is not known."""
    return _PET_UNITS.get(re.sub(r"[^a-z]", "", (text or "").casefold()))


class Conflict(NamedTuple):
    """What rows of one subject say in a column, when one of its columns contradicts itself: nothing that is known."""

    cells: tuple[str, ...]

    def __str__(self) -> str:
        return EITHER.join(self.cells)


def conflicts(rows: Mapping[str, Row]) -> str:
    """Return in words which columns rows of one subject do not agree on; empty when they agree."""
    return ", ".join(
        f"{kind} {name}: {cell}".lstrip()
        for kind, sheet in sorted(rows.items())
        for name, cell in sorted(sheet.items())
        if isinstance(cell, Conflict)
    )


def merged(rows: Sequence[Row]) -> Row:
    """Return the one row that rows of a subject, of one sheet or of sheets of one kind, make together, in any order.

    Rows that complete each other are united. Of rows that contradict each other in any column one may be another
    subject's: then only what all of them say is known, and the rest is a `Conflict`.
    """
    rows = [row for row in rows if row]
    told: dict[str, dict[object, Any]] = {}
    for row in rows:
        for name, cell in row.items():
            cells = told.setdefault(name, {})
            said = _said(name, cell)
            # Of two ways to write one thing the same, whichever row is first.
            cells[said] = min(cells.get(said, cell), cell, key=_length_and_text)
    agree = all(len(cells) == 1 for cells in told.values())
    return {
        name: next(iter(cells.values()))
        if agree or (len(cells) == 1 and all(name in row for row in rows))
        else Conflict(tuple(sorted(str(cell).strip() for cell in (*cells.values(), *[_BLANK][: len(cells) == 1]))))
        for name, cells in told.items()
    }


def _length_and_text(cell: object) -> tuple[int, str, str]:
    return len(str(cell)), str(cell), type(cell).__name__


def _said(name: str, cell: object) -> object:
    # A workbook's 70 and a text's 70.0 say the same; 090000 and 90000 do not, nor do ids of twenty digits.
    number = _number(cell) if name in _UNITS else None
    text = str(cell).strip()
    return _WHOLE.sub(r"\1", text) if number is None else number


def _is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip().casefold() in {"", "nan", "n/a", "na", "none", "-"})


def _subject_id(cell: object, ids: SubjectRule) -> str | None:
    if ids.digits is None:
        text = str(cell).strip()
        return text if re.fullmatch(ids.regex, text) else None
    number = _number(cell)
    if number is not None and number == int(number):
        return f"{int(number):0{ids.digits}d}"
    return None


def _number(cell: object) -> float | None:
    if isinstance(cell, (bool, Conflict)) or cell is None:
        return None
    try:
        number = float(str(cell).strip().replace(",", "."))
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _text(cell: object) -> str | None:
    return None if cell is None or isinstance(cell, Conflict) else str(cell).strip() or None


def _sex(cell: object) -> str | None:
    letter = (_text(cell) or "").upper()[:1]
    return letter if letter in {"F", "M"} else None
