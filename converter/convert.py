"""A corpus becomes a mirror: list, plan, write volumes, finish subjects, publish. Re-running does what is missing."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from converter import sheets
from converter.census import mixed_releases
from converter.corpusfile import fixed_license
from converter.description import ENHANCE_PET, Description, remember
from converter.events import Listener, Published, Report
from converter.finish import finish_subject
from converter.inventory import Inventory, inner_path, take_inventory
from converter.labelfile import check_label_files
from converter.lease import lease
from converter.names import Names
from converter.publish import completed_subjects, publish, unpublish
from converter.report import REPORT_KEY, PageFolder, Recorder, document, write_page
from converter.run import executor
from converter.schedule import Schedule
from converter.source import read_small
from converter.upgrade import agreed_settings, stale, upgrade_subject
from converter.withdraw import finish_withdrawals
from converter.write import missing_objects
from corpus import layout
from corpus.catalog import read_catalog
from corpus.errors import LayoutError, SettingsError, SourceError, VoxshelfError
from corpus.findings import Finding, failure, warning
from corpus.models import CorpusInfo, SubjectInfo, to_json
from corpus.outcomes import SubjectOutcome
from corpus.stores import Store

_AT_ONCE: Final = 16
"""Subjects that are looked at at once: of a bucket each takes a listing."""


class ConvertSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to convert, and where to run.

    Attributes
    ----------
    subjects
        Ids; None for all.
    licenses
        SPDX ids; None for all.
    roles
        Volumes to convert; None for all.
    workers
        0 for this process, else worker processes of a local cluster.
    scheduler
        Address of a running Dask scheduler instead.
    overwrite
        Convert selected subjects anew, after taking them out of the tables.
    break_lock
        Take the mirror from a run that seems to be writing it.
    ome_version
        Version of OME-Zarr of the metadata; None for that of the mirror, which for a new one is the default.
    levels
        ``all`` or ``few``; None for what the mirror has, which for a new one is all.
    pictures
        Draw each subject for the report page.
    bring_back
        Subjects whose withdrawal is lifted.
    corpus
        Name, release, citation and contents.
    description
        How its files are named, and what its spreadsheets mean.
    """

    subjects: frozenset[str] | None = None
    licenses: frozenset[str] | None = None
    roles: tuple[str, ...] | None = None
    workers: int = 0
    scheduler: str | None = None
    overwrite: bool = False
    break_lock: bool = False
    ome_version: str | None = None
    levels: str | None = None
    pictures: bool = True
    bring_back: frozenset[str] = frozenset()
    corpus: CorpusInfo
    description: Description = ENHANCE_PET


def convert(source_url: str, mirror_url: str, settings: ConvertSettings, listen: Listener) -> Report:
    """Convert what is missing in a mirror, and publish it.

    Parameters
    ----------
    source_url, mirror_url
        Paths or URLs.
    settings
        What to convert, and where to run.
    listen
        Called with each event, in this thread.

    Returns
    -------
    Report
        A volume that failed is in it, and does not stop the others.

    Raises
    ------
    SettingsError
        Nothing is selected, a place cannot be used, or the mirror has another version of OME-Zarr.
    StoreError
        The source cannot be listed, the mirror cannot be published, or another run is writing it; volumes one after
        the other could not be stored; the cluster was lost.
    """
    store = Store(mirror_url)
    inventory = take_inventory(source_url, settings.description)
    infos, sheet_findings = read_infos(inventory, settings.corpus.name, settings.description)
    selected = _select(inventory, infos, settings)
    with lease(store, break_lock=settings.break_lock) as held:
        store.sweep()
        remember(store, settings.description)
        agreed = agreed_settings(store, settings.ome_version, settings.levels)
        withdrawn = finish_withdrawals(store, settings.corpus, settings.bring_back)
        kept_out = [subject for subject in selected if subject in withdrawn]
        selected = [subject for subject in selected if subject not in withdrawn]
        if settings.overwrite:
            unpublish(store, selected, settings.corpus)
        done = _sound(store, completed_subjects(store), settings.corpus)
        _correct_licences(store, done, infos, settings.corpus)
        listen = recorder = Recorder(listen)
        roles = settings.roles or settings.corpus.contents.roles
        schedule = Schedule(store, settings.corpus, roles, agreed, listen, pictures=settings.pictures)
        schedule.failures += [*inventory.findings, *(each for each in sheet_findings if not each.is_warning)]
        schedule.warnings += doubts_of_source(inventory, sheet_findings, settings.corpus)
        schedule.warnings += [warning("warning.withdrawn", subject) for subject in kept_out]
        schedule.warnings += [warning("warning.not-in-source", subject) for subject in done if subject not in infos]
        broken = _finish_upgrade(store, done, agreed.ome_version, settings.corpus)
        schedule.failures += broken.values()
        for subject in (each for each in selected if each not in broken):
            schedule.add(inventory.subjects[subject], infos[subject], done.get(subject))
        del done  # about half a megabyte per subject, which nobody needs any more
        with executor(settings.workers, settings.scheduler) as place:
            schedule.work(place)
        held.confirm()
        mirror = publish(store, settings.corpus)
        schedule.warnings += mixed_releases(read_catalog(store))
        listen(Published(mirror.subjects, mirror.licenses))
        report = recorder.completed(schedule.report(mirror))
        return _left(store, report)


