"""The phantom corpus, read by nibabel and openpyxl, which had no part in writing it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import openpyxl
import pytest

from converter.phantom import SIZES, make_subject, nifti_bytes, subject_volumes, write_phantom
from corpus.errors import SettingsError
from corpus.labels import families
from corpus.licenses import license_of

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = 4
IMAGES = "imaging-data/images"
TRUTH = "imaging-data/ground-truth"
FAR_BONES = (
    "carpal",
    "metacarpal",
    "fingers",
    "radius",
    "ulna",
    "tibia",
    "fibula",
    "patella",
    "tarsal",
    "metatarsal",
    "toes",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(str(folder), subjects=SUBJECTS)
    return folder


def opened(corpus: Path, name: str) -> Any:
    return nib.load(corpus / f"{name}.nii.gz")


def label_maps(corpus: Path, subject: str) -> dict[str, Any]:
    return {family.id: opened(corpus, f"{TRUTH}/{family.folder}/{subject}") for family in families().values()}


def centroids(image: Any) -> dict[int, np.ndarray]:
    """Centre of each label in RAS world mm."""
    voxels = np.asanyarray(image.dataobj)
    places = np.argwhere(voxels)
    values = voxels[tuple(places.T)]
    return {int(v): nib.affines.apply_affine(image.affine, places[values == v].mean(axis=0)) for v in np.unique(values)}


def named_centroids(corpus: Path, subject: str) -> dict[str, np.ndarray]:
    found = {}
    for family, image in label_maps(corpus, subject).items():
        names = families()[family].by_value()
        found |= {names[value].name: place for value, place in centroids(image).items()}
    return found


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sheet(corpus: Path, kind: str) -> list[dict[str, Any]]:
    rows = openpyxl.load_workbook(corpus / f"{kind}-details.xlsx").worksheets[0].iter_rows(values_only=True)
    header = next(rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


def present(size: str) -> set[tuple[str, int]]:
    found = set()
    for volume, family in zip(list(subject_volumes(1, size))[2:], families().values(), strict=True):
        assert f"/{family.folder}/" in volume.name
        found |= {(family.id, int(value)) for value in np.unique(volume.voxels) if value}
    return found


def test_files_are_those_of_the_bucket(corpus: Path) -> None:
    names = {"CT-details.xlsx", "PT-details.xlsx", "corpus.json", "labels.json"}
    for stem in (f"{number:04d}" for number in range(1, SUBJECTS + 1)):
        names |= {f"{IMAGES}/{kind}/{stem}.nii.gz" for kind in ("CT", "PT")}
        names |= {f"{TRUTH}/{family.folder}/{stem}.nii.gz" for family in families().values()}
    assert set(hashes(corpus)) == names


def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    told: list[str] = []
    returned = write_phantom(str(tmp_path / "again"), subjects=SUBJECTS, progress=told.append)
    assert hashes(tmp_path / "again") == hashes(corpus)
    assert told == returned
    assert set(told) == set(hashes(corpus))


def test_files_bear_no_date_and_no_name(corpus: Path) -> None:
    head = (corpus / f"{IMAGES}/CT/0001.nii.gz").read_bytes()[:10]
    assert head[3] == 0  # flags: no file name
    assert head[4:8] == bytes(4)  # time
    with zipfile.ZipFile(corpus / "PT-details.xlsx") as archive:
        assert {entry.date_time[:3] for entry in archive.infolist()} == {(1980, 1, 1)}
        assert archive.read("docProps/core.xml").count(b"2026-01-01T00:00:00Z") == 2


def test_seeds_and_subjects_differ() -> None:
    first, second, other = (next(subject_volumes(n, seed=seed)) for n, seed in ((1, 0), (2, 0), (1, 1)))
    for one in (second, other):
        assert not np.array_equal(first.voxels, one.voxels)
        assert first.grid.origin != one.grid.origin


@pytest.mark.parametrize("kind", ["CT", "PT"])
@pytest.mark.parametrize("subject", [f"{n:04d}" for n in range(1, SUBJECTS + 1)])
def test_geometry_is_las_and_said_twice_alike(corpus: Path, kind: str, subject: str) -> None:
    image = opened(corpus, f"{IMAGES}/{kind}/{subject}")
    assert isinstance(image, nib.Nifti1Image)
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    assert np.linalg.det(image.affine) < 0
    sform, sform_code = image.get_sform(coded=True)
    qform, qform_code = image.get_qform(coded=True)
    assert (sform_code, qform_code) == (1, 1)
    np.testing.assert_allclose(sform, qform, atol=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header["magic"] == b"n+1"
    assert image.dataobj.offset == 352


@pytest.mark.parametrize("size", list(SIZES))
def test_every_size_spans_the_same_box(size: str) -> None:
    shape = SIZES[size].ct_shape
    if size == "full":  # 0.9766 x 0.9766 x 3 mm
        assert np.allclose(np.array([500, 500, 861]) / shape, [0.9765625, 0.9765625, 3.0])
        return
    volume = next(subject_volumes(1, size))
    assert volume.voxels.shape == shape
    np.testing.assert_allclose(np.multiply(shape, volume.grid.spacing), [500, 500, 861])


def test_label_maps_share_the_grid_of_the_ct(corpus: Path) -> None:
    ct = opened(corpus, f"{IMAGES}/CT/0001")
    for image in label_maps(corpus, "0001").values():
        assert image.get_data_dtype() == np.uint8
        assert image.shape == ct.shape
        np.testing.assert_array_equal(image.affine, ct.affine)


@pytest.mark.parametrize("subject", [f"{n:04d}" for n in range(1, SUBJECTS + 1)])
def test_pet_has_a_grid_of_its_own(corpus: Path, subject: str) -> None:
    ct, pet = (opened(corpus, f"{IMAGES}/{kind}/{subject}") for kind in ("CT", "PT"))
    assert pet.shape != ct.shape
    assert not np.allclose(pet.header.get_zooms(), ct.header.get_zooms())
    assert not np.allclose(pet.affine[:3, 3], ct.affine[:3, 3], atol=1)


@pytest.mark.parametrize("subject", [f"{n:04d}" for n in range(1, SUBJECTS + 1)])
def test_left_is_left(corpus: Path, subject: str) -> None:
    places = named_centroids(corpus, subject)
    for name, place in places.items():
        if "left" in name.split("_"):
            assert place[0] < 0, name
        if "right" in name.split("_"):
            assert place[0] > 0, name
    assert places["liver"][0] > 20
    assert places["spleen"][0] < -20
    heart = [place[0] for name, place in places.items() if name.startswith("heart")]
    assert np.mean(heart) < 0 > places["heart_myocardium"][0]
    # The rest of the body is the right way up and the right way round, too.
    assert places["vertebra_C1"][2] > places["vertebra_T6"][2] > places["sacrum"][2] > places["femur_left"][2]
    assert places["sternum"][1] > places["vertebra_T8"][1]


@pytest.mark.parametrize(("size", "least"), [("small", 60), ("medium", 75)])
def test_labels_present(size: str, least: int) -> None:
    found = present(size)
    assert len(found) >= least
    table = {(family.id, label.value): label for family in families().values() for label in family.labels}
    absent = {table[key].name for key in table.keys() - found}
    expected = {f"{bone}_{side}" for bone in FAR_BONES for side in ("left", "right")}
    expected |= {"brain", "skull", "trachea", "rib_left_13", "rib_right_13", "vertebra_L6"}
    assert absent == expected


@pytest.mark.parametrize("subject", [f"{n:04d}" for n in range(1, SUBJECTS + 1)])
def test_body_composition_is_the_slab_of_l3(corpus: Path, subject: str) -> None:
    maps = {name: np.asanyarray(image.dataobj) for name, image in label_maps(corpus, subject).items()}
    third = families()["vertebrae"].by_name()["vertebra_L3"].value
    composition = maps["body_composition"]
    slab = (maps["vertebrae"] == third).any(axis=(0, 1))
    assert slab.any()
    np.testing.assert_array_equal((composition > 0).any(axis=(0, 1)), slab)
    muscle = families()["body_composition"].by_name()["skeletal_muscle"].value
    muscles = families()["muscles"].by_name()
    for name in ("iliopsoas", "autochthon"):
        for side in ("left", "right"):
            assert ((composition == muscle) & (maps["muscles"] == muscles[f"{name}_{side}"].value)).any()


def test_ct_holds_plausible_numbers(corpus: Path) -> None:
    image = opened(corpus, f"{IMAGES}/CT/0001")
    assert image.get_data_dtype() == np.int16
    ct = np.asanyarray(image.dataobj)
    maps = {name: np.asanyarray(one.dataobj) for name, one in label_maps(corpus, "0001").items()}

    def median(family: str, name: str) -> float:
        return float(np.median(ct[maps[family] == families()[family].by_name()[name].value]))

    assert ct.min() == -1024
    assert median("organs", "lung_upper_lobe_left") == pytest.approx(-850, abs=20)
    assert median("organs", "liver") == pytest.approx(100, abs=20)
    assert median("muscles", "gluteus_maximus_left") == pytest.approx(48, abs=10)
    assert median("body_composition", "subcutaneous_fat") == pytest.approx(-100, abs=10)
    assert 300 < median("vertebrae", "vertebra_L3") < 900
    size = (corpus / f"{IMAGES}/CT/0001.nii.gz").stat().st_size
    assert 0.75 < size / ct.size < 1.1  # the real ones take 0.94 byte a voxel


def test_pet_types_follow_the_source(corpus: Path) -> None:
    images = [opened(corpus, f"{IMAGES}/PT/{n:04d}") for n in range(1, SUBJECTS + 1)]
    assert [image.get_data_dtype().str[1:] for image in images] == ["f4", "i2", "f4", "u2"]
    slopes = [image.dataobj.slope for image in images]
    assert slopes[0] == slopes[2] == 1
    assert all(slope not in {0, 1} for slope in (slopes[1], slopes[3]))
    assert all(image.dataobj.inter == 0 for image in images)


@pytest.mark.parametrize("number", range(1, SUBJECTS + 1))
def test_scaled_pet_gives_back_the_uptake(corpus: Path, number: int) -> None:
    pet = opened(corpus, f"{IMAGES}/PT/{number:04d}")
    suv = pet.get_fdata() / make_subject(number).units_per_suv
    assert suv.min() >= 0
    organs = opened(corpus, f"{TRUTH}/Organs/{number:04d}")
    labels = families()["organs"].by_name()
    for name, uptake in (("liver", 2.3), ("bladder", 18.0)):
        middle = centroids(organs)[labels[name].value]
        i, j, k = np.rint(nib.affines.apply_affine(np.linalg.inv(pet.affine), middle)).astype(int)
        around = suv[i - 1 : i + 2, j - 1 : j + 2, k : k + 1]
        assert around.mean() == pytest.approx(uptake, rel=0.25), name


def test_sheets_name_sources_and_licences(corpus: Path) -> None:
    expected = ["CC-BY-NC-4.0", "CC-BY-4.0", "CC-BY-4.0", "CC-BY-4.0"]
    for kind in ("CT", "PT"):
        rows = sheet(corpus, kind)
        assert [row["Patient"] for row in rows] == list(range(1, SUBJECTS + 1))
        assert [license_of(row["Data-Source"]).id for row in rows] == expected
    assert rows[1]["Data-Source"].endswith("(DE).")
    assert rows[3]["Data-Source"].endswith("(US)\t")
    assert [row["Units"] for row in rows] == ["BQML", "BQML", "CNTS", "BQML"]


def test_sheets_suffice_for_suv_and_have_gaps(corpus: Path) -> None:
    rows = sheet(corpus, "PT")
    first = rows[0]
    assert None not in first.values()
    assert rows[1]["Age"] is None
    assert rows[2]["Height [m]"] is None
    assert rows[2]["Injection Time"] is None
    seconds = [
        sum(int(part) * unit for part, unit in zip(first[f"{event} Time"].split(":"), (3600, 60, 1), strict=True))
        for event in ("Injection", "Acquisition")
    ]
    left = first["Injected Dose [MBq]"] * 1e6 * 0.5 ** ((seconds[1] - seconds[0]) / first["Half Life [s]"])
    assert left / (first["Weight [kg]"] * 1000) == pytest.approx(make_subject(1).units_per_suv)


def test_label_names_lack_the_trachea(corpus: Path) -> None:
    names = json.loads((corpus / "labels.json").read_bytes())
    assert names["Organs"]["8"] == "liver"
    assert "19" not in names["Organs"]
    assert list(names) == [family.folder for family in families().values()]


def test_one_volume_can_be_had_without_a_folder(tmp_path: Path) -> None:
    volume = list(subject_volumes(2))[1]
    path = tmp_path / "one.nii.gz"
    path.write_bytes(nifti_bytes(volume))
    image = nib.load(path)
    np.testing.assert_array_equal(image.dataobj.get_unscaled(), volume.voxels)
    np.testing.assert_allclose(image.dataobj, volume.voxels * volume.slope, rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"size": "huge"}, {"subjects": 0}])
def test_senseless_orders_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="small"):
        write_phantom(str(tmp_path), **wrong)
    assert not list(tmp_path.iterdir())
