"""Some subjects of a published mirror: their rows of its tables, committed as a mirror of their own."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from converter.publish import publication
from corpus.catalog import SCHEMAS, MirrorRecord, read_mirror, read_table
from corpus.models import CorpusInfo
from corpus.stores import Store

Tables = dict[str, pa.Table]
"""The tables of a mirror by name; each has a column ``subject``."""


def read_tables(store: Store) -> Tables:
    """Read the tables that ``mirror.json`` commits.

    Raises
    ------
    LayoutError
        It is no published mirror, or a table is not the committed one.
    """
    return {name: read_table(store, record) for name, record in read_mirror(store).tables.items()}


def only(tables: Tables, subjects: Iterable[str]) -> Tables:
    """Return the rows of these subjects, in the order that they have."""
    import pyarrow.compute as pc  # of no use to a conversion, which loads this module all the same

    wanted = pa.array(sorted(set(subjects)), pa.string())
    chosen = {name: table.filter(pc.is_in(table["subject"], value_set=wanted)) for name, table in tables.items()}
    # Parquet gives the items of lists another name, and the same rows are to give the same bytes.
    return {name: table.cast(SCHEMAS[name]) if _is_ours(name, table) else table for name, table in chosen.items()}


def _is_ours(name: str, table: pa.Table) -> bool:
    # Another version of voxshelf may know more columns.
    return name in SCHEMAS and table.column_names == SCHEMAS[name].names


def without(tables: Tables, subjects: Iterable[str]) -> Tables:
    """Return the rows of all other subjects."""
    return only(tables, set(tables["catalog"]["subject"].to_pylist()) - set(subjects))


def commit(store: Store, corpus: CorpusInfo, tables: Tables, ome_versions: dict[str, int]) -> MirrorRecord:
    """Put tables, and ``mirror.json`` last.

    Parameters
    ----------
    store
        Where to.
    corpus, tables
        What the mirror holds from now on.
    ome_versions
        As ``mirror.json`` said it of more or other subjects; of one version, the number is that of these subjects.

    Raises
    ------
    StoreError
        The store failed.
    """
    store.flush()
    subjects = tables["catalog"].num_rows
    if len(ome_versions) == 1:
        ome_versions = dict.fromkeys(ome_versions, subjects) if subjects else {}
    mirror, written = publication(tables, corpus, ome_versions)
    for key, data in written.items():
        store.put(key, data)
    return mirror
