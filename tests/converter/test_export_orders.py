"""Exports of volumes in any voxel order, against nibabel's resampling of the source file by world position."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.processing import resample_from_to

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.export import export
from converter.reader import Mirror
from corpus.cutouts import Cut

ORDERS = ["RAS", "LAS", "LPS", "LPI", "RPI", "ALS", "AIR", "PIR", "PSR", "LIA", "IPL", "SAL"]
REAL = Path(__file__).parents[3] / "shared" / "data" / "odd" / "orientations"
FOLDERS = {"ct": "images/CT", "pet": "images/PT", "organs": "ground-truth/Organs"}
LIVER = 8
BOX = (-31.0, -24.0, 5.0, 26.0, 12.6, 37.0)
ABSENT = -4321.0


def spacing_mm(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(voxel_sizes(image.affine))


def load(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def scaled(image: nib.Nifti1Image, slope: float, inter: float) -> nib.Nifti1Image:
    made = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    made.header.set_slope_inter(slope, inter)
    return made


def save(image: nib.Nifti1Image, corpus: Path, role: str, subject: str) -> None:
    path = corpus / "imaging-data" / FOLDERS[role] / f"{subject}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Gzipped by hand: nibabel would give the stored numbers a new slope.
    path.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))


def mirror_of(corpus: Path, folder: Path) -> Mirror:
    report = convert(str(corpus), str(folder), ConvertSettings(corpus=read_corpus(str(corpus))), lambda _: None)
    assert not report.failures
    return Mirror(str(folder))


@pytest.fixture(scope="module")
def corpus(orders_corpus: Path) -> Path:
    return orders_corpus


@pytest.fixture(scope="module")
def mirror(orders_mirror: Path) -> Mirror:
    return Mirror(str(orders_mirror))


def source(corpus: Path, role: str, subject: str) -> Path:
    return corpus / "imaging-data" / FOLDERS[role] / f"{subject}.nii.gz"


def check_cut_out(part: nib.Nifti1Image, whole: nib.Nifti1Image) -> None:
    """Every voxel of the part is the one that the whole has at its place, in physical values."""
    expected = resample_from_to(whole, (part.shape, part.affine), order=0, mode="constant", cval=ABSENT)
    np.testing.assert_allclose(part.get_fdata(), expected.get_fdata(), rtol=1e-6)
    assert part.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(part.get_sform(), part.affine)
    np.testing.assert_allclose(part.get_qform(), part.affine, atol=1e-4)


def holds(part: nib.Nifti1Image, world_mm: np.ndarray, within: float = 1e-4) -> np.ndarray:
    """Whether each world position lies in the voxels of a part."""
    index = apply_affine(np.linalg.inv(part.affine), world_mm)
    return np.asarray(np.all((index >= -0.5 - within) & (index <= np.array(part.shape) - 0.5 + within), axis=1))


def centres(image: nib.Nifti1Image, mask: np.ndarray | None = None) -> np.ndarray:
    mask = np.ones(image.shape, bool) if mask is None else mask
    return np.asarray(apply_affine(image.affine, np.argwhere(mask)))


SUBJECTS = [f"{number + 1:04d}" for number in range(len(ORDERS))]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_whole_volumes_are_the_source_s_bytes(corpus: Path, mirror: Mirror, tmp_path: Path, subject: str) -> None:
    for role in FOLDERS:
        done = export(mirror, subject, role, tmp_path / "out.nii.gz", Cut())
        found = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
        assert found == gzip.decompress(source(corpus, role, subject).read_bytes()), role
        image = load(tmp_path / "out.nii.gz")
        assert done.byte_identical
        assert done.shape_zyx == image.shape[::-1]
        np.testing.assert_allclose(done.affine, image.affine)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_box_and_a_label_lie_where_they_were(corpus: Path, mirror: Mirror, tmp_path: Path, subject: str) -> None:
    organs = load(source(corpus, "organs", subject))
    liver = centres(organs, np.asarray(organs.dataobj) == LIVER)
    half = spacing_mm(organs).max() / 2
    for role in FOLDERS:
        whole = load(source(corpus, role, subject))
        export(mirror, subject, role, tmp_path / "box.nii", Cut(bbox_mm_ras=BOX))
        part = load(tmp_path / "box.nii")
        check_cut_out(part, whole)
        inside = np.all((centres(whole) >= BOX[:3]) & (centres(whole) <= BOX[3:]), axis=1)
        assert np.array_equal(holds(part, centres(whole)) & inside, inside), "no voxel of the box is lost"
        if role != "pet":
            assert np.prod(part.shape) == inside.sum() > 1000, "and there are no others, since it is aligned"
        for margin in (0.0, 6.0):
            done = export(mirror, subject, role, tmp_path / "l.nii", Cut(label="liver", margin_mm=margin))
            part = load(tmp_path / "l.nii")
            check_cut_out(part, whole)
            np.testing.assert_allclose(done.affine, part.affine, atol=1e-4)
            around = [liver + move * (margin + half * 0.5) for move in (*np.eye(3), *-np.eye(3))]
            assert holds(part, np.concatenate(around)).all()
            assert np.prod(part.shape) < np.prod(whole.shape) / 2


@pytest.mark.parametrize("subject", SUBJECTS[::2])
def test_levels_lie_where_their_blocks_do(corpus: Path, mirror: Mirror, tmp_path: Path, subject: str) -> None:
    whole = load(source(corpus, "ct", subject))
    export(mirror, subject, "ct", tmp_path / "level.nii", Cut(level=1))
    level = load(tmp_path / "level.nii")
    assert max(level.shape) == 40
    # Means of complete blocks, by nibabel's view of the file: place and value.
    factors = np.rint(spacing_mm(level) / spacing_mm(whole)).astype(int)
    np.testing.assert_allclose(
        level.affine, whole.affine @ nib.affines.from_matvec(np.diag(factors * 1.0), (factors - 1) / 2), atol=1e-4
    )
    blocks = np.asarray(whole.dataobj.get_unscaled()).astype(float)
    count = np.array(whole.shape) // factors
    blocks = blocks[tuple(slice(0, n) for n in count * factors)]
    a, b, c = factors
    means = np.rint(blocks.reshape(count[0], a, count[1], b, count[2], c).mean(axis=(1, 3, 5)))
    found = np.asarray(level.dataobj.get_unscaled())[tuple(slice(0, n) for n in count)]
    np.testing.assert_array_equal(found, means)
    export(mirror, subject, "organs", tmp_path / "organs.nii", Cut(level=1))
    np.testing.assert_allclose(load(tmp_path / "organs.nii").affine, level.affine, atol=1e-4)
    for cut in (Cut(level=1, bbox_mm_ras=BOX), Cut(level=1, label="liver", margin_mm=4)):
        export(mirror, subject, "ct", tmp_path / "part.nii", cut)
        part = load(tmp_path / "part.nii")
        check_cut_out(part, level)
        if cut.bbox_mm_ras:
            inside = np.all((centres(level) >= BOX[:3]) & (centres(level) <= BOX[3:]), axis=1)
            assert np.prod(part.shape) == inside.sum() > 100
        else:
            organs = load(source(corpus, "organs", subject))
            assert holds(part, centres(organs, np.asarray(organs.dataobj) == LIVER)).all()


def test_a_label_smaller_than_a_voxel_still_cuts_the_pet(corpus: Path, tmp_path: Path) -> None:
    own = tmp_path / "corpus"
    organs, pet = (load(source(corpus, role, "0001")) for role in ("organs", "pet"))
    labels = np.zeros(organs.shape, "u1")
    labels[12, 20, 30] = LIVER
    save(load(source(corpus, "ct", "0001")), own, "ct", "0001")
    save(nib.Nifti1Image(labels, organs.affine), own, "organs", "0001")
    save(scaled(pet, 0.25, 3.0), own, "pet", "0001")
    export(mirror_of(own, tmp_path / "mirror"), "0001", "pet", tmp_path / "spot.nii", Cut(label="liver"))
    part = load(tmp_path / "spot.nii")
    assert holds(part, centres(organs, labels == LIVER)).all()
    assert np.prod(part.shape) <= 8


@pytest.mark.skipif(not REAL.is_dir(), reason="the real volumes are not beside this checkout")
def test_one_real_image_in_twelve_orders(tmp_path: Path) -> None:
    files = sorted(REAL.glob("*.nii.gz"))
    assert len(files) == 12
    for number, file in enumerate(files):
        target = source(tmp_path / "corpus", "ct", f"{number + 1:04d}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    mirror = mirror_of(tmp_path / "corpus", tmp_path / "mirror")
    for number, file in enumerate(files):
        subject, whole = f"{number + 1:04d}", load(file)
        row = mirror.catalog.volume(subject, "ct")
        assert row["orientation"] == "".join(nib.aff2axcodes(whole.affine)) == file.name[:3]
        export(mirror, subject, "ct", tmp_path / "out.nii", Cut())
        assert (tmp_path / "out.nii").read_bytes() == gzip.decompress(file.read_bytes())
        middle = centres(whole).mean(axis=0)
        export(mirror, subject, "ct", tmp_path / "box.nii", Cut(bbox_mm_ras=(*(middle - 31), *(middle + 24))))
        check_cut_out(load(tmp_path / "box.nii"), whole)
