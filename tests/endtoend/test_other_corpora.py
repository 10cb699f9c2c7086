"""Corpora that are not ENHANCE.PET, from files to export: TotalSegmentator's folders of masks, and a BIDS tree."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from converter.convert import ConvertSettings, convert, read_infos
from converter.corpusfile import read_corpus
from converter.description import load
from converter.events import Report
from converter.export import Cut, export
from converter.inventory import take_inventory
from converter.reader import Mirror
from converter.verify import Verification, VerifySettings, verify
from corpus import layout
from corpus.errors import SettingsError, SourceError
from voxshelf.cli import cli

RAS = np.diag([1.5, 1.5, 3.0, 1.0])
SHAPE_XYZ = (24, 20, 18)
STRUCTURES = {"spleen": 1, "kidney_right": 2, "liver": 5, "costal_cartilages": 117}


def save(path: Path, voxels_xyz: np.ndarray, affine: np.ndarray = RAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels_xyz, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def run(source: Path, mirror: Path, corpus: str, **choices: Any) -> Report:
    description = load(corpus)
    about = read_corpus(str(source), description)
    settings = ConvertSettings(workers=0, corpus=about, description=description, **choices)
    return convert(str(source), str(mirror), settings, lambda _: None)


def compare(mirror: Path, source: Path) -> Verification:
    return verify(str(mirror), VerifySettings(source=str(source), deep=True), lambda _: None)


def codes(findings: tuple[Any, ...]) -> set[tuple[str, str]]:
    return {(finding.code, finding.place) for finding in findings}


def opened(mirror: Path, subject: str) -> xr.DataTree:
    return xr.open_datatree(mirror / layout.store_key(subject), engine="zarr", zarr_format=3, chunks=None)


def box(*corner: int) -> np.ndarray:
    mask = np.zeros(SHAPE_XYZ, np.uint8)
    mask[tuple(slice(start, start + 6) for start in corner)] = 1
    return mask


# TotalSegmentator


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    """The spleen and the right kidney overlap by 2 x 6 x 6 voxels."""
    corners = {"spleen": (2, 3, 4), "kidney_right": (6, 3, 4), "liver": (14, 10, 2), "costal_cartilages": (0, 14, 12)}
    return {name: box(*corner) for name, corner in corners.items()}


@pytest.fixture
def total(tmp_path: Path, masks: dict[str, np.ndarray]) -> Path:
    """Three subjects: one complete, one with fewer structures and one that is not in the table, one damaged."""
    folder = tmp_path / "Totalsegmentator_dataset_v201"
    for subject in ("s0000", "s0001", "s0002"):
        ct = np.random.default_rng(int(subject[1:])).integers(-1000, 1000, SHAPE_XYZ).astype(np.float64)
        save(folder / subject / "ct.nii.gz", ct)
        for name, mask in masks.items():
            if (subject, name) != ("s0001", "liver"):
                save(folder / subject / "segmentations" / f"{name}.nii.gz", mask)
    save(folder / "s0001" / "segmentations" / "antlers.nii.gz", box(1, 1, 1))
    damaged = folder / "s0002" / "segmentations" / "liver.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (folder / "meta.csv").write_text(
        "image_id;age;gender;institute;study_type\ns0000;61;m;A;ct abdomen\ns0001;;f;B;\ns0002;12.5;F;A;ct\n"
    )
    return folder


def expected(masks: dict[str, np.ndarray], *left_out: str) -> np.ndarray:
    whole = np.zeros(SHAPE_XYZ, np.uint8)
    for name, value in reversed(STRUCTURES.items()):
        if name not in left_out:
            whole[masks[name] == 1] = value
    return whole


def test_masks_become_one_label_map(total: Path, tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    mirror = tmp_path / "mirror"
    report = run(total, mirror, "totalsegmentator")
    # A damaged mask fails the map of its subject, and nothing else.
    liver = "s0002/segmentations/liver.nii.gz"
    assert codes(report.failures) == {("source.gzip-truncated", liver)}
    assert codes(report.warnings) == {
        ("warning.mask-overlap", "s0000/total"),
        ("warning.mask-overlap", "s0001/total"),
        ("warning.mask-unknown", "s0001/total"),
    }
    assert "72 voxels" in next(each.message for each in report.warnings if each.place == "s0000/total")
    for subject, left_out in (("s0000", ()), ("s0001", ("liver",))):
        tree = opened(mirror, subject)
        stored = tree["ct/labels/total/scale0/total"]
        np.testing.assert_array_equal(stored.values, expected(masks, *left_out).T)
        assert tree["ct/scale0/ct"].dtype == np.int16
    assert "ct/labels" not in opened(mirror, "s0002").groups
    assert compare(mirror, total).findings == ()

    catalog = Mirror(str(mirror)).catalog
    found = {row["name"]: (row["value"], row["voxels"]) for row in catalog.regions["s0000"]}
    assert found == {"spleen": (1, 216), "kidney_right": (2, 144), "liver": (5, 216), "costal_cartilages": (117, 216)}
    row = catalog.subject("s0000")
    assert (row["license"], row["sex"], row["age_years"], row["gaps"]) == ("CC-BY-4.0", "M", 61.0, [])
    assert (row["has_ct"], row["has_pet"], row["families_present"]) == (True, False, ["total"])
    assert json.loads(row["details"]) == {"study_type": "ct abdomen"}
    assert (catalog.subject("s0001")["age_years"], catalog.subject("s0001")["sex"]) == (None, "F")
    assert catalog.subject("s0002")["gaps"] == ["labels/total"]
    assert catalog.volume("s0000", "total")["lossless"] is False
    tables = json.loads((mirror / "labels.json").read_text())["families"]
    assert [(family["id"], len(family["labels"])) for family in tables] == [("total", 117)]


def test_every_mask_is_recorded_and_compared(total: Path, tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    mirror = tmp_path / "mirror"
    run(total, mirror, "totalsegmentator", subjects=frozenset({"s0000"}))
    source = opened(mirror, "s0000")["ct/labels/total"].attrs["voxshelf"]["source"]
    assert source["name"] == "s0000/segmentations/"
    assert source["overlap_voxels"] == 72
    files = [(mask["value"], mask["name"], mask["size"]) for mask in source["masks"]]
    paths = {name: f"s0000/segmentations/{name}.nii.gz" for name in STRUCTURES}
    assert files == [(value, paths[name], (total / paths[name]).stat().st_size) for name, value in STRUCTURES.items()]

    done = export(Mirror(str(mirror)), "s0000", "total", tmp_path / "total.nii.gz", Cut())
    again = nib.load(done.path)
    assert done.byte_identical is False
    np.testing.assert_array_equal(np.asarray(again.dataobj), expected(masks))
    np.testing.assert_array_equal(again.affine, RAS)

    # One voxel more in one mask of the source, in a file of the same name.
    masks["liver"][0, 0, 0] = 1
    save(total / paths["liver"], masks["liver"])
    assert {code for code, _ in codes(compare(mirror, total).findings)} == {"layout.voxels"}


def test_a_rerun_does_what_is_missing(total: Path, tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    mirror = tmp_path / "mirror"
    assert run(total, mirror, "totalsegmentator").converted == 5
    assert run(total, mirror, "totalsegmentator").converted == 0
    save(total / "s0002" / "segmentations" / "liver.nii.gz", masks["liver"])
    mended = run(total, mirror, "totalsegmentator")
    assert (mended.converted, mended.failures) == (1, ())
    np.testing.assert_array_equal(opened(mirror, "s0002")["ct/labels/total/scale0/total"].values, expected(masks).T)
    # A structure that comes later changes the map.
    save(total / "s0001" / "segmentations" / "liver.nii.gz", masks["liver"])
    assert codes(run(total, mirror, "totalsegmentator").failures) == {("settings.changed", "s0001")}


def test_a_mirror_of_one_corpus_takes_no_other(total: Path, tmp_path: Path) -> None:
    run(total, tmp_path / "mirror", "totalsegmentator", subjects=frozenset({"s0000"}))
    (total / "CT").mkdir()
    (total / "CT" / "0001.nii.gz").write_bytes((total / "s0000" / "ct.nii.gz").read_bytes())
    with pytest.raises(SettingsError) as caught:
        run(total, tmp_path / "mirror", "enhance-pet")
    assert caught.value.code == "settings.changed"


def test_in_an_archive(total: Path, tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "Totalsegmentator_dataset_v201.zip", "w") as archive:
        for path in sorted((total / "s0000").rglob("*.nii.gz")):
            archive.write(path, path.relative_to(total))
    report = run(packed, tmp_path / "mirror", "totalsegmentator")
    assert (report.converted, report.failures) == (2, ())
    stored = opened(tmp_path / "mirror", "s0000")["ct/labels/total/scale0/total"]
    np.testing.assert_array_equal(stored.values, expected(masks).T)


# BIDS


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two subjects: one segmentation in another voxel order than its image, one on another lattice."""
    folder = tmp_path / "ds000001"
    flipped = np.diag([-1.5, 1.5, 3.0, 1.0])
    flipped[0, 3] = 1.5 * (SHAPE_XYZ[0] - 1)
    for subject in ("sub-01", "sub-A2"):
        image = np.random.default_rng(7).random(SHAPE_XYZ).astype(np.float32)
        save(folder / subject / "anat" / f"{subject}_T1w.nii.gz", image)
    labels = (box(2, 3, 4) * 3 + box(14, 10, 2) * 41).astype(np.int16)
    derived = folder / "derivatives" / "seg"
    save(derived / "sub-01" / "anat" / "sub-01_desc-aseg_dseg.nii.gz", labels[::-1], flipped)
    save(derived / "sub-A2" / "anat" / "sub-A2_desc-aseg_dseg.nii.gz", labels[::2], np.diag([3.0, 1.5, 3.0, 1.0]))
    table = "index\tname\n0\tBackground\n3\tLeft-Cerebral-Cortex\n41\tWhite Matter\n"
    (derived / "desc-aseg_dseg.tsv").write_text(table)
    people = "participant_id\tage\tsex\thandedness\nsub-01\t34.5\tF\tright\nsub-A2\tn/a\tn/a\t\n"
    (folder / "participants.tsv").write_text(people)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "A set", "License": "CC0"}))
    return folder


