"""Is a mirror what it says: objects against their digests, documents and tables against each other, voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial
from typing import Any

import msgspec

from converter.check_subject import broken, check_bytes, check_subject, read_outcome
from converter.check_volume import check_array, check_levels, check_objects, check_source, check_statistics
from converter.description import Description, remembered
from converter.inventory import Inventory, take_inventory
from converter.publish import published_objects
from converter.reader import Mirror
from converter.run import Job, executor, results
from converter.source import SourceFile
from corpus import layout
from corpus.catalog import Catalog
from corpus.errors import LayoutError, SettingsError, SourceError, VoxshelfError
from corpus.findings import Finding, failure, unexpected
from corpus.manifest import read_manifest
from corpus.stores import Store


class VerifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to check, and where.

    Attributes
    ----------
    source
        The corpus that the mirror was made from, to compare every voxel with it; None to leave that out.
    description
        Of the corpus; None for the one that the mirror was converted with.
    subjects
        Ids; None for all.
    deep
        Also make all levels and statistics anew from level 0.
    workers, scheduler
        As for a conversion.
    """

    source: str | None = None
    description: Description | None = None
    subjects: frozenset[str] | None = None
    deep: bool = False
    workers: int = 0
    scheduler: str | None = None


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """The work is known."""

    subjects: int
    volumes: int
    place: str


class SubjectChecked(msgspec.Struct, frozen=True, tag="subject"):
    """The documents of a subject, its objects and its rows in the tables were checked.

    Attributes
    ----------
    subject
        Id.
    objects
        How many its store consists of.
    findings
        What is wrong; empty when all is right.
    """

    subject: str
    objects: int
    findings: tuple[Finding, ...]


class VolumeChecked(msgspec.Struct, frozen=True, tag="checked"):
    """One volume was checked.

    Attributes
    ----------
    subject, volume
        Which one.
    voxels
        Number of voxels that were compared with the source; 0 without one.
    findings
        What is wrong; empty when all is right.
    """

    subject: str
    volume: str
    voxels: int
    findings: tuple[Finding, ...]


type Event = Planned | SubjectChecked | VolumeChecked


class Verification(msgspec.Struct, frozen=True):
    """The end of a check.

    Attributes
    ----------
    subjects, volumes, objects
        How many were checked.
    voxels
        How many were compared with the source.
    findings
        What is wrong.
    """

    subjects: int
    volumes: int
    objects: int
    voxels: int
    findings: tuple[Finding, ...]


def verify(mirror_url: str, settings: VerifySettings, listen: Callable[[Event], None]) -> Verification:
    """Check a mirror.

    Every object is compared with the digest that was recorded when it was written; consolidated metadata with the
    documents they are copies of; the tables with the records and with what the stores say; checksums and the digest of
    level 0 with the voxels; and, where it is wanted, every voxel with the source's, and levels and statistics with
    level 0.

    Parameters
    ----------
    mirror_url
        The mirror.
    settings
        What to check, and where.
    listen
        Called with each event, in this thread.

    Raises
    ------
    LayoutError
        It is no published mirror, or its tables are damaged.
    SettingsError
        No subject is selected.
    StoreError
        The store failed, or the cluster was lost.
    """
    mirror = Mirror(mirror_url)
    description = settings.description or remembered(mirror.store)
    inventory = take_inventory(settings.source, description) if settings.source else None
    wanted = settings.subjects
    listed = [subject for subject in mirror.catalog.subjects if wanted is None or subject in wanted]
    if not listed:
        raise SettingsError("settings.no-subjects", "no subject of the mirror is selected", place=mirror_url)
    findings = list(_check_publication(mirror, whole=wanted is None))
    volumes = sum(len(mirror.catalog.volumes.get(subject, [])) for subject in listed)
    objects = voxels = 0
    with executor(settings.workers, settings.scheduler) as place:
        listen(Planned(len(listed), volumes, place.place))
        for name, result in results(place, _jobs(mirror, listed, inventory, settings)):
            checked = result if isinstance(result, (SubjectChecked, VolumeChecked)) else _lost(name, result)
            listen(checked)
            findings += checked.findings
            if isinstance(checked, SubjectChecked):
                objects += checked.objects
            else:
                voxels += checked.voxels
    return Verification(len(listed), volumes, objects, voxels, tuple(findings))


def _jobs(
    mirror: Mirror, subjects: list[str], inventory: Inventory | None, settings: VerifySettings
) -> Iterator[tuple[str, Job, tuple[Any, ...]]]:
    url = mirror.store.url
    for subject in subjects:
        catalog = _part(mirror.catalog, subject)
        yield subject, _check_subject, (url, catalog, subject)
        files = inventory.subjects.get(subject) if inventory else None
        for row in catalog.volumes[subject]:
            name = row["volume"]
            file: SourceFile | SourceError | None = None
            if inventory is not None:
                file = files.files.get(name.removeprefix("labels/")) if files else None
                file = file or SourceError("source.unreadable", "the source does not have this volume")
            check = partial(_check_volume, deep=settings.deep)
            yield f"{subject}/{name}", check, (url, catalog, subject, name, file)


