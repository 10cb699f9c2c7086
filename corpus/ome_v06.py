"""The 0.6 form of a multiscale: the same levels and places as in 0.5, in coordinate systems with one affine.

Source: OME-Zarr 0.6 (RFC-5), https://ngff.openmicroscopy.org/0.6/. ``intrinsic`` is the frame of a 0.5 multiscale, with
the array's axes and positive scales; ``nifti:sform`` is the world of a NIfTI header, under the name that NIfTI-Zarr
gives it. Never an affine of the qform beside it: readers differ in whether they take the first, the last or all.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from corpus.geometry import Grid

Json = dict[str, Any]

INTRINSIC: Final = "intrinsic"
WORLD: Final = "nifti:sform"
_WORLD_AXES: Final = {"z": "inferior-to-superior", "y": "posterior-to-anterior", "x": "left-to-right"}
"""Axes of the world in the order of its coordinate system, RAS+; the same for all images, however these lie."""


def multiscale(plain: Json, grid: Grid) -> Json:
    """Return a 0.5 multiscale in its 0.6 form.

    Parameters
    ----------
    plain
        With ``axes``, and datasets that have one ``scale`` and one ``translation`` each.
    grid
        Lattice of level 0.
    """
    kept = {key: value for key, value in plain.items() if key not in {"axes", "datasets"}}
    return {
        **kept,
        "coordinateSystems": [
            {"name": INTRINSIC, "axes": plain["axes"]},
            {"name": WORLD, "axes": [axis(name, value) for name, value in _WORLD_AXES.items()]},
        ],
        "datasets": [_dataset(dataset) for dataset in plain["datasets"]],
        "coordinateTransformations": [
            {
                "type": "affine",
                "input": {"name": INTRINSIC},
                "output": {"name": WORLD},
                "affine": world_affine(grid, plain["datasets"][0]["coordinateTransformations"][1]["translation"]),
            }
        ],
    }


def axis(name: str, direction: str) -> Json:
    """Return one axis of space, with its orientation in RFC-4's object form."""
    return {
        "name": name,
        "type": "space",
        "unit": "millimeter",
        "orientation": {"type": "anatomical", "value": direction},
    }


def world_affine(grid: Grid, translation_mm: list[float]) -> list[list[float]]:
    """Return the affine from the intrinsic frame to the world: three rows (z, y, x) of four, the last the shift in mm.

    Parameters
    ----------
    grid
        Lattice of level 0.
    translation_mm
        Intrinsic position of the centre of its voxel 0, by array axis.
    """
    # A voxel i lies at spacing * i + translation in the frame and at steps @ i + origin in the world.
    directions = grid.steps / grid.spacing_mm_zyx
    shift = grid.origin_mm_ras - directions @ translation_mm
    rows = np.column_stack([directions, shift])[::-1]
    # Zero has no sign here: the same grid must give the same bytes.
    return [[float(value) + 0.0 for value in row] for row in rows]


def _dataset(plain: Json) -> Json:
    return {
        "path": plain["path"],
        "coordinateTransformations": [
            {
                "type": "sequence",
                "input": {"path": plain["path"]},
                "output": {"name": INTRINSIC},
                "transformations": plain["coordinateTransformations"],
            }
        ],
    }
