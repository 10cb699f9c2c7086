"""A withdrawn consent: all that a mirror holds of a subject is removed, and a listing proves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from converter.lease import lease
from converter.publish import PUBLICATION_KEY, completed_subjects, prefixes_of, remove_subject, unpublish
from converter.report import REPORT_KEY, PageFolder, write_page
from converter.subset import commit, read_tables, without
from converter.withdrawn import add_withdrawn, lift_withdrawal, read_withdrawn
from corpus import layout
from corpus.catalog import read_catalog, read_mirror
from corpus.errors import NotFoundError
from corpus.models import CorpusInfo
from corpus.stores import Store


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """What became of one subject.

    Attributes
    ----------
    subject
        Id.
    objects, bytes
        What was removed: its store, manifest, records and picture.
    looked_below
        Prefixes that were listed again afterwards; they cover all that a mirror holds of a subject.
    left
        Objects that are there still. Empty: nothing is left.
    listed
        Whether the tables still list it, read again afterwards.
    """

    subject: str
    objects: int
    bytes: int
    looked_below: tuple[str, ...]
    left: tuple[str, ...]
    listed: bool

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of it."""
        return not self.left and not self.listed


def withdraw(
    mirror_url: str,
    subjects: Iterable[str],
    listen: Callable[[Withdrawn], None],
    *,
    profile: str | None = None,
    break_lock: bool = False,
) -> list[Withdrawn]:
    """Remove subjects from a mirror for good, and look whether anything is left.

    They are first put on a private list, so that neither a run that is cut short nor the next conversion brings them
    back. Mirrors without the converter's records, as copies are, lose their rows of the tables in the same way.

    Parameters
    ----------
    mirror_url
        Path or URL.
    subjects
        Ids.
    listen
        Called with each subject that was removed.
    profile
        Section of the AWS configuration, for a bucket.
    break_lock
        Take the mirror from a run that seems to be writing it.

    Raises
    ------
    LayoutError
        It is no published mirror, or its tables are damaged.
    NotFoundError
        The mirror holds nothing of a subject; nothing was done then.
    StoreError
        The mirror cannot be changed, or another run is writing it.
    """
    store = Store(mirror_url, profile)
    subjects = sorted(set(subjects))
    _require_known(store, subjects)
    with lease(store, break_lock=break_lock):
        add_withdrawn(store, subjects)
        before = {subject: remains(store, subject) for subject in subjects}
        _unpublish(store, subjects)
        listed = read_catalog(store).subjects
        results = []
        for subject in subjects:
            found = before[subject]
            left = tuple(sorted(remains(store, subject)))
            results.append(
                Withdrawn(subject, len(found), sum(found.values()), prefixes_of(subject), left, subject in listed)
            )
            listen(results[-1])
    return results


def remains(store: Store, subject: str) -> dict[str, int]:
    """Return the size in bytes of each object that a mirror holds of a subject, by a fresh listing."""
    found: dict[str, int] = {}
    for prefix in prefixes_of(subject):
        try:
            found |= store.sizes(prefix)
        except NotFoundError:
            continue
    return found


def finish_withdrawals(store: Store, corpus: CorpusInfo, bring_back: frozenset[str]) -> frozenset[str]:
    """Remove what a withdrawal that was cut short has left; return all subjects that were withdrawn.

    Parameters
    ----------
    store, corpus
        The mirror.
    bring_back
        Subjects whose withdrawal is lifted before.

    Raises
    ------
    LayoutError
        The list of withdrawn subjects cannot be read.
    StoreError
        The store failed.
    """
    lift_withdrawal(store, bring_back)
    withdrawn = read_withdrawn(store)
    if left := [subject for subject in sorted(withdrawn) if remains(store, subject)]:
        unpublish(store, left, corpus)
    return withdrawn


def _require_known(store: Store, subjects: list[str]) -> None:
    # A mistyped id must not pass for a consent that was honoured.
    known = read_catalog(store).subjects.keys() | read_withdrawn(store)
    for subject in subjects:
        if subject not in known and not (layout.is_subject_id(subject) and remains(store, subject)):
            raise NotFoundError("not-found.subject", "the mirror holds nothing of it", place=subject)


def _unpublish(store: Store, subjects: list[str]) -> None:
    mirror = read_mirror(store)
    if store.names(f"{layout.PRIVATE}/outcomes"):
        unpublish(store, subjects, mirror.corpus)
        # The page shows each subject, and the last run's report may name it.
        store.delete(REPORT_KEY)
        write_page(store, completed_subjects(store), PageFolder(store))
        return
    # A copy has no records to make tables from; one that lost them has no use for that of its publication.
    commit(store, mirror.corpus, without(read_tables(store), subjects), mirror.ome_versions)
    store.delete(PUBLICATION_KEY)
    for subject in subjects:
        remove_subject(store, subject)
