"""What is left of a run: ``report.json``, and the report page with a picture of each subject."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from converter import page
from converter.events import Event, Listener, Report, VolumeDone
from converter.publish import completed_subjects
from corpus import layout
from corpus.catalog import read_catalog
from corpus.errors import VoxshelfError
from corpus.findings import Finding, failure, unexpected
from corpus.outcomes import SubjectOutcome
from corpus.stores import Store

if TYPE_CHECKING:
    from converter.run import Executor

REPORT_KEY: Final = f"{layout.PRIVATE}/report.json"
_SLOWEST: Final = 10


class Recorder:
    """A listener that keeps what became of the volumes, and passes every event on.

    Parameters
    ----------
    listen
        Called with each event.
    """

    def __init__(self, listen: Listener) -> None:
        self._listen = listen
        self._started = time.perf_counter()
        self._volumes: list[VolumeDone] = []

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, VolumeDone):
            self._volumes.append(event)
        self._listen(event)

    def completed(self, report: Report) -> Report:
        """Return the report of a run with its volumes, and the wall time since this listener was made."""
        seconds = time.perf_counter() - self._started
        return msgspec.structs.replace(report, volumes=tuple(self._volumes), seconds=seconds)


def totals(report: Report) -> dict[str, Any]:
    """Return the sums of a run: volumes, bytes in and out, seconds, and source megabytes per second of wall time."""
    source = sum(volume.source_bytes for volume in report.volumes)
    return {
        "volumes_stored": report.converted,
        "volumes_failed": sum(not volume.stored for volume in report.volumes),
        "source_bytes": source,
        "stored_bytes": sum(volume.stored_bytes for volume in report.volumes),
        "seconds": round(report.seconds, 3),
        "volume_seconds": round(sum(volume.seconds for volume in report.volumes), 3),
        "mb_per_s": _rate(source, report.seconds),
    }


def slowest(report: Report) -> list[VolumeDone]:
    """Return the volumes that took longest, the slowest first."""
    return sorted(report.volumes, key=lambda volume: -volume.seconds)[:_SLOWEST]


def closing_event(report: Report) -> dict[str, Any]:
    """Return a run's last event for machines: what `Report` holds, with totals in place of the volumes."""
    told: dict[str, Any] = msgspec.to_builtins(report)
    del told["volumes"], told["seconds"]
    return {"type": "report", **told, "totals": totals(report)}


def document(report: Report) -> dict[str, Any]:
    """Return ``report.json``: findings are grouped, so that a hint is there once and not 1,600 times."""
    return {
        "totals": totals(report),
        "already": report.already,
        "subjects": report.subjects,
        "licenses": report.licenses,
        "failures": grouped(report.failures),
        "warnings": grouped(report.warnings),
        "slowest": [f"{volume.subject}/{volume.role}" for volume in slowest(report)],
        "volumes": [_volume(volume) for volume in report.volumes],
    }


def grouped(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings by code and hint, the most frequent first."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for finding in findings:
        where = {"place": finding.place, "message": finding.message}
        groups.setdefault((finding.code, finding.hint), []).append(where)
    return [
        {"code": code, "hint": hint, "count": len(where), "findings": where}
        for (code, hint), where in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _volume(done: VolumeDone) -> dict[str, Any]:
    return {
        "subject": done.subject,
        "volume": done.role,
        "stored": done.stored,
        "source_bytes": done.source_bytes,
        "stored_bytes": done.stored_bytes,
        "seconds": round(done.seconds, 3),
        "mb_per_s": _rate(done.source_bytes, done.seconds),
        "codes": [finding.code for finding in done.findings],
    }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / 1e6 / seconds, 3) if seconds > 0 else None


class PageFolder:
    """Where a report page and its pictures lie.

    Parameters
    ----------
    mirror
        The mirror; the page lies in its private folder, which no server shows.
    out
        Path or URL of another place instead.
    """

    def __init__(self, mirror: Store, out: str | None = None) -> None:
        self._store = mirror if out is None else Store(out)
        self._prefix = f"{layout.REPORT}/" if out is None else ""
        self.index = f"{self._store.url.rstrip('/')}/{self._prefix}index.html"

    def put(self, name: str, data: bytes) -> None:
        """Write one file."""
        self._store.put(self._prefix + name, data)

    def pictures(self) -> frozenset[str]:
        """Return the names of the pictures that are there."""
        return frozenset(key.removeprefix(self._prefix) for key in self._store.keys(f"{self._prefix}pictures"))


def picture_name(subject: str) -> str:
    """Return the name of a subject's picture in the folder of the page."""
    return layout.picture_key(subject).removeprefix(f"{layout.REPORT}/")


def add_picture(mirror: Store, subject: str, folder: PageFolder) -> Finding | None:
    """Draw a complete subject; return why there is no picture of it. A picture never stops anything."""
    # Pillow is loaded when something is drawn: a conversion without pictures starts quicker.
    from converter import thumbnail

    try:
        folder.put(picture_name(subject), thumbnail.draw(thumbnail.read_layers(mirror, subject)))
    except VoxshelfError as error:
        return failure(error, subject)
    except Exception as error:  # noqa: BLE001  # whatever is odd about a volume, it is stored
        return unexpected(error, subject)
    return None


def write_page(mirror: Store, outcomes: dict[str, SubjectOutcome], folder: PageFolder) -> int:
    """Write the page of a published mirror, and return its number of subjects.

    Parameters
    ----------
    mirror
        The mirror.
    outcomes
        Records of its subjects, as far as they are there.
    folder
        Where to.

    Raises
    ------
    LayoutError
        It is no published mirror.
    StoreError
        A store failed.
    """
    catalog = read_catalog(mirror)
    drawn = folder.pictures()
    entries = []
    for subject, row in catalog.subjects.items():
        name = picture_name(subject)
        findings = page.findings_of(catalog, subject, outcomes.get(subject))
        entries.append(page.Entry(row, findings, name if name in drawn else ""))
    folder.put("index.html", page.render(catalog, entries).encode())
    return len(entries)


def make_report(mirror_url: str, out: str | None, place: Executor, *, redraw: bool) -> tuple[int, list[Finding], str]:
    """Make the report page of any mirror, and the pictures that it lacks.

    Parameters
    ----------
    mirror_url
        Path or URL.
    out
        Path or URL of the page's folder; None for the mirror's private one.
    place
        Draws the pictures.
    redraw
        Draw all pictures anew.

    Returns
    -------
    tuple
        Number of subjects, why some have no picture, and where the page is.

    Raises
    ------
    LayoutError
        It is no published mirror.
    StoreError
        A store failed.
    """
    mirror = Store(mirror_url)
    folder = PageFolder(mirror, out)
    drawn = frozenset() if redraw else folder.pictures()
    missing = [subject for subject in read_catalog(mirror).subjects if picture_name(subject) not in drawn]
    for subject in missing:
        place.submit(f"picture {subject}", draw_subject, mirror.url, subject, out)
    results = [place.next_done() for _ in missing]
    findings = [found if isinstance(found, Finding) else unexpected(found, name) for name, found in results if found]
    return write_page(mirror, completed_subjects(mirror), folder), findings, folder.index


def draw_subject(mirror_url: str, subject: str, out: str | None) -> Finding | None:
    """Draw one subject. Runs on a worker."""
    mirror = Store(mirror_url)
    return add_picture(mirror, subject, PageFolder(mirror, out))
