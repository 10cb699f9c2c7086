"""Real volumes of eight subjects, written by different tools."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from converter.export import Cut, export
from converter.reader import Mirror

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "real-corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the real volumes are not beside this checkout")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, voxshelf: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("real") / "mirror"
    voxshelf("convert", CORPUS, folder, "--workers", "2")
    return folder


@pytest.fixture(scope="module")
def opened(mirror: Path) -> Mirror:
    return Mirror(str(mirror))


@pytest.fixture(scope="module")
def listed(opened: Mirror) -> dict[str, dict[str, Any]]:
    """Rows of volumes.parquet by subject/role."""
    rows = [row for rows in opened.catalog.volumes.values() for row in rows]
    return {f"{row['subject']}/{row['volume'].removeprefix('labels/')}": row for row in rows}


def test_every_readable_volume_is_converted(listed: dict[str, dict[str, Any]]) -> None:
    assert len(listed) == len(list(CORPUS.rglob("*.nii.gz"))) == 16


def test_every_voxel_equals_the_source(mirror: Path, voxshelf: Callable[..., Any]) -> None:
    done = voxshelf("verify", mirror, "--source", CORPUS)
    assert "0 faults" in done.stdout
    assert "61065506 voxels equal" in done.stdout


def test_export_of_each_volume_is_byte_identical_once_inflated(
    listed: dict[str, dict[str, Any]], opened: Mirror, tmp_path: Path
) -> None:
    for place, row in listed.items():
        subject, role = place.split("/")
        done = export(opened, subject, role, tmp_path / "out.nii", Cut())
        assert done.byte_identical
        source = CORPUS / row["source_name"]
        assert (tmp_path / "out.nii").read_bytes() == gzip.decompress(source.read_bytes()), place


def test_what_was_narrowed_and_what_was_kept(listed: dict[str, dict[str, Any]]) -> None:
    stored = {place: (row["dtype_source"], row["dtype"]) for place, row in listed.items()}
    assert stored["0001/ct"] == ("<i4", "int16")
    assert stored["0002/ct"] == ("<f4", "int16")
    assert stored["0002/pet"] == ("<f4", "float32")
    assert stored["0004/ct"] == ("<i2", "int16")
    assert stored["0008/pet"] == ("<u2", "uint16")
    assert all(row["lossless"] for row in listed.values())


def test_orientation_units_and_oblique_axes(listed: dict[str, dict[str, Any]]) -> None:
    assert {place: listed[place]["orientation"] for place in ("0001/ct", "0002/ct", "0004/ct")} == {
        "0001/ct": "RAS",
        "0002/ct": "LPS",
        "0004/ct": "LAS",
    }
    assert [listed[place]["units"] for place in ("0002/pet", "0006/pet", "0008/pet")] == ["SUV", "Bq/ml", "unknown"]
    assert [place for place, row in listed.items() if not row["aligned"]] == ["0007/ct"]
    assert "warning.affine-sheared" in listed["0007/ct"]["warnings"]


def test_a_slope_and_an_intercept_reach_plain_xarray(mirror: Path) -> None:
    import xarray as xr

    for subject, image, folder in (("0004", "ct", "CT"), ("0008", "pet", "PT")):
        tree = xr.open_datatree(mirror / f"subjects/{subject}.ome.zarr", engine="zarr")
        expected = nib.load(CORPUS / f"imaging-data/images/{folder}/{subject}.nii.gz").get_fdata()  # type: ignore[attr-defined]
        np.testing.assert_allclose(tree[f"{image}/scale0/{image}"].values, expected.transpose(), rtol=1e-6)


def test_the_flags_raise_no_false_alarm(listed: dict[str, dict[str, Any]], opened: Mirror) -> None:
    # One of them is right: nothing says in which unit the PET of the phantom of spheres is.
    flags = {"label-side", "label-outside", "views-apart", "hu-range", "intensity-unit", "not-checked"}
    codes = {f"warning.{flag}" for flag in flags}
    assert {place: codes & set(row["warnings"]) for place, row in listed.items() if codes & set(row["warnings"])} == {
        "0008/pet": {"warning.intensity-unit"}
    }
    assert not any(codes & set(row["warnings"]) for row in opened.catalog.subjects.values())
