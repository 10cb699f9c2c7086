"""Every layout of the corpus, from folders, a bucket and a web server, becomes the same voxels."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.inventory import take_inventory
from converter.phantom import write_phantom
from converter.phantom_layouts import LAYOUTS
from tests.conftest import Web

FIRST = 1000  # so that the sets of CT, which end with it, are split


def converted(source: str | Path, mirror: Path, **choices: Any) -> Path:
    settings = ConvertSettings(workers=0, corpus=read_corpus(str(source)), **choices)
    report = convert(str(source), str(mirror), settings, lambda _: None)
    assert not report.failures
    return mirror


def voxels(mirror: Path) -> pd.DataFrame:
    table = pd.read_parquet(mirror / "volumes.parquet", use_threads=False)
    return table[["subject", "volume", "array_sha256", "voxels_sha256", "source_sha256", "units"]]


def regions(mirror: Path) -> pd.DataFrame:
    return pd.read_parquet(mirror / "regions.parquet", use_threads=False)


def catalog(mirror: Path) -> pd.DataFrame:
    table = pd.read_parquet(mirror / "catalog.parquet", use_threads=False)
    return table.drop(columns=[name for name in table if "bytes" in name])


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same corpus in every layout."""
    folder = tmp_path_factory.mktemp("layouts")
    for layout in LAYOUTS:
        write_phantom(str(folder / layout), subjects=2, first=FIRST, layout=layout)
    return folder


@pytest.fixture(scope="module")
def reference(layouts: Path) -> Path:
    mirror = converted(layouts / "L1", layouts / "mirror")
    assert len(voxels(mirror)) == 18
    return mirror


def same(mirror: Path, reference: Path, *subjects: str) -> None:
    for table in (voxels, regions, catalog):
        expected = table(reference)
        expected = expected[expected.subject.isin(subjects)].reset_index(drop=True)
        pd.testing.assert_frame_equal(table(mirror), expected)


@pytest.mark.parametrize(
    ("layout", "subjects"),
    # One subject is enough where the sets are not split.
    [("L2", ["1001"]), ("L3", ["1000", "1001"]), ("L4", ["1000", "1001"]), ("L5", ["1000", "1001"]), ("L6", ["1000"])],
)
def test_every_layout_gives_the_same_voxels_regions_and_licences(
    layouts: Path, reference: Path, tmp_path: Path, layout: str, subjects: list[str]
) -> None:
    assert list(take_inventory(str(layouts / layout)).subjects) == ["1000", "1001"]
    same(converted(layouts / layout, tmp_path / "mirror", subjects=frozenset(subjects)), reference, *subjects)


def test_the_archive_alone_is_a_source(layouts: Path, reference: Path, tmp_path: Path) -> None:
    archive = layouts / "L2/ENHANCE-PET-1_6k.zip"
    same(converted(archive, tmp_path / "mirror", subjects=frozenset({"1000"})), reference, "1000")


@pytest.mark.parametrize("layout", ["L1", "L4"])
def test_a_web_server_s_index_is_a_source(
    layouts: Path, reference: Path, tmp_path: Path, web: Web, layout: str
) -> None:
    folder = tmp_path / "a corpus, größer"
    shutil.copytree(layouts / layout, folder)
    url = f"{web.base}/a%20corpus,%20gr%C3%B6%C3%9Fer"
    same(converted(url, tmp_path / "mirror", subjects=frozenset({"1001"})), reference, "1001")


def test_of_an_archive_on_a_web_server_only_what_is_needed_is_fetched(
    layouts: Path, reference: Path, tmp_path: Path, web: Web
) -> None:
    archive = shutil.copy(layouts / "L2/ENHANCE-PET-1_6k.zip", tmp_path)
    shutil.copy(layouts / "L2/corpus.json", tmp_path)
    url = f"{web.base}/{Path(archive).name}"
    inventory = take_inventory(url)
    directory = web.sent(".zip")
    assert directory < 10_000
    web.ranges.clear()
    converted(url, tmp_path / "mirror", subjects=frozenset({f"{FIRST}"}), roles=("ribs", "organs"))
    sent = Counter(range_ for range_ in web.ranges if range_[0].endswith(".zip"))
    members = {file.member: 0 for files in inventory.subjects.values() for file in files.files.values()}
    members |= {sheet.member: 0 for sheet in inventory.sheets}
    end = max(member.stop for member in members)
    for _, start, stop in (range_ for range_ in sent.elements() if range_[1] < end):
        # No range reaches beyond the one member that is read.
        [member] = [member for member in members if member.start <= start and stop <= member.stop]
        members[member] += stop - start
    read = {member.name.removeprefix("imaging-data/"): count / member.size for member, count in members.items()}
    assert {name for name, part in read.items() if part and "1001" in name} == set()
    # Every header of the subject is looked at for the plan, which inflates half a megabyte; the CT is larger.
    assert read["images/CT/1000.nii.gz"] < 0.8
    assert all(1 <= read[f"ground-truth/{folder}/1000.nii.gz"] <= 2.1 for folder in ("Ribs", "Organs"))
    assert sum(stop - start for _, start, stop in sent.elements() if start >= end) <= directory
    ribs = voxels(tmp_path / "mirror").set_index("volume").loc["labels/ribs"]
    assert ribs.array_sha256 in set(voxels(reference).array_sha256)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["L3", "L5"])
def test_a_bucket_is_a_source(
    layouts: Path,
    reference: Path,
    tmp_path: Path,
    s3: dict[str, str],
    voxshelf: Callable[..., Any],
    layout: str,
) -> None:
    import s3fs

    bucket = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )
    bucket.put(f"{layouts / layout}/", f"voxshelf/sources/{layout}", recursive=True)
    source, mirror = f"s3://voxshelf/sources/{layout}", tmp_path / "mirror"
    voxshelf("convert", source, mirror, "--subjects", "1001", "--workers", "0", env=s3)
    same(mirror, reference, "1001")
