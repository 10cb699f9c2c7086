"""Searching the catalogue: what can be asked, and an index that is built once for each publication."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from corpus.catalog import SCHEMAS, Catalog, Row
from corpus.errors import RequestError
from service.summaries import label_rows, statistics

_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Number = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Sort = Literal[
    "subject",
    "license",
    "source_institution",
    "indication",
    "sex",
    "age_years",
    "weight_kg",
    "height_m",
    "bytes",
    "-subject",
    "-license",
    "-source_institution",
    "-indication",
    "-sex",
    "-age_years",
    "-weight_kg",
    "-height_m",
    "-bytes",
]
SORTS: Final[tuple[str, ...]] = get_args(Sort)

# Query parameters that are equal to a cell, and its column.
_EQUAL: Final = {
    "license": "license",
    "sex": "sex",
    "institution": "source_institution",
    "indication": "indication",
    "release": "release",
}
_SEARCHED: Final = ("subject", "release", "source_institution", "license", "indication", "scanner", "details")


class SubjectFilter(BaseModel):
    """Query parameters that choose subjects. One that does not exist is refused: a typo must not widen a choice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    license: list[_Text] = Field([], description="SPDX id; several are alternatives.", examples=[["CC-BY-4.0"]])
    sex: list[Literal["F", "M"]] = Field([], description="Sex of the subject.", examples=[["F"]])
    age_min: _Number | None = Field(None, description="Youngest age, in years; leaves out unknown ages.", examples=[40])
    age_max: _Number | None = Field(None, description="Oldest age, in years; leaves out unknown ages.", examples=[75])
    institution: list[_Text] = Field([], description="Where the images come from; the whole name, in any case.")
    indication: list[_Text] = Field([], description="Why the subject was scanned.", examples=[["LYMPHOMA"]])
    release: list[_Text] = Field([], description="Release of the corpus.")
    has_volume: list[_Text] = Field(
        [], description="`ct`, `pet` or a label family; several must all be there.", examples=[["pet"]]
    )
    has_label: list[_Text] = Field(
        [], description="Name of a label that a map holds; several must all be there.", examples=[["liver"]]
    )
    q: _Text | None = Field(None, description="Words that must all occur somewhere in the row, in any case.")
    sort: Sort = Field("subject", description="Column; descending with `-`. Unknown values come last.")


class SubjectQuery(SubjectFilter):
    """Query parameters of one page of the list."""

    limit: int = Field(100, ge=1, le=1000, description="Most subjects in one answer.", examples=[2])
    cursor: Annotated[str, Field(max_length=1000)] | None = Field(None, description="The `next` of the answer before.")


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page: the next page begins after it, also in a publication that has gained or lost subjects.

    Attributes
    ----------
    sort
        How the list was sorted.
    value
        The row's cell of that column.
    subject
        The row's subject, which decides between equal values.
    """

    sort: str
    value: str | int | float | None
    subject: str

    def encode(self) -> str:
        """Return the position as an opaque text for URLs."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, sort: str) -> Position:
        """Return the position that a text stands for.

        Raises
        ------
        RequestError
            The text is none of ours, or was made for a list in another order.
        """
        try:
            position = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)
        except (ValueError, msgspec.DecodeError):
            position = None
        column = sort.removeprefix("-")
        if (
            position is None
            or position.sort != sort
            or (position.value is not None and isinstance(position.value, str) != _is_text(column))
        ):
            message = "the cursor is none of ours, or belongs to a list in another order"
            hint = "Give back `next` as it is, with the same `sort`."
            raise RequestError("request.parameter", message, place="cursor", hint=hint)
        return position

    def precedes(self, row: Row) -> bool:
        """Whether a row comes after this position."""
        value = row[self.sort.removeprefix("-")]
        if value == self.value:
            return bool(row["subject"] > self.subject)
        if value is None or self.value is None:
            return value is None
        return bool(value < self.value if self.sort.startswith("-") else value > self.value)


class _Entry(msgspec.Struct, frozen=True):
    """A subject's row, and what is compared of it, case-folded."""

    row: Row
    cells: dict[str, str]
    text: str


