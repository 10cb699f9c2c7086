"""Binary masks read as one label map: the same as if numpy had laid them, and nothing silently missing."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import pack
from converter.pack import PackStream, open_volume, peek_volume
from converter.source import MaskFile, SourceFile, VolumeStream
from corpus.errors import SourceError

Build = Callable[..., bytes]
Place = Callable[..., SourceFile]

SHAPE = (7, 5, 6)


@pytest.fixture
def packed(nifti: Build, source: Place) -> Callable[..., SourceFile]:
    """Masks as one source file; values are 1, 2, ... unless given."""

    def build(*masks: np.ndarray | bytes, values: tuple[int, ...] | None = None) -> SourceFile:
        files = []
        for number, mask in enumerate(masks):
            data = mask if isinstance(mask, bytes) else gzip.compress(nifti(mask), 1)
            files.append(source(data, f"s/{number}.nii.gz"))
        numbered = zip(values or range(1, len(files) + 1), files, strict=True)
        return SourceFile("", "s/", sum(f.size for f in files), masks=tuple(MaskFile(v, f) for v, f in numbered))

    return build


def random_masks(count: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.random(shape) < 0.3).astype(np.uint8) for _ in range(count)]


def laid(masks: list[np.ndarray], values: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The label map and the number of voxels claimed twice, by whole arrays."""
    whole = np.zeros(masks[0].shape, np.int64)
    for value, mask in reversed(list(zip(values, masks, strict=True))):
        whole[mask == 1] = value
    return whole, int((np.sum(masks, axis=0) > 1).sum())


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 5),
    seed=st.integers(0, 99),
    depth=st.integers(1, 9),
    held=st.sampled_from([1, 400, 1500, 2**26]),
)
def test_as_if_laid_by_numpy(
    nifti: Build, tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, depth: int, held: int
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    masks, values = random_masks(count, seed), tuple(range(3, 3 + count))
    files = []
    for number, mask in enumerate(masks):
        path = folder / f"{number}.nii.gz"
        path.write_bytes(gzip.compress(nifti(mask), 1))
        files.append(SourceFile(str(path), path.name, path.stat().st_size))
    whole = SourceFile("", "s/", 0, masks=tuple(map(MaskFile, values, files)))
    expected, overlap = laid(masks, values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "HELD_BYTES", held)
        with PackStream(whole) as stream:
            slabs = list(stream.slabs(depth))
            record = stream.record
    np.testing.assert_array_equal(np.concatenate(slabs), expected)
    assert [len(slab) for slab in slabs[:-1]] == [depth] * (len(slabs) - 1)
    assert record.overlap_voxels == overlap
    assert record.voxels_sha256 == hashlib.sha256(expected.astype(np.uint8).tobytes()).hexdigest()


def test_every_file_is_recorded(packed: Callable[..., SourceFile]) -> None:
    source = packed(*random_masks(3, 0), values=(2, 5, 9))
    with open_volume(source) as stream:
        list(stream.slabs(4))
        record = stream.record
    lines = ""
    for mask, file in zip(record.masks, source.masks, strict=True):
        with VolumeStream(file.file) as single:
            list(single.slabs(4))
        digest = single.record.sha256
        assert (mask.value, mask.name, mask.size, mask.sha256) == (file.value, file.file.name, file.file.size, digest)
        lines += f"{digest}  {file.file.name}\n"
    assert record.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert record.size == source.size


def test_the_type_holds_the_largest_value(packed: Callable[..., SourceFile]) -> None:
    for most, dtype in ((255, "|u1"), (256, "<u2"), (70000, "<u4")):
        source = packed(*random_masks(2, 1), values=(1, most))
        assert peek_volume(source).dtype == dtype
        with open_volume(source) as stream:
            assert stream.header == peek_volume(source)
            assert np.concatenate(list(stream.slabs(4))).max() == most


@pytest.mark.parametrize("wrong", [2, 255, -1, 0.5, np.nan, np.inf])
def test_what_is_not_binary_is_refused(packed: Callable[..., SourceFile], wrong: float) -> None:
    bad = random_masks(1, 2)[0].astype("<f4")
    bad[-1, -1, -1] = wrong
    with open_volume(packed(random_masks(1, 3)[0], bad)) as stream, pytest.raises(SourceError) as caught:
        list(stream.slabs(4))
    assert (caught.value.code, caught.value.place) == ("source.mask-values", "s/1.nii.gz")


def test_masks_of_any_type_and_scaling_are_read(packed: Callable[..., SourceFile], nifti: Build) -> None:
    masks = random_masks(3, 4)
    big = nifti((masks[1] * 255).astype(">i4"), order=">", slope=1 / 255)
    with open_volume(packed(masks[0].astype("<f8"), big, nifti(masks[2], inter=0.0, slope=0.0))) as stream:
        found = np.concatenate(list(stream.slabs(3)))
    np.testing.assert_array_equal(found, laid(masks, (1, 2, 3))[0])


def test_masks_on_another_lattice_are_refused(packed: Callable[..., SourceFile], nifti: Build, las: np.ndarray) -> None:
    masks = random_masks(2, 5)
    moved, turned = las.copy(), las.copy()
    moved[0, 3] += 2
    # The same lattice, counted from the other end.
    turned[:, 0], turned[:, 3] = -las[:, 0], las[:, 3] + las[:, 0] * (SHAPE[2] - 1)
    cut = random_masks(1, 5, (6, 5, 6))[0]
    for other in (nifti(masks[1], moved), nifti(masks[1], turned), nifti(cut)):
        with pytest.raises(SourceError) as caught:
            open_volume(packed(masks[0], other))
        assert (caught.value.code, caught.value.place) == ("source.mask-lattice", "s/1.nii.gz")


def test_a_damaged_mask_spoils_the_label_map(packed: Callable[..., SourceFile], nifti: Build) -> None:
    masks = random_masks(2, 6, (40, 30, 30))
    whole = gzip.compress(nifti(masks[1]), 1)
    for cut, code in ((len(whole) // 2, "source.gzip-truncated"), (len(whole) - 4, "source.gzip-truncated")):
        seen = []
        with open_volume(packed(masks[0], whole[:cut])) as stream, pytest.raises(SourceError) as caught:
            seen.extend(stream.slabs(8))
        assert (caught.value.code, caught.value.place) == (code, "s/1.nii.gz")
        assert len(seen) < 5


def test_little_is_held_however_many_masks(packed: Callable[..., SourceFile], monkeypatch: pytest.MonkeyPatch) -> None:
    masks = random_masks(4, 7, (16, 8, 8))
    asked = []
    slabs = VolumeStream.slabs
    monkeypatch.setattr(VolumeStream, "slabs", lambda self, depth: (asked.append(depth), slabs(self, depth))[1])
    for held in (2**26, 4 * 3 * 64 * 4, 1):
        monkeypatch.setattr(pack, "HELD_BYTES", held)
        with open_volume(packed(*masks)) as stream:
            list(stream.slabs(16))
    assert asked == [16] * 4 + [4] * 4 + [1] * 4
