"""Label tables of other corpora: values and names from a TSV, CSV or JSON file, or from a corpus description."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from corpus.errors import SourceError
from corpus.labels import Label

_MOST: Final = 2**32 - 1
_VALUE_COLUMNS: Final = ("value", "index")
"""The second is what BIDS calls it."""


def read_table(data: bytes, place: str) -> tuple[Label, ...]:
    """Read a label table.

    Parameters
    ----------
    data
        A TSV or CSV file with the columns ``value`` (or ``index``) and ``name``, and perhaps ``display``,
        ``snomed_ct`` and ``side``; or a JSON object of values to names, or a JSON list of such rows.
    place
        Its name; the end says what it is.

    Raises
    ------
    SourceError
        It is none of these, or a value or a name occurs twice.
    """
    try:
        rows = _json_rows(data) if place.endswith(".json") else _text_rows(data, place)
    except (UnicodeDecodeError, csv.Error, msgspec.DecodeError, AttributeError) as error:
        raise _unusable(f"not a table of text: {error}", place) from error
    return made_table(rows, place)


def made_table(rows: Iterable[Mapping[str, Any]], place: str) -> tuple[Label, ...]:
    """Return a label table from its rows, in their order; rows of the background (0) are left out.

    Raises
    ------
    SourceError
        A row lacks a value or a name, or one of them occurs twice.
    """
    labels = [label for row in rows if (label := _label(row, place)).value]
    for field in ("value", "name"):
        seen = [getattr(label, field) for label in labels]
        if twice := sorted({str(each) for each in seen if seen.count(each) > 1}):
            raise _unusable(f"the {field}s {', '.join(twice)} occur twice", place)
    if not labels:
        raise _unusable("there is no label in it", place)
    return tuple(labels)


def united(tables: Mapping[str, tuple[Label, ...]]) -> tuple[Label, ...]:
    """Return all labels of several tables, by value.

    Raises
    ------
    SourceError
        Two of them give one value two names, or one name two values.
    """
    found: dict[int, Label] = {}
    for place, labels in sorted(tables.items()):
        for label in labels:
            known = found.setdefault(label.value, label)
            if known.name != label.name:
                message = f"value {label.value} is {label.name!r} here, and {known.name!r} in another table"
                raise _unusable(message, place)
    return made_table([msgspec.structs.asdict(found[value]) for value in sorted(found)], ", ".join(sorted(tables)))


def identifier(name: str) -> str:
    """Return a name as an identifier that CF's ``flag_meanings`` can list: whatever else is in it becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_.+@-]+", "_", name.strip()).strip("_")


def delimited(text: str) -> list[list[str]]:
    """Return the rows of a text table, whose cells are parted by tab, semicolon or comma, as its first line shows."""
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    return list(csv.reader(io.StringIO(text), delimiter=delimiter))


def _text_rows(data: bytes, place: str) -> list[dict[str, Any]]:
    rows = delimited(data.decode("utf-8-sig"))
    header = [name.strip().casefold() for name in rows[0]] if rows else []
    if not {*_VALUE_COLUMNS} & {*header} or "name" not in header:
        raise _unusable(f"expected the columns value (or index) and name, found {header}", place)
    return [dict(zip(header, (cell.strip() for cell in row), strict=False)) for row in rows[1:] if any(row)]


def _json_rows(data: bytes) -> list[dict[str, Any]]:
    if data.lstrip().startswith(b"{"):
        names = msgspec.json.decode(data, type=dict[str, str])
        return [{"value": value, "name": name} for value, name in names.items()]
    return msgspec.json.decode(data, type=list[dict[str, Any]])


def _label(row: Mapping[str, Any], place: str) -> Label:
    text = str(next((row[column] for column in _VALUE_COLUMNS if column in row), "")).strip()
    name = str(row.get("name") or "").strip()
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > _MOST:
        raise _unusable(f"expected a whole number as the value of {name!r}, found {text!r}", place)
    key = identifier(name)
    if not key and int(text):
        raise _unusable(f"the value {text} has no name", place)
    display = str(row.get("display") or name.replace("_", " "))
    code, side = row.get("snomed_ct"), row.get("side")
    return Label(int(text), key, display, str(code) if code else None, str(side) if side else None)


def _unusable(message: str, place: str) -> SourceError:
    return SourceError("source.label-table", message, place=place)
