"""File names: which volume of which subject a file is, by the rules of a corpus description."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from converter.description import Description, ImageRule, LabelRule, SheetRule
from converter.labeltables import identifier

_SUBJECT: Final = "\0"  # in no path
_PARTS: Final = re.compile(r"(\*\*/|\*|\{subject\}|\{structure\}|\.nii\.gz$)")


class Named(NamedTuple):
    """What a name tells.

    Attributes
    ----------
    role, subject
        Which volume.
    structure
        For a binary mask, what it shows, spelled as in a label table.
    """

    role: str
    subject: str
    structure: str | None = None


class Names:
    """The naming rules of one corpus, ready to be asked.

    Parameters
    ----------
    description
        Of the corpus.
    """

    def __init__(self, description: Description) -> None:
        subject = description.subject.regex
        volumes: list[ImageRule | LabelRule] = [*description.images, *description.labels]
        self._in_folder = re.compile(rf"({subject})\.nii(\.gz)?", re.IGNORECASE)
        self._folders = [(volume.id, _any_folder(volume.folders)) for volume in volumes if volume.folders]
        self._files = [
            (volume.id, compiled(pattern, subject))
            for volume in volumes
            for pattern in (*volume.files, *getattr(volume, "masks", ()))
        ]
        self._sheets = [
            (
                sheet,
                [compiled(pattern, subject) for pattern in sheet.files],
                {bare(name) for name in sheet.names},
            )
            for sheet in description.sheets
        ]

    def volume(self, path: PurePosixPath) -> Named | None:
        """Return which volume a file is; None for none.

        Parameters
        ----------
        path
            Relative to the source's root; an archive counts as a folder.
        """
        for role, pattern in self._files:
            if match := pattern.fullmatch(str(path)):
                structure = match.groupdict().get("structure")
                return Named(role, match["subject"], identifier(structure) if structure else None)
        match, folder_role = self._in_folder.fullmatch(path.name), self.role_of(path.parts[:-1])
        return Named(folder_role, match[1]) if match and folder_role else None

    def sheet(self, path: PurePosixPath) -> SheetRule | None:
        """Return the rule of a spreadsheet; None where the file is none."""
        for sheet, files, names in self._sheets:
            if bare(path.name) in names or any(pattern.fullmatch(str(path)) for pattern in files):
                return sheet
        return None

    def role_of(self, folders: tuple[str, ...]) -> str | None:
        """Return the role that the innermost telling folder (or archive) name gives, or None."""
        for folder in reversed(folders):
            name = bare(folder).removesuffix(".zip")
            for role, pattern in self._folders:
                if pattern.fullmatch(name):
                    return role
        return None


def compiled(pattern: str, subject: str = "") -> re.Pattern[str]:
    """Return the regular expression of a path pattern.

    ``*`` is any part of a name, ``**/`` any folders or none, ``{subject}`` the id (the same wherever it stands),
    ``{structure}`` what a mask shows; ``.nii.gz`` at the end also takes ``.nii``.
    """
    expression = "".join(_EXPRESSIONS.get(part, re.escape(part)) for part in _PARTS.split(pattern))
    once = expression.replace(_SUBJECT, f"(?P<subject>{subject})", 1)
    return re.compile(once.replace(_SUBJECT, "(?P=subject)"))


_EXPRESSIONS: Final = {
    "**/": "(?:[^/]+/)*",
    "*": "[^/]*",
    "{subject}": _SUBJECT,
    "{structure}": "(?P<structure>[^/]+?)",
    ".nii.gz": r"\.nii(?:\.gz)?",
}


def bare(name: str) -> str:
    """Return a name without case, blank, hyphen and underscore."""
    return re.sub(r"[\s_-]", "", name).casefold()


def _any_folder(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(bare(name)).replace(r"\#", "[0-9]*") for name in names))