def test_a_bids_tree(bids: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    report = run(bids, mirror, "bids")
    assert report.failures == ()
    assert codes(report.warnings) == {
        ("warning.label-reordered", "sub-01/dseg"),
        ("warning.label-grid", "sub-A2/dseg"),
    }
    tree = opened(mirror, "sub-01")
    image, labels = tree["t1w/scale0/t1w"], tree["t1w/labels/dseg/scale0/dseg"]
    assert (image.attrs["units"], image.dtype, image.shape) == ("", np.float32, labels.shape)
    np.testing.assert_array_equal(labels.values, (box(2, 3, 4) * 3 + box(14, 10, 2) * 41).T)
    assert labels.attrs["flag_meanings"] == "Left-Cerebral-Cortex White_Matter"
    assert tree["t1w/labels"].attrs["ome"]["labels"] == ["dseg"]
    assert tree["t1w/labels/dseg"].attrs["ome"]["image-label"]["source"] == {"image": "../../"}
    assert tree["OME"].attrs["ome"]["series"] == ["t1w"]
    # Consolidated metadata at each group: a plain reader sees the labels from the image's group as well.
    group = xr.open_datatree(mirror / layout.store_key("sub-01") / "t1w", engine="zarr", zarr_format=3, chunks=None)
    assert "/labels/dseg/scale0" in group.groups
    assert "/labels_dseg/scale0" in opened(mirror, "sub-A2").groups
    assert compare(mirror, bids).findings == ()

    catalog = Mirror(str(mirror)).catalog
    one, other = catalog.subject("sub-01"), catalog.subject("sub-A2")
    assert (one["license"], one["attribution"], one["age_years"], one["sex"]) == ("CC0-1.0", "BIDS data set", 34.5, "F")
    assert (other["license"], other["age_years"], other["sex"]) == ("CC0-1.0", None, None)
    assert json.loads(one["details"]) == {"handedness": "right"}
    assert (one["has_ct"], one["has_pet"], one["gaps"]) == (False, False, [])
    assert {row["name"] for row in catalog.regions["sub-01"]} == {"Left-Cerebral-Cortex", "White_Matter"}

    for subject, name, path in (
        ("sub-01", "dseg", "derivatives/seg/sub-01/anat/sub-01_desc-aseg_dseg.nii.gz"),
        ("sub-A2", "t1w", "sub-A2/anat/sub-A2_T1w.nii.gz"),
    ):
        done = export(Mirror(str(mirror)), subject, name, tmp_path / "out.nii", Cut())
        assert done.byte_identical
        assert (tmp_path / "out.nii").read_bytes() == gzip.decompress((bids / path).read_bytes())


@pytest.mark.parametrize(
    ("content", "spdx"),
    [
        ('{"License": "CC0 1.0 Universal"}', "CC0-1.0"),
        ('{"License": "https://creativecommons.org/licenses/by/4.0/"}', "CC-BY-4.0"),
        ('{"License": "PDDL"}', "PDDL-1.0"),
        ('{"License": "CC BY"}', "unknown"),
        ('{"License": "CC0 or CC BY 4.0"}', "unknown"),
        ('{"License": "free for academic use"}', "unknown"),
        ('{"License": ["CC0"]}', "unknown"),
        ('{"license": "CC0"}', "unknown"),
        ("[]", "unknown"),
        ("{,}", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_licence_in_free_text_fails_closed(bids: Path, content: str | None, spdx: str) -> None:
    path = bids / "dataset_description.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    description = load("bids")
    infos, _ = read_infos(take_inventory(str(bids), description), "Corpus", description)
    assert {info.license for info in infos.values()} == {spdx}


def test_label_tables_that_contradict_each_other_stop_the_run(bids: Path, tmp_path: Path) -> None:
    (bids / "derivatives" / "seg" / "sub-01" / "anat" / "sub-01_dseg.tsv").write_text("index\tname\n3\tliver\n")
    with pytest.raises(SourceError) as caught:
        run(bids, tmp_path / "mirror", "bids")
    assert caught.value.code == "source.label-table"


def test_a_label_map_without_its_image(bids: Path, tmp_path: Path) -> None:
    """The image comes later: the map that was put apart would have to move, and that is said."""
    image = bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    data = image.read_bytes()
    image.unlink()
    mirror = tmp_path / "mirror"
    assert ("warning.volume-missing", "sub-01/t1w") in codes(run(bids, mirror, "bids").warnings)
    assert "/labels_dseg/scale0" in opened(mirror, "sub-01").groups
    image.write_bytes(data)
    assert codes(run(bids, mirror, "bids").failures) == {("settings.changed", "sub-01")}


# The command line


def test_from_the_command_line(total: Path, bids: Path, tmp_path: Path) -> None:
    def voxshelf(*arguments: object) -> str:
        done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    shown = voxshelf("inventory", total, "--corpus", "totalsegmentator")
    assert "3 subjects, 6 files" in shown
    voxshelf("convert", bids, tmp_path / "mirror", "--corpus", "bids", "--workers", "0", "--volumes", "labels")
    assert "2 volumes" in voxshelf("verify", tmp_path / "mirror", "--source", bids)
    with pytest.raises(SettingsError, match="totalsegmentator"):
        voxshelf("verify", tmp_path / "mirror", "--source", bids, "--corpus", "bidz")
