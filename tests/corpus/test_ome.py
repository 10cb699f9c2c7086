"""Attributes of groups and arrays: what OME viewers, plain xarray and our own export read."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs

from corpus import ome
from corpus.findings import warning
from corpus.geometry import Grid, Reorder
from corpus.labels import families, rgba_of
from corpus.licenses import LICENSES
from corpus.models import CorpusInfo, Region, Scaling, Statistics, StoredImage, SubjectInfo

ORIENTATIONS = ["LAS", "LPS", "RAS", "LPI", "SLA", "PIR", "ASL"]
ORGANS = families()["organs"]
WORDS = {
    "R": "left-to-right",
    "L": "right-to-left",
    "A": "posterior-to-anterior",
    "P": "anterior-to-posterior",
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
}


def multiscale(image: StoredImage) -> dict[str, Any]:
    family = families().get(image.role)
    (only,) = ome.image_attributes(image, family, ())["ome"]["multiscales"]
    return dict(only)


def transforms(dataset: dict[str, Any]) -> tuple[list[float], list[float]]:
    scale, translation = dataset["coordinateTransformations"]
    assert (scale["type"], translation["type"]) == ("scale", "translation")
    return scale["scale"], translation["translation"]


def window(image: StoredImage) -> dict[str, float]:
    (channel,) = ome.image_attributes(image, None, ())["ome"]["omero"]["channels"]
    return dict(channel["window"])


class TestMultiscale:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_axes_say_where_they_run(
        self, make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], orientation: str
    ) -> None:
        grid = make_grid(orientation)
        axes = multiscale(make_image("ct", grid))["axes"]
        assert [axis["name"] for axis in axes] == list(grid.dims)
        assert {(axis["type"], axis["unit"]) for axis in axes} == {("space", "millimeter")}
        expected = [{"type": "anatomical", "value": WORDS[letter]} for letter in reversed(orientation)]
        assert [axis["orientation"] for axis in axes] == expected

    @pytest.mark.parametrize(
        ("orientation", "translation"),
        [
            ("RAS", [30.0, -20.0, 10.0]),
            ("LAS", [30.0, -20.0, -10.0]),
            ("LPS", [30.0, 20.0, -10.0]),
            ("LPI", [-30.0, 20.0, -10.0]),
            ("SLA", [-20.0, -10.0, 30.0]),
        ],
    )
    def test_flips_go_into_the_sign_of_the_translation(
        self,
        make_grid: Callable[..., Grid],
        make_image: Callable[..., StoredImage],
        orientation: str,
        translation: list[float],
    ) -> None:
        image = make_image("ct", make_grid(orientation, (12, 20, 24), (0.75, 1.5, 3.0), (10.0, -20.0, 30.0)))
        assert transforms(multiscale(image)["datasets"][0]) == ([3.0, 1.5, 0.75], translation)

    @pytest.mark.parametrize("orientation", ["LAS", "LPS", "SLA"])
    def test_each_level_follows_the_rule_of_the_layout(
        self, make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], orientation: str
    ) -> None:
        grid = make_grid(orientation, (300, 300, 300), (0.75, 1.0, 3.0))
        image = make_image("ct", grid)
        content = multiscale(image)
        assert len(content["datasets"]) == len(image.levels) > 2
        for number, (dataset, level) in enumerate(zip(content["datasets"], image.levels, strict=True)):
            assert dataset["path"] == f"scale{number}/ct"
            scale, translation = transforms(dataset)
            for axis, f in enumerate(level.factors_zyx):
                spacing = grid.spacing_mm_zyx[axis]
                world = grid.world_axes[axis]
                step = grid.affine[world][2 - axis]
                assert scale[axis] == pytest.approx(spacing * f)
                expected = math.copysign(1, step) * grid.affine[world][3] + spacing * (f - 1) / 2
                assert translation[axis] == pytest.approx(expected)
        assert content["metadata"]["factors"] == [list(level.factors_zyx) for level in image.levels]

    @given(st.sampled_from(ORIENTATIONS), st.data())
    def test_a_voxel_has_one_place_in_all_levels_and_images_of_equal_orientation(
        self,
        make_grid: Callable[..., Grid],
        make_image: Callable[..., StoredImage],
        orientation: str,
        data: st.DataObject,
    ) -> None:
        """Viewers see sign * RAS position, whatever the spacing and extent of the image."""
        spacing = [data.draw(st.floats(0.3, 6.0)) for _ in range(3)]
        origin = [data.draw(st.floats(-500, 500)) for _ in range(3)]
        image = make_image("pet", make_grid(orientation, (150, 80, 200), spacing, origin))
        grid = image.grid
        for dataset, level in zip(multiscale(image)["datasets"], image.levels, strict=True):
            scale, translation = transforms(dataset)
            assert min(scale) > 0
            index = np.array([data.draw(st.integers(0, n - 1)) for n in level.grid.shape_zyx])
            seen = np.array(scale) * index + translation
            world = level.grid.to_world_mm(index)
            np.testing.assert_allclose(seen, np.array(grid.signs) * world[list(grid.world_axes)], atol=1e-8)

    @pytest.mark.parametrize(("role", "method"), [("ct", "mean"), ("pet", "mean"), ("organs", "mode")])
    def test_says_how_levels_were_made(self, make_image: Callable[..., StoredImage], role: str, method: str) -> None:
        content = multiscale(make_image(role))
        assert (content["name"], content["type"]) == (role, method)
        assert method in content["metadata"]["method"]
        assert content["datasets"][0]["path"] == f"scale0/{role}"

    def test_a_map_kept_apart_has_the_name_of_its_arrays(self, make_image: Callable[..., StoredImage]) -> None:
        content = multiscale(make_image("organs", path="labels_organs"))
        assert content["name"] == "organs"
        assert content["datasets"][0]["path"] == "scale0/organs"


class TestOutsideModels:
    @pytest.mark.parametrize("orientation", ["LAS", "LPS"])
    @pytest.mark.parametrize("role", ["ct", "pet"])
    def test_an_image_is_valid_ome_zarr(
        self, make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage], role: str, orientation: str
    ) -> None:
        attributes = ome.image_attributes(make_image(role, make_grid(orientation, (150, 200, 90))), None, ())
        parsed = ImageAttrs.model_validate(attributes["ome"])
        assert [axis.name for axis in parsed.multiscales[0].axes] == ["z", "y", "x"]

    def test_a_label_image_is_valid_ome_zarr(
        self, make_image: Callable[..., StoredImage], make_region: Callable[..., Region]
    ) -> None:
        image = make_image("organs", regions=(make_region(7, "liver"), make_region(99, "unexpected_99")))
        parsed = ImageLabelAttrs.model_validate(ome.image_attributes(image, ORGANS, ())["ome"])
        assert parsed.image_label is not None


class TestWindow:
    def test_of_a_ct_is_the_soft_tissue_one(self, make_image: Callable[..., StoredImage]) -> None:
        assert window(make_image("ct")) == {"min": -1000, "max": 2000, "start": -160, "end": 240}

    def test_is_in_stored_numbers(self, make_image: Callable[..., StoredImage]) -> None:
        shifted = make_image("ct", scaling=Scaling(1.0, -1024.0))
        assert window(shifted) == {"min": 24, "max": 3024, "start": 864, "end": 1264}

    def test_of_a_scaled_pet_ends_at_the_percentile(self, make_image: Callable[..., StoredImage]) -> None:
        statistics = Statistics(0.0, 5000.0, 300.0, 0, 1250.0)
        scaled = make_image("pet", statistics=statistics, scaling=Scaling(0.5, 10.0))
        assert window(scaled) == {"min": -20, "max": 9980, "start": -20, "end": 2480}

    @pytest.mark.parametrize("role", ["ct", "pet"])
    @pytest.mark.parametrize(
        "statistics",
        [
            None,
            Statistics(None, None, None, 60, None),
            Statistics(0.0, 0.0, 0.0, 0, 0.0),
            Statistics(-1000.0, 2000.0, 0.0, 0, 900.0),
        ],
        ids=["none", "no finite voxel", "all zero", "usual"],
    )
    @pytest.mark.parametrize("scaling", [Scaling(), Scaling(2.0, -1024.0), Scaling(-1.0, 0.0)], ids=str)
    def test_runs_upwards_whatever_the_voxels(
        self, make_image: Callable[..., StoredImage], role: str, statistics: Statistics | None, scaling: Scaling
    ) -> None:
        limits = window(make_image(role, statistics=statistics, scaling=scaling))
        assert all(math.isfinite(value) for value in limits.values())
        assert limits["start"] < limits["end"]
        assert limits["min"] <= limits["max"]

    @pytest.mark.parametrize("role", ["ct", "pet"])
    def test_channel_has_a_label_and_a_colour(self, make_image: Callable[..., StoredImage], role: str) -> None:
        (channel,) = ome.image_attributes(make_image(role), None, ())["ome"]["omero"]["channels"]
        assert channel["label"] == role.upper()
        assert len(bytes.fromhex(channel["color"])) == 3


class TestImageLabel:
    def test_has_a_colour_and_a_name_for_every_region(
        self, make_image: Callable[..., StoredImage], make_region: Callable[..., Region]
    ) -> None:
        content = ome.image_attributes(make_image("organs", regions=(make_region(1),)), ORGANS, ())["ome"]
        label = content["image-label"]
        assert "omero" not in content
        assert [color["label-value"] for color in label["colors"]] == list(range(1, 20))
        assert [tuple(color["rgba"]) for color in label["colors"]] == [rgba_of(entry.value) for entry in ORGANS.labels]
        names = {entry["label-value"]: (entry["name"], entry["snomed_ct"]) for entry in label["properties"]}
        assert names == {entry.value: (entry.name, entry.snomed_ct) for entry in ORGANS.labels}

    def test_counts_voxels_of_those_present_and_keeps_unexpected_ones(
        self, make_image: Callable[..., StoredImage], make_region: Callable[..., Region]
    ) -> None:
        regions = (make_region(7, voxels=700), make_region(99, "unexpected_99", voxels=9))
        label = ome.image_attributes(make_image("organs", regions=regions), ORGANS, ())["ome"]["image-label"]
        voxels = {entry["label-value"]: entry["voxels"] for entry in label["properties"]}
        assert voxels == {**dict.fromkeys(range(1, 20), 0), 7: 700, 99: 9}
        assert label["properties"][-1]["name"] == "unexpected_99"

    def test_points_to_its_ct_only_from_below_it(self, make_image: Callable[..., StoredImage]) -> None:
        below = ome.image_attributes(make_image("organs"), ORGANS, ())["ome"]["image-label"]
        apart = ome.image_attributes(make_image("organs", path="labels_organs"), ORGANS, ())["ome"]["image-label"]
        assert below["source"] == {"image": "../../"}
        assert "source" not in apart


class TestVoxshelf:
    def test_says_what_the_volume_is(
        self, make_grid: Callable[..., Grid], make_image: Callable[..., StoredImage]
    ) -> None:
        grid = make_grid("LPS")
        findings = (warning("warning.non-finite", "0001/ct"), warning("warning.affine-conflict", "0001/ct"))
        content = ome.image_attributes(make_image("ct", grid), None, findings)["voxshelf"]
        assert np.array_equal(content["affine"], grid.affine)
        assert (content["affine_source"], content["orientation"], content["aligned"]) == ("sform", "LPS", True)
        assert (content["units"], content["units_from"], content["lossless"]) == ("HU", "the modality", True)
        assert content["source"] == {
            "name": "images/ct/0001.nii.gz",
            "size": 1234,
            "sha256": "a" * 64,
            "voxels_sha256": "b" * 64,
            "dtype": "<i2",
        }
        assert content["array_sha256"] == "c" * 64
        assert content["codec"] == {"shuffle": "shuffle", "clevel": 1}
        assert content["warnings"] == ["warning.non-finite", "warning.affine-conflict"]
        assert "source_header" not in content

    def test_a_changed_header_is_kept_with_what_was_changed(self, make_image: Callable[..., StoredImage]) -> None:
        header = bytes(range(256)) * 2
        image = make_image("organs", source_header=header, reorder=Reorder((2, 0, 1), (True, False, True)))
        kept = ome.image_attributes(image, ORGANS, ())["voxshelf"]["source_header"]
        assert base64.b64decode(kept["base64"], validate=True) == header
        assert kept["axes"] == [2, 0, 1]
        assert kept["flips"] == [True, False, True]

    def test_a_level_has_its_own_affine(self, make_image: Callable[..., StoredImage]) -> None:
        level = make_image("ct").levels[1]
        content = ome.level_attributes(level)["voxshelf"]
        assert np.array_equal(content["affine"], level.grid.affine)
        assert content["factors"] == list(level.factors_zyx)


class TestArray:
    def test_plain_values_have_no_scaling(self, make_image: Callable[..., StoredImage]) -> None:
        assert ome.array_attributes(make_image("ct"), None) == {"long_name": "CT", "units": "HU"}

    @pytest.mark.parametrize("scaling", [Scaling(0.25, 0.0), Scaling(1.0, -1024.0), Scaling(2.0, 3.0)], ids=str)
    def test_scaled_ones_decode_to_physical_values(
        self, make_image: Callable[..., StoredImage], scaling: Scaling
    ) -> None:
        attributes = ome.array_attributes(make_image("pet", scaling=scaling), None)
        assert (attributes["scale_factor"], attributes["add_offset"]) == (scaling.slope, scaling.inter)
        assert attributes["units"] == "Bq/ml"

    @pytest.mark.parametrize("role", families())
    def test_flags_of_a_map_pair_up(self, make_image: Callable[..., StoredImage], role: str) -> None:
        family = families()[role]
        attributes = ome.array_attributes(make_image(role), family)
        pairs = dict(zip(attributes["flag_values"], attributes["flag_meanings"].split(" "), strict=True))
        assert pairs == {label.value: label.name for label in family.labels}
        assert "units" not in attributes


class TestCoordinate:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_says_its_axis_and_direction(self, make_grid: Callable[..., Grid], orientation: str) -> None:
        for axis, letter in enumerate(reversed(orientation)):
            attributes = ome.coordinate_attributes(make_grid(orientation), axis)
            assert attributes["direction"] == WORDS[letter]
            assert attributes["axis"] == {"R": "X", "L": "X", "A": "Y", "P": "Y", "S": "Z", "I": "Z"}[letter]
            assert attributes["units"] == "mm"
            assert attributes["space"] == "RAS+ mm"

    def test_of_an_oblique_grid_never_pretends_ras(self, make_grid: Callable[..., Grid]) -> None:
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
        straight = make_grid("LAS")
        oblique = Grid.of(straight.shape_zyx, turn @ np.array(straight.affine))
        for axis, dim in enumerate(oblique.dims):
            attributes = ome.coordinate_attributes(oblique, axis)
            assert attributes["space"] == "voxel-mm"
            assert attributes["units"] == "mm"
            assert dim in attributes["long_name"]
            assert not {"axis", "direction"} & set(attributes)
            assert "RAS" not in attributes["long_name"]


class TestRoot:
    def test_has_licence_and_demographics(self, corpus_info: CorpusInfo) -> None:
        info = SubjectInfo(
            subject="0007",
            source_institution="AutoPET Challenge",
            license="CC-BY-NC-4.0",
            attribution="Name them.",
            age_years=61.5,
        )
        content = ome.root_attributes(info, corpus_info)
        assert content["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
        voxshelf = content["voxshelf"]
        assert voxshelf["license"] == {
            "id": "CC-BY-NC-4.0",
            "name": LICENSES["CC-BY-NC-4.0"].name,
            "url": "https://creativecommons.org/licenses/by-nc/4.0/",
            "attribution": "Name them.",
        }
        assert (voxshelf["subject"], voxshelf["age_years"]) == ("0007", 61.5)
        assert (voxshelf["corpus"], voxshelf["release"]) == ("ENHANCE.PET 1.6k", "2026")
        assert [voxshelf[name] for name in ("sex", "weight_kg", "height_m", "scanner", "indication")] == [None] * 5

    @pytest.mark.parametrize("spdx", ["unknown", "", "cc-by-4.0", "CC-BY-SA-4.0"])
    def test_a_licence_that_is_not_in_the_table_is_unknown(self, corpus_info: CorpusInfo, spdx: str) -> None:
        content = ome.root_attributes(SubjectInfo(subject="0007", license=spdx), corpus_info)
        assert content["voxshelf"]["license"]["id"] == "unknown"
        assert content["voxshelf"]["license"]["url"] == ""

    def test_lists_what_it_holds(self) -> None:
        assert ome.series_attributes(["ct", "pet"]) == {"ome": {"version": "0.5", "series": ["ct", "pet"]}}
        assert ome.labels_attributes(["organs"]) == {"ome": {"version": "0.5", "labels": ["organs"]}}


@pytest.mark.parametrize("role", ["ct", "pet", "organs"])
def test_attributes_are_strict_json(
    make_image: Callable[..., StoredImage], make_region: Callable[..., Region], role: str
) -> None:
    """No NumPy number and no NaN: zarr 3.4 refuses both, and other languages cannot read the latter."""
    family = families().get(role)
    image = make_image(role, regions=(make_region(),) if family else ())
    documents = [
        ome.image_attributes(image, family, ()),
        ome.array_attributes(image, family),
        *[ome.level_attributes(level) for level in image.levels],
        *[ome.coordinate_attributes(image.grid, axis) for axis in range(3)],
    ]
    for document in documents:
        assert json.loads(json.dumps(document, allow_nan=False)) == document
