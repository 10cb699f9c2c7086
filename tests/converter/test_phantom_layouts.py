"""The phantom's layouts: names, archives, and the same bytes in each."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from converter.phantom import write_phantom
from converter.phantom_layouts import LAYOUTS, LayoutWriter, place
from corpus.errors import SettingsError
from corpus.labels import families

FAMILIES = [family.folder for family in families().values()]
BUCKET = [
    "CT-details.xlsx",
    "PT-details.xlsx",
    "corpus.json",
    "labels.json",
    *(f"imaging-data/images/{kind}/{subject}.nii.gz" for kind in ("CT", "PT") for subject in ("1000", "1001")),
    *(f"imaging-data/ground-truth/{folder}/{subject}.nii.gz" for folder in FAMILIES for subject in ("1000", "1001")),
]
MOOSEZ = {
    "CT_details.xlsx", "PT_details.xlsx", "labels.json",
    "body_composition_labels.zip", "cardiac_labels.zip", "muscle_labels.zip", "organs_labels.zip",
    "peripheral_bones_labels.zip", "ribs_labels.zip", "vertebrae_labels.zip",
    "PT_images.zip", "CT_images_0001-1000.zip", "CT_images_1000-1683.zip",
}  # fmt: skip
SERVED = {f"{name}.zip" for name in [*FAMILIES, "CT_0001-1000", "CT_1001-1683", "PT_0001-1683"]}
SHEETS = {"CT-details.xlsx", "PT-details.xlsx"}


def written(folder: Path, layout: str, names: list[str]) -> dict[str, bytes]:
    """What lies in the folder after all was written: by name, members by archive and name."""
    with LayoutWriter(folder, layout) as writer:
        told = {placed for name in names if (placed := writer.write(name, name.encode()))}
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
                found |= {f"{name}!{member}": archive.read(member) for member in archive.namelist()}
        elif path.is_file():
            found[name] = path.read_bytes()
    assert told == found.keys()
    return found


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_nothing_is_lost_and_nothing_is_added(tmp_path: Path, layout: str) -> None:
    found = written(tmp_path, layout, BUCKET)
    lacking = {"labels.json"} if layout == "L2" else set()
    assert sorted(found.values()) == sorted(name.encode() for name in set(BUCKET) - lacking)
    assert found["corpus.json"] == b"corpus.json"


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("L2", {"ENHANCE-PET-1_6k.zip"}),
        ("L3", {*SHEETS, "labels.json", "images", "ground-truth"}),
        ("L4", {*SHEETS, "labels.json", *SERVED}),
        ("L5", MOOSEZ),
        ("L6", {"enhance-pet-1_6k"}),
    ],
)
@pytest.mark.parametrize("files", [BUCKET, BUCKET[:4]], ids=["volumes", "no volumes"])
def test_the_names_at_the_root(tmp_path: Path, layout: str, names: set[str], files: list[str]) -> None:
    written(tmp_path, layout, files)
    found = {path.name for path in tmp_path.iterdir()} - {"corpus.json"}
    # Folders come with their files, archives in any case.
    assert found == names if files is BUCKET else found == names - {"images", "ground-truth"}


@pytest.mark.parametrize(
    ("layout", "ct", "bones"),
    [
        ("L1", "imaging-data/images/CT/1001.nii.gz", "imaging-data/ground-truth/Peripheral-Bones/1001.nii.gz"),
        ("L3", "images/CT_1001-1683/1001.nii.gz", "ground-truth/Peripheral-Bones/1001.nii.gz"),
        ("L4", "CT_1001-1683.zip!CT_1001-1683/1001.nii.gz", "Peripheral-Bones.zip!Peripheral-Bones/1001.nii.gz"),
        (
            "L5",
            "CT_images_1000-1683.zip!CT_1001-1683/1001.nii.gz",
            "peripheral_bones_labels.zip!Peripheral-Bones/1001.nii.gz",
        ),
        (
            "L6",
            "enhance-pet-1_6k/imaging-data/images/CT/1001.nii.gz",
            "enhance-pet-1_6k/imaging-data/ground-truth/Peripheral-bones/1001.nii.gz",
        ),
    ],
)
def test_where_a_volume_lies(layout: str, ct: str, bones: str) -> None:
    assert place(layout, "imaging-data/images/CT/1001.nii.gz") == ct
    assert place(layout, "imaging-data/ground-truth/Peripheral-Bones/1001.nii.gz") == bones
    assert "1001-1683" not in str(place(layout, "imaging-data/images/CT/1000.nii.gz"))


def test_images_are_stored_and_label_maps_deflated_and_nothing_is_dated(tmp_path: Path) -> None:
    written(tmp_path, "L2", BUCKET)
    with zipfile.ZipFile(tmp_path / "ENHANCE-PET-1_6k.zip") as archive:
        methods = {info.filename: info.compress_type for info in archive.infolist()}
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
    assert methods["imaging-data/images/CT/1000.nii.gz"] == zipfile.ZIP_STORED
    assert methods["imaging-data/ground-truth/Ribs/1000.nii.gz"] == zipfile.ZIP_DEFLATED


def test_subjects_begin_with_any_number(tmp_path: Path) -> None:
    told: list[str] = []
    names = write_phantom(str(tmp_path), subjects=1, first=1001, layout="L3", progress=told.append)
    assert names == told
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"CT_1001-1683", "PT_0001-1683"}
    assert (tmp_path / "images/CT_1001-1683/1001.nii.gz").is_file()


@pytest.mark.parametrize("wrong", [{"layout": "L7"}, {"first": 0}, {"first": 9999, "subjects": 2}])
def test_senseless_orders_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        write_phantom(str(tmp_path), **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