def _part(catalog: Catalog, subject: str) -> Catalog:
    """Return the rows of one subject, small enough to be sent to a worker."""
    part = copy(catalog)
    part.subjects = {subject: catalog.subjects[subject]}
    part.volumes = catalog.volumes.only(subject)
    part.regions = catalog.regions.only(subject)
    return part


def _check_subject(url: str, catalog: Catalog, subject: str) -> SubjectChecked:
    """Check all of a subject but its voxels. Runs on a worker."""
    store, found = Store(url), _Found(subject)
    sizes = found.value(lambda: store.sizes(layout.store_key(subject))) or {}
    found.all(lambda: check_subject(store, catalog, subject, sizes))
    return SubjectChecked(subject, len(sizes), tuple(found.findings))


def _check_volume(
    url: str, catalog: Catalog, subject: str, name: str, file: SourceFile | SourceError | None, *, deep: bool
) -> VolumeChecked:
    """Check the voxels of a volume. Runs on a worker."""
    mirror, found = Mirror(url, catalog), _Found(f"{subject}/{name}")
    voxels = 0
    if (volume := found.value(lambda: mirror.volume(subject, name))) is not None:
        found.all(lambda: check_objects(mirror, volume, _digests(mirror.store, subject)))
        found.value(lambda: check_array(mirror, volume))
        if file is not None:
            voxels = found.value(lambda: check_source(mirror, volume, _given(file))) or 0
        if deep:
            found.value(lambda: check_levels(mirror, volume))
            found.all(lambda: check_statistics(mirror, volume))
    return VolumeChecked(subject, name, voxels, tuple(found.findings))


def _given(file: SourceFile | SourceError) -> SourceFile:
    if isinstance(file, SourceError):
        raise file
    return file


class _Found:
    """What several checks of one thing found; none of them ends the others, or those of other things."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.findings: list[Finding] = []

    def all(self, check: Callable[[], Iterable[Finding]]) -> None:
        """Take in what a check finds."""
        self.value(lambda: self.findings.extend(check()))

    def value[T](self, check: Callable[[], T]) -> T | None:
        """Return what a check returns; None where it failed."""
        try:
            return check()
        except VoxshelfError as error:
            self.findings.append(failure(error, self._place))
        except (ValueError, OSError, KeyError) as error:
            # What zarr raises for a checksum, a cut shard or a missing document.
            message = f"{type(error).__name__}: {error}"
            self.findings.append(failure(LayoutError("layout.voxels", message, place=self._place)))
        except Exception as error:  # noqa: BLE001  # one odd volume must not end the check of the others
            self.findings.append(unexpected(error, self._place))
        return None


def _digests(store: Store, subject: str) -> dict[str, str]:
    try:
        outcome = read_outcome(store, subject)
        # A copy without the converter's records has its manifests.
        return outcome.sha256s if outcome else read_manifest(store, subject) or {}
    except LayoutError:
        return {}  # which the check of the subject reports


def _lost(name: str, error: Any) -> SubjectChecked | VolumeChecked:
    """Make what a job that never came to its end would have returned."""
    subject, _, volume = name.partition("/")
    found = failure(error, name) if isinstance(error, VoxshelfError) else unexpected(error, name)
    return VolumeChecked(subject, volume, 0, (found,)) if volume else SubjectChecked(subject, 0, (found,))


def _check_publication(mirror: Mirror, *, whole: bool) -> Iterator[Finding]:
    """Check what belongs to no single subject."""
    try:
        records = published_objects(mirror.store)
    except LayoutError as error:
        records = []
        yield failure(error)
    held = mirror.store.get_many(record.key for record in records)
    for record in records:
        if record.key not in held:
            yield broken(record.key, "the object is missing")
        else:
            yield from check_bytes(record.key, held[record.key], record.sha256)
    told, catalog = mirror.catalog.mirror, mirror.catalog
    licenses = Counter(row["license"] for row in catalog.subjects.values())
    if (told.subjects, told.licenses) != (len(catalog.subjects), dict(licenses)):
        yield broken(layout.MIRROR_JSON, "its numbers of subjects are not those of catalog.parquet")
    if whole:
        own = [(layout.store_key(subject), layout.manifest_key(subject)) for subject in catalog.subjects]
        stores = {key for keys in own for key in keys}
        for key in sorted({f"{layout.SUBJECTS}/{name}" for name in mirror.store.names(layout.SUBJECTS)} - stores):
            yield broken(key, "no table lists this store; a run that was cut short leaves such, and the next ends it")
