from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.verify import VolumeChecked, verify
from corpus.errors import LayoutError

SHARD = "subjects/0002.ome.zarr/ct/scale0/ct/c/0/0/0"


@pytest.fixture(scope="module")
def mirror(phantom_mirror: Path) -> Path:
    return phantom_mirror


@pytest.fixture
def own(mirror: Path, tmp_path: Path) -> Path:
    """A copy of the mirror that a test may change."""
    return Path(shutil.copytree(mirror, tmp_path / "mirror"))


def test_a_sound_mirror(mirror: Path, corpus: Path) -> None:
    checked: list[VolumeChecked] = []
    result = verify(str(mirror), str(corpus), None, checked.append)
    assert result.findings == ()
    assert (result.subjects, result.volumes, len(checked)) == (4, 36, 36)
    assert result.voxels == sum(entry.voxels for entry in checked) > 36 * 10**5


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_with_another_subject(path: Path) -> None:
    # Decodes without any fault: only the digests tell.
    other = Path(str(path).replace("0002.ome.zarr", "0001.ome.zarr"))
    shutil.copy(other, path)


@pytest.mark.parametrize("spoil", [flip_a_byte, swap_with_another_subject, Path.unlink])
@pytest.mark.parametrize(
    "key",
    [
        SHARD,
        "subjects/0002.ome.zarr/ct/scale1/ct/c/0/0/0",
        "subjects/0002.ome.zarr/ct/labels/organs/zarr.json",
        "subjects/0002.ome.zarr/ct/labels/organs/nifti/c/0",
        "subjects/0002.ome.zarr/zarr.json",
    ],
)
def test_any_spoilt_object_is_named(own: Path, key: str, spoil: Callable[[Path], None]) -> None:
    before = (own / key).read_bytes()
    spoil(own / key)
    assert not (own / key).exists() or (own / key).read_bytes() != before, "nothing was spoilt"
    result = verify(str(own), None, frozenset({"0002"}), lambda _: None)
    assert key in {finding.place for finding in result.findings if finding.code == "layout.object"}


def test_wrong_voxels_are_found_even_where_the_converter_s_records_are_missing(own: Path) -> None:
    shutil.rmtree(own / ".voxshelf")
    swap_with_another_subject(own / SHARD)
    result = verify(str(own), None, None, lambda _: None)
    assert [(finding.place, finding.code) for finding in result.findings] == [("0002/ct", "layout.voxels")]


def test_an_object_that_nobody_wrote_is_named(own: Path) -> None:
    (own / "subjects/0002.ome.zarr/ct/extra").write_bytes(b"x")
    result = verify(str(own), None, frozenset({"0002"}), lambda _: None)
    assert [finding.place for finding in result.findings] == ["subjects/0002.ome.zarr/ct/extra"]


def test_another_source_is_told_apart(mirror: Path, corpus: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    folder = source / "imaging-data/images/CT"
    shutil.copy(folder / "0001.nii.gz", folder / "0002.nii.gz")
    result = verify(str(mirror), str(source), frozenset({"0002"}), lambda _: None)
    assert [(finding.place, finding.code) for finding in result.findings] == [("0002/ct", "layout.voxels")]


def test_a_table_that_is_not_the_committed_one(own: Path) -> None:
    flip_a_byte(own / "volumes.parquet")
    with pytest.raises(LayoutError, match=r"layout\.table"):
        verify(str(own), None, None, lambda _: None)
