"""The corpus's two spreadsheets: one row per subject, under headers that differ between releases.

Headers are compared without case and punctuation. A missing or senseless cell is None, never 0. What is in no known
column is kept as text under its own header.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

import openpyxl

from corpus.errors import SourceError
from corpus.licenses import attribution_of, institution_of, license_of
from corpus.models import SubjectInfo

Row = dict[str, Any]

# Bare header to our column. Units in the header are part of it: a height in cm is not a height_m.
_COLUMNS: Final = {
    "patient": "subject",
    "age": "age_years",
    "ageyears": "age_years",
    "sex": "sex",
    "weightkg": "weight_kg",
    "heightm": "height_m",
    "datasource": "source_institution",
    "diagnosis": "indication",
    "indication": "indication",
    "manufacturermodel": "scanner",
    "scannermodel": "scanner",
    "units": "pet_units",
}
_NUMBERS: Final = ("age_years", "weight_kg", "height_m")
_PET_UNITS: Final = {"bqml": "Bq/ml", "cnts": "CNTS", "counts": "CNTS", "suv": "SUV", "gml": "SUV"}


def read_sheet(data: bytes, place: str) -> dict[str, Row]:
    """Read one spreadsheet.

    Parameters
    ----------
    data
        Bytes of the .xlsx file.
    place
        Its name, for errors.

    Returns
    -------
    dict
        Subject id to row; a row has our column names, and unknown headers as they are.

    Raises
    ------
    SourceError
        It is no spreadsheet, or has no column of subjects.
    """
    try:
        workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = list(workbook.worksheets[0].iter_rows(values_only=True))
    except Exception as error:  # the zip, XML and number parsers below openpyxl each raise their own
        raise SourceError("source.sheet-unreadable", f"{type(error).__name__}: {error}", place=place) from error
    header = [str(cell).strip() if cell is not None else "" for cell in rows[0]] if rows else []
    columns = [_COLUMNS.get(re.sub(r"[^a-z0-9]", "", name.casefold()), name) for name in header]
    if "subject" not in columns:
        raise SourceError("source.sheet-unreadable", f"no column 'Patient' among {header}", place=place)
    found: dict[str, Row] = {}
    for cells in rows[1:]:
        row = {name: cell for name, cell in zip(columns, cells, strict=False) if name and not _is_blank(cell)}
        subject = _subject_id(row.pop("subject", None))
        if subject:
            found[subject] = _merged(found[subject], row) if subject in found else row
    return found


def describe_subject(subject: str, ct: Row, pet: Row, corpus_name: str) -> SubjectInfo:
    """Return what the two sheets say of a subject; of a demographic field the PET sheet has the word.

    Parameters
    ----------
    subject
        Id.
    ct, pet
        Its rows; empty where a sheet does not list it.
    corpus_name
        For the attribution.
    """
    row = {**ct, **pet}
    named = [sheet["source_institution"] for sheet in (ct, pet) if "source_institution" in sheet]
    institutions = {institution_of(str(name)) for name in named}
    institution = row.get("source_institution")
    # Two sheets that contradict each other prove nothing: fail closed.
    spdx = license_of(institution).id if len(institutions) == 1 else "unknown"
    known = set(_COLUMNS.values())
    extra = {
        f"{kind}: {name}": str(cell)
        for kind, sheet in (("CT", ct), ("PT", pet))
        for name, cell in sheet.items()
        if name not in known
    }
    return SubjectInfo(
        subject=subject,
        source_institution=institution_of(institution),
        license=spdx,
        attribution=attribution_of(institution, corpus_name),
        indication=_text(row.get("indication")),
        sex=_sex(row.get("sex")),
        **{name: _number(row.get(name)) for name in _NUMBERS},
        scanner=_text(row.get("scanner")),
        pet_units=_text(pet.get("pet_units")),
        extra=dict(sorted(extra.items())),
    )


def pet_units(text: str | None) -> str | None:
    """Return the unit of a PET as we spell it, or None where the sheet's spelling is not known."""
    return _PET_UNITS.get(re.sub(r"[^a-z]", "", (text or "").casefold()))


def combined(one: dict[str, Row], other: dict[str, Row]) -> dict[str, Row]:
    """Return the rows of two sheets of one kind; of a subject in both, what they agree on."""
    return {
        subject: _merged(one[subject], other[subject])
        if subject in one and subject in other
        else one.get(subject) or other[subject]
        for subject in [*one, *(subject for subject in other if subject not in one)]
    }


def _merged(one: Row, other: Row) -> Row:
    # Two rows of one subject: what they do not agree on is not known, and their sources give no licence.
    agreed = {name: cell for name, cell in one.items() if other.get(name) == cell}
    sources = {str(row["source_institution"]) for row in (one, other) if "source_institution" in row}
    return agreed | ({"source_institution": " or ".join(sorted(sources))} if len(sources) > 1 else {})


def _is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip().casefold() in {"", "nan", "n/a", "na", "none", "-"})


def _subject_id(cell: object) -> str | None:
    number = _number(cell)
    if number is not None and number == int(number):
        return f"{int(number):04d}"
    return None


def _number(cell: object) -> float | None:
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        number = float(str(cell).strip().replace(",", "."))
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _text(cell: object) -> str | None:
    return None if cell is None else str(cell).strip() or None


def _sex(cell: object) -> str | None:
    letter = str(cell or "").strip().upper()[:1]
    return letter if letter in {"F", "M"} else None
