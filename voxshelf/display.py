"""What a person or a script sees: the only place that prints results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from corpus.findings import Finding

_MOST_LISTED = 20


def console() -> Console:
    """Return the console for results; tables are not folded where the output is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on one line."""
    click.echo(msgspec.json.encode(value).decode())


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; None is shown as a dash."""
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console().print(table)


def print_findings(title: str, findings: Sequence[Finding]) -> None:
    """Print each finding with its place, code and hint; many of one code are summed up."""
    if not findings:
        return
    out = console()
    out.print(f"[bold]{title}[/bold]")
    for code, count in Counter(finding.code for finding in findings).items():
        same = [finding for finding in findings if finding.code == code]
        out.print(f"  {code}: {count}", markup=False)
        for finding in same[:_MOST_LISTED]:
            out.print(f"    {finding.place}: {finding.message}", markup=False)
        if len(same) > _MOST_LISTED:
            out.print(f"    ... and {len(same) - _MOST_LISTED} more; --json lists all", markup=False)
        out.print(f"    hint: {same[0].hint}", markup=False)


def size_text(count: float) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class _Bar:
    """A bar on the terminal while its context is open; silent where the output is no terminal."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class WorkBar(_Bar):
    """A progress bar of files: how many, how fast in source bytes, how long still, how many failed.

    Use as a context manager.

    Parameters
    ----------
    verb
        What is being done, for the bar's label.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(
            TextColumn(verb),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failed]}"),
        )
        self._task: TaskID | None = None
        self._bytes = 0
        self._failed = 0

    def expect(self, volumes: int) -> None:
        """Set how many volumes there are to do."""
        self._task = self._progress.add_task("", total=volumes, rate="", failed="")

    def advance(self, source_bytes: int, *, failed: bool) -> None:
        """Count one volume."""
        if self._task is None:
            return
        self._bytes += source_bytes
        self._failed += failed
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f"{size_text(self._bytes / elapsed)}/s" if elapsed > 0 and source_bytes else ""
        self._progress.update(self._task, advance=1, rate=rate, failed=f"{self._failed} failed" if self._failed else "")


class VoxelBar(_Bar):
    """A progress bar of the voxels of one volume; use as a context manager.

    Parameters
    ----------
    verb
        What is being done, for the bar's label.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(TextColumn(verb), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._task = self._progress.add_task("", total=None)

    def update(self, done: int, total: int) -> None:
        """Show how many voxels of how many are done."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show on the terminal that something is going on."""
    with Console(stderr=True).status(text):
        yield
