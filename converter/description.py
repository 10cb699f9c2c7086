"""What a corpus looks like: a small TOML file that says how its files are named and what its spreadsheets mean.

``docs/corpora.md`` explains every key. ENHANCE.PET, TotalSegmentator and a plain BIDS tree are built in, in
``converter/corpora``. Whatever cannot be understood is an error, and a licence that is not plainly given is unknown.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from converter.labeltables import made_table, read_table
from corpus.contents import Contents, ImageVolume, Kind, LabelVolume
from corpus.errors import LayoutError, NotFoundError, SettingsError, SourceError
from corpus.labels import Family, Label, families
from corpus.layout import MIRROR_JSON, PRIVATE
from corpus.licenses import INSTITUTIONS, LICENSES, Institution
from corpus.models import to_json
from corpus.stores import Store

DESCRIPTION_KEY: Final = f"{PRIVATE}/corpus.json"
"""Where a mirror remembers the description that it was converted with."""

BUILT_IN: Final = ("enhance-pet", "totalsegmentator", "bids")
FIELDS: Final = (
    "subject",
    "age_years",
    "sex",
    "weight_kg",
    "height_m",
    "source_institution",
    "indication",
    "scanner",
    "pet_units",
)
"""What a column of a spreadsheet may mean."""

_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RESERVED: Final = frozenset({"labels", "nifti", "subject", "finish", "x", "y", "z"})
"""Names that a store, its records or the command line use for something else."""


class _Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a description; a key that is not known is an error, since it would be a rule that is not kept."""


class SubjectRule(_Rule, frozen=True):
    """What the id of a subject looks like: a number of so many digits, or a regular expression."""

    digits: int | None = None
    pattern: str | None = None

    @property
    def regex(self) -> str:
        """Regular expression of an id."""
        return self.pattern if self.pattern is not None else f"[0-9]{{{self.digits}}}"


class ImageRule(_Rule, frozen=True):
    """How the files of an intensity volume are named."""

    id: str
    kind: Kind
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


class LabelRule(_Rule, frozen=True):
    """How the files of a label map are named, or the binary masks that are packed into one."""

    id: str
    on: str
    table: str
    display: str = ""
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()


class TableRule(_Rule, frozen=True):
    """Where a label table comes from; `labels` is what was found there."""

    builtin: str | None = None
    file: str | None = None
    source: str | None = None
    names: dict[str, str] = {}
    labels: tuple[Label, ...] = ()


class SheetRule(_Rule, frozen=True):
    """Which spreadsheet it is, and what its columns mean."""

    columns: dict[str, tuple[str, ...]]
    kind: str = ""
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class LicenseRule(_Rule, frozen=True):
    """Where the licence of a subject is known from."""

    id: str | None = None
    institutions: str | tuple[Institution, ...] | None = None
    file: str | None = None
    key: str = "License"

    @property
    def by_institution(self) -> tuple[Institution, ...] | None:
        """The table of institutions, where the licence follows them."""
        return INSTITUTIONS if isinstance(self.institutions, str) else self.institutions


class Description(_Rule, frozen=True):
    """What a corpus looks like.

    Attributes
    ----------
    name, release, citation
        Of the corpus; a ``corpus.json`` in the source has the word.
    subject, images, labels, tables, sheets, license
        Rules.
    """

    name: str
    release: str
    citation: str
    subject: SubjectRule
    images: tuple[ImageRule, ...]
    labels: tuple[LabelRule, ...] = ()
    tables: dict[str, TableRule] = {}
    sheets: tuple[SheetRule, ...] = ()
    license: LicenseRule = LicenseRule()

    @property
    def volumes(self) -> list[tuple[str, str]]:
        """What a subject may have: images with their kinds, label maps with the image that they are laid on."""
        return [(image.id, image.kind) for image in self.images] + [(label.id, label.on) for label in self.labels]

    def contents(self, found: dict[str, tuple[Label, ...]]) -> Contents:
        """Return what a subject may have.

        Parameters
        ----------
        found
            Label tables that lie in the source, by name.
        """
        images = tuple(ImageVolume(image.id, image.kind) for image in self.images)
        labels = []
        for rule in self.labels:
            table = self.tables[rule.table]
            if table.builtin is not None:
                family = families()[table.builtin]
            else:
                listed = found.get(rule.table, table.labels)
                family = Family(rule.id, rule.display or rule.id, "", listed)
            labels.append(LabelVolume(msgspec.structs.replace(family, id=rule.id), rule.on))
        return Contents(images, tuple(labels))