def doubts_of_source(inventory: Inventory, sheet_findings: list[Finding], corpus: CorpusInfo) -> list[Finding]:
    """Return what to look at in the spreadsheets and label tables of a source, although they could be read."""
    labels = check_label_files(inventory) if corpus.own_contents is None else []
    return [*(each for each in sheet_findings if each.is_warning), *labels]


def _left(store: Store, report: Report) -> Report:
    # The mirror is published: a page that cannot be made must not look like a run that failed.
    try:
        write_page(store, completed_subjects(store), PageFolder(store))
    except Exception as error:  # noqa: BLE001  # whatever is odd about the page, the subjects are published
        told = warning("warning.report-page", layout.PRIVATE, f"{type(error).__name__}: {error}")
        report = msgspec.structs.replace(report, warnings=(*report.warnings, told))
    store.put(REPORT_KEY, to_json(document(report)))
    return report


def read_infos(
    inventory: Inventory, corpus_name: str, description: Description = ENHANCE_PET
) -> tuple[dict[str, SubjectInfo], list[Finding]]:
    """Return what the spreadsheets say of each subject, and what is wrong with the spreadsheets.

    Without a readable sheet, a licence that follows the institution is unknown.
    """
    rows: dict[str, dict[str, list[sheets.Row]]] = {sheet.kind: {} for sheet in description.sheets}
    findings = []
    names = Names(description)
    for sheet in inventory.sheets:
        rule = names.sheet(inner_path(sheet))
        if rule is None:
            raise AssertionError("the inventory lists what is a sheet by these rules")
        try:
            read = sheets.read_sheet(read_small(sheet), sheet.name, rule, description.subject)
        except SourceError as error:
            findings.append(failure(error, sheet.name))
        else:
            # Sheets of one kind that contradict each other prove as little as two rows that do.
            for subject, told in read.items():
                rows[rule.kind].setdefault(subject, []).extend(told)
    institutions, fixed = description.license.by_institution, fixed_license(inventory.url, description)
    infos = {}
    for subject in inventory.subjects:
        said = {kind: sheets.merged(sheet.get(subject, [])) for kind, sheet in rows.items()}
        infos[subject] = sheets.describe_subject(subject, said, corpus_name, institutions, fixed)
        if message := sheets.conflicts(said):
            findings.append(warning("warning.rows-conflict", subject, message))
    return infos, findings


def parse_subjects(text: str) -> frozenset[str]:
    """Return the ids of a selection such as ``0001,0003-0010``.

    Raises
    ------
    SettingsError
        A part is neither an id nor a range of ids.
    """
    subjects = set()
    for part in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"(\d+)-(\d+)", part)
        if match:
            width = len(match[1])
            subjects |= {f"{number:0{width}d}" for number in range(int(match[1]), int(match[2]) + 1)}
        elif layout.is_subject_id(part):
            subjects.add(part)
        else:
            raise SettingsError(
                "settings.option", f"{part!r} is neither an id nor a range like 0003-0010", place="--subjects"
            )
    return frozenset(subjects)


def _sound(store: Store, done: dict[str, SubjectOutcome], corpus: CorpusInfo) -> dict[str, SubjectOutcome]:
    # What a publication lists was on the disk before it was committed. A subject of a run that ended before may have
    # lost objects with the power, and is looked at.
    try:
        listed = read_catalog(store).subjects
    except LayoutError:
        listed = {}

    def is_whole(outcome: SubjectOutcome) -> bool:
        subject = outcome.info.subject
        return subject in listed or not missing_objects(store, subject, outcome.volumes, corpus.contents.carriers)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {
            outcome.info.subject: outcome
            for outcome, whole in zip(done.values(), pool.map(is_whole, done.values()), strict=True)
            if whole
        }


def _correct_licences(
    store: Store, done: dict[str, SubjectOutcome], infos: dict[str, SubjectInfo], corpus: CorpusInfo
) -> None:
    # Before anything else, and whatever is selected: a licence that was withdrawn must not wait for a conversion.
    corrected = False
    for subject, outcome in done.items():
        info = infos.get(subject)
        if info is not None and info.license != outcome.info.license:
            told = msgspec.structs.replace(
                outcome.info,
                license=info.license,
                attribution=info.attribution,
                source_institution=info.source_institution,
            )
            done[subject] = finish_subject(store, told, corpus, outcome.volumes, outcome.findings)
            corrected = True
    if corrected:
        publish(store, corpus)


def _finish_upgrade(
    store: Store, done: dict[str, SubjectOutcome], ome_version: str, corpus: CorpusInfo
) -> dict[str, Finding]:
    # Of an upgrade that was stopped, whatever is selected: nothing may be added to a store of the older version.
    broken = {}
    for subject, outcome in stale(done, ome_version).items():
        try:
            done[subject] = upgrade_subject(store, outcome, ome_version, corpus)
        except VoxshelfError as error:
            broken[subject] = failure(error, subject)
    return broken


def _select(inventory: Inventory, infos: dict[str, SubjectInfo], settings: ConvertSettings) -> list[str]:
    selected = [
        subject
        for subject in inventory.subjects
        if (settings.subjects is None or subject in settings.subjects)
        and (settings.licenses is None or infos[subject].license in settings.licenses)
        and any(settings.roles is None or role in settings.roles for role in inventory.subjects[subject].files)
    ]
    if not selected:
        message = f"no volume is selected; the source has {len(inventory.subjects)} subjects"
        raise SettingsError("settings.no-subjects", message, place=inventory.url)
    return selected
