"""One volume from its file to its shards, against nibabel's reading of the file and plain zarr's of the store."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import nibabel as nib
import numpy as np
import pytest
import zarr
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image

from converter.plan import MirrorSettings, VolumePlan
from converter.pyramid import downsample
from converter.source import SourceFile
from converter.write import write_volume
from corpus import layout
from corpus.errors import SourceError, StoreError
from corpus.geometry import Reorder
from corpus.labels import families
from corpus.models import StoredImage
from corpus.nifti_header import padded
from corpus.outcomes import VolumeOutcome
from corpus.stores import Store

Plan = Callable[..., VolumePlan]
Build = Callable[..., bytes]

ROOT = layout.store_key("0001")
SHAPE = (20, 30, 25)
RANDOM = np.random.default_rng(7)
HU = RANDOM.integers(-1024, 3000, SHAPE).astype("<i2")
AT = np.indices(SHAPE).sum(axis=0) == 40
ISO = np.diag([1.0, 1.0, 1.0, 1.0])


def labels_of(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    labels = np.zeros(shape, dtype="u1")
    labels[3:9, 4:20, 5:9] = 8
    labels[10:12, 2:5, 2:24] = 3
    labels[0, 0, 0] = 1
    return labels


def from_nibabel(voxels_zyx: np.ndarray, affine: np.ndarray, kind: type[Nifti1Image] = Nifti1Image) -> bytes:
    """The file as nibabel itself writes it."""
    image = kind(voxels_zyx.T, affine, dtype=voxels_zyx.dtype)
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


def raw_of(data: bytes) -> np.ndarray:
    """Voxels (k, j, i) as they stand in the file, read by nibabel."""
    kind = Nifti2Image if data[:4] in {b"\x1c\x02\0\0", b"\0\0\x02\x1c"} else Nifti1Image
    return np.asarray(kind.from_bytes(data).dataobj.get_unscaled()).T


def level(store: Store, image: StoredImage, number: int = 0) -> np.ndarray:
    """A level, as any reader opens it by its path."""
    path = f"{store.url}/{ROOT}/{layout.array_path(image.path, number)}"
    return np.asarray(zarr.open_array(path, mode="r")[:])


def written(plan: VolumePlan, store: Store) -> StoredImage:
    outcome = write_volume(plan, store)
    assert outcome.image is not None
    return outcome.image


def codes(outcome: VolumeOutcome) -> list[str]:
    return [finding.code for finding in outcome.findings]


def shards(store: Store, image: StoredImage, number: int = 0) -> list[str]:
    path = f"{ROOT}/{layout.array_path(image.path, number)}/c"
    return [key.removeprefix(f"{path}/") for key in store.keys(path)]


@pytest.mark.parametrize("kind", [Nifti1Image, Nifti2Image])
def test_a_plain_ct_is_stored_as_it_is(plan: Plan, mirror: Store, las: np.ndarray, kind: type[Nifti1Image]) -> None:
    data = from_nibabel(HU, las, kind)
    image = written(plan("ct", {"ct": data}), mirror)
    stored = level(mirror, image)
    assert stored.dtype == np.dtype("<i2")
    np.testing.assert_array_equal(stored, raw_of(data))
    assert image.lossless
    assert image.source_header is None
    # Header bytes and voxels together are the inflated file.
    assert padded(image.header) + stored.tobytes() == data


@pytest.mark.parametrize(
    ("role", "voxels", "dtype"),
    [
        ("ct", HU.astype("<f4"), "int16"),
        ("ct", HU.astype(">f8"), "int16"),
        ("ct", HU.astype("<i4"), "int16"),
        ("ct", HU.astype(">i2"), "int16"),
        ("ct", HU.astype("<f4") + np.float32(0.25), "float32"),
        ("ct", HU.astype("<f4") * np.float32(0.1), "float32"),
        ("ct", np.where(AT, -0.0, HU).astype("<f4"), "float32"),
        ("ct", np.where(AT, np.nan, HU).astype("<f4"), "float32"),
        ("ct", HU.astype("<i4") * 40, "int32"),
        ("ct", HU.astype("<f8") / 3, "float64"),
        ("ct", (HU + 1024).astype("<u2"), "uint16"),
        ("pet", HU.astype("<f4"), "float32"),
        ("pet", HU.astype("<f8") * 0.5, "float32"),
        ("pet", HU.astype("<f8") / 3, "float64"),
        ("pet", HU.astype("<i4"), "int16"),
    ],
)
def test_types_are_narrowed_where_every_voxel_survives(
    plan: Plan, mirror: Store, nifti: Build, role: str, voxels: np.ndarray, dtype: str
) -> None:
    data = nifti(voxels, order=">" if voxels.dtype.byteorder == ">" else "<")
    image = written(plan(role, {role: data}), mirror)
    assert (image.dtype, image.dtype_source) == (dtype, voxels.dtype.str)
    stored = level(mirror, image)
    assert stored.dtype == np.dtype(dtype)
    assert stored.astype(voxels.dtype).tobytes() == raw_of(data).tobytes() == voxels.tobytes()
    assert image.lossless
    # What export needs to give the file back.
    original = padded(image.header) if image.source_header is None else image.source_header
    assert original + stored.astype(voxels.dtype).tobytes() == data
    # What readers of NIfTI-Zarr need to understand the array.
    seen = Nifti1Image.from_bytes(padded(image.header) + stored.tobytes())
    assert seen.get_data_dtype() == stored.dtype
    np.testing.assert_array_equal(seen.affine, Nifti1Image.from_bytes(data).affine)
    np.testing.assert_array_equal(np.asarray(seen.dataobj).T, stored)


@pytest.mark.parametrize("order", "<>")
def test_a_slope_stays_beside_the_raw_numbers(plan: Plan, mirror: Store, nifti: Build, order: str) -> None:
    data = nifti(HU, slope=0.5, inter=-1024.0, order=order)
    image = written(plan("ct", {"ct": data}), mirror)
    np.testing.assert_array_equal(level(mirror, image), HU)
    assert (image.scaling.slope, image.scaling.inter) == (0.5, -1024.0)
    array = zarr.open_array(f"{mirror.url}/{ROOT}/ct/scale0/ct", mode="r")
    assert (array.attrs["scale_factor"], array.attrs["add_offset"]) == (0.5, -1024.0)
    seen = Nifti1Image.from_bytes(padded(image.header) + HU.tobytes())
    np.testing.assert_array_equal(np.asarray(seen.dataobj).T, HU * 0.5 - 1024)
    physical = HU.astype(float) * 0.5 - 1024
    assert image.statistics is not None
    assert (image.statistics.minimum, image.statistics.maximum) == (physical.min(), physical.max())
    assert image.statistics.mean == pytest.approx(physical.mean())


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_senseless_slope_leaves_no_trace(plan: Plan, mirror: Store, nifti: Build, slope: float) -> None:
    data = nifti(HU, slope=slope)
    image = written(plan("ct", {"ct": data}), mirror)
    assert image.scaling.is_identity
    assert "scale_factor" not in zarr.open_array(f"{mirror.url}/{ROOT}/ct/scale0/ct", mode="r").attrs
    assert padded(image.header) + level(mirror, image).tobytes() == data


def test_extensions_and_gaps_are_kept(plan: Plan, mirror: Store, nifti: Build, extension: Build) -> None:
    for options in ({"extension": extension(b"<labels/>" * 500, 0)}, {"gap": 2016}, {"gap": 540 - 352}):
        data = nifti(HU, **options)
        image = written(plan("ct", {"ct": data}), mirror)
        assert padded(image.header) + level(mirror, image).tobytes() == data


def test_digests_are_right(plan: Plan, mirror: Store, nifti: Build) -> None:
    data = nifti(HU.astype(">f4"), order=">")
    job = plan("ct", {"ct": data})
    image = written(job, mirror)
    blob = Path(job.source.url).read_bytes()
    assert (image.source.size, image.source.sha256) == (len(blob), hashlib.sha256(blob).hexdigest())
    assert image.source.voxels_sha256 == hashlib.sha256(HU.astype(">f4").tobytes()).hexdigest()
    assert image.array_sha256 == hashlib.sha256(HU.tobytes()).hexdigest()
    assert image.array_sha256 == hashlib.sha256(level(mirror, image).tobytes()).hexdigest()


# Label maps


@pytest.mark.parametrize("kind", ["u1", "<i2", "<u4", "<f4", ">f8"])
def test_labels_of_any_type_are_stored_as_uint8(plan: Plan, mirror: Store, nifti: Build, kind: str) -> None:
    order = ">" if kind[0] == ">" else "<"
    data = nifti(labels_of().astype(kind), order=order)
    image = written(plan("organs", {"ct": nifti(HU), "organs": data}), mirror)
    assert image.path == "ct/labels/organs"
    assert image.dtype == "uint8"
    np.testing.assert_array_equal(level(mirror, image), labels_of())
    assert image.lossless
    assert Nifti1Image.from_bytes(padded(image.header) + labels_of().tobytes()).get_data_dtype() == np.uint8
    assert (image.source_header is None) == (kind == "u1")


def test_labels_with_a_slope_are_decoded(plan: Plan, mirror: Store, nifti: Build) -> None:
    data = nifti(labels_of().astype("<i2") * 4 + 8, slope=0.25, inter=-2.0)
    image = written(plan("organs", {"ct": nifti(HU), "organs": data}), mirror)
    np.testing.assert_array_equal(level(mirror, image), labels_of())
    assert image.lossless
    assert image.scaling.is_identity
    assert image.source_header == data[:352]
    seen = Nifti1Image.from_bytes(padded(image.header) + labels_of().tobytes())
    assert (seen.dataobj.slope, seen.dataobj.inter) == (1.0, 0.0)


def test_large_labels_take_a_wider_type(plan: Plan, mirror: Store, nifti: Build) -> None:
    for highest, dtype in ((255, "uint8"), (256, "uint16"), (70_000, "uint32")):
        labels = labels_of().astype("<i4")
        labels[-1, -1, -1] = highest
        outcome = write_volume(plan("organs", {"ct": nifti(HU), "organs": nifti(labels)}), mirror)
        assert outcome.image is not None
        assert outcome.image.dtype == dtype
        np.testing.assert_array_equal(level(mirror, outcome.image), labels)
        assert codes(outcome) == ["warning.label-unexpected"]
        assert str(highest) in outcome.findings[0].message


@pytest.mark.parametrize("axes", ["LPS", "RAS", "IPL", "SAR"])
@pytest.mark.parametrize("kind", ["u1", "<f4"])
def test_labels_in_another_order_lie_where_they_did(
    plan: Plan, mirror: Store, nifti: Build, las: np.ndarray, axes: str, kind: str
) -> None:
    # nibabel turns the label map; the CT stays LAS.
    straight = Nifti1Image(labels_of().T, las)
    turn = nib.orientations.ornt_transform(nib.io_orientation(las), nib.orientations.axcodes2ornt(axes))
    turned = straight.as_reoriented(turn)
    assert nib.aff2axcodes(turned.affine) == tuple(axes)
    data = nifti(np.asarray(turned.dataobj).T.astype(kind), turned.affine)
    outcome = write_volume(plan("organs", {"ct": nifti(HU), "organs": data}), mirror)
    image = outcome.image
    assert image is not None
    np.testing.assert_array_equal(level(mirror, image), labels_of())
    np.testing.assert_allclose(image.grid.affine, las, atol=1e-4)
    assert codes(outcome) == ["warning.label-reordered"]
    # What nibabel makes of the stored header and voxels lies where the source's voxels did.
    seen = Nifti1Image.from_bytes(padded(image.header) + level(mirror, image).tobytes())
    np.testing.assert_allclose(seen.affine, las, atol=1e-4)
    # And the order of the source can be had back.
    assert image.source_header == data[:352]
    undone = image.reorder.undo(level(mirror, image)).astype(kind)
    assert image.source_header + np.ascontiguousarray(undone).tobytes() == data
    for region in image.regions:
        places = nib.affines.apply_affine(turned.affine, np.argwhere(np.asarray(turned.dataobj) == region.value))
        np.testing.assert_allclose(region.centroid_mm_ras, places.mean(axis=0), atol=1e-3)
        assert region.voxels == len(places)


def test_labels_on_another_grid_are_kept_apart(plan: Plan, mirror: Store, nifti: Build) -> None:
    image = written(plan("organs", {"ct": nifti(HU), "organs": nifti(labels_of()[:15])}), mirror)
    assert (image.path, image.reorder) == ("labels_organs", Reorder())
    np.testing.assert_array_equal(level(mirror, image), labels_of()[:15])


def test_regions_are_those_of_the_map(plan: Plan, mirror: Store, nifti: Build, las: np.ndarray) -> None:
    image = written(plan("organs", {"ct": nifti(HU), "organs": nifti(labels_of())}), mirror)
    names = families()["organs"].by_value()
    assert [(region.value, region.name) for region in image.regions] == [(v, names[v].name) for v in (1, 3, 8)]
    for region in image.regions:
        where = np.argwhere(labels_of() == region.value)
        assert region.voxels == len(where)
        assert (region.start_zyx, region.stop_zyx) == (tuple(where.min(axis=0)), tuple(where.max(axis=0) + 1))
        center = nib.affines.apply_affine(las, where[:, ::-1]).mean(axis=0)
        np.testing.assert_allclose(region.centroid_mm_ras, center)
        assert region.volume_ml == pytest.approx(len(where) * 12 / 1000)
        assert region.touches_edge == (region.value == 1)


def test_an_empty_map_is_valid_and_flagged(plan: Plan, mirror: Store, nifti: Build) -> None:
    outcome = write_volume(plan("ribs", {"ct": nifti(HU), "ribs": nifti(np.zeros(SHAPE, "u1"))}), mirror)
    assert codes(outcome) == ["warning.label-empty"]
    assert outcome.image is not None
    assert shards(mirror, outcome.image) == []
    assert not level(mirror, outcome.image).any()


def test_rounded_labels_are_said_to_be(plan: Plan, mirror: Store, nifti: Build) -> None:
    labels = labels_of().astype("<f8")
    labels[5, 5, 5] += 5e-4
    outcome = write_volume(plan("organs", {"ct": nifti(HU), "organs": nifti(labels)}), mirror)
    assert outcome.image is not None
    assert not outcome.image.lossless
    assert codes(outcome) == ["warning.label-rounded"]
    np.testing.assert_array_equal(level(mirror, outcome.image), labels_of())


def test_non_finite_voxels_are_counted_and_kept(plan: Plan, mirror: Store, nifti: Build) -> None:
    voxels = HU.astype("<f4") * np.float32(0.1)
    voxels[3, 4, 5] = np.nan
    voxels[9, 1, 2] = np.nan
    outcome = write_volume(plan("pet", {"pet": nifti(voxels)}), mirror)
    assert outcome.image is not None
    assert outcome.image.statistics is not None
    assert outcome.image.statistics.non_finite == 2
    assert codes(outcome) == ["warning.non-finite"]
    assert level(mirror, outcome.image).tobytes() == voxels.tobytes()


def test_infinite_voxels_are_no_hindrance(plan: Plan, mirror: Store, nifti: Build) -> None:
    voxels = HU.astype("<f4") * np.float32(0.1)
    voxels[0, 0, 0] = np.inf  # where samples are taken
    image = written(plan("pet", {"pet": nifti(voxels)}), mirror)
    assert level(mirror, image).tobytes() == voxels.tobytes()


# Levels


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((7, 131, 66), (1.0, 1.0, 5.0)),  # z is never halved
        ((131, 9, 66), (1.0, 1.0, 1.0)),  # all are, in three slabs
        ((129, 5, 5), (2.0, 2.0, 1.0)),
        ((67, 65, 3), (1.0, 1.0, 2.5)),  # z is halved from the third level on
        ((64, 64, 64), (1.0, 1.0, 1.0)),  # one level
    ],
)
@pytest.mark.parametrize("kind", ["<i2", "<f4", "u1"])
def test_levels_are_those_of_the_whole_array(
    plan: Plan, mirror: Store, nifti: Build, shape: tuple[int, int, int], spacing: tuple[float, ...], kind: str
) -> None:
    is_label = kind == "u1"
    affine = np.diag([*spacing, 1.0])
    if is_label:
        voxels = RANDOM.integers(0, 4, shape).astype("u1")
        role, volumes = "organs", {"ct": nifti(np.zeros(shape, "u1"), affine), "organs": nifti(voxels, affine)}
    else:
        voxels = (RANDOM.integers(-1000, 1000, shape) * (0.37 if kind == "<f4" else 1)).astype(kind)
        role, volumes = "ct", {"ct": nifti(voxels, affine)}
    image = written(plan(role, volumes), mirror)
    expected = voxels
    before = (1, 1, 1)
    for number, cut in enumerate(image.levels):
        step = tuple(a // b for a, b in zip(cut.factors_zyx, before, strict=True))
        expected = downsample(expected, step, is_label=is_label)  # type: ignore[arg-type]  # three each
        stored = level(mirror, image, number)
        assert stored.shape == cut.grid.shape_zyx
        np.testing.assert_array_equal(stored, expected)
        before = cut.factors_zyx
    assert (len(image.levels) == 1) == (max(shape) <= 64)
    assert not mirror.exists(f"{ROOT}/{layout.level_path(image.path, len(image.levels))}/zarr.json")


@pytest.mark.parametrize("role", ["ct", "organs"])
def test_few_levels_are_some_of_all(plan: Plan, mirror: Store, nifti: Build, tmp_path: Path, role: str) -> None:
    shape, affine = (60, 131, 90), np.diag([1.0, 1.0, 5.0, 1.0])
    voxels = RANDOM.integers(0, 4, shape).astype("u1") if role == "organs" else RANDOM.integers(-9, 9, shape, "<i2")
    job = plan(role, {"ct": nifti(voxels, affine), "organs": nifti(voxels, affine)})
    every, other = written(job, mirror), Store(str(tmp_path / "few"))
    few = written(msgspec.structs.replace(job, settings=MirrorSettings("0.5", levels="few")), other)
    numbers = {cut.factors_zyx: number for number, cut in enumerate(every.levels)}
    assert [cut.factors_zyx for cut in every.levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    assert [cut.factors_zyx for cut in few.levels] == [(1, 1, 1), (1, 4, 4)]
    for number, cut in enumerate(few.levels):
        assert cut == every.levels[numbers[cut.factors_zyx]]
        np.testing.assert_array_equal(level(other, few, number), level(mirror, every, numbers[cut.factors_zyx]))


def test_levels_of_a_turned_map_begin_where_the_cts_do(
    plan: Plan, mirror: Store, nifti: Build, las: np.ndarray
) -> None:
    # Axes of odd length: the incomplete block is the stored order's last one, not the source's.
    labels = RANDOM.integers(0, 4, (9, 71, 69)).astype("u1")
    affine = las.copy()
    affine[:3, 3] += affine[:3, 1] * 70
    affine[:3, 1] *= -1
    volumes = {"ct": nifti(np.zeros(labels.shape, "u1"), las), "organs": nifti(labels[:, ::-1], affine)}
    image = written(plan("organs", volumes), mirror)
    assert not image.reorder.is_identity
    expected = downsample(labels, image.levels[1].factors_zyx, is_label=True)
    np.testing.assert_array_equal(level(mirror, image, 1), expected)


def test_slabs_that_meet_in_the_middle_of_a_shard(plan: Plan, mirror: Store, nifti: Build) -> None:
    # 300 slices in slabs of 64: three shards, the last of them incomplete.
    voxels = RANDOM.integers(-1000, 1000, (300, 6, 5)).astype("<i2")
    image = written(plan("ct", {"ct": nifti(voxels, ISO)}), mirror)
    np.testing.assert_array_equal(level(mirror, image), voxels)
    assert shards(mirror, image) == ["0/0/0", "1/0/0", "2/0/0"]


# A type that turns out to be too narrow


def test_nothing_of_a_narrower_try_is_left(plan: Plan, mirror: Store, nifti: Build) -> None:
    # As int16 the first shard has 128 slices and is full; as float32 it has 64, all of them zero, and is absent.
    voxels = np.zeros((200, 6, 5), dtype="<f4")
    voxels[64:128] = 5
    voxels[199, 0, 0] = 0.5
    outcome = write_volume(plan("ct", {"ct": nifti(voxels, ISO)}), mirror)
    assert outcome.image is not None
    assert outcome.image.dtype == "float32"
    np.testing.assert_array_equal(level(mirror, outcome.image), voxels)
    assert shards(mirror, outcome.image) == ["1/0/0", "3/0/0"]
    assert {record.key for record in outcome.objects} == set(mirror.keys(ROOT))


def test_nothing_of_a_narrower_try_is_left_in_label_maps(plan: Plan, mirror: Store, nifti: Build) -> None:
    labels = np.zeros((200, 6, 5), dtype="<u4")
    labels[64:128] = 5
    labels[199, 0, 0] = 100_000
    image = written(
        plan("organs", {"ct": nifti(np.zeros((200, 6, 5), "u1"), ISO), "organs": nifti(labels, ISO)}), mirror
    )
    assert image.dtype == "uint32"
    np.testing.assert_array_equal(level(mirror, image), labels)


def test_statistics_are_those_of_the_last_try(plan: Plan, mirror: Store, nifti: Build) -> None:
    voxels = np.zeros((200, 6, 5), dtype="<f4")
    voxels[:150] = 5
    voxels[199, 0, 0] = 0.5
    image = written(plan("ct", {"ct": nifti(voxels, ISO)}), mirror)
    assert image.statistics is not None
    assert image.statistics.mean == pytest.approx(voxels.mean(dtype=float))
    assert image.array_sha256 == hashlib.sha256(voxels.tobytes()).hexdigest()
    assert image.source.voxels_sha256 == image.array_sha256


# Failures


def damaged(data: bytes, kind: str) -> bytes:
    blob = bytearray(gzip.compress(data, 1))
    if kind == "checksum":
        blob[-5] ^= 1
    elif kind == "middle":
        blob[len(blob) // 2 : len(blob) // 2 + 64] = bytes(64)
    elif kind == "cut":
        del blob[-9:]
    elif kind == "garbage":
        blob += b"<html>"
    elif kind == "short":
        return gzip.compress(data[:-1], 1)
    return bytes(blob)


@pytest.mark.parametrize("kind", ["checksum", "middle", "cut", "garbage", "short"])
@pytest.mark.parametrize("role", ["ct", "organs"])
def test_a_damaged_file_leaves_no_objects_behind(
    plan: Plan, mirror: Store, nifti: Build, source: Callable[..., SourceFile], role: str, kind: str
) -> None:
    # More than two shards, so that some are written before the damage is met.
    voxels = RANDOM.integers(1, 250, (400, 40, 40), dtype=np.uint8)
    data = nifti(voxels, ISO)
    good = plan(role, {"ct": data, "organs": data})
    bad = msgspec.structs.replace(good, source=source(damaged(data, kind), "bad/0001.nii.gz"))
    for key in ("ct/labels/ribs/scale0/ribs/c/0/0/0", "ct/labels/zarr.json", "pet/zarr.json", "ctx/zarr.json"):
        mirror.put(f"{ROOT}/{key}", b"another task's")
    others = mirror.keys()
    with pytest.raises(SourceError) as caught:
        write_volume(bad, mirror)
    assert caught.value.place == "bad/0001.nii.gz"
    assert mirror.keys() == others


def test_a_failure_takes_what_was_there_before_with_it(plan: Plan, mirror: Store, nifti: Build) -> None:
    job = plan("ct", {"ct": nifti(HU)})
    write_volume(job, mirror)
    Path(job.source.url).write_bytes(damaged(nifti(HU), "checksum"))
    with pytest.raises(SourceError):
        write_volume(msgspec.structs.replace(job, digest="another"), mirror)
    # A record without its objects would be taken for done as soon as the old file is back.
    assert mirror.keys() == []


def test_what_is_stored_already_is_not_written_again(plan: Plan, mirror: Store, nifti: Build) -> None:
    job = plan("ct", {"ct": nifti(HU)})
    first = write_volume(job, mirror)
    Path(job.source.url).unlink()
    assert write_volume(job, mirror) == first


@pytest.mark.parametrize("change", ["missing", "cut"])
# Not the CT's own document: its subject's end writes that anew, with its label maps.
@pytest.mark.parametrize("key", ["ct/scale0/zarr.json", "ct/scale0/ct/c/0/0/0", "ct/nifti/c/0"])
def test_a_record_whose_objects_are_not_there_is_not_believed(
    plan: Plan, mirror: Store, nifti: Build, key: str, change: str
) -> None:
    job = plan("ct", {"ct": nifti(HU)})
    first = write_volume(job, mirror)
    before = mirror.get(f"{ROOT}/{key}")
    if change == "missing":
        mirror.delete(f"{ROOT}/{key}")
    else:
        mirror.put(f"{ROOT}/{key}", before[:-1])
    assert write_volume(job, mirror).objects == first.objects
    assert mirror.get(f"{ROOT}/{key}") == before


def test_fractional_labels_leave_no_objects_behind(plan: Plan, mirror: Store, nifti: Build) -> None:
    labels = np.ones((200, 40, 40), dtype="<f4")
    labels[199, 0, 0] = 0.5
    with pytest.raises(SourceError) as caught:
        write_volume(plan("organs", {"organs": nifti(labels, ISO)}), mirror)
    assert caught.value.code == "source.label-fractional"
    assert mirror.keys() == []


def test_leftovers_of_an_earlier_run_are_removed(plan: Plan, mirror: Store, nifti: Build) -> None:
    for key in ("ct/scale7/ct/c/0/0/0", "ct/scale0/ct/c/99/0/0", "ct/zarr.json"):
        mirror.put(f"{ROOT}/{key}", b"old")
    mirror.put(f"{ROOT}/ct/labels/ribs/zarr.json", b"another task's")
    outcome = write_volume(plan("ct", {"ct": nifti(HU)}), mirror)
    assert set(mirror.keys(ROOT)) == {record.key for record in outcome.objects} | {f"{ROOT}/ct/labels/ribs/zarr.json"}
    assert mirror.get(f"{ROOT}/ct/labels/ribs/zarr.json") == b"another task's"


class BadDisk(Store):
    """Gives back something else than was put, for the shards of level 0."""

    def __init__(self, url: str, spoil: Callable[[bytes], bytes | None]) -> None:
        super().__init__(url)
        self._spoil = spoil

    def put(self, key: str, data: bytes | Sequence[bytes]) -> None:
        spoilt = self._spoil(b"".join(data)) if "/scale0/ct/c/" in key else data  # type: ignore[arg-type]
        if spoilt is not None:
            super().put(key, spoilt)


def flipped(data: bytes, at: int) -> bytes:
    bad = bytearray(data)
    bad[at] ^= 4
    return bytes(bad)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: flipped(data, 30),
        lambda data: flipped(data, -10),
        lambda data: flipped(data, -1),
        lambda data: data[: len(data) // 2],
        lambda data: data[:3],
        lambda _: b"",
        lambda _: None,
    ],
    ids=["chunk", "index", "checksum of the index", "half", "three bytes", "empty", "lost"],
)
def test_what_is_not_given_back_is_noticed(
    plan: Plan, mirror: Store, nifti: Build, spoil: Callable[[bytes], bytes | None]
) -> None:
    with pytest.raises(StoreError) as caught:
        write_volume(plan("ct", {"ct": nifti(HU)}), BadDisk(mirror.url, spoil))
    assert caught.value.code == "store.read-back"
    assert caught.value.place == f"{ROOT}/ct"
    # Whoever resumes must not take it for done.
    assert not mirror.exists(layout.outcome_key("0001", "ct"))


def test_sound_bytes_of_other_voxels_are_noticed(plan: Plan, mirror: Store, nifti: Build, tmp_path: Path) -> None:
    other = Store(str(tmp_path / "other"))
    image = written(plan("ct", {"ct": nifti(HU + 1)}), other)

    class Mixed(Store):
        def open(self, key: str) -> AbstractContextManager[BinaryIO]:
            return other.open(key) if "/c/" in key else super().open(key)

    with pytest.raises(StoreError, match=image.array_sha256) as caught:
        write_volume(plan("ct", {"ct": nifti(HU)}), Mixed(mirror.url))
    assert caught.value.code == "store.read-back"


def test_a_full_disk_is_told(plan: Plan, mirror: Store, nifti: Build) -> None:
    class Full(Store):
        def put(self, key: str, data: bytes | Sequence[bytes]) -> None:
            if "/c/" in key:
                raise StoreError("store.unreachable", "no space left", place=key)
            super().put(key, data)

    with pytest.raises(StoreError, match="no space left"):
        write_volume(plan("ct", {"ct": nifti(HU)}), Full(mirror.url))
    assert mirror.keys() == []


# Records


def test_the_outcome_lists_exactly_what_lies_there(plan: Plan, mirror: Store, nifti: Build) -> None:
    job = plan("pet", {"pet": nifti(HU.astype("<f4") * np.float32(0.3), slope=2.0)}, pet_units="BQML")
    outcome = write_volume(job, mirror)
    assert {record.key: (record.size, record.sha256) for record in outcome.objects} == {
        key: (len(mirror.get(key)), hashlib.sha256(mirror.get(key)).hexdigest()) for key in mirror.keys(ROOT)
    }
    assert [record.key for record in outcome.objects] == sorted(record.key for record in outcome.objects)
    kept = msgspec.json.decode(mirror.get(layout.outcome_key("0001", "pet")), type=VolumeOutcome)
    assert kept == outcome
    assert kept.digest == job.digest
    assert kept.image is not None
    assert kept.image.units == "Bq/ml"


def test_the_same_file_gives_the_same_bytes(plan: Plan, mirror: Store, nifti: Build) -> None:
    voxels = RANDOM.normal(0, 300, (150, 70, 40)).astype("<f4")
    job = plan("ct", {"ct": nifti(voxels, ISO)})
    again = Store(mirror.url + "-again")
    for store in (mirror, again):
        write_volume(job, store)
    assert mirror.keys(ROOT) == again.keys(ROOT)
    assert all(mirror.get(key) == again.get(key) for key in mirror.keys(ROOT))
    before = {key: mirror.get(key) for key in mirror.keys(ROOT)}
    mirror.delete(layout.outcome_key("0001", "ct"))  # or it would not be written again
    write_volume(job, mirror)
    assert {key: mirror.get(key) for key in mirror.keys(ROOT)} == before


def test_statistics_are_those_of_numpy(plan: Plan, mirror: Store, nifti: Build) -> None:
    image: Any = written(plan("ct", {"ct": nifti(HU)}), mirror)
    found = image.statistics
    assert (found.minimum, found.maximum, found.non_finite) == (HU.min(), HU.max(), 0)
    assert found.mean == pytest.approx(HU.mean())
    assert found.high == pytest.approx(np.percentile(HU[::4, ::4, ::4], 99.5))
    assert image.regions == ()


def test_no_encoder_is_left_running(plan: Plan, mirror: Store, nifti: Build) -> None:
    write_volume(plan("ct", {"ct": nifti(HU)}), mirror)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("encode", "inflate"))]
