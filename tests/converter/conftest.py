"""Builders of small inputs, made by nibabel, openpyxl, gzip and zipfile: none of them had a part in the converter."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import openpyxl
import pytest
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from converter.inventory import SubjectFiles
from converter.nifti import VolumeHeader, read_header
from converter.plan import VolumePlan, plan_volume
from converter.source import SourceFile, VolumeStream, peek_header
from corpus.models import SubjectInfo
from corpus.stores import Store

if TYPE_CHECKING:
    from pathlib import Path

LAS = ((-2.0, 0.0, 0.0, 90.0), (0.0, 2.0, 0.0, -126.0), (0.0, 0.0, 3.0, -72.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="session")
def las() -> np.ndarray:
    """The affine that the builder writes when it is given none."""
    return np.array(LAS)


@pytest.fixture(scope="session")
def nifti() -> Callable[..., bytes]:
    """Bytes of an uncompressed single-file NIfTI."""

    def build(
        voxels_zyx: np.ndarray,
        affine: Any = LAS,
        *,
        version: int = 1,
        order: str = "<",
        slope: float = 1.0,
        inter: float = 0.0,
        sform_code: int = 1,
        qform_code: int = 1,
        qform: Any = None,
        units: str | None = "mm",
        extension: bytes = b"",
        gap: int = 0,
        fields: Mapping[str, Any] | None = None,
    ) -> bytes:
        kind, offset = {1: (Nifti1Header, 352), 2: (Nifti2Header, 544)}[version]
        header = kind(endianness=order)
        header.set_data_dtype(voxels_zyx.dtype)
        header.set_data_shape(voxels_zyx.shape[::-1])
        header.set_qform(np.array(affine if qform is None else qform), qform_code, strip_shears=True)
        header.set_sform(np.array(affine), sform_code)
        header.set_xyzt_units(units)
        header["scl_slope"], header["scl_inter"] = slope, inter
        header["vox_offset"] = offset + len(extension) + gap
        header["magic"] = kind.single_magic
        for name, value in (fields or {}).items():
            header[name] = value
        flag = b"\1\0\0\0" if extension else bytes(4)
        data = voxels_zyx.astype(voxels_zyx.dtype.newbyteorder(order)).tobytes()
        return bytes(header.binaryblock) + flag + extension + bytes(gap) + data

    return build


@pytest.fixture(scope="session")
def header_of(nifti: Callable[..., bytes]) -> Callable[..., VolumeHeader]:
    """The header of a small volume, as converter.nifti reads it; takes what `nifti` takes."""

    def read(voxels_zyx: np.ndarray | None = None, *args: Any, **options: Any) -> VolumeHeader:
        voxels = np.zeros((4, 5, 6), dtype=np.int16) if voxels_zyx is None else voxels_zyx
        data = nifti(voxels, *args, **options)
        return read_header(data[: len(data) - voxels.nbytes], "0001.nii.gz")

    return read


@pytest.fixture(scope="session")
def extension() -> Callable[..., bytes]:
    """Bytes of one NIfTI header extension."""

    def build(content: bytes, code: int = 6, order: str = "<") -> bytes:
        size = -(-(8 + len(content)) // 16) * 16
        head = np.array([size, code], dtype=f"{order}i4").tobytes()
        return head + content.ljust(size - 8, b"\0")

    return build


@pytest.fixture(scope="session")
def zipped() -> Callable[[Mapping[str, bytes]], bytes]:
    """Bytes of a zip archive; names are taken as they are, harmful ones included."""

    def build(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
        return buffer.getvalue()

    return build


@pytest.fixture(scope="session")
def xlsx() -> Callable[[Iterable[Sequence[Any]]], bytes]:
    """Bytes of a workbook with one sheet; the first row is the header."""

    def build(rows: Iterable[Sequence[Any]]) -> bytes:
        workbook = openpyxl.Workbook()
        sheet = workbook.active
        for row in rows:
            sheet.append(list(row))
        buffer = io.BytesIO()
        workbook.save(buffer)
        return buffer.getvalue()

    return build


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., SourceFile]:
    """A file of these bytes, as the inventory would list it."""

    def place(data: bytes, name: str = "0001.nii.gz") -> SourceFile:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return SourceFile(str(path), name, len(data))

    return place


@pytest.fixture
def read_all() -> Callable[..., tuple[VolumeStream, np.ndarray]]:
    """Read a whole volume through a stream."""

    def read(file: SourceFile, depth: int = 2) -> tuple[VolumeStream, np.ndarray]:
        with VolumeStream(file) as stream:
            return stream, np.concatenate([slab.copy() for slab in stream.slabs(depth)])

    return read


@pytest.fixture
def mirror(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(str(tmp_path / "mirror"))


@pytest.fixture
def plan(source: Callable[..., SourceFile]) -> Callable[..., VolumePlan]:
    """Plan one volume of subject 0001 out of uncompressed NIfTI files by role; the files are gzipped on the way."""

    def make(role: str, volumes: Mapping[str, bytes], **info: Any) -> VolumePlan:
        files = {name: source(gzip.compress(data, 1), f"{name}/0001.nii.gz") for name, data in volumes.items()}
        headers = {name: peek_header(file) for name, file in files.items()}
        return plan_volume(SubjectFiles("0001", files, ()), role, headers, SubjectInfo(subject="0001", **info))

    return make
