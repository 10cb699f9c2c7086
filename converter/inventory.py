"""What a source holds: which file is which volume of which subject, found by names alone.

The rules are those of a corpus description. ENHANCE.PET exists in six layouts (one object per file, sets split over
folders, archives under two namings, other people's copies). They differ in folder names only, so a file's role is the
innermost folder or archive whose name, without case, space, hyphen and underscore, is that of an image set or a label
family; its subject is the file's stem.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Final

import msgspec

from converter.description import ENHANCE_PET, Description
from converter.names import Names
from converter.source import MaskFile, SourceFile
from corpus import layout
from corpus.archives import ArchiveMember, archive_members
from corpus.contents import Contents
from corpus.errors import SourceError
from corpus.findings import Finding, failure, warning
from corpus.labels import Family
from corpus.listing import SourceListing, is_archive

_PAIR: Final = re.compile(r"\.hdr(\.gz)?$", re.IGNORECASE)
_JUNK: Final = re.compile(
    # What file managers and office programs leave, and downloads that did not end; hidden files are among them.
    r"\.[^.].*|~\$.*|.*~|Thumbs\.db|desktop\.ini|.*\.(tmp|temp|part|partial|filepart|crdownload|download|aria2|swp)",
    re.IGNORECASE,
)
_JUNK_FOLDER: Final = re.compile(r"\.[^.].*|__MACOSX|\$RECYCLE\.BIN|@eaDir", re.IGNORECASE)
_METHODS: Final = (0, 8)
"""How zip members may be packed: stored or deflated."""

type _Found = tuple[str | None, SourceFile]
"""A file, and the structure that it is a binary mask of."""


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
        The spreadsheets, by name.
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


def take_inventory(url: str, description: Description = ENHANCE_PET) -> Inventory:
    """List a source; no volume is opened, only the directories of zip archives are read.

    Parameters
    ----------
    url
        Folder, zip archive, or URL of a bucket prefix, of an HTTP folder with an index page, or of an archive.
    description
        Of the corpus.

    Raises
    ------
    SettingsError
        There is no such place.
    StoreError
        It cannot be listed.
    """
    listing = SourceListing(url)
    names, contents = Names(description), description.contents({})
    found: dict[str, dict[str, list[_Found]]] = {}
    sheets: list[SourceFile] = []
    label_files: list[SourceFile] = []
    findings: list[Finding] = []
    other = 0
    for file in _files(listing, findings):
        path = inner_path(file)
        named = names.volume(path)
        if named and layout.is_subject_id(named.subject):
            found.setdefault(named.subject, {}).setdefault(named.role, []).append((named.structure, file))
        elif named:
            message = f"{named.subject!r} is no id of a subject"
            findings.append(failure(SourceError("source.subject-id", message, place=file.name)))
        elif names.volume(path.with_name(_PAIR.sub(".nii", path.name))):
            message = "one volume in two files, .hdr and .img"
            findings.append(failure(SourceError("source.pair", message, place=file.name)))
        elif names.sheet(path):
            sheets.append(file)
        elif path.name.casefold() == "labels.json":
            label_files.append(file)
        else:
            other += 1
    subjects = {subject: _subject(subject, found[subject], contents) for subject in sorted(found)}
    sheets.sort(key=lambda sheet: inner_path(sheet).name)
    return Inventory(url, subjects, tuple(sheets), tuple(label_files), tuple(findings), other)


def inner_path(file: SourceFile) -> PurePosixPath:
    """Return the path of a file with archives taken for folders, whatever system packed them."""
    return PurePosixPath(file.name.replace("!", "/").replace("\\", "/"))


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


def _subject(subject: str, found: dict[str, list[_Found]], contents: Contents) -> SubjectFiles:
    files: dict[str, SourceFile] = {}
    findings: list[Finding] = []
    for role in (role for role in contents.roles if role in found):
        place, (used, doubles) = f"{subject}/{role}", _firsts(found[role])
        findings += [warning("warning.duplicate", place, message) for message in doubles]
        if None in used:
            files[role] = used[None]
            continue
        masks, unknown = _in_order_of_table(used, contents.family(role))
        findings += [warning("warning.mask-unknown", place, f"{file.name} was left out") for file in unknown]
        if masks:
            files[role] = _packed(masks)
    findings += [
        warning("warning.volume-missing", f"{subject}/{role}", f"no file for {contents.volume_name(role)}")
        for role in contents.roles
        if role not in files
    ]
    return SubjectFiles(subject, files, tuple(findings))


def _firsts(found: list[_Found]) -> tuple[dict[str | None, SourceFile], list[str]]:
    """Return the first file of each structure (None for a whole volume), and a message where there are more."""
    by_structure: dict[str | None, list[SourceFile]] = {}
    for structure, file in found:
        by_structure.setdefault(structure, []).append(file)
    doubles = [
        f"{spare.name} was not used, {files[0].name} was" for files in by_structure.values() for spare in files[1:]
    ]
    return {structure: files[0] for structure, files in by_structure.items()}, doubles


def _in_order_of_table(
    found: dict[str | None, SourceFile], family: Family | None
) -> tuple[tuple[MaskFile, ...], list[SourceFile]]:
    """Return the masks whose structure is in the table, and the files of the others."""
    labels = family.labels if family else ()
    masks = tuple(MaskFile(label.value, found[label.name]) for label in labels if label.name in found)
    known = {label.name for label in labels}
    return masks, [file for structure, file in found.items() if structure not in known]


def _packed(masks: tuple[MaskFile, ...]) -> SourceFile:
    folder = os.path.commonpath([PurePosixPath(mask.file.name).parent for mask in masks])
    return SourceFile("", f"{folder}/", sum(mask.file.size for mask in masks), masks=masks)
