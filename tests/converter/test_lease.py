from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from converter import lease as module
from converter.lease import KEY, Owner, lease
from corpus.errors import StoreError
from corpus.models import to_json
from corpus.stores import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def held_by(store: Store, **told: object) -> None:
    now = time.time()
    fields: dict[str, object] = {"run": "other", "host": "elsewhere", "process": 7, "since": now, "renewed": now}
    store.put(KEY, to_json(Owner(**{**fields, **told})))  # type: ignore[arg-type]


def test_it_is_there_while_it_is_held_and_gone_afterwards(store: Store) -> None:
    with lease(store) as held:
        held.confirm()
        assert msgspec.json.decode(store.get(KEY), type=Owner).process == os.getpid()
    assert not store.exists(KEY)


def test_it_is_given_back_by_a_run_that_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), lease(store):
        raise ZeroDivisionError
    assert not store.exists(KEY)


def test_another_s_is_respected_and_named(store: Store) -> None:
    held_by(store)
    with pytest.raises(StoreError, match="process 7 on elsewhere") as caught, lease(store):
        pytest.fail("it is another's")
    assert caught.value.code == "store.locked"
    assert "--break-lock" in caught.value.hint
    assert msgspec.json.decode(store.get(KEY), type=Owner).run == "other"


def test_it_can_be_broken(store: Store) -> None:
    held_by(store)
    with lease(store, break_lock=True) as held:
        held.confirm()


def test_one_that_nobody_renews_expires(store: Store) -> None:
    held_by(store, renewed=time.time() - module.EXPIRES_S - 1)
    with lease(store) as held:
        held.confirm()


def test_that_of_a_process_of_this_machine_that_is_gone_is_nobody_s(store: Store) -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    held_by(store, host=os.uname().nodename, process=child)
    with lease(store) as held:
        held.confirm()


def test_that_of_a_running_process_of_this_machine_is_not(store: Store) -> None:
    held_by(store, host=os.uname().nodename, process=os.getppid())
    with pytest.raises(StoreError, match=r"store\.locked"), lease(store):
        pytest.fail("it is another's")


def test_one_that_cannot_be_read_is_nobody_s(store: Store) -> None:
    store.put(KEY, b"of another version")
    with lease(store) as held:
        held.confirm()


def test_who_was_robbed_notices_and_takes_nothing_back(store: Store) -> None:
    with lease(store) as held:
        held_by(store)
        with pytest.raises(StoreError, match=r"store\.lock-lost"):
            held.confirm()
    assert msgspec.json.decode(store.get(KEY), type=Owner).run == "other"


def test_it_is_renewed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.01)
    with lease(store):
        first = msgspec.json.decode(store.get(KEY), type=Owner)
        for _ in range(500):
            now = msgspec.json.decode(store.get(KEY), type=Owner)
            if now.renewed > first.renewed:
                break
            time.sleep(0.01)
        assert (now.run, now.since) == (first.run, first.since)
        assert now.renewed > first.renewed
