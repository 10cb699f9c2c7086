"""The incident steps of docs/operations.md, on a mirror that is being served meanwhile."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.phantom import write_phantom

pytestmark = pytest.mark.slow

SHARD = "ct/scale0/ct/c/0/0/0"
PAGE = Path(__file__).parents[2] / "docs/operations.md"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small subjects."""
    folder = tmp_path_factory.mktemp("two")
    write_phantom(str(folder), subjects=2)
    return folder


@pytest.fixture(scope="module")
def sound(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    settings = ConvertSettings(corpus=read_corpus(str(corpus)), pictures=False)
    assert not convert(str(corpus), str(folder), settings, lambda _: None).failures
    return folder


@pytest.fixture
def mirror(sound: Path, tmp_path: Path) -> Path:
    """A copy that is going to have an incident."""
    return Path(shutil.copytree(sound, tmp_path / "mirror"))


@pytest.fixture
def client(mirror: Path, serve: Callable[..., Any]) -> Iterator[httpx.Client]:
    with (
        serve(mirror, {"VOXSHELF_SERVE_CATALOG_TTL_S": "0"}) as base,
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        yield client


def contents(mirror: Path) -> dict[str, bytes]:
    files = (path for path in mirror.rglob("*") if path.is_file() and ".voxshelf" not in path.parts)
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in files}


def rename_source(corpus: Path, subject_row: int, text: str) -> None:
    for name in ("CT-details.xlsx", "PT-details.xlsx"):
        book = openpyxl.load_workbook(corpus / name)
        sheet = book.active
        assert sheet is not None
        column = [cell.value for cell in sheet[1]].index("Data-Source") + 1
        sheet.cell(subject_row, column, text)
        book.save(corpus / name)


def until(holds: Callable[[], bool]) -> None:
    """Wait for a service that looks for new tables from time to time."""
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("the service did not notice")


def test_a_wrong_licence(
    corpus: Path, mirror: Path, tmp_path: Path, client: httpx.Client, voxshelf: Callable[..., Any]
) -> None:
    assert client.get(f"/zarr/0002.ome.zarr/{SHARD}").status_code == 200
    # The source withdraws its licence: until it is known what holds, the subject is served no more.
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    rename_source(source, 3, "licence in question")
    voxels = {key: data for key, data in contents(mirror).items() if "/c/" in key}
    told = voxshelf("convert", source, mirror, "--subjects", "0002", "--workers", "0")
    assert "0 volumes converted" in told.stdout
    until(lambda: client.get(f"/zarr/0002.ome.zarr/{SHARD}").status_code == 403)
    assert client.get(f"/zarr/0001.ome.zarr/{SHARD}").status_code == 200
    # Every place that tells the licence tells the new one, and no voxel moved.
    root = json.loads((mirror / "subjects/0002.ome.zarr/zarr.json").read_text())
    assert root["attributes"]["voxshelf"]["license"]["id"] == "unknown"
    assert "licence in question: 1 subject, Unknown" in voxshelf("describe", mirror).stdout
    assert json.loads((mirror / "mirror.json").read_text())["licenses"]["unknown"] == 1
    assert "CC-BY-4.0" not in (mirror / "CITATION.cff").read_text()
    assert {key: data for key, data in contents(mirror).items() if "/c/" in key} == voxels
    assert "0 faults" in voxshelf("verify", mirror, "--workers", "0").stdout


@pytest.mark.parametrize("way", ["again from the source", "from a backup"])
def test_a_corrupted_object(
    corpus: Path, sound: Path, mirror: Path, client: httpx.Client, voxshelf: Callable[..., Any], way: str
) -> None:
    before, key = contents(mirror), f"subjects/0002.ome.zarr/{SHARD}"
    damaged = bytearray(before[key])
    damaged[len(damaged) // 2] ^= 1
    (mirror / key).write_bytes(damaged)
    told = voxshelf("verify", mirror, "--subjects", "0002", "--workers", "0", status=1)
    assert SHARD in told.stdout
    if way == "from a backup":
        shutil.copy(sound / key, mirror / key)
    else:
        voxshelf("convert", corpus, mirror, "--overwrite", "--subjects", "0002", "--workers", "0", "--no-pictures")
    assert "0 faults" in voxshelf("verify", mirror, "--workers", "0").stdout
    assert contents(mirror) == before
    until(lambda: client.get(f"/zarr/0002.ome.zarr/{SHARD}").content == before[key])


def test_the_page_names_the_commands_that_were_run() -> None:
    page = PAGE.read_text()
    for command in ("voxshelf convert SRC MIRROR --subjects", "voxshelf verify MIRROR --subjects", "--overwrite"):
        assert command in page
