"""What real tools write: every voxel and byte kept. (tests/endtoend/test_odd_writers.py has them at full size.)

One subject for each writer, all in one source that is converted once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

Build = Callable[..., bytes]

ZYX = (6, 7, 8)
LAS = np.array(((-2.0, 0, 0, 90), (0, 2.0, 0, -126), (0, 0, 3.0, -72), (0, 0, 0, 1)))
LPS = LAS * np.array([[1], [-1], [1], [1]])
SHEARED = LAS + 0.9 * np.eye(4)[[1]].T @ np.eye(4)[[2]]
CT = np.random.default_rng(0).integers(-1000, 1500, ZYX).astype(np.int16)
RAW = (CT + 1024).astype(np.int16)
MAP = np.zeros(ZYX, np.uint8)
MAP[1:3, 2:5, 5:8] = 5


class Wrote(NamedTuple):
    """A file of one writer, and what has to become of it."""

    role: str
    voxels: np.ndarray
    options: dict[str, Any]
    dtype: str
    warnings: tuple[str, ...] = ()
    affine: np.ndarray = LAS


def ct(voxels: np.ndarray, dtype: str, *warnings: str, affine: np.ndarray = LAS, **options: Any) -> Wrote:
    return Wrote("ct", voxels, options, dtype, warnings, affine)


def pet(voxels: np.ndarray, dtype: str, *warnings: str, **options: Any) -> Wrote:
    return Wrote("pet", voxels, options, dtype, warnings)


def organs(voxels: np.ndarray, *warnings: str, affine: np.ndarray = LAS, **options: Any) -> Wrote:
    return Wrote("organs", voxels, options, "uint8", warnings, affine)


APART = "warning.label-grid"
FRACTIONAL = CT.astype(np.float32) + np.float32(0.365)
NOT_FINITE = np.where(CT > 1400, np.nan, FRACTIONAL).astype(np.float32)
WROTE = {
    "dcm2niix, intercept -1024": ct(RAW, "int16", inter=-1024.0),
    "dcm2niix, Philips, intercept -1000": ct(RAW, "int16", inter=-1000.0),
    "dcm2niix, LUNG1, uint16 with an intercept": ct(RAW.astype(np.uint16), "uint16", inter=-1024.0),
    "dcm2niix, tilted gantry": ct(CT, "int16", "warning.affine-sheared", "warning.affine-conflict", affine=SHEARED),
    "dcm2niix, PET with a slope": pet(RAW, "int16", slope=0.731),
    "dcm2niix, PET of GE": pet(FRACTIONAL, "float32"),
    "dicom2nifti, float64 with q0 s2": ct(CT.astype(np.float64), "int16", qform_code=0, sform_code=2),
    "SimpleITK, PET as float64": pet(FRACTIONAL.astype(np.float64) / 3, "float64"),
    "SimpleITK, SPECT as uint32": pet(RAW.astype(np.uint32), "int16"),
    "older ITK, float32 with q1 s0": ct(CT.astype(np.float32), "int16", affine=LPS, sform_code=0),
    "older ITK, q2 s1": ct(CT.astype(np.float32), "int16", affine=LPS, qform_code=2),
    "nibabel with a bare affine": pet(
        FRACTIONAL, "float32", "warning.units-unknown", qform_code=0, sform_code=2, units=None
    ),
    "TotalSegmentator, CT as int32": ct(CT.astype(np.int32), "int16"),
    "MOOSE, fractional HU": ct(FRACTIONAL, "float32"),
    "MedCon, neither qform nor sform": ct(CT, "int16", "warning.affine-pixdim", sform_code=0, qform_code=0),
    "SPM, big-endian float32 with a slope": pet(FRACTIONAL, "float32", order=">", slope=0.01, inter=2.0),
    "SPM, int32 with a slope": pet(CT.astype(np.int32), "int16", slope=0.5),
    "int64": ct(CT.astype(np.int64), "int16"),
    "int64 beyond int32": ct(CT.astype(np.int64) << 40, "int64"),
    "aal, voxels at 2368 with no extension flagged": ct(CT, "int16", gap=2368 - 352),
    "sct, voxels that are not finite": ct(NOT_FINITE, "float32", "warning.non-finite"),
    "SimpleITK, label map as uint32": organs(MAP.astype(np.uint32), APART),
    "verse, label map as float64": organs(MAP.astype(np.float64), APART),
    "KiTS19, slices on the first axis": organs(MAP, APART, affine=LAS[:, [2, 1, 0, 3]], qform_code=0, sform_code=2),
    "KiTS19, uint16 with q1 s0": organs(MAP.astype(np.uint16), APART, sform_code=0),
}
XML = "TotalSegmentator, 12,807 bytes of XML of code 0"
PART = "dcmqi, part of the scan, in LPS, 0.02 voxel off"
NUMBERS = {name: f"{number:04d}" for number, name in enumerate([*WROTE, XML, PART], start=1)}


@pytest.fixture(scope="module")
def done(inputs: Any, nifti: Build, extension: Build) -> Any:
    for name, wrote in WROTE.items():
        inputs.put(NUMBERS[name], wrote.role, nifti(wrote.voxels, wrote.affine, **wrote.options))
    # 8 bytes of size and code, then 12,807 of text, padded to a multiple of 16: the voxels begin at 13168.
    xml = extension(b"<labels>".ljust(12_807, b"x"), 0)
    inputs.put(NUMBERS[XML], "organs", nifti(MAP, extension=xml))
    inputs.put(NUMBERS[PART], "ct", nifti(CT))
    off = LAS.copy()
    off[:, 1], off[:3, 3] = -LAS[:, 1], (LAS @ [0.02, ZYX[1] - 1 - 0.02, 1, 1])[:3]
    inputs.put(NUMBERS[PART], "organs", nifti(MAP[1:4, ::-1].astype(np.int16), off))
    return inputs.convert()


def test_nothing_failed(done: Any) -> None:
    assert done.report.failures == ()
    assert done.report.converted == len(NUMBERS) + 1


@pytest.mark.parametrize("name", WROTE)
def test_type_warnings_and_bytes(done: Any, name: str) -> None:
    wrote, subject = WROTE[name], NUMBERS[name]
    row = done.row(subject, wrote.role)
    assert row["dtype"] == wrote.dtype
    assert done.warnings(f"{subject}/{wrote.role}") == set(wrote.warnings)
    np.testing.assert_array_equal(done.stored(subject, wrote.role), wrote.voxels)
    exported, original = done.exported(subject, wrote.role)
    assert exported == original
    if "warning.affine-pixdim" not in wrote.warnings:
        np.testing.assert_allclose(np.reshape(row["affine"], (4, 4)), wrote.affine, atol=1e-5)
    if wrote.role != "organs":
        scaled = wrote.voxels * np.float64(wrote.options.get("slope", 1)) + wrote.options.get("inter", 0)
        assert (row["min"], row["max"]) == pytest.approx((np.nanmin(scaled), np.nanmax(scaled)), rel=1e-6)


def test_xml_in_an_extension_is_kept(done: Any) -> None:
    exported, original = done.exported(NUMBERS[XML], "organs")
    assert exported == original
    assert original[:13168].count(b"<labels>") == 1
    np.testing.assert_array_equal(done.stored(NUMBERS[XML], "organs"), MAP)


def test_a_map_of_part_of_the_scan_agrees_by_world_position(done: Any) -> None:
    assert done.row(NUMBERS[PART], "organs")["image_path"] == "labels_organs"
    middle = np.argwhere(MAP)[:, ::-1].mean(axis=0)
    region = done.regions(NUMBERS[PART])[5]
    found = [region[f"centroid_{axis}_mm"] for axis in "xyz"]
    np.testing.assert_allclose(found, (LAS @ [*middle, 1])[:3], atol=0.05)
