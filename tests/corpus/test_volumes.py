"""A stored volume describes itself and its source; what is another volume's, or not understood, is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from corpus.errors import LayoutError
from corpus.geometry import Reorder
from corpus.volumes import Volume, read_volume

ROW = {"subject": "0001", "volume": "labels/organs", "array_sha256": "ab"}
HEADER = (348).to_bytes(4, "little") + bytes(344)


def described(**changes: Any) -> Volume:
    """Read a volume whose attributes have these changes."""
    return read_volume(ROW, HEADER, {"voxshelf": {"array_sha256": "ab", "lossless": True, "warnings": []} | changes})


def test_an_unchanged_volume_has_its_own_header_and_order() -> None:
    volume = described()
    assert (volume.header, volume.source_header) == (HEADER + bytes(4), HEADER + bytes(4))
    assert (volume.reorder, volume.lossless, volume.is_label, volume.place) == (
        Reorder(),
        True,
        True,
        "0001/labels/organs",
    )


def test_a_changed_volume_has_its_sources_header_and_the_way_back() -> None:
    source = HEADER + b"\1\0\0\0extension"
    changed = {"base64": base64.b64encode(source).decode(), "axes": [1, 0, 2], "flips": [False, True, False]}
    volume = described(source_header=changed, lossless=False)
    assert (volume.header, volume.source_header, volume.lossless) == (HEADER + bytes(4), source, False)
    assert volume.reorder == Reorder((1, 0, 2), (False, True, False))


@pytest.mark.parametrize(
    "changes",
    [
        {"array_sha256": "cd"},
        {"array_sha256": None},
        {"lossless": "yes"},
        {"source_header": {"base64": "!", "axes": [0, 1, 2], "flips": [False, False, False]}},
        {"source_header": {"base64": "", "axes": [0, 1], "flips": [False, False, False]}},
        {"source_header": {"base64": "", "axes": [0, 1, 2]}},
    ],
)
def test_what_is_not_understood_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LayoutError) as refused:
        described(**changes)
    assert (refused.value.code, refused.value.place) == ("layout.metadata", "0001/labels/organs")


@pytest.mark.parametrize("attributes", [{}, {"voxshelf": []}, {"voxshelf": None}])
def test_metadata_that_are_not_ours_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(LayoutError):
        read_volume(ROW, HEADER, attributes)