def load(name_or_path: str) -> Description:
    """Return a description: one of `BUILT_IN` by its name, else that of a TOML file.

    Raises
    ------
    SettingsError
        There is no such file, or it cannot be used; the message names the key, what was expected and what was found.
    """
    if name_or_path in BUILT_IN:
        return built_in(name_or_path)
    path = Path(name_or_path)
    try:
        text = path.read_bytes()
    except OSError as error:
        names = ", ".join(BUILT_IN)
        raise _unusable(f"neither one of {names} nor a file that can be read: {error}", name_or_path) from error
    return _parse(text, lambda name: (path.parent / name).read_bytes(), name_or_path)


def built_in(name: str) -> Description:
    """Return the description of a corpus that is built in."""
    folder = resources.files("converter").joinpath("corpora")
    text = folder.joinpath(f"{name}.toml").read_bytes()
    return _parse(text, lambda file: folder.joinpath(file).read_bytes(), f"{name}.toml")


def remembered(store: Store) -> Description:
    """Return the description that a mirror was converted with.

    Raises
    ------
    LayoutError
        What the mirror remembers is of another version.
    """
    try:
        return msgspec.json.decode(store.get(DESCRIPTION_KEY), type=Description)
    except NotFoundError:
        return ENHANCE_PET
    except msgspec.DecodeError as error:
        message = f"not a description of this version: {error}"
        raise LayoutError("layout.metadata", message, place=DESCRIPTION_KEY) from error


def remember(store: Store, description: Description) -> None:
    """Keep the description that a mirror is converted with; that of ENHANCE.PET needs no keeping.

    Raises
    ------
    SettingsError
        The mirror was begun with a description that gives its subjects other volumes.
    """
    known = remembered(store)
    begun = known != ENHANCE_PET or store.exists(MIRROR_JSON)
    if begun and known.volumes != description.volumes:
        message = f"the mirror was begun with the volumes of {known.name!r}, not with those of {description.name!r}"
        raise SettingsError("settings.changed", message, place=store.url, hint="Convert into a new mirror.")
    if description != known:
        store.put(DESCRIPTION_KEY, to_json(description))


def _parse(text: bytes, read: Callable[[str], bytes], place: str) -> Description:
    try:
        description = msgspec.convert(tomllib.loads(text.decode()), Description)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unusable(f"not TOML: {error}", place) from error
    except msgspec.ValidationError as error:
        raise _unusable(str(error), place) from error
    for fault in _faults(description):
        raise _unusable(fault, place)
    try:
        tables = {name: _with_labels(table, read, name, place) for name, table in description.tables.items()}
    except OSError as error:
        raise _unusable(f"a label table cannot be read: {error}", place) from error
    except SourceError as error:
        raise _unusable(f"{error.place}: {error.message}", place) from error
    return msgspec.structs.replace(description, tables=tables)


def _with_labels(table: TableRule, read: Callable[[str], bytes], name: str, place: str) -> TableRule:
    labels: tuple[Label, ...] = ()
    if table.file is not None:
        labels = read_table(read(table.file), table.file)
    elif table.names:
        rows = [{"value": value, "name": text} for value, text in table.names.items()]
        labels = made_table(rows, f"{place}: tables.{name}.names")
    elif table.builtin is not None:
        labels = families()[table.builtin].labels
    return msgspec.structs.replace(table, labels=labels)


def _faults(description: Description) -> Iterator[str]:
    yield from _faults_of_subjects(description.subject)
    volumes: list[ImageRule | LabelRule] = [*description.images, *description.labels]
    ids = [volume.id for volume in volumes]
    for volume in volumes:
        if not _ID.fullmatch(volume.id) or volume.id in _RESERVED or volume.id.startswith("labels_"):
            yield f"id: expected lower-case letters, digits and _, and none of {sorted(_RESERVED)}, found {volume.id!r}"
        if ids.count(volume.id) > 1:
            yield f"id: {volume.id!r} occurs twice"
        yield from _faults_of_names(volume, masks=getattr(volume, "masks", ()))
    for label in description.labels:
        yield from _faults_of_labels(label, description)
    for name, table in description.tables.items():
        yield from _faults_of_table(name, table)
    for sheet in description.sheets:
        yield from _faults_of_sheet(sheet)
    yield from _faults_of_license(description.license)


