"""The version of OME-Zarr that a mirror has, and its change in place: documents of groups, never an array.

The documents are made from the outcome records by the same code that makes them when a volume is converted, so an
upgraded mirror is, object for object, the one that `convert` with the newer version writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from converter.documents import image_objects
from converter.finish import finish_subject
from converter.lease import lease
from converter.plan import DEFAULT, MirrorSettings
from converter.publish import completed_subjects, count_ome_versions, publish
from corpus import layout, ome
from corpus.catalog import read_mirror
from corpus.errors import LayoutError, SettingsError, VoxshelfError
from corpus.findings import Finding, failure
from corpus.labels import Family
from corpus.models import CorpusInfo, to_json
from corpus.outcomes import ObjectRecord, SubjectOutcome, VolumeOutcome
from corpus.stores import Store

NEWEST: Final = ome.VERSIONS[-1]
_AT_ONCE: Final = 16


class UpgradePlanned(msgspec.Struct, frozen=True, tag="planned"):
    """The work is known: subjects to upgrade, and subjects that have the newest version already."""

    subjects: int
    already: int


class SubjectUpgraded(msgspec.Struct, frozen=True, tag="subject"):
    """One subject's store has the newest version; with findings, it could not be upgraded."""

    subject: str
    findings: tuple[Finding, ...]


class Upgrade(msgspec.Struct, frozen=True):
    """The end of an upgrade.

    Attributes
    ----------
    upgraded, already
        Subjects that were upgraded now, and that had the version before.
    left
        Subjects that still have an older version: not selected, failed, or only looked at.
    failures
        What could not be upgraded.
    """

    upgraded: int
    already: int
    left: int
    failures: tuple[Finding, ...]


type Listener = Callable[[UpgradePlanned | SubjectUpgraded], None]


def agreed_settings(store: Store, ome_version: str | None, levels: str | None) -> MirrorSettings:
    """Return what all subjects of a mirror have in common, and note it in a new one.

    Parameters
    ----------
    store
        The mirror.
    ome_version, levels
        What is wanted; None for the mirror's own, in a new mirror for the default.

    Raises
    ------
    SettingsError
        The mirror has something else than what is wanted.
    LayoutError
        What the mirror says of itself cannot be understood.
    """
    current = _recorded(store)
    if current is None:
        current = MirrorSettings(ome_version or DEFAULT.ome_version, levels or DEFAULT.levels)
        _note(store, current)
    if ome_version not in {None, current.ome_version}:
        way = f"`voxshelf upgrade {store.url}` turns it into {ome_version} in place"
        raise SettingsError(
            "settings.changed",
            f"the mirror has OME-Zarr {current.ome_version}, not {ome_version}, and all its subjects have one version",
            place="--ome-version",
            hint=f"{way if ome_version == NEWEST else 'Leave it out'}; or convert into a new mirror.",
        )
    if levels not in {None, current.levels}:
        message = f"the mirror was begun with {current.levels} levels, and all its subjects have the same"
        hint = "Leave it out; or convert into a new mirror."
        raise SettingsError("settings.changed", message, place="--levels", hint=hint)
    return current


def upgrade(mirror_url: str, subjects: frozenset[str] | None, listen: Listener, *, dry_run: bool = False) -> Upgrade:
    """Give all subjects of a mirror the newest version of OME-Zarr, and publish it.

    It may be stopped at any point: the next upgrade, or the next conversion, goes on where it was.

    Parameters
    ----------
    mirror_url
        Path or URL.
    subjects
        Ids; None for all.
    listen
        Called with the plan, then after each subject.
    dry_run
        Only look.

    Raises
    ------
    LayoutError
        It is no published mirror, or the converter's records are not in it.
    SettingsError
        No subject is selected.
    StoreError
        The mirror cannot be published, or another run is writing it.
    """
    store = Store(mirror_url)
    corpus = read_mirror(store).corpus
    outcomes = completed_subjects(store)
    if not outcomes:
        hint = "Upgrade the mirror that this is a copy of, and copy it again."
        raise LayoutError("layout.metadata", "the converter's records are not there", place=layout.PRIVATE, hint=hint)
    selected = {name: each for name, each in outcomes.items() if subjects is None or name in subjects}
    if not selected:
        raise SettingsError("settings.no-subjects", "no subject of the mirror is selected", place=mirror_url)
    todo = stale(selected, NEWEST)
    listen(UpgradePlanned(len(todo), len(selected) - len(todo)))
    failures: list[Finding] = []
    if not dry_run:
        with lease(store):
            # First of all, so that whoever comes after an upgrade that was stopped goes on with it.
            noted = _recorded(store) or DEFAULT
            if noted.ome_version != NEWEST:
                _note(store, msgspec.structs.replace(noted, ome_version=NEWEST))
            for name, outcome in todo.items():
                try:
                    outcomes[name] = upgrade_subject(store, outcome, NEWEST, corpus)
                except VoxshelfError as error:
                    failures.append(failure(error, name))
                listen(SubjectUpgraded(name, tuple(failures[-1:]) if outcomes[name] is outcome else ()))
            _publish_if_changed(store, outcomes, corpus)
    left = len(stale(outcomes, NEWEST))
    done = len(todo) - len(stale({name: outcomes[name] for name in todo}, NEWEST))
    return Upgrade(done, len(selected) - len(todo), left, tuple(failures))


