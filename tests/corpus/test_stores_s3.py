"""What a store promises that only a real S3 server, and what others do there, can prove."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import s3fs

from corpus.errors import NotFoundError
from corpus.stores import Store


@pytest.fixture
def store(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return Store(f"s3://voxshelf/{uuid.uuid4().hex}")


@pytest.fixture
def another(store: Store) -> Any:  # which sets the environment
    """Another client, which knows nothing of ours."""
    return s3fs.S3FileSystem(skip_instance_cache=True)


def test_what_others_write_after_a_listing_is_there(store: Store, another: Any) -> None:
    store.put("a/old", b"1")
    assert (store.sizes("a"), store.names("a"), store.exists("a/new")) == ({"a/old": 1}, ["old"], False)
    another.pipe_file(f"{store.url}/a/new", b"22")
    assert store.get("a/new") == b"22"
    assert store.exists("a/new")
    assert store.get_many(["a/new"]) == {"a/new": b"22"}
    with store.open("a/new") as file:
        assert file.read() == b"22"


def test_what_others_replace_or_remove_after_a_listing_is_seen(store: Store, another: Any) -> None:
    store.put("a/grown", b"1")
    store.put("a/gone", b"1")
    assert len(store.sizes("a")) == 2
    another.pipe_file(f"{store.url}/a/grown", b"longer than before")
    another.rm_file(f"{store.url}/a/gone")
    assert store.get("a/grown") == b"longer than before"
    assert store.sizes("a") == {"a/grown": 18}
    assert not store.exists("a/gone")
    with pytest.raises(NotFoundError):
        store.get("a/gone")


def test_a_get_is_one_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"1")
    asked: list[str] = []
    real = store._fs._call_s3

    async def counted(method: str, *arguments: Any, **options: Any) -> Any:
        asked.append(method)
        return await real(method, *arguments, **options)

    monkeypatch.setattr(store._fs, "_call_s3", counted)
    assert store.get("a") == b"1"
    assert asked == ["get_object"]
