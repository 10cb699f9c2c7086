"""What a source holds: which file is which volume of which subject, found by names alone.

The corpus exists in six layouts (one object per file, sets split over folders, archives under two namings, other
people's copies). They differ in folder names only, so a file's role is the innermost folder or archive whose name,
without case, space, hyphen and underscore, is that of an image set or a label family; its subject is the file's stem.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Final
from zipfile import BadZipFile

import msgspec

from converter.source import SourceFile
from corpus import layout
from corpus.errors import SourceError, StoreError
from corpus.findings import Finding, failure, warning
from corpus.labels import families
from corpus.stores import ArchiveMember, SourceListing, archive_members

_VOLUME: Final = re.compile(r"(\d{4})\.nii(\.gz)?", re.IGNORECASE)
_PAIR: Final = re.compile(r"\d{4}\.hdr(\.gz)?", re.IGNORECASE)
_SHEET: Final = re.compile(r"(ct|pt|pet)details")
_JUNK: Final = re.compile(r"\._.*|\.DS_Store|Thumbs\.db|.*\.(tmp|part|crdownload)", re.IGNORECASE)
_JUNK_FOLDER: Final = "__MACOSX"


class SubjectFiles(msgspec.Struct, frozen=True):
    """The files of one subject.

    Attributes
    ----------
    subject
        Id.
    files
        Role to file.
    findings
        Gaps and duplicates.
    """

    subject: str
    files: dict[str, SourceFile]
    findings: tuple[Finding, ...]


class Inventory(msgspec.Struct, frozen=True):
    """All that was found in a source.

    Attributes
    ----------
    url
        The source.
    subjects
        By id, in order.
    sheets
        Names of the spreadsheets; CT before PET.
    findings
        Archives, and volumes in two files, that cannot be used.
    other
        Number of files that are none of these.
    """

    url: str
    subjects: dict[str, SubjectFiles]
    sheets: tuple[str, ...]
    findings: tuple[Finding, ...]
    other: int


def take_inventory(url: str) -> Inventory:
    """List a source; no volume is opened, only the directories of zip archives are read.

    Parameters
    ----------
    url
        Folder, or URL of a bucket prefix.

    Raises
    ------
    SettingsError
        There is no such place.
    StoreError
        It cannot be listed.
    """
    listing = SourceListing(url)
    found: dict[str, dict[str, list[SourceFile]]] = {}
    sheets: list[str] = []
    findings: list[Finding] = []
    other = 0
    for file in _files(listing, findings):
        path = PurePosixPath(file.name.replace("!", "/"))
        if _JUNK.fullmatch(path.name) or _JUNK_FOLDER in path.parts:
            continue
        match, role = _VOLUME.fullmatch(path.name), role_of(path.parts[:-1])
        if match and role:
            found.setdefault(match[1], {}).setdefault(role, []).append(file)
        elif role and _PAIR.fullmatch(path.name):
            message = "one volume in two files, .hdr and .img"
            findings.append(failure(SourceError("source.pair", message, place=file.name)))
        elif path.suffix.lower() == ".xlsx" and _SHEET.fullmatch(_bare(path.stem)):
            sheets.append(file.name)
        else:
            other += 1
    subjects = {subject: _subject(subject, found[subject]) for subject in sorted(found)}
    return Inventory(url, subjects, tuple(sorted(sheets)), tuple(findings), other)


def role_of(folders: tuple[str, ...]) -> str | None:
    """Return the role that the innermost telling folder (or archive) name gives, or None."""
    for folder in reversed(folders):
        bare = _bare(folder).removesuffix(".zip")
        for role, pattern in _ROLES.items():
            if pattern.fullmatch(bare):
                return role
    return None


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _role_patterns() -> dict[str, re.Pattern[str]]:
    patterns = {"ct": r"ct(images)?\d*", "pet": r"(pt|pet)(images)?\d*"}
    patterns |= {role: _bare(role).removesuffix("s") + r"s?(labels)?" for role in families()}
    return {role: re.compile(pattern) for role, pattern in patterns.items()}


_ROLES: Final = _role_patterns()


def _files(listing: SourceListing, findings: list[Finding]) -> list[SourceFile]:
    files = []
    for name, size in sorted(listing.sizes.items()):
        if name.lower().endswith(".zip"):
            files += _members(name, listing.url(name), findings)
        else:
            files.append(SourceFile(listing.url(name), name, size))
    return files


def _members(name: str, url: str, findings: list[Finding]) -> list[SourceFile]:
    try:
        members = archive_members(url)
    except (BadZipFile, OSError, StoreError) as error:
        findings.append(failure(SourceError("source.archive-unreadable", str(error), place=name)))
        return []
    names = Counter(member.name for member in members)
    files = []
    for member in sorted(set(members)):
        path = f"{name}!{member.name}"
        if reason := _refusal(member, names):
            findings.append(failure(SourceError("source.archive-unreadable", reason, place=path)))
        else:
            files.append(SourceFile(f"zip://{member.name}::{url}", path, member.size))
    return files


def _refusal(member: ArchiveMember, names: Counter[str]) -> str | None:
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        return "the member climbs out of the archive"
    if member.is_encrypted:
        return "the member is encrypted"
    if names[member.name] > 1:
        return "the archive has two members of this name"
    return None


def _subject(subject: str, found: dict[str, list[SourceFile]]) -> SubjectFiles:
    findings = [
        warning("warning.duplicate", f"{subject}/{role}", f"{files[1].name} was not used, {files[0].name} was")
        for role, files in found.items()
        if len(files) > 1
    ]
    findings += [
        warning("warning.volume-missing", f"{subject}/{role}", f"no file for {layout.volume_name(role)}")
        for role in layout.roles()
        if role not in found
    ]
    files = {role: found[role][0] for role in layout.roles() if role in found}
    return SubjectFiles(subject, files, tuple(findings))
