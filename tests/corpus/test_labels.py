"""The label tables: what readers rely on, and facts of the corpus that a typing error would break."""

from __future__ import annotations

import itertools
import json
from importlib import resources

import pytest

from corpus.labels import Family, families, label_document, rgba_of

FAMILIES = list(families().values())


def dihedral(a: int, b: int) -> int:
    """Product in the symmetry group of the pentagon, in which Verhoeff's check digits are counted."""
    if a < 5:
        return (a + b) % 5 if b < 5 else (a + b - 5) % 5 + 5
    return (a - 5 - b) % 5 + 5 if b < 5 else (a - b) % 5


def has_valid_check_digit(concept_id: str) -> bool:
    step = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for position, digit in enumerate(reversed(concept_id)):
        value = int(digit)
        for _ in range(position % 8):
            value = step[value]
        check = dihedral(check, value)
    return check == 0


def test_there_are_seven_families_in_the_layouts_spelling() -> None:
    assert list(families()) == [
        "body_composition",
        "cardiac",
        "muscles",
        "organs",
        "peripheral_bones",
        "ribs",
        "vertebrae",
    ]


def test_regions_are_as_many_as_the_document_says() -> None:
    counts = label_document()["counts"]
    values = [label.value for family in FAMILIES for label in family.labels]
    assert len(FAMILIES) == counts["families"] == 7
    assert len(values) == counts["values_in_models"] == 131
    assert max(values) == counts["largest_value"] == 31


def test_the_document_is_the_packaged_file() -> None:
    packaged = resources.files("corpus").joinpath("data/enhance-pet-labels.json").read_text(encoding="utf-8")
    assert label_document() == json.loads(packaged)


@pytest.mark.parametrize(
    ("family", "value", "name"),
    [
        ("organs", 4, "brain"),
        ("organs", 19, "trachea"),
        ("peripheral_bones", 23, "skull"),
        ("ribs", 27, "sternum"),
        ("vertebrae", 22, "vertebra_L3"),
        ("vertebrae", 28, "sacrum"),
    ],
)
def test_regions_that_the_data_cards_disagree_on_are_known(family: str, value: int, name: str) -> None:
    assert families()[family].by_value()[value].name == name
    assert families()[family].by_name()[name].value == value


def test_names_are_unique_over_all_families() -> None:
    """A region is asked for by name alone."""
    names = [label.name for family in FAMILIES for label in family.labels]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
class TestFamily:
    def test_values_start_at_one_without_gap(self, family: Family) -> None:
        assert [label.value for label in family.labels] == list(range(1, len(family.labels) + 1))

    def test_look_ups_lead_to_each_region(self, family: Family) -> None:
        assert family.by_value() == {label.value: label for label in family.labels}
        assert list(family.by_name().values()) == list(family.labels)
        assert all(name == label.name for name, label in family.by_name().items())

    def test_names_are_single_words_and_displays_are_not_empty(self, family: Family) -> None:
        """Blanks separate the names in the attribute ``flag_meanings``."""
        assert all(label.name.isidentifier() and label.name.isascii() for label in family.labels)
        assert all(label.display.strip() == label.display != "" for label in family.labels)

    def test_the_folder_is_the_id_in_the_corpuss_spelling(self, family: Family) -> None:
        assert family.folder.casefold().replace("-", "_") == family.id

    def test_sides_agree_with_names_and_displays(self, family: Family) -> None:
        for label in family.labels:
            for side in ("left", "right"):
                assert (side in label.name.split("_")) is (label.side == side), label
                assert (side in label.display.casefold().split()) is (label.side == side), label

    def test_every_region_of_a_side_has_a_twin(self, family: Family) -> None:
        names = family.by_name()
        # Only the right lung has a middle lobe.
        for label in family.labels:
            if label.side is not None and label.name != "lung_middle_lobe_right":
                other = {"left": "right", "right": "left"}[label.side]
                assert names[label.name.replace(label.side, other)].side == other

    def test_snomed_codes_have_valid_check_digits(self, family: Family) -> None:
        for label in family.labels:
            assert label.snomed_ct is not None
            assert label.snomed_ct.isdigit()
            assert has_valid_check_digit(label.snomed_ct), label

    def test_colours_are_opaque_and_neighbours_differ(self, family: Family) -> None:
        colours = [rgba_of(label.value) for label in family.labels]
        assert len(set(colours)) == len(colours)
        assert all(0 <= channel <= 255 for colour in colours for channel in colour)
        assert {colour[3] for colour in colours} == {255}
        for one, other in itertools.pairwise(colours):
            assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 100