class Index:
    """A catalogue prepared for searching.

    Parameters
    ----------
    catalog
        The tables of one publication.

    Attributes
    ----------
    catalog
        The same.
    subjects_by_label
        Subjects whose label maps hold a label, by the label's name.
    subjects_by_volume
        Subjects that have a volume, by its name: ``ct``, ``pet`` or a label family.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.subjects_by_label = _subjects_by(catalog.regions.table, "name")
        self.subjects_by_volume = _subjects_by(catalog.volumes.table, "volume")
        self._entries = [_entry(row) for row in catalog.subjects.values()]
        self._orders: dict[str, list[_Entry]] = {}

    def find(self, wanted: SubjectFilter) -> list[Row]:
        """Return the rows that a filter chooses, in its order."""
        within = self._within(wanted)
        words = (wanted.q or "").casefold().split()
        chosen = {
            column: {text.casefold() for text in texts}
            for name, column in _EQUAL.items()
            if (texts := getattr(wanted, name))
        }
        ages = (wanted.age_min, wanted.age_max)
        return [
            entry.row
            for entry in self._ordered(wanted.sort)
            if (within is None or entry.row["subject"] in within)
            and all(entry.cells[column] in texts for column, texts in chosen.items())
            and _lies_between(entry.row["age_years"], *ages)
            and all(word in entry.text for word in words)
        ]

    @cached_property
    def labels(self) -> list[Row]:
        """All labels, counted."""
        return label_rows(self.catalog.regions.table)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Counts over all subjects."""
        return statistics(self.catalog)

    def _within(self, wanted: SubjectFilter) -> frozenset[str] | None:
        sets = [self.subjects_by_label.get(name, frozenset()) for name in wanted.has_label]
        names = [name.removeprefix("labels/") for name in wanted.has_volume]
        sets += [self.subjects_by_volume.get(name, frozenset()) for name in names]
        return frozenset.intersection(*sets) if sets else None

    def _ordered(self, sort: str) -> list[_Entry]:
        if sort not in self._orders:
            column = sort.removeprefix("-")
            entries = sorted(self._entries, key=lambda entry: str(entry.row["subject"]))
            known = [entry for entry in entries if entry.row[column] is not None]
            # Sorting is stable, also in reverse: equal values stay in the order of their subjects.
            known.sort(key=lambda entry: entry.row[column], reverse=sort.startswith("-"))
            self._orders[sort] = known + [entry for entry in entries if entry.row[column] is None]
        return self._orders[sort]


def page_of(rows: list[Row], query: SubjectQuery) -> tuple[list[Row], str | None]:
    """Return one page of sorted rows, and the cursor of the next page, or None.

    Raises
    ------
    RequestError
        The cursor is none of ours.
    """
    if query.cursor is not None:
        position = Position.decode(query.cursor, query.sort)
        rows = [row for row in rows if position.precedes(row)]
    page = rows[: query.limit]
    if len(rows) <= query.limit:
        return page, None
    last = page[-1]
    return page, Position(query.sort, last[query.sort.removeprefix("-")], last["subject"]).encode()


def _is_text(column: str) -> bool:
    return bool(SCHEMAS["catalog"].field(column).type == pa.string())


def _lies_between(age_years: float | None, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    return age_years is not None and (low is None or age_years >= low) and (high is None or age_years <= high)


def _entry(row: Row) -> _Entry:
    cells = {column: (row[column] or "").casefold() for column in _EQUAL.values()}
    return _Entry(row, cells, " ".join(str(row[column] or "") for column in _SEARCHED).casefold())


def _subjects_by(table: pa.Table, column: str) -> dict[str, frozenset[str]]:
    subjects: dict[str, set[str]] = {}
    pairs: Iterable[tuple[Any, Any]] = zip(
        table.column("subject").to_pylist(), table.column(column).to_pylist(), strict=True
    )
    for subject, name in pairs:
        subjects.setdefault(name.removeprefix("labels/"), set()).add(subject)
    return {name: frozenset(found) for name, found in subjects.items()}
