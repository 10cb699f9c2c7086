"""A damaged file, a missing label map and an unknown licence: named in the report, and in nobody's way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest
import xarray as xr

TRUTH = "imaging-data/ground-truth"


@pytest.fixture(scope="module")
def broken(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "corpus"
    shutil.copytree(corpus, folder)
    damaged = folder / TRUTH / "Organs/0001.nii.gz"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    cut = folder / "imaging-data/images/PT/0004.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-1000])
    (folder / TRUTH / "Ribs/0002.nii.gz").unlink()
    for name in ("CT-details.xlsx", "PT-details.xlsx"):
        book = openpyxl.load_workbook(folder / name)
        header = [cell.value for cell in book.active[1]]
        book.active.cell(4, header.index("Data-Source") + 1, "Hospital of Nowhere")
        book.save(folder / name)
    return folder


@pytest.fixture(scope="module")
def run(broken: Path, voxshelf: Callable[..., Any]) -> tuple[Path, list[dict[str, Any]]]:
    mirror = broken.parent / "mirror"
    done = voxshelf("convert", broken, mirror, "--workers", "0", "--json", status=1)
    return mirror, [json.loads(line) for line in done.stdout.splitlines()]


def test_each_failure_is_named_with_code_place_and_hint(run: tuple[Path, list[dict[str, Any]]]) -> None:
    report = run[1][-1]
    failures = {finding["place"]: finding for finding in report["failures"]}
    assert failures.keys() == {f"{TRUTH}/Organs/0001.nii.gz", "imaging-data/images/PT/0004.nii.gz"}
    assert {finding["code"] for finding in failures.values()} <= {"source.gzip-corrupt", "source.gzip-truncated"}
    assert all(finding["hint"] for finding in failures.values())
    warnings = {(finding["place"], finding["code"]) for finding in report["warnings"]}
    assert ("0002/ribs", "warning.volume-missing") in warnings
    assert ("0003", "warning.licence-unknown") in warnings


def test_everything_else_went_on(run: tuple[Path, list[dict[str, Any]]]) -> None:
    assert run[1][-1]["converted"] == 36 - 3
    assert run[1][-1]["subjects"] == 4
    assert run[1][-1]["licenses"] == {"CC-BY-4.0": 2, "CC-BY-NC-4.0": 1, "unknown": 1}


def test_nothing_of_the_damaged_volume_is_left(run: tuple[Path, list[dict[str, Any]]]) -> None:
    store = run[0] / "subjects/0001.ome.zarr"
    assert not (store / "ct/labels/organs").exists() or not list((store / "ct/labels/organs").rglob("*.*"))
    labels = json.loads((store / "ct/labels/zarr.json").read_text())["attributes"]["ome"]["labels"]
    assert "organs" not in labels
    assert len(labels) == 6


def test_the_good_volumes_are_served_and_the_unknown_licence_is_not(
    run: tuple[Path, list[dict[str, Any]]], serve: Callable[..., Any]
) -> None:
    with serve(run[0]) as base:
        tree = xr.open_datatree(f"{base}/zarr/0001.ome.zarr", engine="zarr")
        assert tree["ct/labels/ribs/scale0/ribs"].values.max() > 0
        for key in ("zarr.json", "ct/scale0/ct/c/0/0/0", "nothing"):
            for method in ("GET", "HEAD"):
                answer = httpx.request(method, f"{base}/zarr/0003.ome.zarr/{key}")
                assert answer.status_code == 403
        listed = {row["subject"]: row for row in httpx.get(f"{base}/v1/subjects").json()["subjects"]}
        assert listed["0003"]["license"] == "unknown"
        assert listed["0003"]["url"] is None
        assert listed["0002"]["gaps"] == ["labels/ribs"]
        assert listed["0004"]["has_pet"] is False


def test_once_mended_only_what_was_missing_is_done(
    run: tuple[Path, list[dict[str, Any]]], corpus: Path, mirror: Path, voxshelf: Callable[..., Any]
) -> None:
    done = voxshelf("convert", corpus, run[0], "--workers", "0", "--json")
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["converted"], report["already"]) == (3, 33)
    assert report["licenses"] == {"CC-BY-4.0": 3, "CC-BY-NC-4.0": 1}
    # A mirror that was mended is, object for object, one that never needed it.
    assert published(run[0]) == published(mirror)


def published(mirror: Path) -> dict[str, bytes]:
    files = (path for path in mirror.rglob("*") if path.is_file() and ".voxshelf" not in path.parts)
    return {path.relative_to(mirror).as_posix(): path.read_bytes() for path in files}
