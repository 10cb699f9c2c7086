"""The 0.6 form of the metadata, carried out by ome-zarr-models and compared with nibabel's world positions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.eulerangles import euler2mat
from ome_zarr_models.v06.image import ImageAttrs
from ome_zarr_models.v06.image_label import ImageLabelAttrs
from ome_zarr_models.v06.multiscales import Multiscale

from corpus import ome
from corpus.geometry import Grid
from corpus.labels import families
from corpus.models import StoredImage

ORIENTATIONS = ["LAS", "LPS", "RAS", "LPI", "SLA", "PIR", "ASL"]


def attributes(image: StoredImage) -> dict[str, Any]:
    return ome.image_attributes(image, families().get(image.role), ())["ome"]


@pytest.fixture(scope="module")
def make_image(make_image: Callable[..., StoredImage]) -> Callable[..., StoredImage]:
    """Images in 0.6 unless told otherwise."""
    return lambda role, grid=None, **fields: make_image(role, grid, **{"ome_version": "0.6", **fields})


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any permutation and flips, turned and sheared or not; large enough for several levels."""
    steps = np.zeros((3, 3))
    for column, world in enumerate(draw(st.permutations(range(3)))):
        steps[world, column] = draw(st.floats(0.5, 5.0)) * draw(st.sampled_from((-1, 1)))
    if draw(st.booleans()):
        shear = np.eye(3)
        shear[1, 2] = draw(st.floats(-0.3, 0.3))
        steps = euler2mat(*(draw(st.floats(-3, 3)) for _ in range(3))) @ shear @ steps
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, [draw(st.floats(-900, 900)) for _ in range(3)]
    return Grid.of([draw(st.integers(70, 150)) for _ in range(3)], affine)


@given(grids(), st.data())
def test_a_voxel_of_any_level_lies_where_nibabel_says(
    make_image: Callable[..., StoredImage], grid: Grid, data: st.DataObject
) -> None:
    image = make_image("ct", grid)
    (found,) = attributes(image)["multiscales"]
    model = Multiscale.model_validate(found)
    (to_world,) = model.coordinateTransformations or ()
    assert to_world.output is not None
    (world,) = [system for system in model.coordinateSystems if system.name == to_world.output.name]
    names = [axis.name for axis in world.axes]
    assert len(image.levels) > 1
    for dataset, level in zip(model.datasets, image.levels, strict=True):
        index_zyx = [data.draw(st.integers(0, n - 1)) for n in level.grid.shape_zyx]
        (to_intrinsic,) = dataset.coordinateTransformations
        position = dict(zip(names, to_world.transform_point(to_intrinsic.transform_point(index_zyx)), strict=True))
        # In voxels of level 0: a block's centre lies (f - 1) / 2 beyond its first voxel.
        fine = [f * i + (f - 1) / 2 for f, i in zip(level.factors_zyx, index_zyx, strict=True)]
        expected = apply_affine(np.array(grid.affine), fine[::-1])
        np.testing.assert_allclose([position[name] for name in "xyz"], expected, atol=1e-7)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_of_an_aligned_scan_the_affine_only_flips_and_names_axes(
    make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], orientation: str
) -> None:
    grid = make_grid(orientation, (60, 100, 130))
    (found,) = attributes(make_image("ct", grid))["multiscales"]
    (transform,) = found["coordinateTransformations"]
    expected = np.zeros((3, 4))
    for axis, sign in enumerate(grid.signs):
        expected["zyx".index(grid.dims[axis]), axis] = sign
    np.testing.assert_array_equal(transform["affine"], expected)
    # The same grid must give the same bytes.
    assert "-0.0" not in json.dumps(transform)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_world_is_named_once_and_the_same_for_all(
    make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], orientation: str
) -> None:
    (found,) = attributes(make_image("pet", make_grid(orientation)))["multiscales"]
    intrinsic, world = found["coordinateSystems"]
    assert (intrinsic["name"], world["name"]) == ("intrinsic", "nifti:sform")
    assert [axis["name"] for axis in intrinsic["axes"]] == list(make_grid(orientation).dims)
    directions = {axis["name"]: axis["orientation"]["value"] for axis in world["axes"]}
    assert list(directions) == ["z", "y", "x"]
    assert directions == {"x": "left-to-right", "y": "posterior-to-anterior", "z": "inferior-to-superior"}
    assert "qform" not in json.dumps(found)


@pytest.mark.parametrize("role", ["ct", "pet", "organs"])
def test_a_dataset_has_one_sequence_from_its_path_to_the_intrinsic_frame(
    make_image: Callable[..., StoredImage], role: str
) -> None:
    (newer,) = attributes(make_image(role))["multiscales"]
    (older,) = attributes(make_image(role, ome_version="0.5"))["multiscales"]
    assert "axes" not in newer
    assert {key: newer[key] for key in ("name", "type", "metadata")} == {
        key: older[key] for key in ("name", "type", "metadata")
    }
    for new, old in zip(newer["datasets"], older["datasets"], strict=True):
        (sequence,) = new["coordinateTransformations"]
        assert new["path"] == old["path"] == sequence["input"]["path"]
        assert (sequence["type"], sequence["output"]) == ("sequence", {"name": "intrinsic"})
        assert sequence["transformations"] == old["coordinateTransformations"]


def test_the_version_stands_where_each_form_wants_it(make_image: Callable[..., StoredImage]) -> None:
    newer, older = (attributes(make_image("organs", ome_version=version)) for version in ("0.6", "0.5"))
    assert (newer["version"], older["version"]) == ("0.6", "0.5")
    assert "version" not in newer["image-label"]
    assert older["image-label"]["version"] == "0.5"
    assert {**newer["image-label"], "version": "0.5"} == older["image-label"]


@pytest.mark.parametrize("role", ["ct", "pet", "organs"])
@pytest.mark.parametrize("orientation", ["LAS", "SLA"])
def test_schema_and_models_accept_it(
    make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], role: str, orientation: str
) -> None:
    from ngff_zarr.validate import validate

    found = ome.image_attributes(make_image(role, make_grid(orientation, (150, 200, 90))), families().get(role), ())
    models: dict[str, Any] = {"image": ImageAttrs, "label": ImageLabelAttrs}
    for model in ["image", "label"] if role == "organs" else ["image"]:
        validate(found, version="0.6", model=model, strict=True)
        models[model].model_validate(found["ome"])
