"""What has to be done so that one mirror holds a chosen part of another: decided before the first byte is copied.

What a copy holds already is known from its manifests, and checked against a listing. A manifest is written when all of
a subject is there, and cut down to what stays before any of it is replaced, so that it never vouches for an object
that a run which was cut short has left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final

import msgspec

from converter.check_subject import read_outcome
from converter.subset import Tables, only
from converter.withdrawn import read_withdrawn
from corpus import layout
from corpus.catalog import MirrorRecord, Row, read_catalog, read_mirror, read_table
from corpus.errors import LayoutError, NotFoundError, SettingsError
from corpus.findings import Finding, failure
from corpus.manifest import read_manifest
from corpus.outcomes import ObjectRecord
from corpus.stores import Store

_DOCUMENT: Final = "/zarr.json"


class CopySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to copy, and how.

    Attributes
    ----------
    subjects
        Ids; None for all.
    licenses
        SPDX ids; None for all that are known. ``unknown`` is copied only where it is named here.
    bring_back
        Subjects whose withdrawal from the copy is lifted.
    at_once
        Objects under way at once; of those that come through memory, each may have 64 MiB.
    break_lock
        Take the copy from a run that seems to be writing it.
    """

    subjects: frozenset[str] | None = None
    licenses: frozenset[str] | None = None
    bring_back: frozenset[str] = frozenset()
    at_once: int = 8
    break_lock: bool = False


class SubjectPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be done for one subject.

    Attributes
    ----------
    row
        Of ``catalog.parquet``.
    objects
        To copy, in order of writing: data first, then documents from the inside out, the root last.
    kept
        SHA-256 by key of what is there already, and stays.
    extra
        Objects that are there and do not belong to the subject any more.
    total_bytes
        Of the whole store.
    has_manifest
        Whether the copy has a manifest of it, which may be of an older state.
    is_done
        Whether the copy has all of it, and no more.
    replaces_data
        Whether an object that is there and is no document has to be replaced; nobody may be reading the subject then.
    """

    row: Row
    objects: tuple[ObjectRecord, ...]
    kept: dict[str, str]
    extra: tuple[str, ...]
    total_bytes: int
    has_manifest: bool
    is_done: bool
    replaces_data: bool

    @property
    def subject(self) -> str:
        """Its id."""
        return str(self.row["subject"])

    @property
    def sha256s(self) -> dict[str, str]:
        """SHA-256 by key of all that the copy is going to have."""
        return self.kept | {record.key: record.sha256 for record in self.objects}

    def steps(self) -> Iterator[list[ObjectRecord]]:
        """Return what may be copied at once, one step after the other."""
        for _, step in groupby(self.objects, key=_rank):
            yield list(step)


class CopyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is going to do.

    Attributes
    ----------
    mirror
        What the source's ``mirror.json`` says.
    tables
        Rows of the selected subjects.
    subjects
        What to do for each of them.
    leaving
        Subjects of which the copy holds something, and that are not selected.
    listed
        Subjects that the copy's tables list; None where these do not match ``mirror.json``, as after a crash.
    failures
        Of subjects that cannot be copied.
    kept_out
        Subjects that were withdrawn from the copy.
    """

    mirror: MirrorRecord
    tables: Tables
    subjects: tuple[SubjectPlan, ...]
    leaving: tuple[str, ...]
    listed: frozenset[str] | None
    failures: tuple[Finding, ...]
    kept_out: tuple[str, ...]

    @property
    def todo(self) -> tuple[SubjectPlan, ...]:
        """Subjects of which something has to be copied or removed."""
        return tuple(plan for plan in self.subjects if not plan.is_done)

    @property
    def done(self) -> tuple[SubjectPlan, ...]:
        """Subjects that the copy has already."""
        return tuple(plan for plan in self.subjects if plan.is_done)


