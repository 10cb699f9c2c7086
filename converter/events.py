"""What a run tells while it goes on, and what it says at its end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from corpus.findings import Finding


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """The work is known: volumes to convert with the bytes of their files, and volumes that are there already."""

    volumes: int
    source_bytes: int
    already: int
    place: str


class VolumeDone(msgspec.Struct, frozen=True, tag="volume"):
    """One volume was stored, or failed."""

    subject: str
    role: str
    stored: bool
    source_bytes: int
    stored_bytes: int
    seconds: float
    findings: tuple[Finding, ...]


class SubjectDone(msgspec.Struct, frozen=True, tag="subject"):
    """One subject's store is complete."""

    subject: str
    findings: tuple[Finding, ...]


class Published(msgspec.Struct, frozen=True, tag="published"):
    """The tables and ``mirror.json`` are written."""

    subjects: int
    licenses: dict[str, int]


Event = Planned | VolumeDone | SubjectDone | Published
Listener = Callable[[Event], None]


class Report(msgspec.Struct, frozen=True):
    """The end of a run.

    Attributes
    ----------
    converted, already
        Volumes that were stored now, and that were there before.
    failures, warnings
        What to look at.
    subjects
        Subjects in the published tables.
    licenses
        Their number by SPDX id.
    volumes
        What became of each volume that was worked on.
    seconds
        Wall time of the run.
    """

    converted: int
    already: int
    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    subjects: int
    licenses: dict[str, int]
    volumes: tuple[VolumeDone, ...] = ()
    seconds: float = 0.0
