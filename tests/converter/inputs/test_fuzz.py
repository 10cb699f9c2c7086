"""Damage of every kind, to a header, an extension, a gzip stream: a typed error or sound objects, in bounded memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from converter.inventory import SubjectFiles
from converter.nifti import VolumeHeader
from converter.plan import plan_volume
from converter.source import SourceFile, peek_header
from converter.write import write_volume
from corpus.errors import CODES, VoxshelfError
from corpus.models import SubjectInfo
from corpus.stores import Store

Build = Callable[..., bytes]

MOST_BYTES = 64 * 2**20
VOXELS = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8) % 9
INFO = SubjectInfo(subject="0001", pet_units="BQML")
HEADERS = {1: Nifti1Header, 2: Nifti2Header}
TELLING = ("sizeof_hdr", "dim", "datatype", "vox_offset", "magic", "scl_slope", "scl_inter", "pixdim", "xyzt_units")
GEOMETRY = ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "qoffset_x", "pixdim")
ODD_NUMBERS = (0, 1, -1, 2, 3, 4, 7, 8, 127, 255, 32767, -32768, 2**31 - 1, 2**62, 1e-45, 1e-7, 0.1, 1e30, 3e38)
ODD = (*ODD_NUMBERS, float("nan"), float("inf"), float("-inf"))


class Damage(NamedTuple):
    """What is done to a sound file."""

    version: int
    order: str
    kind: str
    extension_size: int | None  # as written; None for a file without one
    fields: list[tuple[str, int, float]]
    patches: list[tuple[int, bytes]]
    packed: bool
    kept: float  # of the file
    flip: tuple[float, int] | None


SOUND = Damage(2, "<", "u1", None, [], [], packed=False, kept=1.0, flip=None)


def damages() -> st.SearchStrategy[Damage]:
    field = st.tuples(st.sampled_from([*TELLING, *GEOMETRY]), st.integers(0, 7), st.sampled_from(ODD))
    return st.builds(
        Damage,
        version=st.sampled_from([1, 2]),
        order=st.sampled_from("<>"),
        kind=st.sampled_from(["u1", "i2", "f4", "f8"]),
        extension_size=st.one_of(st.none(), st.just(32), st.sampled_from([0, 1, 8, 33, 2**30, -16])),
        fields=st.lists(field, max_size=3),
        patches=st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4)), max_size=2),
        packed=st.booleans(),
        kept=st.one_of(st.just(1.0), st.floats(0, 1)),
        flip=st.one_of(st.none(), st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7))),
    )


def damaged(damage: Damage, nifti: Build) -> bytes:
    """The bytes of the file."""
    order, extension = damage.order, b""
    if damage.extension_size is not None:
        extension = np.array([damage.extension_size, 6], f"{order}i4").tobytes() + bytes(24)
    data = bytearray(nifti(VOXELS.astype(damage.kind), version=damage.version, order=order, extension=extension))
    fields = HEADERS[damage.version].template_dtype.newbyteorder(order).fields
    assert fields is not None
    for name, at, value in damage.fields:
        dtype, offset = fields[name][:2]
        size = dtype.base.itemsize
        start = offset + size * (at % (dtype.itemsize // size))
        with np.errstate(all="ignore"):
            data[start : start + size] = _as_bytes(value, dtype.base)
    for at, patch in damage.patches:
        data[at : at + len(patch)] = patch
    whole = bytearray(gzip.compress(bytes(data), 1, mtime=0) if damage.packed else data)
    if damage.flip:
        whole[int(damage.flip[0] * len(whole))] ^= 1 << damage.flip[1]
    return bytes(whole[: round(damage.kept * len(whole))])


def _as_bytes(value: float, dtype: np.dtype) -> bytes:
    if dtype.kind == "S":
        return bytes([int(value) % 256 if np.isfinite(value) else 255] * dtype.itemsize)
    if dtype.kind in "iu":
        bits = int(value) if np.isfinite(value) else -1
        return (bits % 2 ** (8 * dtype.itemsize)).to_bytes(dtype.itemsize, "big" if dtype.str[0] == ">" else "little")
    return np.array(value).astype(dtype).tobytes()


def convert_one(file: SourceFile, role: str, mirror: Path, ct: VolumeHeader) -> str | None:
    """Take one file all the way, as a run does; the code of the error that refused it."""
    store = Store(str(mirror))
    try:
        header = peek_header(file)
        plan = plan_volume(SubjectFiles("0001", {role: file}, ()), role, {"ct": ct, role: header}, INFO)
        outcome = write_volume(plan, store)
    except VoxshelfError as error:
        return error.code if error.place and error.hint else "nothing to go by"
    assert outcome.image is not None
    for record in outcome.objects:
        data = store.get(record.key)
        assert len(data) == record.size
        if record.key.endswith("zarr.json"):
            json.loads(data, parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    return None


@pytest.mark.timeout(120)
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(damage=SOUND._replace(patches=[(39, b"n+1")]), role="ct")  # sides whose product wraps round 64 bits
@example(damage=SOUND._replace(order=">", patches=[(469, b"\0\0\0`")]), role="ct")  # an affine whose squares overflow
@example(damage=SOUND._replace(version=1, fields=[("pixdim", 1, float("inf"))]), role="ct")
@given(damage=damages(), role=st.sampled_from(["ct", "pet", "organs"]))
def test_damage_is_a_typed_error_or_harmless(
    nifti: Build, header_of: Callable[..., VolumeHeader], tmp_path: Path, damage: Damage, role: str
) -> None:
    data = damaged(damage, nifti)
    path = tmp_path / "0001.nii.gz"
    path.write_bytes(data)
    ct = header_of(VOXELS)
    tracemalloc.start()
    try:
        code = convert_one(SourceFile(str(path), path.name, len(data)), role, tmp_path / "mirror", ct)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    event(str(code))
    assert code is None or (code in CODES and code.startswith("source.") and code != "source.unexpected")
