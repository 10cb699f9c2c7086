"""Manifests as sha256sum reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from corpus.errors import LayoutError
from corpus.manifest import manifest_bytes, parse_manifest, read_manifest, shards_of
from corpus.outcomes import ObjectRecord
from corpus.stores import Store

OBJECTS = {"subjects/0001.ome.zarr/zarr.json": b"{}", "subjects/0001.ome.zarr/ct/c/0": b"\0" * 9}
DIGESTS = {key: ObjectRecord.of(key, data).sha256 for key, data in OBJECTS.items()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    for key, data in OBJECTS.items():
        store.put(key, data)
    return store


def test_what_is_written_is_read(store: Store) -> None:
    assert read_manifest(store, "0001") is None
    store.put("subjects/0001.ome.zarr.sha256", manifest_bytes(DIGESTS))
    assert read_manifest(store, "0001") == DIGESTS


@pytest.mark.parametrize(
    "text",
    [
        b"abc  0001.ome.zarr/zarr.json\n",
        b"\xff",
        f"{'0' * 64}  0002.ome.zarr/zarr.json\n".encode(),
        f"{'0' * 64}  ../mirror.json\n".encode(),
        manifest_bytes(DIGESTS)[:-5],
    ],
)
def test_what_is_no_manifest_of_the_subject_is_refused(store: Store, text: bytes) -> None:
    store.put("subjects/0001.ome.zarr.sha256", text)
    with pytest.raises(LayoutError, match=r"layout\.metadata"):
        read_manifest(store, "0001")


def test_a_manifest_that_was_cut_short_says_nothing_of_shards() -> None:
    array = "subjects/0001.ome.zarr/ct/scale0/ct"
    shards = {f"{array}/c/{n}/0/0" for n in range(12)}
    other = {f"{array}2/c/0/0/0", f"{array}2/zarr.json", "subjects/0001.ome.zarr/zarr.json"}
    whole = manifest_bytes(dict.fromkeys({*shards, f"{array}/zarr.json", *other}, "0" * 64))
    assert shards_of(parse_manifest(whole, "0001"), "0001", array) == shards
    lines = whole.splitlines(keepends=True)
    document = next(n for n, line in enumerate(lines) if line.endswith(b"/scale0/ct/zarr.json\n"))
    for count in range(document + 1):
        with pytest.raises(LayoutError, match="does not list"):
            shards_of(parse_manifest(b"".join(lines[:count]), "0001"), "0001", array)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum here")
def test_sha256sum_checks_a_downloaded_subject(phantom_mirror: Path, tmp_path: Path) -> None:
    for name in ("0002.ome.zarr", "0002.ome.zarr.sha256"):
        found = phantom_mirror / "subjects" / name
        (shutil.copytree if found.is_dir() else shutil.copy)(found, tmp_path / name)
    command = ["sha256sum", "--check", "--strict", "0002.ome.zarr.sha256"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    files = sum(path.is_file() for path in (tmp_path / "0002.ome.zarr").rglob("*"))
    assert (done.returncode, done.stdout.count(": OK")) == (0, files)
    path = tmp_path / "0002.ome.zarr/ct/scale0/ct/c/0/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "ct/scale0/ct/c/0/0/0: FAILED" in done.stdout) == (1, True)
