"""Rows of a table by subject, made only when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import pyarrow as pa


class SubjectRows(Mapping[str, list[dict[str, Any]]]):
    """A mapping from subjects to their rows, in the order of the table.

    A whole corpus has 200,000 regions: as dictionaries they would take a second and 300 MB, as columns next to nothing.

    Parameters
    ----------
    table
        With a column ``subject``.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._runs: dict[str, list[tuple[int, int]]] = {}
        start = 0
        for subject, rows in groupby(table.column("subject").to_pylist()):
            count = sum(1 for _ in rows)
            self._runs.setdefault(subject, []).append((start, count))
            start += count

    def __getitem__(self, subject: str) -> list[dict[str, Any]]:
        runs = self._runs[subject]
        return [row for start, count in runs for row in self.table.slice(start, count).to_pylist()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def only(self, subject: str) -> SubjectRows:
        """Return the rows of one subject, in a table of their own, which is small when it is pickled."""
        places = [place for start, count in self._runs.get(subject, []) for place in range(start, start + count)]
        # A slice would be pickled with all that it was cut from.
        return SubjectRows(self.table.take(pa.array(places, pa.int64())))
