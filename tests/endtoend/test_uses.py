"""What people do with a served mirror in a notebook, on a cluster, with a NIfTI tool, in a shell; without our code."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import fsspec
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

if TYPE_CHECKING:
    from tests.endtoend.conftest import Wire

SUBJECTS = ("0001", "0002", "0003", "0004")


def source(corpus: Path, folder: str, subject: str = "0001") -> nib.Nifti1Image:
    image = nib.load(corpus / "imaging-data" / folder / f"{subject}.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    return image


def test_xarray_opens_a_whole_subject_in_few_requests(wire: Wire) -> None:
    tree = xr.open_datatree(f"{wire.base}/zarr/0001.ome.zarr", engine="zarr", zarr_format=3)
    assert tree["pet/scale0/pet"].dims == ("z", "y", "x")
    assert len(tree["ct/labels"].children) == 7
    assert len(wire.requests) <= 25


def test_xarray_opens_one_level_in_four_requests(wire: Wire) -> None:
    level = xr.open_zarr(f"{wire.base}/zarr/0001.ome.zarr/ct/scale0", zarr_format=3)
    assert set(level.coords) == {"z", "y", "x"}
    assert len(wire.requests) == 4


def pet_mean(base: str, subject: str) -> float:
    """What runs on a worker."""
    level = xr.open_zarr(f"{base}/zarr/{subject}.ome.zarr/pet/scale0", zarr_format=3, chunks=None)
    return float(level["pet"].astype("float64").mean())


def test_two_dask_workers_read_all_pets(served: str, corpus: Path) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        means = client.gather([client.submit(pet_mean, served, subject) for subject in SUBJECTS])
    true = [source(corpus, "images/PT", subject).get_fdata().mean() for subject in SUBJECTS]
    np.testing.assert_allclose(means, true, rtol=1e-6)


def test_nibabel_reads_a_slice_of_a_virtual_file_and_little_else(wire: Wire, corpus: Path) -> None:
    true = source(corpus, "images/CT")
    with fsspec.open(f"{wire.base}/v1/subjects/0001/ct.nii", block_size=2**16) as file:
        image = nib.Nifti1Image.from_stream(file)
        found = np.asarray(image.dataobj[:, :, 40])
    np.testing.assert_array_equal(found, np.asarray(true.dataobj)[:, :, 40])
    np.testing.assert_array_equal(image.affine, true.affine)
    assert wire.bytes_received < np.asarray(true.dataobj).nbytes / 5


@pytest.mark.skipif(which("curl") is None, reason="there is no curl")
def test_curl_gets_a_liver_that_nibabel_opens_in_place(served: str, corpus: Path, tmp_path: Path) -> None:
    url = f"{served}/v1/subjects/0001/ct/cutout?label=liver&margin_mm=10&format=nii.gz"
    subprocess.run(["curl", "-sSf", "-o", tmp_path / "liver.nii.gz", url], check=True, timeout=60)
    part, whole = nib.load(tmp_path / "liver.nii.gz"), source(corpus, "images/CT")
    assert isinstance(part, nib.Nifti1Image)
    regions = json.load(urllib.request.urlopen(f"{served}/v1/subjects/0001", timeout=20))["regions"]
    liver = next(region["value"] for region in regions if region["name"] == "liver")
    inside = np.asarray(source(corpus, "ground-truth/Organs").dataobj) == liver
    # Voxel (0, 0, 0) of the cut-out lies at a voxel of the whole, and from there on both hold the same.
    origin = np.linalg.inv(whole.affine) @ part.affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(origin, np.rint(origin), atol=1e-3)
    box = tuple(slice(start, start + n) for start, n in zip(np.rint(origin[:3]).astype(int), part.shape, strict=True))
    np.testing.assert_array_equal(np.asarray(part.dataobj), np.asarray(whole.dataobj)[box])
    assert inside[box].sum() == inside.sum() > 0
    assert inside[box].size < inside.size / 5
