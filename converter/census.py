"""What a source holds, counted, and compared with what its release should hold.

Numbers of subjects are the only integrity data that were ever published of ENHANCE.PET: no checksum, no list of sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from converter.inventory import Inventory
from corpus.catalog import Catalog
from corpus.contents import ENHANCE_PET, Contents
from corpus.findings import Finding, warning
from corpus.models import SubjectInfo

RELEASES: Final = {"2025": 1597, "2026": 1683}
"""Subjects of each release of ENHANCE.PET, whose ids are the numbers from 0001: one file per volume and subject."""

_HEADS: Final = {("organs", "brain"), ("peripheral_bones", "skull")}
_MAPS: Final = {"organs", "peripheral_bones"}
_PRESENT: Final = "families_present"


class VolumeCount(msgspec.Struct, frozen=True):
    """How often one volume is there.

    Attributes
    ----------
    found
        Subjects that have it.
    duplicates
        Subjects that have it more than once.
    bytes
        Size of the files that are used.
    missing
        Ids that should have it: those of the release, or where it is not known those found.
    """

    found: int
    duplicates: int
    bytes: int
    missing: tuple[str, ...]


class Census(msgspec.Struct, frozen=True):
    """Totals of a source.

    Attributes
    ----------
    release
        Name of the release it is compared with, or None.
    guessed
        Whether the release was told from the ids alone.
    expected
        Subjects of the release; None where the number is not known.
    subjects, files, bytes
        What was found; of files only those that are used.
    volumes
        Counts by volume.
    beyond
        Ids that the release does not have.
    licenses
        Number of subjects by SPDX id.
    """

    release: str | None
    guessed: bool
    expected: int | None
    subjects: int
    files: int
    bytes: int
    volumes: dict[str, VolumeCount]
    beyond: tuple[str, ...]
    licenses: dict[str, int]


def take_census(
    inventory: Inventory,
    infos: Mapping[str, SubjectInfo],
    release: str | None = None,
    contents: Contents = ENHANCE_PET,
) -> Census:
    """Count a source.

    Parameters
    ----------
    inventory
        What was found.
    infos
        What the spreadsheets say of each subject.
    release
        The release it should be; None to tell it from the ids.
    contents
        What the corpus may have; only of ENHANCE.PET the releases are known.
    """
    guess = None if release or contents != ENHANCE_PET else _guess(inventory)
    expected = RELEASES.get(release or guess or "")
    ids = [f"{number:04d}" for number in range(1, expected + 1)] if expected else [*inventory.subjects]
    volumes = {contents.volume_name(role): _count(inventory, role, ids) for role in contents.roles}
    return Census(
        release=release or guess,
        guessed=guess is not None,
        expected=expected,
        subjects=len(inventory.subjects),
        files=sum(volume.found for volume in volumes.values()),
        bytes=sum(volume.bytes for volume in volumes.values()),
        volumes=volumes,
        beyond=tuple(sorted(inventory.subjects.keys() - set(ids))),
        licenses=dict(sorted(Counter(infos[subject].license for subject in inventory.subjects).items())),
    )


def ranges_text(subjects: tuple[str, ...]) -> str:
    """Return ids as ``--subjects`` takes them: ``0001,0003-0010``. Ids that are no numbers stand alone."""
    runs: list[list[str]] = []
    for subject in subjects:
        if runs and _follows(runs[-1][-1], subject):
            runs[-1].append(subject)
        else:
            runs.append([subject])
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def mixed_releases(catalog: Catalog) -> list[Finding]:
    """Return a warning where the label maps of a mirror say that subjects of both releases are in it.

    The release of 2025 has brain and skull in subjects of AutoPET and in no others; that of 2026 has them nowhere, and
    subjects of a fourth institution. (MOOSE issue 231, and the data card of 2026-04-27.)
    """
    heads = {
        subject
        for subject, rows in catalog.regions.items()
        if any((row["family"], row["name"]) in _HEADS for row in rows)
    }
    autopet = {subject for subject in _from(catalog, "AutoPET") if _MAPS & {*catalog.subjects[subject][_PRESENT]}}
    told = f"{len(autopet & heads)} of {len(autopet)} subjects of AutoPET have brain or skull"
    findings = []
    if heads and autopet - heads:
        findings.append(warning("warning.release-mixed", "labels", f"{told}, as in 2025; the others as in 2026"))
    if heads and _from(catalog, "University of California Davis"):
        findings.append(warning("warning.release-mixed", "labels", f"{told}, as in 2025; but Davis came in 2026"))
    return findings


def _from(catalog: Catalog, institution: str) -> set[str]:
    named = {subject: row["source_institution"] or "" for subject, row in catalog.subjects.items()}
    return {subject for subject, name in named.items() if name.startswith(institution)}


def _follows(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and len(one) == len(other) and int(other) == int(one) + 1


def _guess(inventory: Inventory) -> str | None:
    # Only a source that has all subjects of a release, and no other, is taken for it: the ids of the two overlap.
    ids = [*inventory.subjects]
    whole = ids == [f"{number:04d}" for number in range(1, len(ids) + 1)]
    return next((release for release, count in RELEASES.items() if whole and count == len(ids)), None)


def _count(inventory: Inventory, role: str, ids: list[str]) -> VolumeCount:
    entries = [entry for entry in inventory.subjects.values() if role in entry.files]
    having = {entry.subject for entry in entries}
    duplicates = sum(role in entry.duplicates for entry in entries)
    size = sum(entry.files[role].size for entry in entries)
    return VolumeCount(len(entries), duplicates, size, tuple(subject for subject in ids if subject not in having))
