"""What real tools write into NIfTI files: converted, verified voxel by voxel, and exported byte for byte."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from converter.export import Cut, export
from converter.reader import Mirror

SUBJECT = "0001"
TRUTH = "imaging-data/ground-truth"


def rewrite(path: Path, change: Callable[[nib.Nifti1Image], nib.Nifti1Image]) -> None:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    path.write_bytes(gzip.compress(change(image).to_bytes(), mtime=0))


def reoriented(codes: str) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    def change(image: nib.Nifti1Image) -> nib.Nifti1Image:
        now, wanted = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        return image.as_reoriented(nib.orientations.ornt_transform(now, wanted))

    return change


def retyped(dtype: str, offset: float = 0.0) -> Callable[[nib.Nifti1Image], nib.Nifti1Image]:
    def change(image: nib.Nifti1Image) -> nib.Nifti1Image:
        voxels = np.asarray(image.dataobj).astype(dtype) + np.asarray(offset).astype(dtype)
        return nib.Nifti1Image(voxels, image.affine)

    return change


def with_xml(image: nib.Nifti1Image) -> nib.Nifti1Image:
    made = nib.Nifti1Image(np.asarray(image.dataobj).astype("u4"), image.affine)
    made.header.extensions.append(nib.nifti1.Nifti1Extension(0, b"<labels>" + b"x" * 12_000 + b"</labels>"))
    return made


def big_endian_with_slope(image: nib.Nifti1Image) -> nib.Nifti1Image:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    made = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
    made.header.set_slope_inter(2.5, -10)
    return made


@pytest.fixture(scope="module")
def odd(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "corpus"
    names = [path.relative_to(corpus) for path in corpus.rglob(f"{SUBJECT}.nii.gz")]
    for name in [*names, Path("CT-details.xlsx"), Path("PT-details.xlsx")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / name, folder / name)
    rewrite(folder / f"imaging-data/images/CT/{SUBJECT}.nii.gz", retyped("f8"))
    rewrite(folder / f"imaging-data/images/PT/{SUBJECT}.nii.gz", big_endian_with_slope)
    rewrite(folder / f"{TRUTH}/Organs/{SUBJECT}.nii.gz", reoriented("LPS"))
    rewrite(folder / f"{TRUTH}/Vertebrae/{SUBJECT}.nii.gz", reoriented("IPL"))
    rewrite(folder / f"{TRUTH}/Ribs/{SUBJECT}.nii.gz", with_xml)
    rewrite(folder / f"{TRUTH}/Cardiac/{SUBJECT}.nii.gz", retyped("f4", 0.0005))
    rewrite(folder / f"{TRUTH}/Muscles/{SUBJECT}.nii.gz", lambda image: image.slicer[:, :, 10:50])
    rewrite(folder / f"{TRUTH}/Peripheral-Bones/{SUBJECT}.nii.gz", retyped("f4", 0.4))
    return folder


@pytest.fixture(scope="module")
def converted(odd: Path, voxshelf: Callable[..., Any]) -> Mirror:
    # Interpolated labels fail, and nothing else does.
    done = voxshelf("convert", odd, odd.parent / "mirror", "--workers", "0", status=1)
    assert "source.label-fractional: 1" in done.stdout
    assert "1 failures" in done.stdout
    return Mirror(str(odd.parent / "mirror"))


def test_every_voxel_equals_the_source(odd: Path, converted: Mirror, voxshelf: Callable[..., Any]) -> None:
    assert "0 faults" in voxshelf("verify", odd.parent / "mirror", "--source", odd).stdout


def test_exports_are_the_source_s_bytes_unless_labels_were_rounded(
    odd: Path, converted: Mirror, tmp_path: Path, voxshelf: Callable[..., Any]
) -> None:
    rows = converted.catalog.volumes[SUBJECT]
    assert len(rows) == 8
    for row in rows:
        role = row["volume"].removeprefix("labels/")
        done = export(converted, SUBJECT, role, tmp_path / "out.nii", Cut())
        source = gzip.decompress((odd / row["source_name"]).read_bytes())
        assert done.byte_identical == ((tmp_path / "out.nii").read_bytes() == source) == (role != "cardiac"), role
    for role, said in (("cardiac", ", not byte-identical to"), ("ribs", ", byte-identical to")):
        assert said in voxshelf("export", odd.parent / "mirror", SUBJECT, role, tmp_path / "out.nii").stdout


def test_label_maps_in_another_order_are_laid_on_the_ct(corpus: Path, converted: Mirror) -> None:
    for role, folder in (("organs", "Organs"), ("vertebrae", "Vertebrae"), ("cardiac", "Cardiac"), ("ribs", "Ribs")):
        stored = converted.level(converted.volume(SUBJECT, role), 0)[0]
        expected = nib.load(corpus / TRUTH / folder / f"{SUBJECT}.nii.gz")
        np.testing.assert_array_equal(stored.values, np.asarray(expected.dataobj).transpose())  # type: ignore[attr-defined]
        assert stored.dtype == np.uint8
    for role in ("organs", "vertebrae"):
        assert "warning.label-reordered" in converted.catalog.volume(SUBJECT, role)["warnings"]
    assert "warning.label-rounded" in converted.catalog.volume(SUBJECT, "cardiac")["warnings"]


def test_a_label_map_of_part_of_the_scan_stands_apart_and_agrees_by_world_position(
    corpus: Path, converted: Mirror
) -> None:
    row = converted.catalog.volume(SUBJECT, "muscles")
    assert row["image_path"] == "labels_muscles"
    regions = {entry["name"]: entry for entry in converted.catalog.regions[SUBJECT]}
    whole = nib.load(corpus / TRUTH / f"Muscles/{SUBJECT}.nii.gz")
    value = regions["gluteus_maximus_left"]["value"]
    mask = np.asarray(whole.dataobj) == value  # type: ignore[attr-defined]
    mask[:, :, :10] = mask[:, :, 50:] = False
    centre = nib.affines.apply_affine(whole.affine, np.argwhere(mask)).mean(axis=0)  # type: ignore[attr-defined]
    found = [regions["gluteus_maximus_left"][f"centroid_{axis}_mm"] for axis in "xyz"]
    np.testing.assert_allclose(found, centre, atol=1e-3)


def test_a_float64_ct_of_whole_numbers_is_int16_and_a_big_endian_pet_keeps_its_slope(
    odd: Path, converted: Mirror
) -> None:
    import xarray as xr

    assert converted.catalog.volume(SUBJECT, "ct")["dtype"] == "int16"
    tree = xr.open_datatree(odd.parent / f"mirror/subjects/{SUBJECT}.ome.zarr", engine="zarr")
    expected = nib.load(odd / f"imaging-data/images/PT/{SUBJECT}.nii.gz").get_fdata()  # type: ignore[attr-defined]
    np.testing.assert_allclose(tree["pet/scale0/pet"].values, expected.transpose(), rtol=1e-6)