def stale(outcomes: Mapping[str, SubjectOutcome], ome_version: str) -> dict[str, SubjectOutcome]:
    """Return the subjects whose stores have another version of OME-Zarr."""
    return {name: each for name, each in outcomes.items() if each.ome_version not in {None, ome_version}}


def upgrade_subject(store: Store, outcome: SubjectOutcome, ome_version: str, corpus: CorpusInfo) -> SubjectOutcome:
    """Write the documents of one subject in another version of OME-Zarr, then its records.

    Documents of images come first, what stands above them after, the root last; the records of the volumes follow
    the documents of the images, and the subject's own record, without which all of this is done again, is the end.

    Raises
    ------
    LayoutError
        More than documents of groups would change: another version of the converter wrote this subject.
    StoreError
        The store failed, or lost objects of the subject.
    """
    contents = corpus.contents
    anew = [_described_anew(volume, ome_version, contents.family(volume.role)) for volume in outcome.volumes]
    volumes = tuple(volume for volume, _ in anew)
    documents = {key: data for _, changed in anew for key, data in changed.items()}
    for carrier in contents.carriers:
        # Written by `finish_subject`: without its label maps it would hide them from whoever opens the image meanwhile.
        documents.pop(f"{layout.store_key(outcome.info.subject)}/{carrier}/zarr.json", None)
    records = {
        layout.outcome_key(volume.subject, volume.role): to_json(volume)
        for volume in volumes
        if volume.image is not None
    }
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for objects in (documents, records):
            list(pool.map(store.put, objects.keys(), objects.values()))
    return finish_subject(store, outcome.info, corpus, volumes, outcome.findings)


def _described_anew(
    volume: VolumeOutcome, ome_version: str, family: Family | None
) -> tuple[VolumeOutcome, dict[str, bytes]]:
    """Return a volume's outcome in another version of OME-Zarr, and the objects that change, by key in the mirror."""
    if volume.image is None:
        return volume, {}
    image = msgspec.structs.replace(volume.image, ome_version=ome_version)
    records = {record.key: record for record in volume.objects}
    changed = {}
    for key, data in image_objects(image, family, volume.findings).items():
        record = ObjectRecord.of(f"{layout.store_key(volume.subject)}/{key}", data)
        if record != records.get(record.key):
            changed[record.key] = data
            records[record.key] = record
    if others := [key for key, data in changed.items() if not _is_group_document(key, data)]:
        raise LayoutError(
            "layout.metadata",
            f"{len(others)} objects beside the documents of groups would change: {image.software} wrote them",
            place=others[0],
            hint=f"Upgrade with voxshelf {image.software}, or convert the subject anew with --overwrite.",
        )
    objects = tuple(records[key] for key in sorted(records))
    return msgspec.structs.replace(volume, image=image, objects=objects), changed


def _is_group_document(key: str, data: bytes) -> bool:
    return key.endswith("/zarr.json") and json.loads(data)["node_type"] == "group"


def _publish_if_changed(store: Store, outcomes: Mapping[str, SubjectOutcome], corpus: CorpusInfo) -> None:
    # Compared with what is committed, since an upgrade may have been stopped between its last subject and here.
    listed = [outcome for outcome in outcomes.values() if outcome.digests]
    if read_mirror(store).ome_versions != count_ome_versions(listed):
        publish(store, corpus)


def _recorded(store: Store) -> MirrorSettings | None:
    for key, data in store.get_many([layout.settings_key()]).items():
        try:
            return msgspec.json.decode(data, type=MirrorSettings)
        except msgspec.DecodeError as error:
            raise LayoutError("layout.metadata", f"not the settings of a mirror: {error}", place=key) from error
    try:
        # Of a voxshelf that knew only the first version, or a copy without the converter's folder.
        return MirrorSettings(max(read_mirror(store).ome_versions, default=ome.DEFAULT_VERSION))
    except LayoutError as error:
        if error.code != "layout.not-a-mirror":
            raise
        return None


def _note(store: Store, settings: MirrorSettings) -> None:
    store.put(layout.settings_key(), to_json(settings))
