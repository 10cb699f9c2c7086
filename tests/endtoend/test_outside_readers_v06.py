"""Readers that are not ours accept stores with OME-Zarr 0.6, and find in them what they find in 0.5."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
import zarr
from ome_zarr_models.v06.image import Image
from ome_zarr_models.v06.image_label import ImageLabel

SUBJECT = "0002"  # whose PET has a slope
IMAGES = ["ct", "pet"]
LABELS = ["ct/labels/organs", "ct/labels/vertebrae"]
FOLDERS = {
    "ct": "images/CT",
    "pet": "images/PT",
    "ct/labels/organs": "ground-truth/Organs",
    "ct/labels/vertebrae": "ground-truth/Vertebrae",
}


@pytest.fixture(scope="module")
def store(corpus: Path, tmp_path_factory: pytest.TempPathFactory, voxshelf: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("mirror_v06")
    voxshelf("convert", corpus, folder, "--ome-version", "0.6", "--subjects", SUBJECT, "--workers", "0")
    return folder / "subjects" / f"{SUBJECT}.ome.zarr"


@pytest.fixture(scope="module")
def older(phantom_mirror: Path) -> Path:
    return phantom_mirror / "subjects" / f"{SUBJECT}.ome.zarr"


def array(store: Path, path: str, level: int = 0) -> Any:
    return zarr.open_array(store, path=f"{path}/scale{level}/{path.rpartition('/')[2]}", mode="r")[:]


def test_one_version_in_the_whole_store(store: Path) -> None:
    documents = [json.loads(path.read_text()) for path in store.rglob("zarr.json")]
    held = [document for document in documents if "ome" in document["attributes"]]
    assert len(held) == 12
    assert {document["attributes"]["ome"]["version"] for document in held} == {"0.6"}
    # Copies in consolidated documents as well.
    assert not [path for path in store.rglob("zarr.json") if '"version":"0.5"' in path.read_text()]


@pytest.mark.parametrize("path", ["", "OME", *IMAGES, *LABELS])
def test_the_schema_of_ngff_zarr(store: Path, path: str) -> None:
    from ngff_zarr.validate import validate

    found = zarr.open_group(store, path=path, mode="r").attrs.asdict()
    for model in {"": ["bf2raw"], "OME": ["ome"]}.get(path, ["image", "label"] if path in LABELS else ["image"]):
        validate(found, version="0.6", model=model, strict=model in {"image", "label"})


@pytest.mark.parametrize("path", [*IMAGES, *LABELS])
def test_ngff_zarr(store: Path, older: Path, path: str) -> None:
    import ngff_zarr

    found, expected = (ngff_zarr.from_ngff_zarr(str(each / path), validate=True) for each in (store, older))
    assert len(found.images) == len(expected.images) > 1
    for one, other in zip(found.images, expected.images, strict=True):
        assert (one.scale, one.translation) == (other.scale, other.translation)
    np.testing.assert_array_equal(np.asarray(found.images[0].data), array(store, path))


@pytest.mark.parametrize("path", [*IMAGES, *LABELS])
def test_ome_zarr_py(store: Path, path: str) -> None:
    from ome_zarr.classes import OMEZarrLabels, OMEZarrMultiscale

    kind = OMEZarrLabels if path in LABELS else OMEZarrMultiscale
    found = kind.from_ome_zarr(str(store / path))
    assert [system.name for system in found.metadata.coordinateSystems] == ["intrinsic", "nifti:sform"]
    for level, image in enumerate(found.images):
        np.testing.assert_array_equal(np.asarray(image.data), array(store, path, level))


@pytest.mark.parametrize("path", ["pet", *LABELS])
def test_ome_zarr_models(store: Path, path: str) -> None:
    model: Any = ImageLabel if path in LABELS else Image
    assert model.from_zarr(zarr.open_group(store, path=path, mode="r")).ome_attributes.version == "0.6"


def test_ome_zarr_models_of_the_ct_by_itself(store: Path, tmp_path: Path) -> None:
    # Nested paths inside labels are looked up literally by ome-zarr-models 1.8, as in 0.5.
    shutil.copytree(store / "ct", tmp_path / "ct", ignore=shutil.ignore_patterns("labels"))
    group = zarr.open_group(tmp_path / "ct", mode="r", use_consolidated=False)
    assert Image.from_zarr(group).ome_attributes.version == "0.6"


@pytest.mark.parametrize("path", [*IMAGES, *LABELS])
def test_nifti_zarr(store: Path, corpus: Path, path: str) -> None:
    from niizarr import zarr2nii

    source = nib.load(corpus / "imaging-data" / FOLDERS[path] / f"{SUBJECT}.nii.gz")
    assert isinstance(source, nib.Nifti1Image)
    found = zarr2nii(str(store / path))
    # Raw numbers: nifti-zarr 1.0.0rc9 drops slope and inter on the way back.
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(source.dataobj.get_unscaled()))
    np.testing.assert_allclose(found.header.get_best_affine(), source.affine, atol=1e-4)  # type: ignore[attr-defined]
    coarse = zarr2nii(str(store / path), level=1).header.get_best_affine()  # type: ignore[attr-defined]
    said: Any = zarr.open_group(store, path=f"{path}/scale1", mode="r").attrs["voxshelf"]
    np.testing.assert_allclose(coarse, said["affine"], atol=1e-3)


@pytest.mark.parametrize("path", IMAGES)
def test_the_affine_is_that_of_nifti_zarr(store: Path, path: str) -> None:
    # Its own way from a header to 0.6, for a scan whose axes are not permuted.
    from niizarr._nii2zarr import _add_nifti_systems

    said: Any = zarr.open_group(store, path=path, mode="r").attrs["ome"]
    (ours,) = said["multiscales"][0]["coordinateTransformations"]
    header = nib.Nifti1Header(zarr.open_array(store, path=f"{path}/nifti", mode="r")[:].tobytes()[:348])  # type: ignore[union-attr]
    theirs = _add_nifti_systems(json.loads(json.dumps(said)), header)["multiscales"][0]["coordinateTransformations"]
    (theirs,) = [each for each in theirs if each["output"]["name"] == "nifti:sform"]
    # Theirs takes the world from an intrinsic frame that begins at voxel 0; ours begins where 0.5 has it.
    np.testing.assert_allclose(np.array(ours["affine"])[:, :3], np.array(theirs["affine"])[:, :3], atol=1e-6)
    first = said["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["transformations"][1]["translation"]
    np.testing.assert_allclose(np.array(ours["affine"]) @ [*first, 1], np.array(theirs["affine"])[:, 3], atol=1e-3)


def test_xarray_opens_the_same(store: Path, older: Path) -> None:
    found, expected = (xr.open_datatree(each, engine="zarr", zarr_format=3) for each in (store, older))
    assert found.groups == expected.groups
    for node in found.subtree:
        if "ome" not in node.attrs:
            xr.testing.assert_identical(node.to_dataset(), expected[node.path].to_dataset())
