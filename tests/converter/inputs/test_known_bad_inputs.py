"""The 28 bad inputs that the corpus and its likes are known for (docs/inputs.md), each under its number.

Subject 0007 is input 7, subjects 0107 and 0207 are variants of it. All lie in one source, which is converted once: what
is wrong with one of them must not reach another.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.inventory import take_inventory
from converter.write import write_volume
from corpus.errors import CODES
from corpus.labels import families
from corpus.stores import Store

if TYPE_CHECKING:
    from converter.plan import VolumePlan

Build = Callable[..., bytes]

ZYX = (6, 7, 8)
LAS = np.array(((-2.0, 0, 0, 90), (0, 2.0, 0, -126), (0, 0, 3.0, -72), (0, 0, 0, 1)))
CT = np.random.default_rng(0).integers(-1000, 1500, ZYX).astype(np.int16)
PET = np.random.default_rng(1).integers(0, 30_000, ZYX).astype(np.int16)
MAP = np.zeros(ZYX, np.uint8)
MAP[1:3, 2:5, 5:8] = 5
IN_RAS = np.diag([-1.0, 1, 1, 1])
IN_RAS[0, 3] = ZYX[2] - 1
RAS = LAS @ IN_RAS
"""The lattice of LAS with its first axis the other way round."""
NOISE = 1e-7
HTML = b"<html><body>404 Not Found</body></html>"


def edited(affine: np.ndarray, **cells: float) -> np.ndarray:
    changed = affine.copy()
    for cell, value in cells.items():
        changed[int(cell[1]), int(cell[2])] = value
    return changed


def fill_1_to_5(inputs: Any, nifti: Build) -> None:
    unknown, holes = MAP.copy(), MAP.astype(np.float32)
    unknown[5, 6, 7] = 200
    inputs.put("0001", "ct", nifti(CT))
    inputs.put("0001", "organs", nifti(MAP))
    inputs.put("0002", "organs", nifti(unknown))
    inputs.put("0003", "organs", nifti(MAP * 0))
    inputs.put("0004", "organs", nifti(MAP.astype(np.int32)))
    inputs.put("0004", "ribs", nifti(holes * np.float32(1.0001)))
    inputs.put("0004", "cardiac", nifti((MAP.astype(np.int16) - 5) * 2, slope=0.5, inter=5.0))
    inputs.put("0004", "muscles", nifti(holes + np.float32(0.4)))
    inputs.put("0005", "ct", nifti(CT.astype(np.float32) + np.float32(0.365)))
    inputs.put("0105", "ct", nifti(CT.astype(np.float32)))
    inputs.put("0205", "ct", nifti(CT))


def fill_6_to_10(inputs: Any, nifti: Build) -> None:
    for subject in ("0006", "0009", "0010"):
        inputs.put(subject, "ct", nifti(CT))
    inputs.put("0006", "organs", nifti(MAP[:, :, ::-1], RAS))
    inputs.put("0006", "muscles", nifti(MAP[:4]))
    inputs.put("0006", "ribs", nifti(MAP, edited(LAS, _03=93.0)))
    inputs.put("0006", "cardiac", nifti(MAP, LAS + NOISE))
    inputs.put("0007", "ct", nifti(CT, qform=edited(LAS, _03=140.0)))
    inputs.put("0107", "ct", nifti(CT, sform_code=0))
    inputs.put("0207", "ct", nifti(CT, sform_code=0, qform_code=0))
    inputs.put("0307", "ct", nifti(CT, qform_code=0))
    inputs.put("0008", "ct", nifti(CT, edited(LAS, _12=0.9)))
    inputs.put("0108", "ct", nifti(CT, LAS + NOISE))
    inputs.put("0010", "organs", nifti(MAP[:, :, ::-1], RAS))
    # A tool that copied the CT's geometry onto a map in another voxel order: what the affine says is what counts.
    inputs.put("0010", "ribs", nifti(MAP[:, :, ::-1], LAS))


def fill_11_to_18(inputs: Any, nifti: Build, extension: Build) -> None:
    for subject, slope in (("0011", np.nan), ("0111", np.inf), ("0211", 0.0)):
        inputs.put(subject, "pet", nifti(PET, slope=slope, inter=7.0))
    inputs.put("0012", "pet", nifti(PET, slope=0.58, inter=-3.0))
    inputs.put("0013", "pet", nifti(PET))
    inputs.put("0113", "pet", nifti(PET))
    odd = PET.astype(np.float32)
    odd[0, 0, :4] = np.nan, np.inf, -np.inf, -12.5
    inputs.put("0014", "pet", nifti(odd))
    inputs.put("0114", "pet", nifti(np.full(ZYX, np.nan, np.float32)))
    inputs.put("0015", "pet", nifti(np.zeros((3, *ZYX), np.float32)))
    inputs.put("0115", "pet", nifti(PET[None, None]))
    whole = gzip.compress(nifti(CT), mtime=0)
    inputs.put("0016", "ct", whole[:-20], packed=False)
    inputs.put("0116", "ct", whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:], packed=False)
    inputs.put("0216", "ct", whole + HTML, packed=False)
    data = nifti(CT)
    parts = [data[start : start + 100] for start in range(0, len(data), 100)]
    inputs.put("0017", "ct", b"".join(gzip.compress(part) for part in parts), packed=False)
    inputs.put("0117", "ct", data, packed=False)
    inputs.put("0018", "ct", nifti(CT, order=">"))
    inputs.put("0118", "ct", nifti(CT, version=2))
    inputs.put("0218", "ct", nifti(CT, extension=extension(b"<xml/>", 0), gap=16))
    inputs.put("0318", "ct", nifti(CT, order=">", version=2, extension=extension(b"big", 6, ">")))


def fill_19_to_28(inputs: Any, nifti: Build, zipped: Build, xlsx: Build) -> None:
    ct = gzip.compress(nifti(CT), mtime=0)
    for name in (
        "._0019.nii.gz",
        ".DS_Store",
        "Thumbs.db",
        "0019.nii.gz.tmp",
        "__MACOSX/._0019.nii.gz",
        "0019.nii.gz.part",
    ):
        inputs.file(f"imaging-data/images/CT/{name}", ct)
    inputs.file("CT_images_0001-1000.zip", zipped({"0020.nii.gz": ct, "0120.nii.gz": ct})[: len(ct) + 80])
    inputs.file("ribs_labels.zip", HTML)
    inputs.file("PT_images.zip", zipped({"0121.nii.gz": ct, "../0021.nii.gz": ct, "/etc/PT/0021.nii.gz": ct}))
    inputs.file("organs_labels.zip", encrypted(zipped({"0021.nii.gz": ct})))
    inputs.file("labels.json", b'{"organs": {"1": "gallbladder", "19": "not the trachea",}}')
    inputs.put("0022", "organs", nifti(np.where(MAP > 0, 19, 0).astype(np.uint8)))
    for subject in ("0023", "0123", "0024"):
        inputs.put(subject, "pet", nifti(PET))
    brain = MAP.copy()
    brain[0] = 4
    inputs.put("0025", "organs", nifti(brain))
    inputs.put("0125", "organs", nifti(MAP))
    inputs.put("0026", "ct", nifti(np.tile(CT, (4, 20, 19)), edited(LAS, _00=-1.0, _11=1.0, _22=5.0)))
    inputs.put("0028", "peripheral_bones", nifti(MAP))
    inputs.file("imaging-data/ground-truth/peripheral-bones/0128.nii.gz", gzip.compress(nifti(MAP)))
    # Read as a person leaves it: stray blanks, a number as 23.0, dates and ages as text, cells without a value.
    leipzig = "University Hospital Leipzig (DE).\t"
    listed = [f"{number}.0" for number in (*range(1, 24), *range(25, 29), 113)]
    inputs.file("CT_details.xlsx", xlsx([[" patient", "DATA-SOURCE "], *([each, leipzig] for each in listed)]))
    header = ["Patient ", "age", "SEX", "Weight [KG]", "Height [m]", "data source", "units", "Year"]
    rows = [[each, " 81,8", "f", "", "n/a", leipzig, "BQML", "2014-05-01"] for each in listed]
    rows[12][6], rows[-1][6] = "CNTS", None
    inputs.file("PT_details.xlsx", xlsx([header, *rows]))


def encrypted(archive: bytes) -> bytes:
    marked = bytearray(archive)
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        marked[marked.index(signature) + flags] |= 1
    return bytes(marked)


@pytest.fixture(scope="module")
def done(inputs: Any, nifti: Build, extension: Build, zipped: Build, xlsx: Build) -> Any:
    fill_1_to_5(inputs, nifti)
    fill_6_to_10(inputs, nifti)
    fill_11_to_18(inputs, nifti, extension)
    fill_19_to_28(inputs, nifti, zipped, xlsx)
    return inputs.convert()


def test_nothing_else_failed(done: Any, place_of: Callable[..., str]) -> None:
    volumes = [("0004", "muscles"), ("0015", "pet"), ("0016", "ct"), ("0116", "ct"), ("0216", "ct")]
    archives = ["CT_images_0001-1000.zip", "PT_images.zip!../0021.nii.gz", "PT_images.zip!/etc/PT/0021.nii.gz"]
    archives += ["organs_labels.zip!0021.nii.gz", "ribs_labels.zip"]
    failed = {finding.place for finding in done.report.failures}
    assert failed == {*archives, *(place_of(subject, role) for subject, role in volumes)}
    assert not [finding for finding in done.report.failures if finding.code == "source.unexpected"]


def test_01_a_volume_that_is_missing_is_a_gap(done: Any) -> None:
    assert done.mirror.catalog.subject("0001")["gaps"] == [
        "pet",
        *(f"labels/{role}" for role in families() if role != "organs"),
    ]
    missing = [finding.place for finding in done.report.warnings if finding.code == "warning.volume-missing"]
    assert {"0001/pet", "0001/ribs"} <= set(missing)
    assert not {"0001/ct", "0001/organs"} & set(missing)


def test_02_label_values_that_the_table_does_not_know_are_kept(done: Any) -> None:
    assert done.warnings("0002/organs") == {"warning.label-unexpected", "warning.label-grid"}
    assert done.stored("0002", "organs")[5, 6, 7] == 200
    assert {value: row["name"] for value, row in done.regions("0002").items()}[200] == "unexpected_200"
    # Expected ones that are absent are simply not among the regions.
    assert set(done.regions("0002")) == {5, 200}


def test_03_a_map_of_background_is_valid_and_flagged(done: Any) -> None:
    assert "warning.label-empty" in done.warnings("0003/organs")
    assert done.regions("0003") == {}
    assert not done.stored("0003", "organs").any()


def test_04_label_maps_of_other_types_are_whole_numbers_or_refused(done: Any, place_of: Callable[..., str]) -> None:
    for role in ("organs", "ribs", "cardiac"):
        assert done.row("0004", role)["dtype"] == "uint8"
        np.testing.assert_array_equal(done.stored("0004", role), MAP)
    assert "warning.label-rounded" in done.warnings("0004/ribs")
    assert [done.row("0004", role)["lossless"] for role in ("organs", "ribs", "cardiac")] == [True, False, True]
    assert done.failures(place_of("0004", "muscles")) == ["source.label-fractional"]
    assert "nearest neighbour" in done.hint(place_of("0004", "muscles"))


def test_05_a_ct_is_cast_only_where_nothing_is_lost(done: Any) -> None:
    assert [done.row(subject)["dtype"] for subject in ("0005", "0105", "0205")] == ["float32", "int16", "int16"]
    for subject in ("0005", "0105", "0205"):
        exported, original = done.exported(subject)
        assert exported == original


def test_06_ct_and_maps_of_different_grids(done: Any) -> None:
    np.testing.assert_array_equal(done.stored("0006", "organs"), MAP)
    assert done.warnings("0006/organs") == {"warning.label-reordered"}
    # Of another extent, or a voxel and a half aside: kept apart, on a grid of its own.
    for role in ("muscles", "ribs"):
        assert done.warnings(f"0006/{role}") == {"warning.label-grid"}
        assert done.row("0006", role)["image_path"] == f"labels_{role}"
    # Float noise is no difference.
    assert done.row("0006", "cardiac")["image_path"] == "ct/labels/cardiac"
    assert done.warnings("0006/cardiac") == set()


def test_07_sform_then_qform_then_pixdim(done: Any) -> None:
    subjects = ("0007", "0107", "0207", "0307")
    assert [done.row(subject)["affine_source"] for subject in subjects] == ["sform", "qform", "pixdim", "sform"]
    assert done.warnings("0007/ct") == {"warning.affine-conflict"}
    assert done.warnings("0207/ct") == {"warning.affine-pixdim"}
    assert done.warnings("0107/ct") == done.warnings("0307/ct") == set()
    np.testing.assert_allclose(done.row("0007")["affine"], LAS.ravel())


def test_08_sheared_axes_are_accepted_with_their_full_affine(done: Any) -> None:
    # A qform cannot hold shear, so the two disagree, as with dcm2niix.
    assert done.warnings("0008/ct") == {"warning.affine-sheared", "warning.affine-conflict"}
    assert not done.row("0008")["aligned"]
    np.testing.assert_allclose(done.row("0008")["affine"], edited(LAS, _12=0.9).ravel(), rtol=1e-6)
    assert done.warnings("0108/ct") == set()
    assert done.row("0108")["aligned"]


def test_09_a_negative_determinant_is_kept(done: Any) -> None:
    assert done.row("0009")["orientation"] == "LAS"
    np.testing.assert_array_equal(done.stored("0009"), CT)
    assert np.linalg.det(np.reshape(done.row("0009")["affine"], (4, 4))) < 0


def test_10_a_map_lies_where_its_affine_says(done: Any) -> None:
    middle = np.argwhere(MAP)[:, ::-1].mean(axis=0)
    right_way, mirrored = (done.mirror.catalog.regions["0010"][number] for number in (0, 1))
    assert (right_way["family"], mirrored["family"]) == ("organs", "ribs")
    assert right_way["centroid_x_mm"] == pytest.approx((LAS @ [*middle, 1])[0])
    # Nothing is mended: a mirrored mask stays mirrored, for the checks of quality to find.
    assert mirrored["centroid_x_mm"] == pytest.approx((LAS @ [7 - middle[0], 0, 0, 1])[0])
    assert done.warnings("0010/ribs") == set()


def test_11_a_slope_without_sense_is_no_scaling(done: Any) -> None:
    for subject in ("0011", "0111", "0211"):
        np.testing.assert_array_equal(done.stored(subject, "pet"), PET)
        assert (done.row(subject, "pet")["min"], done.row(subject, "pet")["max"]) == (PET.min(), PET.max())
        exported, original = done.exported(subject, "pet")
        assert exported == original


def test_12_a_slope_stays_beside_the_raw_numbers(done: Any) -> None:
    assert done.row("0012", "pet")["dtype"] == "int16"
    np.testing.assert_array_equal(done.stored("0012", "pet"), PET)
    slope, inter = np.float32(0.58), np.float32(-3.0)
    assert done.row("0012", "pet")["max"] == pytest.approx(float(PET.max() * slope + inter))
    array = json.loads((done.folder / "subjects/0012.ome.zarr/pet/scale0/pet/zarr.json").read_text())
    assert (array["attributes"]["scale_factor"], array["attributes"]["add_offset"]) == (float(slope), float(inter))


def test_13_a_pet_of_counts_or_of_no_unit_has_no_suv(done: Any) -> None:
    assert [done.row(subject, "pet")["units"] for subject in ("0013", "0113", "0012")] == ["CNTS", "unknown", "Bq/ml"]
    for subject in ("0013", "0113"):
        assert done.row(subject, "pet")["suv_factor"] is None


def test_14_what_is_not_finite_is_counted_and_left_out(done: Any) -> None:
    assert "warning.non-finite" in done.warnings("0014/pet")
    row = done.row("0014", "pet")
    assert (row["nan_count"], row["min"], row["max"]) == (3, -12.5, float(PET.ravel()[4:].max()))
    assert np.isfinite(row["mean"])
    assert np.isnan(done.stored("0014", "pet")[0, 0, 0])
    nothing = done.row("0114", "pet")
    assert (nothing["min"], nothing["max"], nothing["mean"]) == (None, None, None)


def test_15_four_dimensions_are_refused_unless_the_rest_are_1(done: Any, place_of: Callable[..., str]) -> None:
    assert done.failures(place_of("0015", "pet")) == ["source.not-3d"]
    assert "[8, 7, 6, 3]" in done.message(place_of("0015", "pet"))
    assert "Split" in done.hint(place_of("0015", "pet"))
    np.testing.assert_array_equal(done.stored("0115", "pet"), PET)


def test_16_a_broken_stream_is_never_taken_for_whole(done: Any, place_of: Callable[..., str]) -> None:
    assert done.failures(place_of("0016")) == ["source.gzip-truncated"]
    assert done.failures(place_of("0116")) == ["source.gzip-corrupt"]
    assert done.failures(place_of("0216")) == ["source.gzip-corrupt"]
    for subject in ("0016", "0116", "0216"):
        assert "gzip -t" in done.hint(place_of(subject))
        assert not (done.folder / f"subjects/{subject}.ome.zarr").exists()


def test_17_several_members_and_plain_files(done: Any) -> None:
    for subject in ("0017", "0117"):
        np.testing.assert_array_equal(done.stored(subject), CT)
        exported, original = done.exported(subject)
        assert exported == original


def test_18_byte_order_versions_extensions_and_offsets(done: Any) -> None:
    for subject in ("0018", "0118", "0218", "0318"):
        np.testing.assert_array_equal(done.stored(subject), CT)
        exported, original = done.exported(subject)
        assert exported == original


def test_19_what_is_no_volume_is_ignored_by_name(done: Any) -> None:
    assert "0019" not in done.mirror.catalog.subjects
    # Nothing was seen and not understood.
    assert take_inventory(str(done.source)).other == 0


def test_20_an_archive_that_was_cut_or_is_none(done: Any) -> None:
    for name in ("CT_images_0001-1000.zip", "ribs_labels.zip"):
        assert done.failures(name) == ["source.archive-unreadable"]
        assert "again" in done.hint(name)


def test_21_members_that_are_refused(done: Any) -> None:
    for member in (
        "PT_images.zip!../0021.nii.gz",
        "PT_images.zip!/etc/PT/0021.nii.gz",
        "organs_labels.zip!0021.nii.gz",
    ):
        assert done.failures(member) == ["source.archive-unreadable"]
    assert "0021" not in done.mirror.catalog.subjects
    # And those beside them are read in place.
    np.testing.assert_array_equal(done.stored("0121", "pet"), CT)


def test_21_a_member_twice_is_refused(zipped: Build, nifti: Build, tmp_path: Any) -> None:
    ct = gzip.compress(nifti(CT))
    data = zipped({"0001.nii.gz": ct, "0009.nii.gz": ct[:-9]}).replace(b"0009.nii.gz", b"0001.nii.gz")
    (tmp_path / "CT.zip").write_bytes(data)
    inventory = take_inventory(str(tmp_path))
    assert inventory.subjects == {}
    assert {finding.code for finding in inventory.findings} == {"source.archive-unreadable"}
    assert all(finding.hint == CODES[finding.code].hint for finding in inventory.findings)


def test_22_the_built_in_label_table_has_the_word(done: Any) -> None:
    assert done.regions("0022")[19]["name"] == "trachea"
    assert done.failures("labels.json") == []
    assert done.warnings("labels.json") == {"warning.label-table"}


def test_23_a_sheet_as_people_leave_it(done: Any) -> None:
    row = done.mirror.catalog.subject("0023")
    assert (row["age_years"], row["sex"], row["weight_kg"], row["height_m"]) == (81.8, "F", None, None)
    assert (row["license"], done.row("0023", "pet")["units"]) == ("CC-BY-4.0", "Bq/ml")
    assert json.loads(row["details"]) == {"PT: Year": "2014-05-01"}


def test_24_a_subject_of_no_sheet_has_no_licence(done: Any) -> None:
    assert done.warnings("0024") == {"warning.licence-unknown"}
    assert done.mirror.catalog.subject("0024")["license"] == "unknown"
    assert done.mirror.catalog.subject("0024")["age_years"] is None
    assert done.warnings("0023") == set()


def test_25_two_releases_in_one_folder_are_told_apart(done: Any) -> None:
    # Brain (4) is in the table, as it is in one of the releases: no warning, and each store says what it came from.
    assert set(done.regions("0025")) == {4, 5}
    assert "warning.label-unexpected" not in done.warnings("0025/organs")
    one, other = done.row("0025", "organs"), done.row("0125", "organs")
    assert one["source_sha256"] != other["source_sha256"]
    assert all(len(row["source_sha256"]) == 64 for row in (one, other))
    root = json.loads((done.folder / "subjects/0025.ome.zarr/zarr.json").read_text())["attributes"]["voxshelf"]
    assert root["release"] == done.mirror.catalog.subject("0025")["release"]


def test_26_axes_shrink_apart_where_slices_are_thick(done: Any) -> None:
    row = done.row("0026")
    assert row["spacing_mm_zyx"] == [5.0, 1.0, 1.0]
    levels = [done.mirror.level(done.mirror.volume("0026", "ct"), number) for number in range(row["levels"])]
    assert [factors for _, _, factors in levels[:3]] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]


def test_27_memory_does_not_grow_with_the_volume(plan: Callable[..., VolumePlan], nifti: Build, tmp_path: Any) -> None:
    peaks = []
    for depth in (384, 768):
        ct = np.broadcast_to(np.arange(64.0)[None, None, :], (depth, 64, 64))
        planned = plan("ct", {"ct": nifti(ct)})
        tracemalloc.start()
        try:
            write_volume(planned, Store(str(tmp_path / f"mirror{depth}")))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert peaks[-1] < planned.peak_bytes
    # How far the threads are apart makes a difference of a shard; the voxels that were added are twelve.
    assert peaks[1] - peaks[0] < 0.25 * 384 * 64 * 64 * 8


def test_28_folders_that_differ_in_case(done: Any) -> None:
    assert done.row("0028", "peripheral_bones")["source_name"].startswith("imaging-data/ground-truth/Peripheral-Bones")
    assert done.row("0128", "peripheral_bones")["source_name"].startswith("imaging-data/ground-truth/peripheral-bones")
