"""Finding files by name alone, in every layout that the corpus is known in."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from converter.description import ENHANCE_PET as DESCRIPTION
from converter.description import SubjectRule
from converter.inventory import Inventory, take_inventory
from converter.names import Names
from converter.source import VolumeStream, peek_header
from corpus.contents import ENHANCE_PET
from corpus.errors import SettingsError
from corpus.labels import families

if TYPE_CHECKING:
    from pathlib import Path

Build = Callable[..., bytes]

FOLDERS = {family.id: family.folder for family in families().values()}
SHEETS = ["CT-details.xlsx", "PT-details.xlsx"]
L5 = {
    "ct": "CT_images_0001-1000.zip",
    "pet": "PT_images.zip",
    "body_composition": "body_composition_labels.zip",
    "cardiac": "cardiac_labels.zip",
    "muscles": "muscle_labels.zip",
    "organs": "organs_labels.zip",
    "peripheral_bones": "peripheral_bones_labels.zip",
    "ribs": "ribs_labels.zip",
    "vertebrae": "vertebrae_labels.zip",
}


def lay(folder: Path, names: Iterable[str], data: bytes = b"x") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def found(inventory: Inventory) -> dict[str, dict[str, str]]:
    """Subject to role to the name of the file."""
    return {
        subject: {role: file.name for role, file in files.files.items()}
        for subject, files in inventory.subjects.items()
    }


def codes(inventory: Inventory) -> list[tuple[str, str]]:
    return [(finding.code, finding.place) for finding in inventory.findings]


def complete(inventory: Inventory, *subjects: str) -> None:
    assert list(inventory.subjects) == list(subjects)
    for files in inventory.subjects.values():
        assert tuple(files.files) == ENHANCE_PET.roles
        assert files.findings == ()
    assert not inventory.findings


def test_l1_one_object_per_file(tmp_path: Path) -> None:
    expected = {
        subject: {"ct": f"imaging-data/images/CT/{subject}.nii.gz", "pet": f"imaging-data/images/PT/{subject}.nii.gz"}
        | {role: f"imaging-data/ground-truth/{folder}/{subject}.nii.gz" for role, folder in FOLDERS.items()}
        for subject in ("0001", "0002", "1597")
    }
    lay(tmp_path, [name for files in expected.values() for name in files.values()])
    lay(tmp_path, [*SHEETS, "labels.json"])
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == expected
    complete(inventory, "0001", "0002", "1597")
    assert [sheet.name for sheet in inventory.sheets] == SHEETS
    assert [file.name for file in inventory.label_files] == ["labels.json"]
    assert inventory.other == 0


def test_sizes_and_urls_are_those_of_the_files(tmp_path: Path) -> None:
    lay(tmp_path, ["CT/0001.nii.gz"], b"12345")
    file = take_inventory(str(tmp_path)).subjects["0001"].files["ct"]
    assert (file.size, file.name) == (5, "CT/0001.nii.gz")
    assert file.url.endswith("CT/0001.nii.gz")


def test_l3_sets_that_are_split(tmp_path: Path) -> None:
    lay(tmp_path, [f"ground-truth/{folder}/{s}.nii.gz" for folder in FOLDERS.values() for s in ("0001", "1683")])
    lay(tmp_path, ["images/CT_0001-1000/0001.nii.gz", "images/CT_1001-1683/1683.nii.gz"])
    lay(tmp_path, ["images/PT_0001-1683/0001.nii.gz", "images/PT_0001-1683/1683.nii.gz"])
    complete(take_inventory(str(tmp_path)), "0001", "1683")


@pytest.mark.parametrize("inside", ["{}.nii.gz", "{folder}/{}.nii.gz", "V2/ENHANCE-PET_1.6k/{folder}/{}.nii.gz"])
def test_l4_archives_with_any_path_inside(tmp_path: Path, zipped: Build, inside: str) -> None:
    archives = {folder: f"{folder}.zip" for folder in FOLDERS.values()} | {"PT_0001-1683": "PT_0001-1683.zip"}
    for folder, archive in archives.items():
        names = [inside.format(s, folder=folder) for s in ("0001", "1001")]
        (tmp_path / archive).write_bytes(zipped(dict.fromkeys(names, b"xyz")))
    for folder, subject in (("CT_0001-1000", "0001"), ("CT_1001-1683", "1001")):
        (tmp_path / f"{folder}.zip").write_bytes(zipped({inside.format(subject, folder=folder): b"xyz"}))
    lay(tmp_path, [*SHEETS, "labels.json"])
    inventory = take_inventory(str(tmp_path))
    complete(inventory, "0001", "1001")
    file = inventory.subjects["1001"].files["organs"]
    assert file.name == "Organs.zip!" + inside.format("1001", folder="Organs")
    assert file.size == 3


def test_l5_what_moosez_leaves(tmp_path: Path, zipped: Build) -> None:
    for archive in L5.values():
        (tmp_path / archive).write_bytes(zipped({"0001.nii.gz": b"x"}))
    (tmp_path / "CT_images_1000-1683.zip").write_bytes(zipped({"1683.nii.gz": b"x"}))
    lay(tmp_path, ["CT_details.xlsx", "PT_details.xlsx", "labels.json"])
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == {
        "0001": {role: f"{archive}!0001.nii.gz" for role, archive in L5.items()},
        "1683": {"ct": "CT_images_1000-1683.zip!1683.nii.gz"},
    }
    assert [sheet.name for sheet in inventory.sheets] == ["CT_details.xlsx", "PT_details.xlsx"]


def test_l2_all_in_one_archive(tmp_path: Path, zipped: Build) -> None:
    names = [f"imaging-data/images/{kind}/0007.nii.gz" for kind in ("CT", "PT")]
    names += [f"imaging-data/ground-truth/{folder}/0007.nii.gz" for folder in FOLDERS.values()]
    (tmp_path / "ENHANCE-PET-1_6k.zip").write_bytes(zipped(dict.fromkeys(names, b"x")))
    complete(take_inventory(str(tmp_path)), "0007")


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title], ids=["lower", "upper", "title"])
def test_l6_any_case(tmp_path: Path, zipped: Build, change: Callable[[str], str]) -> None:
    lay(tmp_path, [change(f"enhance-pet-1_6k/imaging-data/{folder}/0001.nii.gz") for folder in FOLDERS.values()])
    lay(tmp_path, [change("pet images/0001.nii"), change("CT-details.xlsx"), change("pt details.xlsx")])
    (tmp_path / change("ct_images.zip")).write_bytes(zipped({change("0001.nii.gz"): b"x"}))
    inventory = take_inventory(str(tmp_path))
    complete(inventory, "0001")
    assert len(inventory.sheets) == 2


@pytest.mark.parametrize(
    ("folders", "role"),
    [
        (("CT",), "ct"),
        (("CT 0001-1000",), "ct"),
        (("PET",), "pet"),
        (("PT_images",), "pet"),
        (("Peripheral-bones",), "peripheral_bones"),
        (("peripheral bone labels",), "peripheral_bones"),
        (("BodyComposition",), "body_composition"),
        (("CT", "Organs"), "organs"),
        (("Organs", "CT"), "ct"),
        (("Organs", "deep", "down"), "organs"),
        (("Muscles.zip", "whatever"), "muscles"),
        (("CTres",), None),
        (("spectra",), None),
        (("organ donors",), None),
        ((), None),
    ],
)
def test_the_innermost_telling_folder_gives_the_role(folders: tuple[str, ...], role: str | None) -> None:
    assert Names(DESCRIPTION).role_of(folders) == role


def test_no_folder_of_one_family_is_anothers() -> None:
    for role, folder in FOLDERS.items():
        assert Names(DESCRIPTION).role_of((folder,)) == role
        assert Names(DESCRIPTION).role_of((role,)) == role


def test_junk_is_ignored_and_not_counted(tmp_path: Path) -> None:
    lay(tmp_path, ["CT/0001.nii.gz"])
    junk = ["._0001.nii.gz", ".DS_Store", "Thumbs.db", "thumbs.db", "0002.nii.gz.tmp", "x.part", "x.crdownload"]
    lay(tmp_path, [f"CT/{name}" for name in junk])
    junk = ["~$CT-details.xlsx", ".~lock.CT-details.xlsx#", "0003.nii.gz~", "desktop.ini", "0003.nii.gz.aria2"]
    lay(tmp_path, [*junk, "__MACOSX/CT/0002.nii.gz", "CT/__MACOSX/0003.nii.gz", "._CT-details.xlsx"])
    # Other systems' shadows of an archive are none, and an archive that was not fetched to its end is not opened.
    lay(
        tmp_path,
        ["._PT.zip", "__MACOSX/PT.zip", "Organs.zip.part", ".Trash/CT/0004.nii.gz", "$RECYCLE.BIN/CT/0005.nii"],
    )
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == {"0001": {"ct": "CT/0001.nii.gz"}}
    assert (inventory.other, inventory.sheets, inventory.findings) == (0, (), ())


def test_junk_within_archives_is_ignored(tmp_path: Path, zipped: Build) -> None:
    members = ["0001.nii.gz", "__MACOSX/._0001.nii.gz", "__MACOSX/0002.nii.gz", "._0003.nii.gz", ".DS_Store"]
    (tmp_path / "CT.zip").write_bytes(zipped(dict.fromkeys(members, b"x")))
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == {"0001": {"ct": "CT.zip!0001.nii.gz"}}
    assert inventory.other == 0


def test_what_is_neither_is_counted(tmp_path: Path) -> None:
    others = ["CT/1.nii.gz", "CT/00001.nii.gz", "CT/0001.nii.bz2", "CT/x0001.nii", "elsewhere/0001.nii.gz"]
    lay(tmp_path, [*others, "0001.nii.gz", "MR-details.xlsx", "CT-details.csv", "README"])
    inventory = take_inventory(str(tmp_path))
    assert inventory.subjects == {}
    assert inventory.sheets == ()
    assert inventory.other == 9


def test_a_duplicate_is_said_and_the_first_by_name_is_used(tmp_path: Path, zipped: Build) -> None:
    lay(tmp_path, ["images/CT/0001.nii.gz", "a/CT/0001.nii.gz"])
    (tmp_path / "CT.zip").write_bytes(zipped({"0001.nii.gz": b"x"}))
    files = take_inventory(str(tmp_path)).subjects["0001"]
    assert files.files["ct"].name == "CT.zip!0001.nii.gz"
    duplicates = [finding for finding in files.findings if finding.code == "warning.duplicate"]
    assert [finding.place for finding in duplicates] == ["0001/ct"] * 2
    assert [finding.message.partition(" ")[0] for finding in duplicates] == [
        "a/CT/0001.nii.gz", "images/CT/0001.nii.gz",
    ]  # fmt: skip
    assert all("CT.zip!0001.nii.gz was" in finding.message for finding in duplicates)


def test_plain_and_packed_of_one_subject_are_duplicates(tmp_path: Path) -> None:
    lay(tmp_path, ["CT/0001.nii.gz", "CT/0001.nii"])
    files = take_inventory(str(tmp_path)).subjects["0001"]
    assert "warning.duplicate" in [finding.code for finding in files.findings]


def test_gaps_are_listed_in_the_order_of_roles(tmp_path: Path) -> None:
    lay(tmp_path, ["Organs/0001.nii.gz"])
    files = take_inventory(str(tmp_path)).subjects["0001"]
    assert [(finding.code, finding.place) for finding in files.findings] == [
        ("warning.volume-missing", f"0001/{role}") for role in ENHANCE_PET.roles if role != "organs"
    ]
    assert "labels/ribs" in files.findings[-2].message


def test_folders_that_differ_in_case_only_are_one_set(tmp_path: Path) -> None:
    lay(tmp_path, ["Peripheral-Bones/0001.nii.gz", "Peripheral-bones/0002.nii.gz", "PERIPHERAL BONES/0002.nii.gz"])
    inventory = take_inventory(str(tmp_path))
    assert {subject: files["peripheral_bones"] for subject, files in found(inventory).items()} == {
        "0001": "Peripheral-Bones/0001.nii.gz",
        "0002": "PERIPHERAL BONES/0002.nii.gz",
    }
    assert inventory.subjects["0002"].duplicates == {"peripheral_bones": 1}
    assert inventory.subjects["0001"].duplicates == {}


# Archives


def test_sheets_and_label_tables_within_an_archive_are_found(tmp_path: Path, zipped: Build) -> None:
    members = ["PT-details.xlsx", "CT-details.xlsx", "labels.json", "images/CT/0001.nii.gz"]
    (tmp_path / "all.zip").write_bytes(zipped(dict.fromkeys(members, b"x")))
    inventory = take_inventory(str(tmp_path / "all.zip"))
    assert [sheet.name for sheet in inventory.sheets] == ["all.zip!CT-details.xlsx", "all.zip!PT-details.xlsx"]
    assert [file.name for file in inventory.label_files] == ["all.zip!labels.json"]
    assert inventory.other == 0


def test_an_archive_that_windows_packed(tmp_path: Path, zipped: Build) -> None:
    names = {"imaging-data\\images\\CT\\0001.nii.gz": b"x", "..\\CT\\0002.nii.gz": b"x", "C:\\CT\\0003.nii.gz": b"x"}
    (tmp_path / "all.zip").write_bytes(zipped(names))
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == {"0001": {"ct": "all.zip!imaging-data\\images\\CT\\0001.nii.gz"}}
    assert [finding.message for finding in inventory.findings] == ["the member climbs out of the archive"] * 2


def test_an_archive_within_an_archive_is_named(tmp_path: Path, zipped: Build) -> None:
    (tmp_path / "all.zip").write_bytes(zipped({"V2/CT.zip": zipped({"0001.nii.gz": b"x"}), "__MACOSX/x.zip": b""}))
    inventory = take_inventory(str(tmp_path))
    assert codes(inventory) == [("source.archive-unreadable", "all.zip!V2/CT.zip")]
    assert "take it out" in inventory.findings[0].message


def test_a_way_of_packing_that_is_not_read_is_named(tmp_path: Path, zipped: Build) -> None:
    (tmp_path / "CT.zip").write_bytes(zipped({"0001.nii.gz": b"x"}, zipfile.ZIP_BZIP2))
    inventory = take_inventory(str(tmp_path))
    assert codes(inventory) == [("source.archive-unreadable", "CT.zip!0001.nii.gz")]


def test_members_that_share_their_data_are_refused(tmp_path: Path, zipped: Build) -> None:
    """As in a zip bomb, whose members all inflate the same bytes."""
    data = zipped({"0001.nii.gz": b"x" * 50, "0002.nii.gz": b"x" * 50})
    first, second = data.index(b"PK\1\2"), data.rindex(b"PK\1\2")
    (tmp_path / "CT.zip").write_bytes(data[: second + 42] + bytes(4) + data[second + 46 :])
    (tmp_path / "PT.zip").write_bytes(data[: first + 20] + b"\xff" + data[first + 21 :])
    inventory = take_inventory(str(tmp_path))
    refused = ["CT.zip!0001.nii.gz", "CT.zip!0002.nii.gz", "PT.zip!0001.nii.gz"]
    assert codes(inventory) == [("source.archive-unreadable", place) for place in refused]
    assert found(inventory) == {"0002": {"pet": "PT.zip!0002.nii.gz"}}


@pytest.mark.parametrize("name", ["../0001.nii.gz", "CT/../../0001.nii.gz", "/0001.nii.gz", "/etc/CT/0001.nii.gz"])
def test_a_member_that_climbs_out_is_refused_alone(tmp_path: Path, zipped: Build, name: str) -> None:
    (tmp_path / "CT.zip").write_bytes(zipped({name: b"evil", "0002.nii.gz": b"good"}))
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == {"0002": {"ct": "CT.zip!0002.nii.gz"}}
    assert codes(inventory) == [("source.archive-unreadable", f"CT.zip!{name}")]
    assert not inventory.findings[0].is_warning


def test_a_member_twice_is_refused_or_said(tmp_path: Path, zipped: Build) -> None:
    data = zipped({"0001.nii.gz": b"first", "0009.nii.gz": b"second"}).replace(b"0009.nii.gz", b"0001.nii.gz")
    (tmp_path / "CT.zip").write_bytes(data)
    inventory = take_inventory(str(tmp_path))
    findings = [*inventory.findings, *(f for files in inventory.subjects.values() for f in files.findings)]
    assert {finding.code for finding in findings} & {"warning.duplicate", "source.archive-unreadable"}


def test_an_encrypted_member_is_refused(tmp_path: Path, zipped: Build) -> None:
    data = bytearray(zipped({"0001.nii.gz": b"secret"}))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    (tmp_path / "CT.zip").write_bytes(data)
    inventory = take_inventory(str(tmp_path))
    assert inventory.subjects == {}
    assert [code for code, _ in codes(inventory)] == ["source.archive-unreadable"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95, 0.999])
def test_a_cut_archive_is_reported_and_the_rest_goes_on(tmp_path: Path, zipped: Build, kept: float) -> None:
    data = zipped({f"{number:04d}.nii.gz": bytes(100) for number in range(1, 30)})
    (tmp_path / "CT.zip").write_bytes(data[: int(len(data) * kept)])
    lay(tmp_path, ["PT/0001.nii.gz"])
    inventory = take_inventory(str(tmp_path))
    assert found(inventory) == {"0001": {"pet": "PT/0001.nii.gz"}}
    assert codes(inventory) == [("source.archive-unreadable", "CT.zip")]
    assert inventory.findings[0].message.startswith(f"{int(len(data) * kept)} bytes")


def test_what_is_no_archive_is_reported(tmp_path: Path) -> None:
    lay(tmp_path, ["Organs.zip"], b"<html>not found</html>")
    assert codes(take_inventory(str(tmp_path))) == [("source.archive-unreadable", "Organs.zip")]


def test_members_can_be_opened(tmp_path: Path, nifti: Build, zipped: Build) -> None:
    voxels = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    blob = gzip.compress(nifti(voxels))
    # Names that URLs have their own ideas of.
    folder = tmp_path / "a b#c%20d"
    folder.mkdir()
    (folder / "CT images.zip").write_bytes(zipped({"CT 1/x#y/0001.nii.gz": blob}, zipfile.ZIP_DEFLATED))
    (folder / "PT").mkdir()
    (folder / "PT" / "0001.nii.gz").write_bytes(blob)
    files = take_inventory(str(folder)).subjects["0001"].files
    for role in ("ct", "pet"):
        assert peek_header(files[role]).grid.shape_zyx == (2, 3, 4)
        with VolumeStream(files[role]) as stream:
            np.testing.assert_array_equal(np.concatenate([slab.copy() for slab in stream.slabs(1)]), voxels)
        assert files[role].size == len(blob)


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    names = [f"{kind}/{subject}.nii.gz" for kind in ("CT", "PT", "Ribs") for subject in ("0002", "0001")]
    lay(tmp_path / "one", names)
    lay(tmp_path / "two", reversed(names))
    one, two = (found(take_inventory(str(tmp_path / name))) for name in ("one", "two"))
    assert one == two
    assert list(one) == ["0001", "0002"]
    assert list(one["0001"]) == ["ct", "pet", "ribs"]


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        take_inventory(str(tmp_path / "absent"))
    assert caught.value.code == "settings.url"


def test_an_empty_place(tmp_path: Path) -> None:
    inventory = take_inventory(str(tmp_path))
    assert (inventory.subjects, inventory.sheets, inventory.findings, inventory.other) == ({}, (), (), 0)


def test_a_name_that_can_be_no_subjects_id_is_told(tmp_path: Path) -> None:
    anything = msgspec.structs.replace(DESCRIPTION, subject=SubjectRule(pattern="[^/]+"))
    (tmp_path / "CT").mkdir()
    for name in ("-x", "a b", "right"):
        (tmp_path / f"CT/{name}.nii.gz").touch()
    inventory = take_inventory(str(tmp_path), anything)
    assert list(inventory.subjects) == ["right"]
    found = {(finding.code, finding.place) for finding in inventory.findings}
    assert found == {("source.subject-id", "CT/-x.nii.gz"), ("source.subject-id", "CT/a b.nii.gz")}
