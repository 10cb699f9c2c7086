from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_the_demo_goes_the_whole_way_and_stops(tmp_path: Path, voxshelf: Callable[..., Any]) -> None:
    done = voxshelf("demo", "--once", "--folder", tmp_path / "demo", "--port", "0")
    assert "27 volumes converted" in done.stdout
    assert "voxels equal to the source's" in done.stdout
    assert "liver of 0001 over HTTP" in done.stdout
    assert "xr.open_datatree(" in done.stdout
    again = voxshelf("demo", "--once", "--folder", tmp_path / "demo", "--port", "0")
    assert "0 volumes converted, 27 were there" in again.stdout