def plan_copy(source: Store, copy: Store, settings: CopySettings) -> CopyPlan:
    """Decide what has to be done; nothing is written.

    Raises
    ------
    LayoutError
        The source is no published mirror, or an upgrade of it has not ended.
    SettingsError
        Nothing is selected, or the copy is a place that must not be written.
    StoreError
        A store failed.
    """
    mirror = read_mirror(source)
    if len(mirror.ome_versions) > 1:
        hint = "Run `voxshelf upgrade` to its end first."
        raise LayoutError("layout.version", "an upgrade of the mirror has not ended", place=source.url, hint=hint)
    require_copy(source, copy, mirror)
    tables = {name: read_table(source, record) for name, record in mirror.tables.items()}
    rows = select(tables["catalog"].to_pylist(), settings)
    withdrawn = read_withdrawn(copy) - settings.bring_back
    kept_out = tuple(sorted(rows.keys() & withdrawn))
    rows = {subject: row for subject, row in rows.items() if subject not in withdrawn}
    listed = _listed(copy)
    there = stores_of(copy) | (listed or frozenset())
    is_typo = settings.subjects is not None and settings.subjects.isdisjoint(tables["catalog"]["subject"].to_pylist())
    if is_typo or not (rows or there or copy.exists(layout.MIRROR_JSON)):
        message = f"no subject is selected; the mirror has {dict(mirror.licenses)}"
        raise SettingsError("settings.no-subjects", message, place=source.url)
    plans, failures = _plan_subjects(source, copy, rows.values(), settings.at_once)
    return CopyPlan(
        mirror=mirror,
        tables=only(tables, rows),
        subjects=plans,
        leaving=tuple(sorted(there - _staying(rows, failures))),
        listed=listed,
        failures=tuple(failures.values()),
        kept_out=kept_out,
    )


def select(rows: Iterable[Row], settings: CopySettings) -> dict[str, Row]:
    """Return the rows of the subjects that are meant, by id; an unknown licence has to be named."""
    return {
        row["subject"]: row
        for row in rows
        if (settings.subjects is None or row["subject"] in settings.subjects)
        and (row["license"] != "unknown" if settings.licenses is None else row["license"] in settings.licenses)
    }


def require_copy(source: Store, copy: Store, mirror: MirrorRecord) -> None:
    """Refuse places where a copy would destroy something."""
    one, other = f"{source.url.rstrip('/')}/", f"{copy.url.rstrip('/')}/"
    if one.startswith(other) or other.startswith(one):
        raise SettingsError("settings.option", "it lies in MIRROR, or MIRROR in it", place=copy.url)
    if copy.names(f"{layout.PRIVATE}/outcomes"):
        message = "it is a mirror that convert writes, and no copy"
        raise SettingsError("settings.option", message, place=copy.url, hint="Publish into a place of its own.")
    try:
        held = read_mirror(copy).corpus
    except LayoutError as error:
        if error.code != "layout.not-a-mirror":
            raise
        return
    if held.name != mirror.corpus.name:
        message = f"it holds {held.name}, and MIRROR {mirror.corpus.name}"
        raise SettingsError("settings.option", message, place=copy.url, hint="Publish into a place of its own.")


def _listed(copy: Store) -> frozenset[str] | None:
    try:
        return frozenset(read_catalog(copy).subjects)
    except LayoutError as error:
        if error.code == "layout.not-a-mirror":
            return frozenset()
        if error.code == "layout.table":
            return None
        raise


def _plan_subjects(
    source: Store, copy: Store, rows: Iterable[Row], at_once: int
) -> tuple[tuple[SubjectPlan, ...], dict[str, Finding]]:
    def plan(row: Row) -> SubjectPlan | Finding:
        try:
            return plan_subject(source, copy, row)
        except LayoutError as error:
            return failure(error, row["subject"])

    rows = list(rows)
    with bounded_pool(at_once) as pool:
        found = {row["subject"]: each for row, each in zip(rows, pool.map(plan, rows), strict=True)}
    failures = {subject: each for subject, each in found.items() if isinstance(each, Finding)}
    return tuple(each for each in found.values() if isinstance(each, SubjectPlan)), failures


def _staying(subjects: Iterable[str], failures: Mapping[str, Finding]) -> frozenset[str]:
    # A damaged source is no reason to remove what is whole in the copy; a licence that is in doubt is one.
    doubtful = {subject for subject, finding in failures.items() if finding.code == "layout.table-row"}
    return frozenset(subjects) - doubtful


