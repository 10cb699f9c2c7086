"""The main job: a phantom corpus, converted, served by a process of its own, read with plain xarray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

if TYPE_CHECKING:
    from tests.endtoend.conftest import Wire

SUBJECT = "0001"


def source(corpus: Path, folder: str) -> nib.Nifti1Image:
    image = nib.load(corpus / "imaging-data" / folder / f"{SUBJECT}.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    return image


def open_subject(base: str, subject: str = SUBJECT) -> xr.DataTree:
    return xr.open_datatree(f"{base}/zarr/{subject}.ome.zarr", engine="zarr")


def test_opening_costs_the_few_requests_that_the_layout_promises(wire: Wire) -> None:
    tree = open_subject(wire.base)
    assert len(tree["ct/labels"].children) == 7
    levels = sum(len(tree[image].children) - ("labels" in tree[image].children) for image in ("ct", "pet"))
    # One document for the whole tree, three probes for other Zarr versions, and the coordinates of CT and PET.
    assert len(wire.requests) == 1 + 3 + 3 * levels


def test_with_the_format_named_and_no_indexes_one_request_opens_everything(wire: Wire) -> None:
    tree = xr.open_datatree(
        f"{wire.base}/zarr/{SUBJECT}.ome.zarr", engine="zarr", zarr_format=3, create_default_indexes=False
    )
    assert tree["ct/labels/organs/scale0/organs"].shape == tree["ct/scale0/ct"].shape
    assert len(wire.requests) == 1


def test_a_region_in_millimetres_is_what_nibabel_reads_there(wire: Wire, corpus: Path) -> None:
    ct = open_subject(wire.base)["ct/scale0/ct"]
    picked = ct.sel(x=slice(60, -60), y=slice(-40, 60), z=slice(250, 400))
    assert picked.size > 1000
    image = source(corpus, "images/CT")
    values = np.asarray(image.dataobj)
    for z, y, x in [(0, 0, 0), (-1, -1, -1), (3, 5, 7)]:
        world = [float(picked.x[x]), float(picked.y[y]), float(picked.z[z])]
        i, j, k = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), world)).astype(int)
        assert picked.values[z, y, x] == values[i, j, k]


def test_a_label_chosen_from_the_table_is_what_nibabel_reads(wire: Wire, mirror: Path, corpus: Path) -> None:
    regions = pd.read_parquet(mirror / "regions.parquet", use_threads=False)
    liver = regions[(regions.subject == SUBJECT) & (regions.name == "liver")].iloc[0]
    tree = open_subject(wire.base)
    wire.reset()
    box = {dim: slice(liver[f"{dim}_start"], liver[f"{dim}_stop"]) for dim in "zyx"}
    hu = tree["ct/scale0/ct"].isel(box)
    organ = tree["ct/labels/organs/scale0/organs"].isel(box)
    found = hu.values[organ.values == liver.value]
    values = np.asarray(source(corpus, "images/CT").dataobj)
    inside = np.asarray(source(corpus, "ground-truth/Organs").dataobj) == liver.value
    assert len(found) == liver.voxels == inside.sum()
    assert sorted(found) == sorted(values[inside])
    world = nib.affines.apply_affine(source(corpus, "images/CT").affine, np.argwhere(inside)).mean(axis=0)
    np.testing.assert_allclose([liver.centroid_x_mm, liver.centroid_y_mm, liver.centroid_z_mm], world, atol=1e-6)
    assert world[0] > 0, "the liver is on the patient's right"


@pytest.mark.slow
def test_a_small_region_costs_a_small_part_of_the_file(tmp_path: Path, serve: object, voxshelf: object) -> None:
    from tests.endtoend.conftest import Wire as Counter

    # Of a CT with 512 x 512 planes, since only there a region is small against the file.
    voxshelf("phantom", tmp_path / "corpus", "--subjects", "1", "--size", "full")  # type: ignore[operator]
    voxshelf("convert", tmp_path / "corpus", tmp_path / "mirror", "--workers", "0", "--volumes", "ct,organs")  # type: ignore[operator]
    file_bytes = (tmp_path / "corpus/imaging-data/images/CT/0001.nii.gz").stat().st_size
    with serve(tmp_path / "mirror") as base:  # type: ignore[operator]
        wire = Counter(base)
        tree = open_subject(wire.base)
        opening = wire.bytes_received
        spleen = {
            row["name"]: row
            for row in pd.read_parquet(tmp_path / "mirror/regions.parquet", use_threads=False).to_dict("records")
        }["spleen"]
        box = {dim: slice(spleen[f"{dim}_start"], spleen[f"{dim}_stop"]) for dim in "zyx"}
        assert tree["ct/scale0/ct"].isel(box).values.size > 1000
        wire.close()
    assert opening < 250_000
    assert wire.bytes_received < file_bytes / 10, f"{wire.bytes_received} of {file_bytes} bytes"


def test_physical_pet_values_come_without_any_package_of_ours(wire: Wire, corpus: Path) -> None:
    path = corpus / "imaging-data/images/PT/0002.nii.gz"
    pet = open_subject(wire.base, "0002")["pet/scale0/pet"]
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    slope = float(image.dataobj.slope)
    assert slope != 1, "subject 0002 is stored with a slope"
    np.testing.assert_allclose(pet.values, image.get_fdata().transpose(), rtol=1e-6)
    assert pet.attrs["units"] == "Bq/ml"
