"""The commit of a publication: tables from the outcome records, then ``mirror.json`` last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Final

import msgspec
import pyarrow as pa

from converter import findable
from converter.withdrawn import read_withdrawn
from corpus import catalog, layout
from corpus.catalog import MirrorRecord
from corpus.errors import LayoutError, NotFoundError
from corpus.labels import label_document
from corpus.models import CorpusInfo, to_json
from corpus.outcomes import ObjectRecord, SubjectOutcome
from corpus.stores import Store

PUBLICATION_KEY: Final = f"{layout.PRIVATE}/publication.json"
"""Digests of what the last publication wrote, for `verify`."""


def completed_subjects(store: Store) -> dict[str, SubjectOutcome]:
    """Return the outcome record of each subject whose store is complete, in order of their ids.

    Raises
    ------
    LayoutError
        A record cannot be read.
    StoreError
        The store failed.
    """
    prefix = f"{layout.PRIVATE}/outcomes"
    keys = [key for key in store.keys(prefix) if key.endswith("/subject.json")]
    outcomes, found = {}, store.get_many(keys)
    for key in sorted(found):
        try:
            outcome = msgspec.json.decode(found.pop(key), type=SubjectOutcome)
        except msgspec.DecodeError as error:
            message = f"not an outcome record of this version: {error}"
            raise LayoutError("layout.metadata", message, place=key) from error
        outcomes[outcome.info.subject] = outcome
    return outcomes


def publish(store: Store, corpus: CorpusInfo, *, leave_out: Iterable[str] = ()) -> MirrorRecord:
    """Write the tables of all complete subjects that were not withdrawn, and commit them.

    Parameters
    ----------
    store, corpus
        The mirror.
    leave_out
        Subjects that are about to be removed.

    Raises
    ------
    LayoutError
        A record cannot be read.
    StoreError
        The store failed.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="flush") as beside:
        # What the tables are going to list has to last before they do; to make them takes no disk.
        flushed = beside.submit(store.flush)
        out = read_withdrawn(store).union(leave_out)
        complete = completed_subjects(store)
        listed = [outcome for subject, outcome in complete.items() if outcome.digests and subject not in out]
        mirror, written = publication(catalog.build_tables(listed, corpus), corpus, count_ome_versions(listed))
        flushed.result()
    store.put(PUBLICATION_KEY, to_json([ObjectRecord.of(key, data) for key, data in written.items()]))
    for key, data in written.items():
        store.put(key, data)
    return mirror


def publication(
    tables: Mapping[str, pa.Table], corpus: CorpusInfo, ome_versions: dict[str, int]
) -> tuple[MirrorRecord, dict[str, bytes]]:
    """Return what commits these tables, and all objects to be put, by key; ``mirror.json`` is the last.

    A reader that comes between sees tables that ``mirror.json`` does not name yet, and knows by their digests.

    Parameters
    ----------
    tables
        By name, with the same subjects in each.
    corpus
        Their corpus.
    ome_versions
        Number of subjects by version of OME-Zarr.
    """
    written = {layout.LABELS_JSON: to_json(_label_tables(corpus))}
    records = {}
    for name, table in tables.items():
        data = catalog.table_bytes(table)
        records[name] = catalog.record_of(name, data, table)
        written[layout.table_key(name)] = data
    mirror = MirrorRecord(
        layout_version=layout.LAYOUT_VERSION,
        corpus=corpus,
        software=version("voxshelf"),
        subjects=tables["catalog"].num_rows,
        licenses=dict(sorted(Counter(tables["catalog"]["license"].to_pylist()).items())),
        tables=records,
        ome_versions=ome_versions,
    )
    written |= findable.documents(mirror, tables)
    written[layout.MIRROR_JSON] = to_json(mirror)
    return mirror, written


def count_ome_versions(outcomes: Iterable[SubjectOutcome]) -> dict[str, int]:
    """Return the number of subjects by version of OME-Zarr, as ``mirror.json`` says it."""
    return dict(sorted(Counter(outcome.ome_version for outcome in outcomes if outcome.ome_version).items()))


def _label_tables(corpus: CorpusInfo) -> dict[str, Any]:
    if corpus.own_contents is None:
        return label_document()
    return {"families": [label.family for label in corpus.contents.labels]}


def published_objects(store: Store) -> list[ObjectRecord]:
    """Return what the last publication wrote; nothing where there is no record of it.

    Raises
    ------
    LayoutError
        The record cannot be read.
    """
    try:
        return msgspec.json.decode(store.get(PUBLICATION_KEY), type=list[ObjectRecord])
    except NotFoundError:
        return []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"not a record of a publication: {error}"
        raise LayoutError("layout.metadata", message, place=PUBLICATION_KEY) from error


def unpublish(store: Store, subjects: Iterable[str], corpus: CorpusInfo) -> None:
    """Take subjects out of the tables, then remove their records, then their objects.

    In this order, so that no reader is ever pointed to a store that is being removed, and no later publication either.

    Raises
    ------
    StoreError
        The store failed.
    """
    subjects = list(subjects)
    if store.exists(layout.MIRROR_JSON):
        publish(store, corpus, leave_out=subjects)
    for subject in subjects:
        remove_subject(store, subject)


def prefixes_of(subject: str) -> tuple[str, ...]:
    """Return the prefixes below which all lies that a mirror holds of a subject, in the order of removal.

    The root of the store is the first of its objects: without it a service takes a missing chunk for a fault, and no
    longer for zeros.
    """
    root = f"{layout.store_key(subject)}/zarr.json"
    private = (layout.outcomes_prefix(subject), layout.picture_key(subject))
    return *private, root, layout.store_key(subject), layout.manifest_key(subject)


def remove_subject(store: Store, subject: str) -> None:
    """Remove all objects of a subject, which no table lists any more.

    Raises
    ------
    StoreError
        The store failed.
    """
    for prefix in prefixes_of(subject):
        store.delete(prefix)
