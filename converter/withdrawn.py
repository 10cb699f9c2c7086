"""Subjects whose consent was withdrawn: a private list, so that the same source does not bring them back silently."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from corpus import layout
from corpus.errors import LayoutError, NotFoundError
from corpus.models import to_json
from corpus.stores import Store

KEY: Final = f"{layout.PRIVATE}/withdrawn.json"


def read_withdrawn(store: Store) -> frozenset[str]:
    """Return the ids of subjects that were withdrawn from a mirror.

    Raises
    ------
    LayoutError
        The list cannot be read: nothing may be published before it is mended.
    StoreError
        The store failed.
    """
    try:
        return frozenset(msgspec.json.decode(store.get(KEY), type=list[str]))
    except NotFoundError:
        return frozenset()
    except msgspec.DecodeError as error:
        hint = "Mend it by hand: a JSON list of ids. Nothing is published meanwhile."
        raise LayoutError("layout.metadata", f"not a list of ids: {error}", place=KEY, hint=hint) from error


def add_withdrawn(store: Store, subjects: Iterable[str]) -> None:
    """Put subjects on the list."""
    _write(store, read_withdrawn(store) | frozenset(subjects))


def lift_withdrawal(store: Store, subjects: frozenset[str]) -> None:
    """Take subjects off the list; silent for those that are not on it."""
    listed = read_withdrawn(store)
    if listed & subjects:
        _write(store, listed - subjects)


def _write(store: Store, subjects: frozenset[str]) -> None:
    if subjects:
        store.put(KEY, to_json(sorted(subjects)))
    else:
        store.delete(KEY)
