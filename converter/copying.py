"""A chosen, licensed part of a mirror copied to another store: ``voxshelf publish``.

The order keeps whoever reads the copy from ever being pointed to half a subject, also when a run is killed:

1. Subjects that leave, or whose voxels are replaced, are taken out of the tables; then what leaves is removed.
2. Each subject that is new or changed: its data, its documents from the inside out, its root, its manifest.
3. The tables, and ``mirror.json`` last.

A run that was cut short is made good by the next one: a subject without its manifest is copied again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final

import msgspec

from converter.copyplan import CopyPlan, CopySettings, SubjectPlan, bounded_pool, plan_copy, require_copy, select
from converter.lease import Lease, lease
from converter.publish import remove_subject
from converter.subset import commit, only
from converter.withdrawn import lift_withdrawal
from corpus import layout
from corpus.catalog import read_catalog, read_mirror
from corpus.errors import LayoutError, NotFoundError, SettingsError
from corpus.findings import Finding, failure, warning
from corpus.licenses import LICENSES
from corpus.manifest import manifest_bytes
from corpus.outcomes import ObjectRecord
from corpus.stores import Store

_SUBJECTS_AT_ONCE: Final = 4


class CopyPlanned(msgspec.Struct, frozen=True, tag="planned"):
    """The work is known; subjects that are there already need none."""

    place: str
    subjects: int
    already: int
    leaving: int
    objects: int
    bytes: int
    through_memory: bool


class SubjectCopied(msgspec.Struct, frozen=True, tag="subject"):
    """One subject is complete in the copy; with findings, it could not be copied."""

    subject: str
    objects: int
    bytes: int
    findings: tuple[Finding, ...]


class Copied(msgspec.Struct, frozen=True):
    """The end of a run.

    Attributes
    ----------
    place
        The copy.
    subjects
        In its tables.
    licenses
        Their number by SPDX id.
    copied, already, removed
        Subjects that were copied now, that were there before, and that were removed.
    objects, bytes
        Copied now.
    failures, warnings
        What to look at.
    """

    place: str
    subjects: int
    licenses: dict[str, int]
    copied: int
    already: int
    removed: int
    objects: int
    bytes: int
    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


type Listener = Callable[[CopyPlanned | SubjectCopied], None]


def copy_mirror(source: Store, copy: Store, settings: CopySettings, listen: Listener) -> Copied:
    """Make a store the mirror of the subjects that are selected, and of no others.

    Parameters
    ----------
    source, copy
        From where, and to where.
    settings
        What to copy, and how.
    listen
        Called with the plan, then after each subject, in this thread.

    Raises
    ------
    LayoutError, SettingsError
        As `plan_copy`.
    StoreError
        A store failed, or another run is writing the copy. Run it again: it goes on where it was.
    """
    require_copy(source, copy, read_mirror(source))
    with lease(copy, break_lock=settings.break_lock) as held:
        copy.sweep()
        lift_withdrawal(copy, settings.bring_back)
        plan = plan_copy(source, copy, settings)
        listen(planned(plan, source, copy))
        _withhold(copy, plan, held)
        failures = list(plan.failures)
        copied: list[SubjectCopied] = []
        for done in _copy_subjects(source, copy, plan.todo, settings.at_once):
            listen(done)
            failures += done.findings
            copied += [] if done.findings else [done]
        whole = {each.subject for each in copied} | {each.subject for each in plan.done}
        held.confirm()
        mirror = commit(copy, plan.mirror.corpus, only(plan.tables, whole), plan.mirror.ome_versions)
    return Copied(
        place=copy.url,
        subjects=mirror.subjects,
        licenses=mirror.licenses,
        copied=len(copied),
        already=len(plan.done),
        removed=len(plan.leaving),
        objects=sum(each.objects for each in copied),
        bytes=sum(each.bytes for each in copied),
        failures=tuple(failures),
        warnings=tuple(warning("warning.withdrawn", subject) for subject in plan.kept_out),
    )


def places(source: Store, url: str, settings: CopySettings, profile: str | None) -> list[tuple[Store, CopySettings]]:
    """Return a mirror for each licence below a place: those of the selected subjects, and those that lie there.

    The latter lose all their subjects, and come first: a licence that nobody has any more, or that is not selected.

    Parameters
    ----------
    source
        The mirror.
    url, profile
        Of the place.
    settings
        What to copy.

    Raises
    ------
    LayoutError, SettingsError, StoreError
        As `plan_copy`.
    """
    rows = select(read_catalog(source).subjects.values(), settings)
    wanted = frozenset(row["license"] for row in rows.values())
    there = LICENSES.keys() & set(Store(url, profile).names(""))
    if not wanted | there:
        raise SettingsError("settings.no-subjects", "no subject is selected", place=source.url)
    return [
        (Store(f"{url.rstrip('/')}/{spdx}", profile), msgspec.structs.replace(settings, licenses=wanted & {spdx}))
        for spdx in [*sorted(there - wanted), *sorted(wanted)]
    ]


def planned(plan: CopyPlan, source: Store, copy: Store) -> CopyPlanned:
    """Return the numbers of a plan."""
    objects = [record for each in plan.subjects for record in each.objects]
    return CopyPlanned(
        place=copy.url,
        subjects=len(plan.subjects),
        already=len(plan.done),
        leaving=len(plan.leaving),
        objects=len(objects),
        bytes=sum(record.size for record in objects),
        through_memory=not copy.is_one_server_with(source),
    )


def _withhold(copy: Store, plan: CopyPlan, held: Lease) -> None:
    """Take out of the tables what leaves or is replaced, then remove what leaves."""
    listed = plan.listed or frozenset()
    replaced = {each.subject for each in plan.subjects if each.replaces_data}
    stay = {each.subject for each in plan.subjects if each.is_done or each.subject in listed - replaced}
    if plan.listed is None or plan.leaving or listed - stay:
        held.confirm()
        commit(copy, plan.mirror.corpus, only(plan.tables, stay), plan.mirror.ome_versions)
    for subject in plan.leaving:
        remove_subject(copy, subject)


def _copy_subjects(source: Store, copy: Store, plans: Iterable[SubjectPlan], at_once: int) -> Iterator[SubjectCopied]:
    # Pools of two kinds: a subject waits for its objects, and must not take the place of one.
    with bounded_pool(at_once) as objects, bounded_pool(_SUBJECTS_AT_ONCE) as subjects:
        under_way = [subjects.submit(_copy_subject, source, copy, plan, objects) for plan in plans]
        for each in as_completed(under_way):
            yield each.result()


def _copy_subject(source: Store, copy: Store, plan: SubjectPlan, pool: ThreadPoolExecutor) -> SubjectCopied:
    try:
        if plan.has_manifest:
            copy.put(layout.manifest_key(plan.subject), manifest_bytes(plan.kept))
        if plan.replaces_data:
            copy.delete(f"{layout.store_key(plan.subject)}/zarr.json")
        for step in plan.steps():
            list(pool.map(lambda record: copy_object(source, copy, record), step))
        copy.delete_keys(plan.extra)
        copy.put(layout.manifest_key(plan.subject), manifest_bytes(plan.sha256s))
    except (LayoutError, NotFoundError) as error:
        return SubjectCopied(plan.subject, 0, 0, (failure(error, plan.subject),))
    return SubjectCopied(plan.subject, len(plan.objects), sum(record.size for record in plan.objects), ())


def copy_object(source: Store, copy: Store, record: ObjectRecord) -> None:
    """Copy one object, and make sure by its SHA-256 that it is the one that was recorded.

    Where one server has both places, it copies data by itself; what it does not tell the SHA-256 of is read back.
    Otherwise the bytes come through memory, and only the right ones are put; S3 is told a digest of them on the way.

    Raises
    ------
    LayoutError
        It is another one; nothing is left of it.
    NotFoundError
        It is not there.
    StoreError
        A store failed.
    """
    # Documents are small, and so that nobody ever sees a wrong one, they are looked at before.
    if copy.is_one_server_with(source) and not record.key.endswith("/zarr.json"):
        digest = copy.copy(record.key, source) or hashlib.sha256(copy.get(record.key)).digest()
        if digest.hex() != record.sha256:
            copy.delete_keys([record.key])
            raise _other(record)
    else:
        data = source.get(record.key)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise _other(record)
        copy.put(record.key, data)


def _other(record: ObjectRecord) -> LayoutError:
    return LayoutError("layout.object", "its bytes are not those written", place=record.key)
