from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from converter.export import export
from converter.reader import Mirror
from corpus import layout
from corpus.cutouts import Cut
from corpus.errors import LayoutError, NotFoundError, RequestError, SettingsError, StoreError

FOLDERS = {"ct": "images/CT", "pet": "images/PT", "organs": "ground-truth/Organs", "ribs": "ground-truth/Ribs"}


@pytest.fixture(scope="module")
def mirror(phantom_mirror: Path) -> Path:
    return phantom_mirror


@pytest.fixture(scope="module")
def opened(mirror: Path) -> Mirror:
    return Mirror(str(mirror))


def source(corpus: Path, subject: str, role: str) -> Path:
    return corpus / "imaging-data" / FOLDERS[role] / f"{subject}.nii.gz"


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
@pytest.mark.parametrize("role", list(FOLDERS))
def test_a_whole_volume_comes_back_byte_for_byte(
    opened: Mirror, corpus: Path, tmp_path: Path, role: str, name: str
) -> None:
    for subject in ("0001", "0002", "0003", "0004"):
        done = export(opened, subject, role, tmp_path / name, Cut())
        data = (tmp_path / name).read_bytes()
        assert done.byte_identical
        assert (gzip.decompress(data) if name.endswith(".gz") else data) == gzip.decompress(
            source(corpus, subject, role).read_bytes()
        )


def worlds(image: Any, mask: Any) -> Any:
    return nib.affines.apply_affine(image.affine, np.argwhere(mask))


@pytest.mark.parametrize("role", ["ct", "pet"])
def test_a_box_lies_where_it_was(opened: Mirror, corpus: Path, tmp_path: Path, role: str) -> None:
    box = (-80.0, -60.0, 300.0, 40.0, 50.0, 420.0)
    export(opened, "0002", role, tmp_path / "box.nii", Cut(bbox_mm_ras=box))
    part, whole = nib.load(tmp_path / "box.nii"), nib.load(source(corpus, "0002", role))
    assert isinstance(part, nib.Nifti1Image)
    assert isinstance(whole, nib.Nifti1Image)
    world = nib.affines.apply_affine(whole.affine, np.argwhere(np.ones(whole.shape)))
    inside = np.all((world >= box[:3]) & (world <= box[3:]), axis=1).reshape(whole.shape)
    assert np.prod(part.shape) == inside.sum() > 100
    np.testing.assert_allclose(worlds(part, np.ones(part.shape)), worlds(whole, inside), atol=1e-3)
    # Physical values: the slope of a PET travels with the cut-out.
    np.testing.assert_allclose(part.get_fdata().ravel(), whole.get_fdata()[inside], rtol=1e-6)


def test_a_label_with_a_margin(opened: Mirror, corpus: Path, tmp_path: Path) -> None:
    export(opened, "0001", "organs", tmp_path / "liver.nii", Cut(label="liver", margin_mm=20))
    part, whole = nib.load(tmp_path / "liver.nii"), nib.load(source(corpus, "0001", "organs"))
    assert isinstance(part, nib.Nifti1Image)
    assert isinstance(whole, nib.Nifti1Image)
    value = opened.catalog.region("0001", "liver")["value"]
    found, expected = np.asarray(part.dataobj) == value, np.asarray(whole.dataobj) == value
    np.testing.assert_allclose(worlds(part, found), worlds(whole, expected), atol=1e-3)
    spacing = np.array(part.header.get_zooms())
    room = np.argwhere(found).min(axis=0) * spacing
    assert np.all(room >= 20)
    assert np.all(room < 20 + spacing)


def test_a_label_cuts_another_grid_by_world_position(opened: Mirror, corpus: Path, tmp_path: Path) -> None:
    export(opened, "0003", "pet", tmp_path / "pet.nii", Cut(label="spleen", margin_mm=5))
    part, organs = nib.load(tmp_path / "pet.nii"), nib.load(source(corpus, "0003", "organs"))
    assert isinstance(part, nib.Nifti1Image)
    value = opened.catalog.region("0003", "spleen")["value"]
    spleen = worlds(organs, np.asarray(organs.dataobj) == value)  # type: ignore[attr-defined]
    corners = worlds(part, np.ones(part.shape))
    spacing = np.array(part.header.get_zooms())
    assert np.all(corners.min(axis=0) <= spleen.min(axis=0) + spacing)
    assert np.all(corners.max(axis=0) >= spleen.max(axis=0) - spacing)
    assert np.prod(part.shape) < 20_000


def test_a_level_covers_the_same_body(opened: Mirror, corpus: Path, tmp_path: Path) -> None:
    export(opened, "0001", "ct", tmp_path / "level.nii", Cut(level=1))
    level, whole = nib.load(tmp_path / "level.nii"), nib.load(source(corpus, "0001", "ct"))
    assert isinstance(level, nib.Nifti1Image)
    assert isinstance(whole, nib.Nifti1Image)
    # The centre of its first voxel is the middle of the block of voxels that it is the mean of.
    factors = np.round(np.array(level.header.get_zooms()) / whole.header.get_zooms()).astype(int)
    expected = nib.affines.apply_affine(whole.affine, (factors - 1) / 2)
    np.testing.assert_allclose(level.affine[:3, 3], expected, atol=1e-3)
    block = np.asarray(whole.dataobj)[: factors[0], : factors[1], : factors[2]]
    assert np.asarray(level.dataobj)[0, 0, 0] == np.rint(block.mean())


