"""Quality flags: what looks wrong in a subject although every file could be read. Nothing is ever repaired.

Pure functions of what the conversion recorded and of the coarsest levels, so that the same subject gives the same
flags everywhere. A flag says that a person has to look: a mirrored copy of a label map reads without any error, and
so does a CT whose intercept was lost. World positions are RAS+ mm, where the patient's right is +x.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpus.findings import Finding, warning
from corpus.geometry import Grid, Voxels
from corpus.models import Region, StoredImage
from corpus.regions import Box

_MARGIN_MM: Final = 10.0
"""How far on the wrong side a structure has to lie: hearts and rotated patients come near the midline."""
_LEAST_ML: Final = 1.0
"""Smaller regions are often stray voxels of a segmentation, and say nothing about its side."""
_SIDES: Final = {"liver": 1, "spleen": -1, "heart": -1, "heart_myocardium": -1, "heart_ventricle_left": -1}
"""Side of the midline on which a structure lies, as the sign of x."""
_LEFT: Final = re.compile(r"(?<![a-z])left(?![a-z])")
_UNPAIRED: Final = re.compile(r"heart|atrium|ventricle|carpal|finger|hand|radius|ulna|patella|tibia|fibula|tarsal|toes")
"""Names whose left may well lie right of their right: chambers of a turned heart, crossed arms and legs."""
_SPINE: Final = re.compile(r"vertebra|sacrum")

_BODY_ABOVE_HU: Final = -300.0
_MOSTLY: Final = 0.5
_HARDLY: Final = 0.25
_LOWEST_HU: Final = -200.0
_HIGHEST_HU: Final = 100.0
_EMPTIEST_HU: Final = -8192.0
_DENSEST_HU: Final = 65535.0
"""What lies beyond is no scanner's padding (down to -8192), and no metal on an extended scale (up to some 31,000)."""
_SHIFTED_HU: Final = (824.0, 1224.0)
"""Where fat, muscle and organs lie when 1000 or 1024 was added to them; in a body, only bone lies there."""
_MUCH: Final = 0.1


class Coarse(NamedTuple):
    """The coarsest level of a volume: stored numbers, and their lattice."""

    voxels: Voxels
    grid: Grid


type CoarseLevels = Mapping[str, Coarse]
"""By role."""


def check_subject(subject: str, images: Iterable[StoredImage], coarse: CoarseLevels) -> tuple[Finding, ...]:
    """Return what a person should look at in a subject.

    Parameters
    ----------
    subject
        Id.
    images
        All its stored volumes.
    coarse
        Their coarsest levels.

    Returns
    -------
    tuple of Finding
        The place of each is that of its volume, ``0001/organs``, or the subject's id.
    """
    by_role = {image.role: image for image in images}
    labels = {role: image for role, image in by_role.items() if image.is_label}
    ct = by_role.get("ct")
    # Label maps may lie apart from a subject's CT, so all of this goes by world positions.
    body = _body_of(ct, coarse["ct"]) if ct is not None else None
    found = [
        *_intensities(by_role, coarse),
        *_sides(labels, body),
        *(_outside(labels, coarse, body) if body is not None else ()),
    ]
    flags = [warning(code, f"{subject}/{role}", message) for code, role, message in found]
    if ct is not None and "pet" in by_role and (message := _apart(ct.grid, by_role["pet"].grid)):
        flags.append(warning("warning.views-apart", subject, message))
    return tuple(flags)


type _Found = tuple[str, str, str]
"""Code, role, message."""


class _Body(NamedTuple):
    """Which voxels of a CT's coarsest level lie in the body, cavities filled; shape (z, y, x)."""

    inside: NDArray[np.bool_]
    grid: Grid


def _body_of(ct: StoredImage, coarse: Coarse) -> _Body:
    tissue = coarse.voxels * ct.scaling.slope + ct.scaling.inter > _BODY_ABOVE_HU
    # In planes across the body: what has tissue before and behind, right and left of it is inside, as lungs are.
    axes = [coarse.grid.world_axes.index(world) for world in (2, 1, 0)]
    planes = tissue.transpose(axes)
    enclosed = np.ones_like(planes)
    for axis in (1, 2):
        enclosed &= np.maximum.accumulate(planes, axis)
        enclosed &= np.flip(np.maximum.accumulate(np.flip(planes, axis), axis), axis)
    return _Body((planes | enclosed).transpose(np.argsort(axes)), coarse.grid)


def _intensities(images: Mapping[str, StoredImage], coarse: CoarseLevels) -> Iterator[_Found]:
    for role, image in images.items():
        if not image.is_label and image.units == "unknown":
            yield "warning.intensity-unit", role, ""
        if image.units == "HU" and (message := _implausible_hu(image, coarse[role].voxels)):
            yield "warning.hu-range", role, message