def _faults_of_subjects(rule: SubjectRule) -> Iterator[str]:
    if (rule.digits is None) == (rule.pattern is None):
        yield "subject: expected either digits or pattern"
    elif rule.digits is not None and not 1 <= rule.digits <= 9:
        yield f"subject.digits: expected 1 to 9, found {rule.digits}"
    else:
        try:
            # In a group, as it will be used: a flag may not stand there.
            groups = re.compile(f"({rule.regex})").groups
        except re.error as error:
            yield f"subject.pattern: expected a regular expression, found {rule.pattern!r}: {error}"
        else:
            if groups > 1:
                yield "subject.pattern: expected no group but (?:...)"


def _faults_of_names(volume: ImageRule | LabelRule, masks: tuple[str, ...]) -> Iterator[str]:
    given = [name for name in ("files", "folders", "masks") if getattr(volume, name, ())]
    if len(given) != 1:
        yield f"{volume.id}: expected one of files, folders and (for label maps) masks, found {given or 'none'}"
    for pattern in (*volume.files, *masks):
        wanted = {"{subject}", "{structure}"} if pattern in masks else {"{subject}"}
        found = re.findall(r"\{[^}]*\}?", pattern)
        if set(found) != wanted or found.count("{structure}") > 1:
            yield f"{volume.id}: {pattern!r}: expected {', '.join(sorted(wanted))}, found {', '.join(found) or 'none'}"


def _faults_of_labels(label: LabelRule, description: Description) -> Iterator[str]:
    images = [image.id for image in description.images]
    if label.on not in images:
        yield f"{label.id}.on: expected one of {images}, found {label.on!r}"
    if label.table not in description.tables:
        yield f"{label.id}.table: expected one of {list(description.tables)}, found {label.table!r}"
    elif label.masks and description.tables[label.table].source is not None:
        yield f"{label.id}.table: expected a table that does not lie in the source, since masks get their values by it"


def _faults_of_table(name: str, table: TableRule) -> Iterator[str]:
    given = [key for key in ("builtin", "file", "source", "names") if getattr(table, key)]
    if len(given) != 1 or table.labels:
        yield f"tables.{name}: expected one of builtin, file, source and names, found {given or 'none'}"
    elif table.builtin is not None and table.builtin not in families():
        yield f"tables.{name}.builtin: expected one of {list(families())}, found {table.builtin!r}"


def _faults_of_sheet(sheet: SheetRule) -> Iterator[str]:
    if bool(sheet.files) == bool(sheet.names):
        yield "sheets: expected either files or names"
    if unknown := sorted(set(sheet.columns) - set(FIELDS)):
        yield f"sheets.columns: expected some of {', '.join(FIELDS)}, found {', '.join(unknown)}"
    if not sheet.columns.get("subject"):
        yield "sheets.columns.subject: expected the column that holds the id of the subject"


def _faults_of_license(rule: LicenseRule) -> Iterator[str]:
    given = [key for key in ("id", "institutions", "file") if getattr(rule, key) is not None]
    if len(given) > 1:
        yield f"license: expected one of id, institutions and file, found {given}"
    if isinstance(rule.institutions, str) and rule.institutions != "enhance-pet":
        yield f"license.institutions: expected a table or 'enhance-pet', found {rule.institutions!r}"
    ids: list[Any] = [rule.id] if rule.id is not None else [each.license for each in rule.by_institution or ()]
    for spdx in ids:
        if spdx not in LICENSES:
            yield f"license: expected one of {', '.join(LICENSES)}, found {spdx!r}"


def _unusable(message: str, place: str) -> SettingsError:
    return SettingsError("settings.corpus", message, place=place)


ENHANCE_PET: Final = built_in("enhance-pet")
"""What a source is taken for where nothing else is said."""
