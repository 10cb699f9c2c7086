"""Files that are refused, each with its code, a hint and its place, before memory is spent on what they promise."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converter.inventory import take_inventory
from converter.source import SourceFile, VolumeStream
from corpus.errors import CODES, SourceError
from corpus.findings import Finding

Build = Callable[..., bytes]

ZYX = (4, 5, 6)
CT = np.arange(120, dtype=np.int16).reshape(ZYX)
FAR_BYTES = 10 * 2**20


def zeros_packed(start: bytes, megabytes: int) -> bytes:
    """A start and then zeros, packed as deflate packs zeros: a thousand times smaller."""
    block = gzip.compress(bytes(2**20), 9)
    return gzip.compress(start, 9) + block * megabytes


def refused(nifti: Build) -> dict[str, tuple[bytes, str]]:
    """Content of each file and the code it is refused with."""
    whole = nifti(CT)
    header, voxels = whole[:352], whole[352:]

    def with_dims(*dims: int) -> bytes:
        return nifti(CT, fields={"dim": [len(dims), *dims, *[1] * (7 - len(dims))]})

    def with_type(code: int) -> bytes:
        return nifti(CT, fields={"datatype": code})

    return {
        "empty": (b"", "source.not-nifti"),
        "empty gzip": (gzip.compress(b""), "source.not-nifti"),
        "an error page": (b"<html>404 Not Found</html>", "source.not-nifti"),
        "gzip twice": (gzip.compress(gzip.compress(whole)), "source.not-nifti"),
        "Analyze": (whole[:344] + bytes(4), "source.not-nifti"),
        "header of a pair": (nifti(CT, fields={"magic": b"ni1\0"}), "source.pair"),
        "a bomb without a header": (zeros_packed(b"", 64), "source.not-nifti"),
        "a bomb behind a header": (zeros_packed(whole, 64), "source.size-mismatch"),
        "a promise beyond deflate": (with_dims(32767, 32767, 32767), "source.size-mismatch"),
        "a promise that wraps round 64 bits": (
            nifti(CT, version=2, fields={"dim": [3, 2**32, 2**31, 4, 1, 1, 1, 1]}),
            "source.size-mismatch",
        ),
        "a promise of more": (with_dims(6, 5, 40), "source.size-mismatch"),
        "a promise of less": (with_dims(6, 5, 3), "source.size-mismatch"),
        "no voxels": (header, "source.size-mismatch"),
        "zero dimension": (with_dims(6, 0, 4), "source.header-invalid"),
        "negative dimension": (with_dims(6, -5, 4), "source.header-invalid"),
        "voxels beyond the end": (nifti(CT, fields={"vox_offset": FAR_BYTES}), "source.size-mismatch"),
        "voxels beyond sense": (nifti(CT, fields={"vox_offset": 2**30}), "source.header-invalid"),
        "voxels within the header": (nifti(CT, fields={"vox_offset": 348}), "source.header-invalid"),
        "sform not finite": (nifti(CT, np.full((4, 4), np.nan), qform=np.eye(4)), "source.header-invalid"),
        "sform singular": (nifti(CT, np.diag([0.0, 2, 3, 1]), qform_code=0, qform=np.eye(4)), "source.header-invalid"),
        "complex64": (with_type(32), "source.datatype-unsupported"),
        "complex128": (with_type(1792), "source.datatype-unsupported"),
        "complex256": (with_type(2048), "source.datatype-unsupported"),
        "RGB": (with_type(128), "source.datatype-unsupported"),
        "RGBA": (with_type(2304), "source.datatype-unsupported"),
        "binary": (with_type(1), "source.datatype-unsupported"),
        "float128": (with_type(1536), "source.datatype-unsupported"),
        "code 16384": (with_type(16384), "source.datatype-unsupported"),  # what some tools write for float16
        "4-D": (with_dims(6, 5, 2, 2), "source.not-3d"),
        "5-D vector": (nifti(CT, fields={"dim": [5, 6, 5, 2, 1, 2, 1, 1], "intent_code": 1007}), "source.not-3d"),
        "2-D": (with_dims(6, 20), "source.not-3d"),
        "CIFTI-2": (
            nifti(CT, version=2, fields={"dim": [6, 1, 1, 1, 1, 6, 20, 1], "intent_code": 3006}),
            "source.not-3d",
        ),
        "half a header": (whole[:200], "source.not-nifti"),
        "an extension that is not there": (
            header[:108] + struct.pack("<f", 352 + 10**6) + header[112:348] + b"\1\0\0\0" + voxels,
            "source.size-mismatch",
        ),
    }


NAMES = tuple(refused(lambda *_, **__: bytes(400)))


@pytest.fixture(scope="module")
def cases(nifti: Build) -> dict[str, tuple[bytes, str]]:
    return refused(nifti)


@pytest.fixture(scope="module")
def failures(inputs: Any, nifti: Build, cases: dict[str, tuple[bytes, str]]) -> dict[str, Finding]:
    """One subject for each case, and a sound volume beside them; failure by the case's name."""
    place = {}
    for number, (name, (data, _)) in enumerate(cases.items(), start=1):
        place[inputs.put(f"{number:04d}", "ct", data, packed=False)] = name
    inputs.put("0001", "pet", nifti(CT))
    done = inputs.convert()
    assert done.report.converted == 1
    assert [(row["subject"], row["has_ct"]) for row in done.mirror.catalog.subjects.values()] == [("0001", False)]
    return {place[finding.place]: finding for finding in done.report.failures}


def test_each_is_refused_and_its_neighbour_converted(failures: dict[str, Finding]) -> None:
    assert set(failures) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_code_message_and_hint(failures: dict[str, Finding], cases: dict[str, tuple[bytes, str]], name: str) -> None:
    finding = failures[name]
    assert finding.code == cases[name][1], finding.message
    assert finding.hint == CODES[finding.code].hint
    if finding.code == "source.datatype-unsupported":
        assert name in finding.message
    if finding.code == "source.pair":
        assert "nib-convert" in finding.hint


@pytest.mark.parametrize("name", NAMES)
def test_refusal_costs_no_memory(cases: dict[str, tuple[bytes, str]], name: str, tmp_path: Any) -> None:
    data = cases[name][0]
    (tmp_path / "x.nii.gz").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError), VolumeStream(SourceFile(str(tmp_path / "x.nii.gz"), "x", len(data))) as stream:
            for _ in stream.slabs(16):
                pass
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["hdr", "HDR", "hdr.gz"])
def test_a_pair_is_found_and_named_once(nifti: Build, suffix: str, tmp_path: Any) -> None:
    folder = tmp_path / "CT"
    folder.mkdir()
    header = nifti(CT, fields={"magic": b"ni1\0"})[:348]
    (folder / f"0001.{suffix}").write_bytes(header)
    (folder / f"0001.{suffix.replace('hdr', 'img').replace('HDR', 'IMG')}").write_bytes(CT.tobytes())
    (folder / "0002.nii").write_bytes(nifti(CT))
    inventory = take_inventory(str(tmp_path))
    assert list(inventory.subjects) == ["0002"]
    (finding,) = inventory.findings
    assert (finding.code, finding.place) == ("source.pair", f"CT/0001.{suffix}")
    assert "nib-convert" in finding.hint
