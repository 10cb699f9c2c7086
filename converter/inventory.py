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

import msgspec

from converter.source import SourceFile
from corpus import layout
from corpus.archives import ArchiveMember, archive_members
from corpus.errors import SourceError
from corpus.findings import Finding, failure, warning
from corpus.labels import families
from corpus.stores import SourceListing, is_archive

_VOLUME: Final = re.compile(r"(\d{4})\.nii(\.gz)?", re.IGNORECASE)
_PAIR: Final = re.compile(r"\d{4}\.hdr(\.gz)?", re.IGNORECASE)
_SHEET: Final = re.compile(r"(ct|pt|pet)details")
_JUNK: Final = re.compile(
    # What file managers and office programs leave, and downloads that did not end; hidden files are among them.
    r"\.[^.].*|~\$.*|.*~|Thumbs\.db|desktop\.ini|.*\.(tmp|temp|part|partial|filepart|crdownload|download|aria2|swp)",
    re.IGNORECASE,
)
_JUNK_FOLDER: Final = re.compile(r"\.[^.].*|__MACOSX|\$RECYCLE\.BIN|@eaDir", re.IGNORECASE)
_METHODS: Final = (0, 8)
"""How zip members may be packed: stored or deflated."""


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

    @property
    def duplicates(self) -> dict[str, int]:
        """Number of files of each role that were not used, where there are any."""
        places = (finding.place for finding in self.findings if finding.code == "warning.duplicate")
        return Counter(place.rpartition("/")[2] for place in places)


class Inventory(msgspec.Struct, frozen=True):
    """All that was found in a source.

    Attributes
    ----------
    url
        The source.
    subjects
        By id, in order.
    sheets
        The spreadsheets; CT before PET.
    label_files
        Label tables that came with the corpus, all named ``labels.json``.
    findings
        Archives, members, and volumes in two files that cannot be used.
    other
        Number of files that are none of these.
    """

    url: str
    subjects: dict[str, SubjectFiles]
    sheets: tuple[SourceFile, ...]
    label_files: tuple[SourceFile, ...]
    findings: tuple[Finding, ...]
    other: int


def take_inventory(url: str) -> Inventory:
    """List a source; no volume is opened, only the directories of zip archives are read.

    Parameters
    ----------
    url
        Folder, zip archive, or URL of a bucket prefix, of an HTTP folder with an index page, or of an archive.

    Raises
    ------
    SettingsError
        There is no such place.
    StoreError
        It cannot be listed.
    """
    listing = SourceListing(url)
    found: dict[str, dict[str, list[SourceFile]]] = {}
    sheets: list[SourceFile] = []
    label_files: list[SourceFile] = []
    findings: list[Finding] = []
    other = 0
    for file in _files(listing, findings):
        path = inner_path(file)
        match, role = _VOLUME.fullmatch(path.name), role_of(path.parts[:-1])
        if match and role:
            found.setdefault(match[1], {}).setdefault(role, []).append(file)
        elif role and _PAIR.fullmatch(path.name):
            message = "one volume in two files, .hdr and .img"
            findings.append(failure(SourceError("source.pair", message, place=file.name)))
        elif path.suffix.lower() == ".xlsx" and _SHEET.fullmatch(_bare(path.stem)):
            sheets.append(file)
        elif path.name.casefold() == "labels.json":
            label_files.append(file)
        else:
            other += 1
    subjects = {subject: _subject(subject, found[subject]) for subject in sorted(found)}
    sheets.sort(key=lambda sheet: inner_path(sheet).name)
    return Inventory(url, subjects, tuple(sheets), tuple(label_files), tuple(findings), other)


def inner_path(file: SourceFile) -> PurePosixPath:
    """Return the path of a file with archives taken for folders, whatever system packed them."""
    return PurePosixPath(file.name.replace("!", "/").replace("\\", "/"))


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
    files: list[SourceFile] = []
    for name, reason in sorted(listing.unreadable.items()):
        findings.append(failure(SourceError("source.unreadable", reason, place=name)))
    for name, size in sorted(listing.sizes.items()):
        file = SourceFile(listing.url(name), name, size)
        if is_archive(name) and not _is_junk(file):
            files += _members(file, findings)
        else:
            files.append(file)
    return [file for file in files if not _is_junk(file)]


def _is_junk(file: SourceFile) -> bool:
    path = inner_path(file)
    return bool(_JUNK.fullmatch(path.name)) or any(_JUNK_FOLDER.fullmatch(part) for part in path.parts[:-1])


def _members(archive: SourceFile, findings: list[Finding]) -> list[SourceFile]:
    try:
        members = archive_members(archive.url)
    except SourceError as error:
        message = f"{archive.size} bytes, which are no whole zip archive: {error.message}"
        findings.append(failure(SourceError(error.code, message, place=archive.name)))
        return []
    names = Counter(member.name for member in members)
    files = []
    # Of members of one name, which are refused, one stands for all in the report.
    for member in sorted({member.name: member for member in members}.values()):
        file = SourceFile(archive.url, f"{archive.name}!{member.name}", member.size, member)
        if not (reason := _refusal(member, names)):
            files.append(file)
        elif not _is_junk(file):
            findings.append(failure(SourceError("source.archive-unreadable", reason, place=file.name)))
    return files


def _refusal(member: ArchiveMember, names: Counter[str]) -> str | None:
    # Nothing is unpacked, so that no name can do harm; but an archive with such names is not to be trusted.
    name = member.name.replace("\\", "/")
    climbs = name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in PurePosixPath(name).parts
    reasons = {
        "the member climbs out of the archive": climbs,
        "the member is encrypted": member.is_encrypted,
        "the archive has several members of this name": names[member.name] > 1,
        f"the member is packed by method {member.method}, which is neither stored nor deflate": member.method
        not in _METHODS,
        "the member's data overlap the next one": member.packed_size > member.stop - member.start,
        "an archive within an archive is not read; take it out": is_archive(name),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _subject(subject: str, found: dict[str, list[SourceFile]]) -> SubjectFiles:
    findings = [
        warning("warning.duplicate", f"{subject}/{role}", f"{spare.name} was not used, {files[0].name} was")
        for role, files in found.items()
        for spare in files[1:]
    ]
    findings += [
        warning("warning.volume-missing", f"{subject}/{role}", f"no file for {layout.volume_name(role)}")
        for role in layout.roles()
        if role not in found
    ]
    files = {role: found[role][0] for role in layout.roles() if role in found}
    return SubjectFiles(subject, files, tuple(findings))