def plan_subject(source: Store, copy: Store, row: Row) -> SubjectPlan:
    """Compare a subject in two mirrors.

    Parameters
    ----------
    source, copy
        The mirrors.
    row
        Of the source's ``catalog.parquet``.

    Raises
    ------
    LayoutError
        The source has no list of the subject's objects, or lacks one of them, or its root says another licence.
    StoreError
        A store failed.
    """
    subject = row["subject"]
    wanted = recorded_objects(source, subject)
    root = f"{layout.store_key(subject)}{_DOCUMENT}"
    _check_license(source, row, wanted[root])
    there, manifest = copy.sizes(layout.store_key(subject)), _manifest_of(copy, subject)
    sound = {key: digest for key, digest in (manifest or {}).items() if key in there}
    kept = {
        key: record.sha256
        for key, record in wanted.items()
        if sound.get(key) == record.sha256 and there[key] == record.size
    }
    replaces_data = any(key in there and key not in kept and not key.endswith(_DOCUMENT) for key in wanted)
    if replaces_data:
        kept.pop(root, None)  # it goes first, and comes again as the last
    missing = [record for key, record in wanted.items() if key not in kept]
    extra = sorted(there.keys() - wanted.keys())
    return SubjectPlan(
        row=row,
        objects=tuple(sorted(missing, key=lambda record: (_rank(record), record.key))),
        kept=kept,
        extra=tuple(extra),
        total_bytes=sum(record.size for record in wanted.values()),
        has_manifest=manifest is not None,
        is_done=manifest == kept and not missing and not extra,
        replaces_data=replaces_data,
    )


def recorded_objects(store: Store, subject: str) -> dict[str, ObjectRecord]:
    """Return the objects of a subject as they were written, by key.

    Raises
    ------
    LayoutError
        The mirror has neither a manifest nor a record of the subject, or lacks an object.
    StoreError
        The store failed.
    """
    digests = read_manifest(store, subject)
    if digests is None and (outcome := read_outcome(store, subject)) is not None:
        digests = outcome.sha256s
    root = f"{layout.store_key(subject)}{_DOCUMENT}"
    if digests is None or root not in digests:
        message = "the mirror has no list of the subject's objects with their digests"
        raise LayoutError("layout.metadata", message, place=layout.manifest_key(subject))
    sizes = store.sizes(layout.store_key(subject))
    if lost := sorted(digests.keys() - sizes.keys()):
        raise LayoutError("layout.object", f"{len(lost)} objects that were written are not there", place=lost[0])
    return {key: ObjectRecord(key, sizes[key], digest) for key, digest in digests.items()}


def _manifest_of(copy: Store, subject: str) -> dict[str, str] | None:
    try:
        return read_manifest(copy, subject)
    except LayoutError:
        return {}  # it vouches for nothing, and is written anew


def _check_license(source: Store, row: Row, root: ObjectRecord) -> None:
    """Make sure that the table and the store itself say the same of what people may do with a subject."""
    try:
        data = source.get(root.key)
        said: Any = json.loads(data)["attributes"]["voxshelf"]["license"]["id"]
    except (NotFoundError, ValueError, KeyError, TypeError) as error:
        raise LayoutError("layout.metadata", f"no licence in the root: {error!r}", place=root.key) from error
    if ObjectRecord.of(root.key, data) != root:
        raise LayoutError("layout.object", "its bytes are not those written", place=root.key)
    if said != row["license"]:
        message = f"catalog.parquet says {row['license']}, the store itself {said}"
        raise LayoutError("layout.table-row", message, place=root.key)


def _rank(record: ObjectRecord) -> int:
    return 0 if not record.key.endswith(_DOCUMENT) else 1000 - record.key.count("/")


def stores_of(store: Store) -> frozenset[str]:
    """Return the ids of all subjects of which a mirror holds a store or a manifest, listed by a table or not."""
    ends = (layout.STORE_SUFFIX, layout.STORE_SUFFIX + layout.MANIFEST_SUFFIX)
    names: Iterable[str] = store.names(layout.SUBJECTS)
    return frozenset(name.removesuffix(end) for name in names for end in ends if name.endswith(end))


@contextmanager
def bounded_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads; what has not begun when an error ends the block does not begin any more."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