def _implausible_hu(image: StoredImage, voxels: Voxels) -> str:
    known = image.statistics
    if known is None or known.minimum is None or known.maximum is None:
        return ""
    if known.minimum > _LOWEST_HU:
        return f"never below {known.minimum:g} HU, so there is no air"
    if known.minimum < _EMPTIEST_HU or known.maximum > _DENSEST_HU:
        return f"from {known.minimum:g} to {known.maximum:g} HU, which no scanner gives"
    if known.maximum < _HIGHEST_HU:
        return f"never above {known.maximum:g} HU, so there is no bone"
    low, high = _SHIFTED_HU
    hu = voxels * image.scaling.slope + image.scaling.inter
    share = float(np.mean((hu > low) & (hu < high)))
    if share > _MUCH:
        return f"{share:.0%} of the voxels lie between {low:g} and {high:g} HU, where only bone should"
    return ""


def _apart(ct: Grid, pet: Grid) -> str:
    boxes = [np.reshape(Box.whole(grid).bounds_mm_ras(grid), (2, 3)) for grid in (ct, pet)]
    shared = np.minimum(boxes[0][1], boxes[1][1]) - np.maximum(boxes[0][0], boxes[1][0])
    smaller = min(float(np.prod(high - low)) for low, high in boxes)
    part = float(np.prod(np.maximum(shared, 0))) / smaller
    return f"they share {part:.0%} of the smaller field of view" if part < _HARDLY else ""


def _outside(labels: Mapping[str, StoredImage], coarse: CoarseLevels, body: _Body) -> Iterator[_Found]:
    for role in labels:
        level = coarse[role]
        index = np.argwhere(level.voxels)
        if not len(index):
            continue
        at = np.rint(body.grid.to_index_zyx(level.grid.to_world_mm(index))).astype(np.int64)
        held = np.all((at >= 0) & (at < body.grid.shape_zyx), axis=1)
        z, y, x = at[held].T
        part = 1 - np.count_nonzero(body.inside[z, y, x]) / len(index)
        if part > _MOSTLY:
            yield "warning.label-outside", role, f"{part:.0%} of its voxels lie outside the body that the CT shows"


def _sides(labels: Mapping[str, StoredImage], body: _Body | None) -> Iterator[_Found]:
    told = {
        role: [region for region in image.regions if region.volume_ml >= _LEAST_ML] for role, image in labels.items()
    }
    crossed = {role: [_x(right) - _x(left) for left, right in _pairs(regions)] for role, regions in told.items()}
    # A map that is mirrored itself must not say where the midline is.
    trusted = [
        region for role, regions in told.items() if min(crossed[role], default=0) > -_MARGIN_MM for region in regions
    ]
    midline = _midline(trusted, body)
    for role, regions in told.items():
        signs = [(f"{left.name} lies right of {right.name}", _x(right) - _x(left)) for left, right in _pairs(regions)]
        if midline is not None:
            signs += [_sign_of(region, midline) for region in regions if region.name in _SIDES]
        else:
            # One map of a subject without a CT, a spine or any pair of organs: they still tell of each other.
            signs += [
                (f"{left.name} lies right of {right.name}", _x(right) - _x(left)) for left, right in _across(regions)
            ]
        if wrong := [text for text, mm in signs if mm < -_MARGIN_MM]:
            yield "warning.label-side", role, f"{len(wrong)} of {len(signs)} signs: {', '.join(wrong[:4])}"


def _x(region: Region) -> float:
    return region.centroid_mm_ras[0]


def _pairs(regions: list[Region]) -> Iterator[tuple[Region, Region]]:
    names = {region.name: region for region in regions}
    for name, left in names.items():
        right = names.get(_LEFT.sub("right", name))
        if right is not None and right is not left and not _UNPAIRED.search(name):
            yield left, right


def _across(regions: list[Region]) -> Iterator[tuple[Region, Region]]:
    names = {region.name: region for region in regions}
    if "spleen" in names and "liver" in names:
        yield names["spleen"], names["liver"]


type _Midline = tuple[list[float], list[float]]
"""Heights (z, rising) and the x of the midline there, mm."""


def _midline(regions: list[Region], body: _Body | None) -> _Midline | None:
    spine = sorted((region.centroid_mm_ras[2], _x(region)) for region in regions if _SPINE.match(region.name))
    if spine:
        return [z for z, _ in spine], [x for _, x in spine]
    middles = [(_x(left) + _x(right)) / 2 for left, right in _pairs(regions)]
    if not middles and body is not None and body.inside.any():
        middles = [float(body.grid.to_world_mm(np.argwhere(body.inside).mean(axis=0))[0])]
    return ([0.0], [_median(middles)]) if middles else None


def _median(values: list[float]) -> float:
    # That of np.median, which loads numpy's masked arrays to find out that these are none.
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _sign_of(region: Region, midline: _Midline) -> tuple[str, float]:
    # Positive where the structure is on its own side.
    mm = _x(region) - float(np.interp(region.centroid_mm_ras[2], *midline))
    side = "right" if mm > 0 else "left"
    return f"{region.name} lies {abs(mm):.0f} mm {side} of the midline", mm * _SIDES[region.name]
