"""The documents of a subject's store, opened by zarr and xarray as readers open them."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr
from nibabel.affines import apply_affine
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from converter.documents import Objects, image_objects, subject_objects
from converter.plan import VolumePlan
from converter.write import write_volume
from corpus import layout
from corpus.codec import block_bytes
from corpus.findings import warning
from corpus.labels import families
from corpus.models import CorpusInfo, StoredImage, SubjectInfo
from corpus.outcomes import VolumeOutcome

if TYPE_CHECKING:
    from corpus.stores import Store

Plan = Callable[..., VolumePlan]
Build = Callable[..., bytes]

ROOT = layout.store_key("0001")
INFO = SubjectInfo(subject="0001", license="CC-BY-4.0", attribution="Corpus, images from here", sex="F", age_years=40.0)
CORPUS = CorpusInfo("Corpus", "2026", "cite this")
RANDOM = np.random.default_rng(11)
HU = RANDOM.integers(-1024, 3000, (20, 70, 66)).astype("<i2")
UPTAKE = RANDOM.integers(0, 3000, (9, 12, 10)).astype("<i2")
ORGANS = (HU > 1000).astype("u1") * 8
PET_AFFINE = np.array([[-4.0, 0, 0, 88], [0, 4, 0, -120], [0, 0, 3, -70], [0, 0, 0, 1]])


@pytest.fixture
def outcomes(plan: Plan, mirror: Store, nifti: Build) -> list[VolumeOutcome]:
    """A CT, a label map on it, one beside it, and a PET with a slope; their shards lie in the mirror."""
    volumes = {
        "ct": nifti(HU),
        "organs": nifti(ORGANS),
        "ribs": nifti(ORGANS[:10]),
        "pet": nifti(UPTAKE, PET_AFFINE, slope=0.5, inter=2.0),
    }
    return [write_volume(plan(role, volumes, pet_units="BQML"), mirror) for role in volumes]


@pytest.fixture
def images(outcomes: list[VolumeOutcome]) -> dict[str, StoredImage]:
    return {outcome.image.path: outcome.image for outcome in outcomes if outcome.image is not None}


@pytest.fixture
def objects(outcomes: list[VolumeOutcome], images: dict[str, StoredImage]) -> dict[str, Objects]:
    """The objects of each image, as the converter remakes them when it completes the subject."""
    return {
        path: image_objects(image, families().get(image.role), outcome.findings)
        for outcome, (path, image) in zip(outcomes, images.items(), strict=True)
    }


@pytest.fixture
def store(objects: dict[str, Objects], mirror: Store) -> str:
    """Path of the complete store."""
    for key, data in subject_objects(objects, INFO, CORPUS).items():
        mirror.put(f"{ROOT}/{key}", data)
    return f"{mirror.url}/{ROOT}"


def tree(path: str) -> xr.DataTree:
    return xr.open_datatree(path, engine="zarr", chunks=None)


def attributes(path: str, group: str = "") -> Any:
    return zarr.open_group(path, path=group, mode="r").attrs.asdict()


def test_what_is_remade_is_what_was_written(objects: dict[str, Objects], mirror: Store) -> None:
    # When a subject is completed, its images are described again from their records.
    for found in objects.values():
        for key, data in found.items():
            assert mirror.get(f"{ROOT}/{key}") == data


def test_documents_come_after_data_and_from_the_inside_out(objects: dict[str, Objects]) -> None:
    for path, found in objects.items():
        keys = list(found)
        assert all(key.startswith(f"{path}/") for key in keys)
        documents = [key for key in keys if key.endswith("zarr.json")]
        assert keys[-len(documents) :] == documents
        depths = [key.count("/") for key in documents]
        assert depths == sorted(depths, reverse=True)
        assert keys[-1] == f"{path}/zarr.json"


def test_no_shard_is_among_them(images: dict[str, StoredImage], objects: dict[str, Objects]) -> None:
    for path, image in images.items():
        for number in range(len(image.levels)):
            assert not [key for key in objects[path] if key.startswith(f"{layout.array_path(path, number)}/c/")]


def test_the_root_is_the_last_and_only_what_changed_is_there(objects: dict[str, Objects]) -> None:
    keys = list(subject_objects(objects, INFO, CORPUS))
    assert keys[-1] == "zarr.json"
    # Labels become members of the CT after it was written; nothing else is written twice.
    assert set(keys) == {"zarr.json", "OME/zarr.json", "ct/zarr.json", "ct/labels/zarr.json"}
    depths = [key.count("/") for key in keys]
    assert depths == sorted(depths, reverse=True)


def test_every_group_is_consolidated_and_compact(store: str, mirror: Store) -> None:
    for key in mirror.keys(ROOT):
        if not key.endswith("zarr.json"):
            continue
        text = mirror.get(key).decode()
        assert "\n" not in text
        document = json.loads(text)
        below = key.removesuffix("zarr.json")
        if document["node_type"] == "group" and not key.endswith("OME/zarr.json"):
            listed = set(document["consolidated_metadata"]["metadata"])
            lying = {k.removeprefix(below).removesuffix("/zarr.json") for k in mirror.keys(below.rstrip("/"))}
            lying = {k for k in lying if mirror.exists(f"{below}{k}/zarr.json")}
            assert listed == lying
            for name, held in document["consolidated_metadata"]["metadata"].items():
                alone = json.loads(mirror.get(f"{below}{name}/zarr.json"))
                assert held["attributes"] == alone["attributes"]
                assert held.get("shape") == alone.get("shape")


@pytest.mark.parametrize("only", [None, "ct/labels/organs"])
def test_zarr_itself_would_write_these_documents(objects: dict[str, Objects], only: str | None) -> None:
    images = {path: found for path, found in objects.items() if only in {None, path}}
    ours = {key: data for found in images.values() for key, data in found.items()}
    ours |= subject_objects(images, INFO, CORPUS)
    bare = {key: json.loads(data) for key, data in ours.items() if key.endswith("zarr.json")}
    for document in bare.values():
        document.pop("consolidated_metadata", None)
    held: dict[str, Buffer] = {key: cpu.Buffer.from_bytes(json.dumps(each).encode()) for key, each in bare.items()}
    groups = [key.removesuffix("zarr.json").rstrip("/") for key, each in bare.items() if each["node_type"] == "group"]
    with zarr.config.set({"json_indent": None}), warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        for path in sorted(groups, key=len, reverse=True):
            if path != "OME":
                zarr.consolidate_metadata(MemoryStore(held), path=path)
    assert {key: buffer.to_bytes() for key, buffer in held.items()} == {key: ours[key] for key in bare}


def test_the_same_images_give_the_same_bytes(objects: dict[str, Objects]) -> None:
    once, again = (list(subject_objects(objects, INFO, CORPUS).items()) for _ in range(2))
    assert once == again


def test_xarray_shows_values_dims_and_places(store: str, las: np.ndarray) -> None:
    opened = tree(store)
    ct = opened["ct/scale0"].to_dataset()
    assert ct["ct"].dims == ("z", "y", "x")
    np.testing.assert_array_equal(ct["ct"], HU)
    assert ct["ct"].attrs["units"] == "HU"
    index = np.array([7, 33, 12])  # x, y, z
    world = apply_affine(las, index)
    for dim, at, mm in zip("xyz", index, world, strict=True):
        assert ct[dim].values[at] == pytest.approx(mm)
        assert ct[dim].attrs["units"] == "mm"
        assert ct[dim].attrs["space"] == "RAS+ mm"
        assert ct[dim].attrs["axis"] == dim.upper()
    assert ct["x"].attrs["direction"] == "right-to-left"
    assert ct["z"].attrs["direction"] == "inferior-to-superior"


def test_xarray_decodes_the_slope(store: str) -> None:
    pet = tree(store)["pet/scale0"].to_dataset()
    np.testing.assert_allclose(pet["pet"], UPTAKE * 0.5 + 2.0)
    assert pet["pet"].attrs["units"] == "Bq/ml"
    assert "scale_factor" not in tree(store)["ct/scale0/ct"].attrs


def test_coordinates_of_a_level_are_the_centres_of_its_blocks(store: str, images: dict[str, StoredImage]) -> None:
    assert len(images["ct"].levels) > 1
    opened = tree(store)
    fine = opened["ct/scale0"].to_dataset()
    for number, level in enumerate(images["ct"].levels):
        coarse = opened[f"ct/scale{number}"].to_dataset()
        for dim, factor in zip("zyx", level.factors_zyx, strict=True):
            whole = fine[dim].values[: len(fine[dim]) // factor * factor].reshape(-1, factor).mean(axis=1)
            np.testing.assert_allclose(coarse[dim].values[: len(whole)], whole)


def test_labels_on_the_ct_have_no_coordinates_and_add_up_with_it(store: str) -> None:
    opened = tree(store)
    organs = opened["ct/labels/organs/scale0"].to_dataset(inherit=False)
    assert set(organs.variables) == {"organs"}
    np.testing.assert_array_equal(organs["organs"], ORGANS)
    liver = opened["ct/scale0/ct"].where(organs["organs"] == 8)
    assert float(liver.mean()) == pytest.approx(HU[ORGANS == 8].mean())
    apart = opened["labels_ribs/scale0"].to_dataset(inherit=False)
    assert {"ribs", "x", "y", "z"} <= set(apart.variables)


def test_labels_carry_their_table(store: str) -> None:
    said: Any = zarr.open_array(store, path="ct/labels/organs/scale0/organs", mode="r").attrs.asdict()
    names, values = said["flag_meanings"].split(), said["flag_values"]
    table = families()["organs"].by_value()
    assert dict(zip(values, names, strict=True)) == {v: label.name for v, label in table.items()}


def test_header_bytes_are_an_array_of_a_dimension_of_its_own(store: str, images: dict[str, StoredImage]) -> None:
    group = zarr.open_group(store, mode="r")
    names = set()
    for path, image in images.items():
        header = group[f"{path}/nifti"]
        assert isinstance(header, zarr.Array)
        assert np.asarray(header[:]).tobytes() == image.header
        assert header.dtype == np.uint8
        assert header.chunks == header.shape
        assert header.metadata.to_dict()["codecs"] == ({"name": "bytes"},)
        names.add(header.metadata.to_dict()["dimension_names"])
    assert names == {("ct_header_byte",), ("organs_header_byte",), ("ribs_header_byte",), ("pet_header_byte",)}


def test_arrays_say_how_they_are_stored(images: dict[str, StoredImage], objects: dict[str, Objects]) -> None:
    for path, image in images.items():
        for number, level in enumerate(image.levels):
            document = json.loads(objects[path][f"{layout.array_path(path, number)}/zarr.json"])
            assert document["shape"] == list(level.grid.shape_zyx)
            assert document["data_type"] == image.dtype
            assert document["chunk_grid"]["configuration"]["chunk_shape"] == list(level.shard_zyx)
            assert document["fill_value"] == 0
            assert document["dimension_names"] == ["z", "y", "x"]
            (sharding,) = document["codecs"]
            assert sharding["name"] == "sharding_indexed"
            inner = sharding["configuration"]
            assert inner["chunk_shape"] == list(level.chunk_zyx)
            assert inner["index_location"] == "end"
            assert [codec["name"] for codec in inner["codecs"]] == ["bytes", "blosc", "crc32c"]
            assert [codec["name"] for codec in inner["index_codecs"]] == ["bytes", "crc32c"]
            blosc = inner["codecs"][1]["configuration"]
            assert (blosc["cname"], blosc["shuffle"], blosc["clevel"]) == (
                "zstd",
                image.codec.shuffle,
                image.codec.clevel,
            )
            assert blosc["typesize"] == np.dtype(image.dtype).itemsize
            # What the metadata say of blocks is what the chunks are encoded with.
            assert blosc["blocksize"] == block_bytes(image.codec, math.prod(level.chunk_zyx) * blosc["typesize"])


def test_oblique_axes_are_never_called_ras(plan: Plan, mirror: Store, nifti: Build) -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[-2, 0, 0], [0, 2 * np.cos(0.3), -3 * np.sin(0.3)], [0, 2 * np.sin(0.3), 3 * np.cos(0.3)]]
    affine[:3, 3] = 90, -120, -70
    image = write_volume(plan("ct", {"ct": nifti(HU, affine)}), mirror).image
    assert image is not None
    for key, data in subject_objects({"ct": image_objects(image, None, ())}, INFO, CORPUS).items():
        mirror.put(f"{ROOT}/{key}", data)
    opened = tree(f"{mirror.url}/{ROOT}")["ct/scale0"].to_dataset()
    for dim, spacing in (("z", 3), ("y", 2), ("x", 2)):
        np.testing.assert_allclose(opened[dim], np.arange(len(opened[dim])) * spacing, rtol=1e-5)
        assert opened[dim].attrs["space"] == "voxel-mm"
        assert "axis" not in opened[dim].attrs
        assert "RAS" not in json.dumps(opened[dim].attrs)
    np.testing.assert_allclose(attributes(f"{mirror.url}/{ROOT}", "ct")["voxshelf"]["affine"], affine, atol=1e-5)


def test_labels_can_stand_without_their_ct(objects: dict[str, Objects], mirror: Store) -> None:
    # The CT's header was sound and its voxels were not.
    documents = subject_objects({"ct/labels/organs": objects["ct/labels/organs"]}, INFO, CORPUS)
    for key in mirror.keys(f"{ROOT}/ct"):
        if not key.startswith(f"{ROOT}/ct/labels/organs/"):
            mirror.delete(key)
    for key, data in documents.items():
        mirror.put(f"{ROOT}/{key}", data)
    path = f"{mirror.url}/{ROOT}"
    group = zarr.open_group(path, mode="r", use_consolidated=True)
    np.testing.assert_array_equal(group["ct/labels/organs/scale0/organs"], ORGANS)
    assert attributes(path, "ct/labels")["ome"]["labels"] == ["organs"]
    # An image that is not there is not announced.
    assert attributes(path, "OME")["ome"]["series"] == []


def test_series_lists_images_and_labels_list_label_maps(store: str) -> None:
    assert sorted(attributes(store, "OME")["ome"]["series"]) == ["ct", "labels_ribs", "pet"]
    assert attributes(store, "ct/labels")["ome"]["labels"] == ["organs"]
    assert attributes(store)["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}


def test_the_root_says_whose_it_is(store: str) -> None:
    said = attributes(store)["voxshelf"]
    assert (said["subject"], said["corpus"], said["release"]) == ("0001", "Corpus", "2026")
    assert said["license"]["id"] == "CC-BY-4.0"
    assert said["license"]["attribution"] == "Corpus, images from here"
    assert said["citation"] == "cite this"
    assert (said["sex"], said["age_years"], said["weight_kg"]) == ("F", 40.0, None)


def test_an_unheard_of_licence_is_unknown(objects: dict[str, Objects]) -> None:
    info = SubjectInfo(subject="0001", license="CC0-1.0-or-so")
    root = json.loads(subject_objects({"ct": objects["ct"]}, info, CORPUS)["zarr.json"])
    assert root["attributes"]["voxshelf"]["license"]["id"] == "unknown"


def test_warnings_stand_in_the_image(images: dict[str, StoredImage]) -> None:
    findings = (warning("warning.oblique", "0001/ct"), warning("warning.non-finite", "0001/ct"))
    said = json.loads(image_objects(images["ct"], None, findings)["ct/zarr.json"])["attributes"]["voxshelf"]["warnings"]
    assert said == ["warning.oblique", "warning.non-finite"]


def test_labels_without_regions_are_listed_with_no_voxels(objects: dict[str, Objects]) -> None:
    said = json.loads(objects["ct/labels/organs"]["ct/labels/organs/zarr.json"])["attributes"]["ome"]
    voxels = {entry["label-value"]: entry["voxels"] for entry in said["image-label"]["properties"]}
    assert voxels == {
        value: (int((ORGANS == 8).sum()) if value == 8 else 0) for value in families()["organs"].by_value()
    }
