"""Real files that trip readers (NIfTI-2, 4-D, Analyze, pairs, RGB, complex): converted, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

ODD = Path(__file__).parents[4] / "shared" / "data" / "odd"
pytestmark = pytest.mark.skipif(not ODD.is_dir(), reason="the odd files are not beside this checkout")

REFUSED = {
    "nibabel/analyze.hdr": "source.not-nifti",
    "nibabel/example4d.nii.gz": "source.not-3d",
    "nibabel/example_nifti2.nii.gz": "source.not-3d",
    "nibabel/functional.nii": "source.not-3d",
    "nibabel/nifti1.hdr": "source.pair",
    "nibabel/nifti2.hdr": "source.pair",
    "nibabel/tinypet.v": "source.not-nifti",
    "nifti-rs/complex/complex32.nii": "source.datatype-unsupported",
    "nifti-rs/complex/complex64.nii": "source.datatype-unsupported",
    "nifti-rs/minimal.hdr": "source.pair",
    "nifti-rs/minimal.hdr.gz": "source.pair",
    "nifti-rs/minimal.img": "source.not-nifti",
    "nifti-rs/minimal.img.gz": "source.not-nifti",
    "nifti-rs/minimal_extended_hdr.nii": "source.not-3d",
    "nifti-rs/rgb/3D.nii": "source.datatype-unsupported",
    "nifti-rs/rgb/4D.nii": "source.datatype-unsupported",
    "nifti-rs/rgba/4D.nii": "source.datatype-unsupported",
}
NAMES = [
    path.relative_to(ODD).as_posix()
    for path in sorted(ODD.rglob("*"))
    if path.is_file() and not path.name.startswith(("LICENSE", "COPYING"))
]
NUMBERS = {name: f"{number:04d}" for number, name in enumerate(NAMES, start=1)}


@pytest.fixture(scope="module")
def done(inputs: Any) -> Any:
    for name, subject in NUMBERS.items():
        inputs.put(subject, "pet", (ODD / name).read_bytes(), packed=False)
    return inputs.convert()


@pytest.mark.parametrize("name", NAMES)
def test_converted_to_the_last_byte_or_refused_by_name(done: Any, place_of: Any, name: str) -> None:
    failures = done.failures(place_of(NUMBERS[name], "pet"))
    assert failures == ([REFUSED[name]] if name in REFUSED else [])
    if name in REFUSED:
        return
    exported, original = done.exported(NUMBERS[name], "pet")
    assert exported == original
    image = nib.load(ODD / name)
    row = done.row(NUMBERS[name], "pet")
    if row["affine_source"] != "pixdim" and "warning.units-unknown" not in row["warnings"]:
        np.testing.assert_allclose(np.reshape(row["affine"], (4, 4)), image.affine, rtol=1e-5, atol=1e-4)  # type: ignore[attr-defined]
    assert row["orientation"] == "".join(nib.aff2axcodes(image.affine))  # type: ignore[attr-defined]
    values = np.asarray(image.dataobj)  # type: ignore[attr-defined]
    assert (row["min"], row["max"]) == pytest.approx((np.nanmin(values), np.nanmax(values)), rel=1e-5)
