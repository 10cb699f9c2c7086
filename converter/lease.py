"""One run at a time writes a mirror: a lease, an object with an owner and an age.

Two runs on one mirror would remove each other's shards. The lease is made by a write that fails where there is one
already, renewed while the run goes on, and removed at its end. The lease of a run that was killed is recognised by its
process on the same machine, or by its age, since nobody renews it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from corpus import layout
from corpus.errors import NotFoundError, StoreError
from corpus.models import to_json
from corpus.stores import Store

KEY: Final = f"{layout.PRIVATE}/lease.json"
EXPIRES_S: Final = 300.0
"""A lease that was not renewed for so long is nobody's. Clocks of machines that share a mirror may differ by less."""
_RENEW_S: Final = 30.0


class Owner(msgspec.Struct, frozen=True):
    """What the lease object says.

    Attributes
    ----------
    run
        Of one run alone.
    host, process
        Where it runs.
    since, renewed
        Seconds since 1970.
    """

    run: str
    host: str
    process: int
    since: float
    renewed: float


class Lease:
    """The right to write a mirror, while it is held.

    Parameters
    ----------
    store
        The mirror.
    owner
        This run.
    """

    def __init__(self, store: Store, owner: Owner) -> None:
        self._store = store
        self._owner = owner
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewing.start()

    def confirm(self) -> None:
        """Make sure that the mirror is still this run's.

        Raises
        ------
        StoreError
            Another run took it over, or the store failed.
        """
        found = _read(self._store)
        if found is None or found.run != self._owner.run:
            by = f"by process {found.process} on {found.host}" if found else "and given back again"
            raise StoreError("store.lock-lost", f"it was taken over {by}", place=self._store.url)

    def release(self) -> None:
        """Give the mirror back, if it is still this run's and the store answers; else the lease ends by its age."""
        self._ended.set()
        self._renewing.join()
        with suppress(StoreError):
            self.confirm()
            self._store.delete(KEY)

    def _renew(self) -> None:
        while not self._ended.wait(_RENEW_S):
            try:
                self.confirm()
                self._store.put(KEY, to_json(msgspec.structs.replace(self._owner, renewed=time.time())))
            except StoreError as error:
                # Whoever took it over must not lose it again; a store that fails now may do better the next time.
                if error.code == "store.lock-lost":
                    return


@contextmanager
def lease(store: Store, *, break_lock: bool = False) -> Iterator[Lease]:
    """Hold a mirror while a block runs.

    Parameters
    ----------
    store
        The mirror.
    break_lock
        Take it from whoever has it.

    Raises
    ------
    StoreError
        Another run has it, or the store failed.
    """
    now = time.time()
    owner = Owner(uuid.uuid4().hex, socket.gethostname(), os.getpid(), now, now)
    found = _read(store)
    if found is not None:
        if not (break_lock or _is_dead(found)):
            raise _locked(store, found)
        store.delete(KEY)
    if not store.create(KEY, to_json(owner)):
        raise _locked(store, _read(store) or owner)
    held = Lease(store, owner)
    try:
        yield held
    finally:
        held.release()


def _read(store: Store) -> Owner | None:
    try:
        return msgspec.json.decode(store.get(KEY), type=Owner)
    except NotFoundError:
        return None
    except msgspec.DecodeError:
        return Owner("", "unknown", 0, 0.0, 0.0)  # of another version: as old as can be


def _is_dead(owner: Owner) -> bool:
    if time.time() - owner.renewed > EXPIRES_S:
        return True
    # In a container every run may be process 1 of a machine of the same name.
    return owner.host == socket.gethostname() and (owner.process == os.getpid() or not _runs(owner.process))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _locked(store: Store, owner: Owner) -> StoreError:
    age = f"since {_minutes(owner.since)}, last heard of {_minutes(owner.renewed)} ago"
    message = f"process {owner.process} on {owner.host} has been writing it {age}"
    return StoreError("store.locked", message, place=store.url)


def _minutes(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
