"""Readers that are not ours accept the stores, from the folder and over HTTP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

SUBJECT = "0002"  # whose PET has a slope
FAMILIES = ["body_composition", "cardiac", "muscles", "organs", "peripheral_bones", "ribs", "vertebrae"]
IMAGES = ["ct", "pet"]
LABELS = [f"ct/labels/{family}" for family in FAMILIES]


@pytest.fixture(scope="module")
def store(mirror: Path) -> Path:
    return mirror / "subjects" / f"{SUBJECT}.ome.zarr"


@pytest.fixture(scope="module")
def url(served: str) -> str:
    return f"{served}/zarr/{SUBJECT}.ome.zarr"


@pytest.fixture(scope="module")
def ct(corpus: Path) -> Any:
    image = nib.load(corpus / f"imaging-data/images/CT/{SUBJECT}.nii.gz")
    return np.asarray(image.dataobj).transpose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["pet", *LABELS])
def test_ome_zarr_models(store: Path, path: str) -> None:
    model: Any = ImageLabel if path in LABELS else Image
    assert model.from_zarr(zarr.open_group(store, path=path, mode="r")).ome_attributes.version == "0.5"


def test_ome_zarr_models_of_the_ct_by_itself(store: Path, tmp_path: Path) -> None:
    # With its label maps inside, ome-zarr-models 1.8 looks their nested paths up literally and raises KeyError.
    shutil.copytree(store / "ct", tmp_path / "ct", ignore=shutil.ignore_patterns("labels"))
    group = zarr.open_group(tmp_path / "ct", mode="r", use_consolidated=False)
    assert Image.from_zarr(group).ome_attributes.version == "0.5"


@pytest.mark.parametrize("path", [*IMAGES, *LABELS])
def test_ngff_zarr(store: Path, path: str) -> None:
    import ngff_zarr

    found = ngff_zarr.from_ngff_zarr(str(store / path), validate=True)
    expected = zarr.open_group(store, path=path, mode="r").attrs["ome"]["multiscales"][0]
    assert len(found.images) == len(expected["datasets"])
    first = found.images[0]
    scale = dict(zip("zyx", expected["datasets"][0]["coordinateTransformations"][0]["scale"], strict=True))
    assert {dim: first.scale[dim] for dim in "zyx"} == pytest.approx(scale)
    array = zarr.open_array(store, path=f"{path}/scale0/{path.rpartition('/')[2]}", mode="r")
    np.testing.assert_array_equal(np.asarray(first.data), array[:])


@pytest.mark.parametrize("path", [*IMAGES, *LABELS])
def test_ome_zarr_py(store: Path, path: str) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Multiscales, Reader

    location = parse_url(str(store / path), mode="r")
    assert location is not None
    nodes = [node for node in Reader(location)() if any(isinstance(spec, Multiscales) for spec in node.specs)]
    assert nodes
    levels = zarr.open_group(store, path=path, mode="r").attrs["ome"]["multiscales"][0]["datasets"]
    assert len(nodes[0].data) == len(levels)


@pytest.mark.parametrize("path", [*IMAGES, *LABELS])
def test_nifti_zarr(store: Path, corpus: Path, path: str) -> None:
    from niizarr import zarr2nii

    folder = {"ct": "images/CT", "pet": "images/PT"}.get(path)
    if folder is None:
        names = {family: family.replace("_", "-").title() for family in FAMILIES}
        folder = f"ground-truth/{names[path.rpartition('/')[2]]}"
    source = nib.load(corpus / "imaging-data" / folder / f"{SUBJECT}.nii.gz")
    found = zarr2nii(str(store / path))
    # Raw numbers: nifti-zarr 1.0.0rc9 drops slope and inter on the way back, which is its fault and not the store's.
    raw = np.asarray(source.dataobj.get_unscaled())  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.asarray(found.dataobj), raw)
    np.testing.assert_allclose(found.header.get_best_affine(), source.affine, atol=1e-4)  # type: ignore[attr-defined]


def test_tensorstore_from_the_folder(store: Path, ct: Any) -> None:
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store}/ct/scale0/ct/"}}
    array = ts.open(spec, read=True).result()
    np.testing.assert_array_equal(array[10:30, 20:90, 5:99].read().result(), ct[10:30, 20:90, 5:99])


def test_tensorstore_over_http(url: str, ct: Any) -> None:
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{url}/ct/scale0/ct/"}}
    array = ts.open(spec, read=True).result()
    np.testing.assert_array_equal(array[10:30, 20:90, 5:99].read().result(), ct[10:30, 20:90, 5:99])


def test_zarr_over_fsspec(url: str, ct: Any) -> None:
    group = zarr.open_group(url, mode="r")
    np.testing.assert_array_equal(group["ct/scale0/ct"][40:50, :, 64], ct[40:50, :, 64])  # type: ignore[index]
    empty = group["ct/labels/body_composition/scale0/body_composition"][:4]  # type: ignore[index]
    assert not np.asarray(empty).any(), "a region without any stored chunk reads as background"


def test_zarr_over_obstore(url: str, ct: Any) -> None:
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    store = ObjectStore(HTTPStore.from_url(url, client_options={"allow_http": True}), read_only=True)
    group = zarr.open_group(store, mode="r", zarr_format=3)
    np.testing.assert_array_equal(group["ct/scale0/ct"][40:50, :, 64], ct[40:50, :, 64])  # type: ignore[index]


def test_every_document_is_strict_json_without_a_null_dimension_name(store: Path) -> None:
    documents = [json.loads(path.read_text()) for path in store.rglob("zarr.json")]
    arrays = [document for document in documents if document["node_type"] == "array"]
    assert arrays
    assert all(all(isinstance(name, str) for name in array["dimension_names"]) for array in arrays)
    groups = [path for path in store.rglob("zarr.json") if json.loads(path.read_text())["node_type"] == "group"]
    without = [path for path in groups if "consolidated_metadata" not in json.loads(path.read_text())]
    assert without == [store / "OME" / "zarr.json"], "every group but OME, which holds nothing, is consolidated"
