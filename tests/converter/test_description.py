"""Corpus descriptions: the built-in ones, and what is said of one that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from converter import description as described
from converter.description import BUILT_IN, ENHANCE_PET, Description, built_in, load, remember, remembered
from converter.names import Named, Names
from corpus import contents
from corpus.errors import LayoutError, SettingsError
from corpus.models import to_json
from corpus.stores import Store

MINE = """
name = "Mine"
release = "1"
citation = "Cite me."
[subject]
pattern = "p[0-9]+"
[[images]]
id = "ct"
kind = "ct"
files = ["{subject}/ct.nii.gz"]
[[labels]]
id = "seg"
on = "ct"
table = "seg"
files = ["{subject}/seg*.nii.gz"]
[tables.seg]
names = { 1 = "liver", 2 = "left kidney" }
[[sheets]]
files = ["sheet.csv"]
[sheets.columns]
subject = ["id"]
[license]
id = "CC-BY-4.0"
"""


def written(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


def test_the_built_in_contents_are_those_of_the_description() -> None:
    assert ENHANCE_PET.contents({}) == contents.ENHANCE_PET


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_description_survives_being_remembered(name: str, tmp_path: Path) -> None:
    store, one = Store(str(tmp_path)), load(name)
    remember(store, one)
    assert remembered(store) == one
    assert msgspec.json.decode(to_json(one), type=Description) == one
    assert bool(store.keys()) is (name != "enhance-pet")


def test_a_mirror_holds_one_kind_of_corpus(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    remember(store, built_in("bids"))
    renamed = msgspec.structs.replace(built_in("bids"), name="Other words", sheets=())
    remember(store, renamed)
    assert remembered(store) == renamed
    for name in ("enhance-pet", "totalsegmentator"):
        with pytest.raises(SettingsError) as caught:
            remember(store, built_in(name))
        assert caught.value.code == "settings.changed"
    store.put(described.DESCRIPTION_KEY, b"{}")
    with pytest.raises(LayoutError):
        remembered(store)


def test_a_published_mirror_without_a_description_is_of_enhance_pet(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("mirror.json", b"{}")
    with pytest.raises(SettingsError):
        remember(store, built_in("bids"))
    remember(store, ENHANCE_PET)


def test_one_of_your_own(tmp_path: Path) -> None:
    mine = load(written(tmp_path, MINE))
    seg = mine.contents({}).family("seg")
    assert seg is not None
    assert [(label.value, label.name, label.display) for label in seg.labels] == [
        (1, "liver", "liver"),
        (2, "left_kidney", "left kidney"),
    ]
    assert mine.license.by_institution is None


def test_a_table_beside_the_description(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("index\tname\n5\tspleen\n")
    text = re.sub(r"names = .*", 'file = "labels.tsv"', MINE)
    seg = load(written(tmp_path, text)).contents({}).family("seg")
    assert seg is not None
    assert [label.value for label in seg.labels] == [5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "Mine"', "", "required field `name`"),
        ('name = "Mine"', "name = 3", r"Expected `str`, got `int` - at `\$.name`"),
        ('release = "1"', 'relaese = "1"', "relaese"),
        ("[subject]", "[subject", "not TOML"),
        ('pattern = "p[0-9]+"', "", "either digits or pattern"),
        ('pattern = "p[0-9]+"', 'pattern = "p["', "regular expression"),
        ('pattern = "p[0-9]+"', 'pattern = "(p)"', "no group"),
        ('pattern = "p[0-9]+"', 'pattern = "(?i)p"', "regular expression"),
        ('pattern = "p[0-9]+"', "digits = 0", "1 to 9"),
        ('kind = "ct"', 'kind = "mri"', r"Invalid enum value 'mri' - at `\$.images\[0\].kind`"),
        ('id = "seg"', 'id = "ct"', "occurs twice"),
        ('id = "seg"', 'id = "labels"', "found 'labels'"),
        ('id = "seg"', 'id = "labels_a"', "found 'labels_a'"),
        ('id = "seg"', 'id = "Seg"', "found 'Seg'"),
        ('on = "ct"', 'on = "mr"', "seg.on"),
        ('table = "seg"', 'table = "other"', "seg.table"),
        ('files = ["{subject}/ct.nii.gz"]', "", "ct: expected one of files"),
        ('files = ["{subject}/ct.nii.gz"]', 'masks = ["x"]', "masks"),
        ('files = ["{subject}/ct.nii.gz"]', 'files = ["ct.nii.gz"]', r"expected \{subject\}, found none"),
        ('files = ["{subject}/seg*.nii.gz"]', 'masks = ["{subject}/m.nii.gz"]', r"expected \{structure\}, \{subject\}"),
        ('files = ["{subject}/seg*.nii.gz"]', 'files = ["{subject}/{seg}.nii.gz"]', r"found \{subject\}, \{seg\}"),
        ('names = { 1 = "liver", 2 = "left kidney" }', "", "tables.seg: expected one of"),
        ('names = { 1 = "liver", 2 = "left kidney" }', 'builtin = "lungs"', "tables.seg.builtin"),
        ('names = { 1 = "liver", 2 = "left kidney" }', 'file = "absent.tsv"', "absent.tsv"),
        ('{ 1 = "liver", 2 = "left kidney" }', '{ 1 = "a", 2 = "a" }', "names a occur twice"),
        ('{ 1 = "liver", 2 = "left kidney" }', '{ one = "a" }', "whole number"),
        ('subject = ["id"]', 'age_years = ["age"]', "sheets.columns.subject"),
        ('subject = ["id"]', 'subject = ["id"]\nshoe_size = ["eu"]', "found shoe_size"),
        ('files = ["sheet.csv"]', "", "either files or names"),
        ('id = "CC-BY-4.0"', 'id = "CC-BY"', "found 'CC-BY'"),
        ('id = "CC-BY-4.0"', 'id = "CC-BY-4.0"\nfile = "a.json"', "one of id, institutions and file"),
        ('id = "CC-BY-4.0"', 'institutions = "mine"', "found 'mine'"),
        ('id = "CC-BY-4.0"', 'institutions = [{ name = "A", license = "free" }]', "found 'free'"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert MINE.count(old) >= 1
    place = written(tmp_path, MINE.replace(old, new, 1))
    with pytest.raises(SettingsError, match=message) as caught:
        load(place)
    assert (caught.value.code, caught.value.place) == ("settings.corpus", place)


def test_masks_need_a_table_that_is_known_before(tmp_path: Path) -> None:
    text = MINE.replace('files = ["{subject}/seg*.nii.gz"]', 'masks = ["{subject}/{structure}.nii.gz"]')
    with pytest.raises(SettingsError, match=r"seg\.table"):
        load(written(tmp_path, re.sub(r"names = .*", 'source = "*.tsv"', text)))


def test_no_such_description(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="totalsegmentator"):
        load(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize(
    ("corpus", "path", "named"),
    [
        ("totalsegmentator", "s0001/ct.nii.gz", Named("ct", "s0001")),
        ("totalsegmentator", "data.zip/Totalsegmentator_dataset_v201/s0001/ct.nii", Named("ct", "s0001")),
        ("totalsegmentator", "s0001/segmentations/rib_left_1.nii.gz", Named("total", "s0001", "rib_left_1")),
        ("totalsegmentator", "s001/ct.nii.gz", None),
        ("totalsegmentator", "s0001/CT.nii.gz", None),
        ("totalsegmentator", "s0001/segmentations/deep/rib_left_1.nii.gz", None),
        ("bids", "sub-01/anat/sub-01_T1w.nii.gz", Named("t1w", "sub-01")),
        ("bids", "sub-01/anat/sub-02_T1w.nii.gz", None),
        ("bids", "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz", None),
        ("bids", "derivatives/x/sub-01/anat/sub-01_desc-aseg_dseg.nii.gz", Named("dseg", "sub-01")),
        ("bids", "derivatives/x/sub-01/anat/sub-01_dseg.nii.gz.tmp", None),
        ("bids", "sub-01/func/sub-01_bold.nii.gz", None),
        ("enhance-pet", "any/Peripheral-bones/0001.NII.GZ", Named("peripheral_bones", "0001")),
        ("enhance-pet", "any/Peripheral-bones/001.nii.gz", None),
    ],
)
def test_names(corpus: str, path: str, named: Named | None) -> None:
    assert Names(built_in(corpus)).volume(PurePosixPath(path)) == named


@pytest.mark.parametrize(
    ("corpus", "path", "is_sheet"),
    [
        ("enhance-pet", "deep/ct_DETAILS.XLSX", True),
        ("enhance-pet", "CT-details.csv", False),
        ("totalsegmentator", "Totalsegmentator_dataset_v201/meta.csv", True),
        ("bids", "participants.tsv", True),
        ("bids", "derivatives/x/participants.tsv", False),
    ],
)
def test_sheets(corpus: str, path: str, is_sheet: bool) -> None:
    assert (Names(built_in(corpus)).sheet(PurePosixPath(path)) is not None) is is_sheet


def _keys(kind: Any) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/corpora.md").read_text()
    rules = [Description, described.SubjectRule, described.ImageRule, described.LabelRule]
    rules += [described.TableRule, described.SheetRule, described.LicenseRule, described.Institution]
    keys = {key for rule in rules for key in _keys(rule)} | {*described.FIELDS, *BUILT_IN}
    assert sorted(key for key in keys if f"`{key}`" not in page and f"[{key}]" not in page) == []
