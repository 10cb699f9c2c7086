"""Names and keys, as the layout spells them. A mirror is not rewritten, so these never change."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import layout
from corpus.contents import ENHANCE_PET

FAMILIES = ("body_composition", "cardiac", "muscles", "organs", "peripheral_bones", "ribs", "vertebrae")


class TestSubjectId:
    @pytest.mark.parametrize("text", ["0001", "1683", "a", "sub-01_b", "7", "a" * 64])
    def test_of_letters_digits_and_dashes(self, text: str) -> None:
        assert layout.is_subject_id(text)

    @pytest.mark.parametrize(
        "text",
        ["", ".", "..", "-1", "_1", "a/b", "a\\b", "a.b", "a b", "a\n", "\u0663", "\u00e4", "a%2f", "a" * 65],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        assert not layout.is_subject_id(text)

    @given(st.text(max_size=5))
    def test_is_safe_in_a_key_and_a_url(self, text: str) -> None:
        if layout.is_subject_id(text):
            assert text.isascii()
            assert text.replace("-", "").replace("_", "").isalnum()
            assert text[0] not in "-_"


class TestMirror:
    def test_keys_are_those_of_the_layout(self) -> None:
        assert layout.LAYOUT_VERSION == 1
        assert (layout.MIRROR_JSON, layout.LABELS_JSON, layout.CROISSANT_JSON) == (
            "mirror.json",
            "labels.json",
            "croissant.json",
        )
        assert [layout.table_key(table) for table in layout.TABLES] == [
            "catalog.parquet",
            "volumes.parquet",
            "regions.parquet",
        ]
        assert layout.store_key("0001") == "subjects/0001.ome.zarr"

    def test_records_are_private_and_never_the_same(self) -> None:
        keys = [layout.outcome_key(subject, role) for subject in ("0001", "0002") for role in ENHANCE_PET.roles]
        keys += [layout.subject_outcome_key(subject) for subject in ("0001", "0002")]
        assert len(set(keys)) == len(keys)
        assert all(key.startswith(".voxshelf/") for key in keys)


class TestRoles:
    def test_images_come_first_then_families(self) -> None:
        assert ENHANCE_PET.roles == ("ct", "pet", *FAMILIES)

    def test_all_but_images_are_labels(self) -> None:
        assert [role for role in ENHANCE_PET.roles if ENHANCE_PET.is_label(role)] == list(FAMILIES)

    def test_names_in_the_tables(self) -> None:
        names = ["ct", "pet", *[f"labels/{family}" for family in FAMILIES]]
        assert [ENHANCE_PET.volume_name(role) for role in ENHANCE_PET.roles] == names


class TestPaths:
    @pytest.mark.parametrize(
        ("role", "apart", "image", "array"),
        [
            ("ct", False, "ct", "ct/scale1/ct"),
            ("pet", False, "pet", "pet/scale1/pet"),
            ("organs", False, "ct/labels/organs", "ct/labels/organs/scale1/organs"),
            ("organs", True, "labels_organs", "labels_organs/scale1/organs"),
            ("peripheral_bones", True, "labels_peripheral_bones", "labels_peripheral_bones/scale1/peripheral_bones"),
        ],
    )
    def test_in_a_subjects_store(self, role: str, apart: bool, image: str, array: str) -> None:
        assert ENHANCE_PET.image_path(role, apart=apart) == image
        assert layout.array_path(image, 1) == array
        assert array == f"{layout.level_path(image, 1)}/{layout.array_name(image)}"

    @pytest.mark.parametrize("role", ["ct", "pet"])
    def test_an_image_is_never_put_apart(self, role: str) -> None:
        assert ENHANCE_PET.image_path(role, apart=True) == role

    def test_no_group_lies_in_a_place_of_another(self) -> None:
        images = {ENHANCE_PET.image_path(role, apart=apart) for role in ENHANCE_PET.roles for apart in (False, True)}
        assert len(images) == 2 + 2 * len(FAMILIES)
        levels = {layout.level_path(image, level) for image in images for level in range(5)}
        assert len(levels) == 5 * len(images)
        assert not levels & images

    def test_arrays_of_one_store_have_names_of_their_own(self) -> None:
        """xarray merges the levels that are asked for, so two maps must not share a name."""
        names = [layout.array_name(ENHANCE_PET.image_path(role)) for role in ENHANCE_PET.roles]
        assert all(one != other for one, other in itertools.combinations(names, 2))
