"""Flags on made-up bodies: what is wrong is seen, what is right gives no alarm."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import nibabel as nib
import numpy as np
import pytest

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.finish import read_coarsest
from converter.publish import completed_subjects
from converter.quality import Coarse, check_subject
from converter.reader import Mirror
from converter.statistics import LabelStatistics
from corpus import layout
from corpus.geometry import Grid, Reorder, Voxels
from corpus.labels import families
from corpus.models import Scaling, Statistics, StoredImage
from corpus.stores import Store

SIDED = ("cardiac", "muscles", "organs", "peripheral_bones", "ribs", "vertebrae")


class Body:
    """A subject of the phantom whose volumes a test may change."""

    def __init__(self, mirror: Path, subject: str) -> None:
        store = Store(str(mirror))
        volumes = completed_subjects(store)[subject].volumes
        images = {volume.role: volume.image for volume in volumes if volume.image is not None}
        self.images: dict[str, StoredImage] = images
        self.coarse: dict[str, Coarse] = {
            role: read_coarsest(store, subject, image) for role, image in self.images.items()
        }
        opened = Mirror(str(mirror))
        self.read = lambda role: opened.level(opened.volume(subject, role), 0)[0].values

    def keep(self, *roles: str) -> None:
        self.images = {role: self.images[role] for role in roles}

    def change(self, role: str, edit: Callable[[Voxels], Voxels], *, only: tuple[str, ...] = ()) -> None:
        """Change a label map, its regions and its coarsest level with it."""
        image = self.images[role]
        voxels = edit(self.read(role))
        if only:
            values = [label.value for label in families()[role].labels if label.name in only]
            voxels = np.where(np.isin(voxels, values), voxels, 0)
        statistics = LabelStatistics(image.grid)
        statistics.update(voxels)
        self.images[role] = msgspec.structs.replace(image, regions=statistics.result(families()[role]))
        self.coarse[role] = Coarse(voxels[::2, ::2, ::2], image.grid.downsampled((2, 2, 2)))

    def set(self, role: str, **fields: object) -> None:
        self.images[role] = msgspec.structs.replace(self.images[role], **fields)

    def move(self, role: str, mm: tuple[float, float, float]) -> None:
        """Change where the header says that a volume lies."""
        levels = []
        for level in self.images[role].levels:
            affine = np.array(level.grid.affine)
            affine[:3, 3] += mm
            levels.append(msgspec.structs.replace(level, grid=Grid.of(level.grid.shape_zyx, affine)))
        self.set(role, levels=tuple(levels))
        self.coarse[role] = Coarse(self.coarse[role].voxels, levels[-1].grid)

    def flags(self) -> list[tuple[str, str]]:
        found = check_subject("0001", self.images.values(), self.coarse)
        assert all(finding.is_warning and finding.hint for finding in found)
        return [(finding.code, finding.place) for finding in found]


@pytest.fixture
def body(phantom_mirror: Path) -> Body:
    return Body(phantom_mirror, "0001")


def mirrored(voxels: Voxels) -> Voxels:
    return voxels[:, :, ::-1]


@pytest.mark.parametrize("subject", ["0001", "0002", "0003", "0004"])
def test_a_body_that_is_right_gives_no_alarm(phantom_mirror: Path, subject: str) -> None:
    assert Body(phantom_mirror, subject).flags() == []
    assert completed_subjects(Store(str(phantom_mirror)))[subject].quality == ()


@pytest.mark.parametrize("role", SIDED)
def test_a_mirrored_map_is_seen_and_it_alone(body: Body, role: str) -> None:
    body.change(role, mirrored)
    assert body.flags() == [("warning.label-side", f"0001/{role}")]


@pytest.mark.parametrize("role", SIDED)
def test_a_mirrored_map_is_seen_when_there_is_nothing_else(body: Body, role: str) -> None:
    body.keep(role)
    assert body.flags() == []
    body.change(role, mirrored)
    assert body.flags() == [("warning.label-side", f"0001/{role}")]


def test_a_mirrored_spine_is_not_taken_for_the_midline(body: Body) -> None:
    # Mirrored about the middle of a volume in which the patient does not lie in the middle.
    body.change("vertebrae", lambda voxels: np.roll(mirrored(voxels), 25, axis=2))
    flagged = [place for code, place in body.flags() if code == "warning.label-side"]
    assert flagged == ["0001/vertebrae"]


@pytest.mark.parametrize("kept", [("organs", "vertebrae"), ("organs", "ribs"), ("organs", "ct")])
def test_unpaired_organs_are_held_against_spine_pairs_or_body(body: Body, kept: tuple[str, ...]) -> None:
    # Without kidneys and lungs, only the midline tells; from the spine, from paired ribs, or from the whole body.
    body.keep(*kept)
    body.change("organs", lambda voxels: voxels, only=("liver", "spleen"))
    assert body.flags() == []
    body.change("organs", mirrored, only=("liver", "spleen"))
    assert body.flags() == [("warning.label-side", "0001/organs")]


def test_without_any_midline_one_organ_claims_nothing(body: Body) -> None:
    body.keep("organs")
    body.change("organs", mirrored, only=("liver",))
    assert body.flags() == []


def test_without_any_midline_liver_and_spleen_tell_of_each_other(body: Body) -> None:
    body.keep("organs")
    body.change("organs", lambda voxels: voxels, only=("liver", "spleen"))
    assert body.flags() == []
    body.change("organs", mirrored, only=("liver", "spleen"))
    assert body.flags() == [("warning.label-side", "0001/organs")]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(False, False, True), (True, True, True)])
def test_voxel_order_is_no_side(body: Body, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    # The same body in another voxel order, with the affine that belongs to it.
    reorder = Reorder(axes, flips)
    for role, (voxels, grid) in body.coarse.items():
        body.coarse[role] = Coarse(reorder.apply(voxels), grid.reordered(reorder))
    assert body.flags() == []


def test_two_swapped_kidneys_are_seen(body: Body) -> None:
    def swap(voxels: Voxels) -> Voxels:
        names = families()["organs"].by_name()
        left, right = names["kidney_left"].value, names["kidney_right"].value
        return np.where(voxels == left, right, np.where(voxels == right, left, voxels))

    body.change("organs", swap)
    assert body.flags() == [("warning.label-side", "0001/organs")]


def test_crossed_hands_are_no_alarm(body: Body) -> None:
    table = families()["peripheral_bones"].by_name()
    size = body.images["peripheral_bones"].grid.shape_zyx

    def hands(_: Voxels) -> Voxels:
        voxels = np.zeros(size, dtype=np.uint8)
        voxels[40:44, 60:64, 30:40] = table["fingers_left"].value  # x falls along this axis: the right side
        voxels[40:44, 60:64, 90:100] = table["fingers_right"].value
        return voxels

    body.keep("peripheral_bones")
    body.change("peripheral_bones", hands)
    assert body.flags() == []


def test_a_map_beside_the_body_is_seen(body: Body) -> None:
    body.change("ribs", lambda voxels: np.roll(voxels, 50, axis=1))
    assert ("warning.label-outside", "0001/ribs") in body.flags()


def test_a_map_whose_header_puts_it_elsewhere_is_seen(body: Body) -> None:
    body.move("cardiac", (0, 0, 2000))
    assert body.flags() == [("warning.label-outside", "0001/cardiac")]


def test_lungs_are_inside_the_body(body: Body) -> None:
    names = tuple(label.name for label in families()["organs"].labels if label.name.startswith("lung"))
    body.change("organs", lambda voxels: voxels, only=names)
    assert body.flags() == []


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_cavity_that_the_scan_cuts_open_is_inside_in_every_voxel_order(
    body: Body, axes: tuple[int, int, int]
) -> None:
    # As lungs in a scan that ends in the chest: walls all around, and no lid.
    grid = Grid.of((20, 40, 40), np.diag([4, 4, 8, 1]))
    hu, map_ = np.full(grid.shape_zyx, -1000, dtype=np.int16), np.zeros(grid.shape_zyx, dtype=np.uint8)
    hu[:, 10:30, 10:30], hu[:, 12:28, 12:28], map_[:, 14:26, 14:26] = 0, -850, 1
    body.keep("ct", "organs")
    reorder = Reorder(axes)
    for role, voxels in (("ct", hu), ("organs", map_)):
        body.coarse[role] = Coarse(reorder.apply(voxels), grid.reordered(reorder))
    assert body.flags() == []


@pytest.mark.parametrize(("mm", "seen"), [(0, False), (300, False), (800, True), (5000, True)])
def test_fields_of_view_that_hardly_overlap(body: Body, mm: float, seen: bool) -> None:
    body.move("pet", (0, 0, mm))
    assert body.flags() == ([("warning.views-apart", "0001")] if seen else [])


@pytest.mark.parametrize(
    ("minimum", "maximum", "seen"),
    [
        (-1024, 936, False),
        (0, 1960, True),
        (-199, 500, True),
        (-1000, 99, True),
        (-8192, 31743, False),
        (-9000, 500, True),
        (-1000, 70000, True),
    ],
)
def test_values_that_no_body_has(body: Body, minimum: float, maximum: float, seen: bool) -> None:
    body.set("ct", statistics=Statistics(minimum, maximum, 0.0, 0, maximum))
    assert body.flags() == ([("warning.hu-range", "0001/ct")] if seen else [])


def test_a_lost_intercept_under_a_padding_that_looks_right(body: Body) -> None:
    # Around the scanner's circle there still is -1024, so that minimum and maximum are not conspicuous.
    body.set("ct", scaling=Scaling(1.0, 1024.0))
    assert body.flags() == [("warning.hu-range", "0001/ct")]


def test_a_unit_that_is_not_known(body: Body) -> None:
    body.set("pet", units="unknown")
    assert body.flags() == [("warning.intensity-unit", "0001/pet")]


def test_a_mirrored_file_is_converted_as_it_is_and_flagged_everywhere(corpus: Path, tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    shutil.copytree(corpus, source, ignore=shutil.ignore_patterns("0003*", "0004*"))
    path = source / "imaging-data/ground-truth/Organs/0001.nii.gz"
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    voxels = np.asarray(image.dataobj)[::-1]
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)
    settings = ConvertSettings(corpus=read_corpus(str(source)), roles=("ct", "organs", "vertebrae"))
    report = convert(str(source), str(tmp_path / "mirror"), settings, lambda _: None)
    assert [f.place for f in report.warnings if f.code == "warning.label-side"] == ["0001/organs"]
    mirror = Mirror(str(tmp_path / "mirror"))
    assert "warning.label-side" in mirror.catalog.volume("0001", "organs")["warnings"]
    assert "warning.label-side" not in mirror.catalog.volume("0002", "organs")["warnings"]
    stored, _, _ = mirror.level(mirror.volume("0001", "organs"), 0)
    np.testing.assert_array_equal(stored.values, voxels.T)
    # Another run does nothing, and tells of it again.
    report = convert(str(source), str(tmp_path / "mirror"), settings, lambda _: None)
    assert report.converted == 0
    assert [f.place for f in report.warnings if f.code == "warning.label-side"] == ["0001/organs"]
    assert layout.PRIVATE not in str(mirror.catalog.subjects)