def test_a_mirror_that_lost_a_voxel_does_not_export_it(mirror: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(mirror, tmp_path / "mirror"))
    shard = layout.array_path("ct", 0) + "/c/0/0/0"
    shutil.copy(own / "subjects/0001.ome.zarr" / shard, own / "subjects/0002.ome.zarr" / shard)
    with pytest.raises(LayoutError, match=r"layout\.voxels"):
        export(Mirror(str(own)), "0002", "ct", tmp_path / "out.nii", Cut())
    assert not list(tmp_path.glob("*out.nii*"))


@pytest.mark.parametrize("cut", [Cut(), Cut(level=1), Cut(bbox_mm_ras=(-80, -60, 300, 40, 50, 420))], ids=str)
def test_damaged_and_lost_shards_are_never_exported(mirror: Path, tmp_path: Path, cut: Cut) -> None:
    own = Path(shutil.copytree(mirror, tmp_path / "mirror"))
    shard = own / "subjects/0002.ome.zarr" / layout.array_path("ct", cut.level) / "c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-9] + bytes(9))
    with pytest.raises(LayoutError, match=r"layout\.voxels"):
        export(Mirror(str(own)), "0002", "ct", tmp_path / "out.nii", cut)
    # It would read as zeros; and a public copy lacks the converter's records.
    shard.unlink()
    shutil.rmtree(own / ".voxshelf")
    with pytest.raises(LayoutError, match=r"layout\.(voxels|object)"):
        export(Mirror(str(own)), "0002", "ct", tmp_path / "out.nii", cut)
    assert not list(tmp_path.glob("*out.nii*"))


def test_metadata_of_another_volume_are_never_exported(mirror: Path, tmp_path: Path) -> None:
    subjects = shutil.copytree(mirror, tmp_path / "mirror") / "subjects"
    for document in ("zarr.json", "ct/zarr.json"):
        shutil.copy(subjects / "0002.ome.zarr" / document, subjects / "0001.ome.zarr" / document)
    with pytest.raises(LayoutError, match="another one than the tables list"):
        export(Mirror(str(tmp_path / "mirror")), "0001", "ct", tmp_path / "ct.nii", Cut())


def test_progress_ends_with_all_voxels(opened: Mirror, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    box = Cut(bbox_mm_ras=(-80, -60, 300, 40, 50, 420))
    for cut in (Cut(), box):
        told.clear()
        done = export(opened, "0002", "ct", tmp_path / "out.nii", cut, lambda *counts: told.append(counts))
        voxels = int(np.prod(done.shape_zyx))
        assert (told[0], told[-1]) == ((0, voxels), (voxels, voxels))
        assert told == sorted(told)


def test_a_file_that_cannot_be_written_is_a_fault_of_the_disk(opened: Mirror, tmp_path: Path) -> None:
    (tmp_path / "out.nii").mkdir()
    with pytest.raises(StoreError, match=r"out\.nii"):
        export(opened, "0002", "ct", tmp_path / "out.nii", Cut())


@pytest.mark.parametrize(
    ("subject", "role", "name", "cut", "error", "code"),
    [
        ("9999", "ct", "o.nii", Cut(), NotFoundError, "not-found.subject"),
        ("0001", "mr", "o.nii", Cut(), NotFoundError, "not-found.volume"),
        ("0001", "ct", "o.nii", Cut(level=9), NotFoundError, "not-found.level"),
        ("0001", "ct", "o.nii", Cut(label="trachea"), NotFoundError, "not-found.label"),
        ("0001", "ct", "o.nii", Cut(bbox_mm_ras=(9e3, 9e3, 9e3, 9.1e3, 9.1e3, 9.1e3)), RequestError, "request.region"),
        ("0001", "ct", "o.nii", Cut(bbox_mm_ras=(5, 0, 0, 0, 9, 9)), RequestError, "request.region"),
        ("0001", "ct", "no/o.nii", Cut(), SettingsError, "settings.option"),
        ("0001", "ct", "o.mha", Cut(), SettingsError, "settings.option"),
        ("0001", "ct", "o.nii", Cut(label="liver", bbox_mm_ras=(0, 0, 0, 9, 9, 9)), SettingsError, "settings.option"),
    ],
)
def test_what_cannot_be_given(
    opened: Mirror, tmp_path: Path, subject: str, role: str, name: str, cut: Cut, error: type[Exception], code: str
) -> None:
    with pytest.raises(error, match=code.replace(".", r"\.")):
        export(opened, subject, role, tmp_path / name, cut)
    assert not list(tmp_path.iterdir())
