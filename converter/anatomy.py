"""A simple human body as data: which solid each region fills, its CT number, and how much tracer it takes up.

Nothing here is measured: sizes and places are an adult's to within a finger's breadth. Coordinates are RAS
world mm of a reference body: x grows to the patient's right, y to the front, z to the head; x = 0 is the
midplane, z = 0 mid thigh, z = `SKULL_BASE` the top of the scan. Arms are raised. Points of the table read
(x, y, z), while the axes of arrays are (z, y, x), the order in which NIfTI stores voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

type Point = tuple[float, float, float]
type Row = tuple[float, float, float, float, float]
type Axis = npt.NDArray[np.float32]
type Axes = tuple[Axis, Axis, Axis]
type Mask = npt.NDArray[np.bool_]

SKULL_BASE: Final = 861.0


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid along the axes of the body; `centre` and `radii` are (x, y, z) in mm."""

    centre: Point
    radii: Point

    def bounds(self) -> tuple[Point, Point]:
        """Return the lowest and the highest corner, (x, y, z) in mm."""
        (x, y, z), (width, depth, height) = self.centre, self.radii
        return (x - width, y - depth, z - height), (x + width, y + depth, z + height)

    def inside(self, axes: Axes) -> Mask:
        """Return which voxels lie inside, axis order (z, y, x), for the mm coordinates along each axis."""
        x, y, z = (((axes[2 - i] - self.centre[i]) / self.radii[i]) ** 2 for i in range(3))
        return np.asarray((z[:, None] + y)[:, :, None] + x <= 1)


@dataclass(frozen=True, slots=True)
class Capsule:
    """A rod with round ends; `start` and `end` are (x, y, z), and all is in mm."""

    start: Point
    end: Point
    radius: float

    def bounds(self) -> tuple[Point, Point]:
        """Return the lowest and the highest corner, (x, y, z) in mm."""
        spans = [sorted(pair) for pair in zip(self.start, self.end, strict=True)]
        low, high = zip(*((a - self.radius, b + self.radius) for a, b in spans), strict=True)
        return low, high

    def inside(self, axes: Axes) -> Mask:
        """Return which voxels lie inside, axis order (z, y, x), for the mm coordinates along each axis."""
        step = [b - a for a, b in zip(self.start, self.end, strict=True)]
        x, y, z = (axes[2 - i] - self.start[i] for i in range(3))
        along = (z[:, None] * step[2] + y * step[1])[:, :, None] + x * step[0]
        along = np.clip(along / sum(s * s for s in step), 0, 1)
        across = (z[:, None, None] - along * step[2], y[:, None] - along * step[1], x - along * step[0])
        return np.asarray(sum(d * d for d in across) <= self.radius**2)


@dataclass(frozen=True, slots=True)
class Loft:
    """Rounded cross-sections with straight lines between them, cut by planes.

    Attributes
    ----------
    rows
        The cross-sections from the feet up: height, middle x, middle y, half width and half depth, in mm.
    power
        2 for ellipses; the more, the squarer.
    cuts
        Triples (sign, a, b): only points with ``sign * (a * y + z - b) <= 0`` are inside.
    """

    rows: tuple[Row, ...]
    power: float = 2.0
    cuts: tuple[Point, ...] = ()

    def bounds(self) -> tuple[Point, Point]:
        """Return the lowest and the highest corner, (x, y, z) in mm."""
        z, x, y, width, depth = np.array(self.rows).T
        low, high = (x - width).min(), (x + width).max()
        return (low, (y - depth).min(), z[0]), (high, (y + depth).max(), z[-1])

    def inside(self, axes: Axes) -> Mask:
        """Return which voxels lie inside, axis order (z, y, x), for the mm coordinates along each axis."""
        z, y, x = axes
        mid_x, mid_y, width, depth = (k.astype(np.float32)[:, None] for k in _section(self.rows, z))
        from_x = np.abs((x - mid_x) / width) ** np.float32(self.power)
        from_y = np.abs((y - mid_y) / depth) ** np.float32(self.power)
        inside = np.asarray(from_y[:, :, None] + from_x[:, None, :] <= 1)
        for sign, slope, level in self.cuts:
            inside &= (sign * (slope * y + z[:, None] - level) <= 0)[:, :, None]
        return inside


type Shape = Ellipsoid | Capsule | Loft


class Tissue(NamedTuple):
    """What a scanner sees of a tissue: its CT number in HU, and its uptake of FDG in SUV (g/ml)."""

    hu: int
    suv: float


class Part(NamedTuple):
    """One region of the body.

    Attributes
    ----------
    name
        Name of its label, or for a region that no label map shows, a name of its own.
    family
        Id of its family in `corpus.labels`, or None.
    tissue
        What it consists of.
    shapes
        Solids, all of which it fills.
    over
        Names of the parts that it may take voxels from; any part, and the air, when empty.
    side
        -1 when the solids are those of the other side of the body, and have to be mirrored.
    shift
        How far all of it lies from where the solids say, (x, y, z) in mm.
    """

    name: str
    family: str | None
    tissue: Tissue
    shapes: tuple[Shape, ...]
    over: tuple[str, ...] = ()
    side: int = 1
    shift: Point = (0.0, 0.0, 0.0)


FAT: Final = Tissue(-100, 0.3)
MUSCLE: Final = Tissue(48, 0.7)
BLOOD: Final = Tissue(160, 1.6)
SPONGY_BONE: Final = Tissue(400, 1.5)
BONE: Final = Tissue(650, 0.9)


def paint(canvas: npt.NDArray[np.uint8], axes: Axes, parts: list[Part]) -> None:
    """Write the number of each part, counted from 1, into the voxels that it fills.

    Parameters
    ----------
    canvas
        Part numbers, 0 for air, axis order (z, y, x); changed in place.
    axes
        Coordinates of the voxel centres in mm of the reference body along z, y and x.
    parts
        The body, in the order of painting.
    """
    names = np.array(["", *(part.name for part in parts)])
    for number, part in enumerate(parts, start=1):
        free = np.isin(names, part.over or names)
        z, y, x = (axis - part.shift[2 - i] for i, axis in enumerate(axes))
        for shape in part.shapes:
            _paint_shape(canvas, (z, y, part.side * x), shape, (number, free))


def _paint_shape(canvas: npt.NDArray[np.uint8], axes: Axes, shape: Shape, brush: tuple[int, Mask]) -> None:
    # Only voxels in the box of the solid are looked at, which is what makes the full size quick.
    low, high = shape.bounds()
    boxed = [np.flatnonzero((axis >= low[2 - i]) & (axis <= high[2 - i])) for i, axis in enumerate(axes)]
    if all(found.size for found in boxed):
        z, y, x = (slice(int(found[0]), int(found[-1]) + 1) for found in boxed)
        view = canvas[z, y, x]
        number, free = brush
        view[shape.inside((axes[0][z], axes[1][y], axes[2][x])) & free[view]] = number


def _section(rows: tuple[Row, ...], z: float | Axis) -> list[npt.NDArray[np.float64]]:
    """Return middle x, middle y, half width and half depth of a loft at some heights, all in mm."""
    heights, *rest = zip(*rows, strict=True)
    return [np.asarray(np.interp(z, heights, values)) for values in rest]


def _grown(rows: tuple[Row, ...], mm: float) -> tuple[Row, ...]:
    return tuple((z, x, y, width + mm, depth + mm) for z, x, y, width, depth in rows)


def _ball(*numbers: float) -> tuple[Shape, ...]:
    x, y, z, width, depth, height = numbers
    return (Ellipsoid((x, y, z), (width, depth, height)),)


def _tube(radius: float, *points: Point) -> tuple[Shape, ...]:
    return tuple(Capsule(a, b, radius) for a, b in pairwise(points))


def _pair(part: Part) -> list[Part]:
    # A part of the right side, and its image on the left.
    return [part._replace(name=f"{part.name}_right"), part._replace(name=f"{part.name}_left", side=-1)]


# Cross-sections as in `Loft.rows`, without the fat under the skin.
_TORSO: Final = (
    (95, 0, -12, 160, 98), (150, 0, -14, 166, 106), (220, 0, -6, 158, 102), (300, 0, 0, 142, 94),
    (400, 0, 0, 140, 96), (500, 0, 0, 148, 106), (600, 0, -2, 156, 110), (680, 0, -8, 166, 104),
    (735, 0, -14, 172, 82), (765, 0, -16, 120, 64), (785, 0, -16, 62, 56), (870, 0, -12, 56, 58),
)  # fmt: skip
_THIGH: Final = ((-200, 88, -6, 66, 70), (20, 88, -6, 72, 78), (120, 84, -8, 74, 84))
_ARM: Final = ((690, 150, -14, 32, 44), (740, 164, -12, 34, 44), (910, 180, -4, 32, 36))
_RIBCAGE: Final = (
    (390, 0, 2, 126, 80), (440, 0, 2, 132, 86), (520, 0, 2, 138, 94), (600, 0, 0, 136, 94),
    (660, 0, -6, 122, 84), (700, 0, -12, 98, 70), (725, 0, -18, 76, 54), (742, 0, -20, 56, 42),
)  # fmt: skip
_BELLY: Final = ((140, 0, 10, 62, 66), (200, 0, 10, 92, 72), (260, 0, 12, 116, 72), (390, 0, 12, 118, 70))
_LUNG: Final = (
    (465, 86, -40, 46, 38), (520, 80, -12, 58, 76), (600, 76, -8, 58, 82), (665, 66, -12, 50, 68),
    (710, 48, -22, 34, 40), (735, 40, -26, 12, 14),
)  # fmt: skip
# The lower lobe lies below and behind this plane (see `Loft.cuts`); the middle lobe, below the next.
_FISSURE: Final = (1.385, 583.0)
_HORIZONTAL: Final = (0.0, 585.0)
# Middle of the vertebral bodies at some heights, (z, y), from the sacrum up.
_SPINE: Final = (
    (170, -82), (270, -50), (345, -32), (450, -44), (540, -62), (640, -70), (736, -52), (800, -32), (870, -24)
)  # fmt: skip
# From L5 to C1: the middle of a vertebra (z), half its height without the disc, half the width of its body.
_VERTEBRAE: Final = (
    ("L5", 288, 16, 26), ("L4", 324, 16, 26), ("L3", 360, 16, 25), ("L2", 395.5, 15, 24), ("L1", 430, 15, 23),
    ("T12", 462.5, 13.5, 22), ("T11", 492.5, 12.5, 21), ("T10", 520.5, 11.5, 21), ("T9", 547, 11, 20),
    ("T8", 572.5, 10.5, 20), ("T7", 597, 10, 19), ("T6", 620.5, 9.5, 18), ("T5", 643, 9, 18),
    ("T4", 664.5, 8.5, 17), ("T3", 685.5, 8.5, 17), ("T2", 706, 8, 17), ("T1", 726, 8, 17),
    ("C7", 745, 7, 15), ("C6", 762.5, 6.5, 14), ("C5", 779.5, 6.5, 14), ("C4", 796.5, 6.5, 14),
    ("C3", 813.5, 6.5, 14), ("C2", 832.5, 8.5, 14), ("C1", 851, 7.5, 18),
)  # fmt: skip


def _spine_depth(z: float) -> float:
    heights, depths = zip(*_SPINE, strict=True)
    return float(np.interp(z, heights, depths))


def _by_spine(z: float, x: float, mm: float) -> Point:
    return x, _spine_depth(z) + mm, z


def body_parts(fat: float) -> list[Part]:
    """Return the body in the order of painting: what comes later replaces what came before.

    Parameters
    ----------
    fat
        Thickness in mm of the fat under the skin.
    """
    return [*_frame(fat), *_lungs(), *_muscles(), *_belly(), *_chest(), *_vertebrae(), *_ribs(), *_bones()]


def _frame(fat: float) -> list[Part]:
    couch = Loft(((-300, 0, -170, 210, 9), (1200, 0, -170, 210, 9)), 6)
    parts = [Part("couch", None, Tissue(-250, 0.0), (couch,))]
    for name, tissue, mm in (("skin_fat", FAT, fat), ("muscle", MUSCLE, 0)):
        torso, *limbs = (Loft(_grown(rows, mm), 2.4) for rows in (_TORSO, _THIGH, _ARM))
        parts += [Part(name, None, tissue, (torso, *limbs)), Part(name, None, tissue, tuple(limbs), side=-1)]
    return [*parts, Part("cavity", None, FAT, (Loft(_grown(_RIBCAGE, -9)), Loft(_BELLY, 2.3)), ("muscle",))]


def _lungs() -> list[Part]:
    before, behind, above, below = (-1, *_FISSURE), (1, *_FISSURE), (-1, *_HORIZONTAL), (1, *_HORIZONTAL)
    lobes = (
        ("lung_upper_lobe_right", 1, (before, above)),
        ("lung_middle_lobe_right", 1, (before, below)),
        ("lung_lower_lobe_right", 1, (behind,)),
        ("lung_upper_lobe_left", -1, (before,)),
        ("lung_lower_lobe_left", -1, (behind,)),
    )
    air, free = Tissue(-850, 0.5), ("cavity",)
    return [Part(name, "organs", air, (Loft(_LUNG, 2.3, cuts),), free, side) for name, side, cuts in lobes]


def _muscles() -> list[Part]:
    sizes = ((235, 24, 18), (345, 32, 24), (450, 31, 22), (600, 25, 17), (736, 24, 19), (800, 20, 17))
    back = Loft(tuple((z, 34, _spine_depth(z) - 34, width, depth) for z, width, depth in sizes))
    psoas = _tube(20, (38, -43, 425), (46, -29, 340), (66, -2, 260), (84, 24, 190), (90, 34, 140), (98, 16, 100))
    body = ("muscle", "skin_fat")
    under = ("muscle", "gluteus_medius_right", "gluteus_medius_left")
    table = [
        Part("autochthon", "muscles", MUSCLE, (back,), (*body, "cavity")),
        Part("gluteus_maximus", "muscles", MUSCLE, _ball(82, -86, 165, 58, 38, 78), body),
        Part("gluteus_medius", "muscles", MUSCLE, _ball(128, -18, 236, 26, 52, 58), body),
        Part("gluteus_minimus", "muscles", MUSCLE, _ball(120, 4, 205, 14, 30, 36), under),
        Part("iliopsoas", "muscles", MUSCLE, psoas, (*body, "cavity")),
    ]
    return [side for part in table for side in _pair(part)]


def _belly() -> list[Part]:
    free = ("cavity", *(part.name for part in _lungs()))
    liver = (*_ball(66, 4, 472, 76, 82, 76), *_ball(8, 44, 486, 72, 36, 38))
    colon = _tube(19, (96, 14, 240), (98, 10, 375), (60, 52, 345), (0, 66, 330), (-62, 52, 360))
    colon += _tube(16, (-98, -6, 390), (-98, -4, 250), (-50, 20, 225), (-10, -20, 205))
    bowel = _tube(17, *((28 * (-1) ** i + 10 * (i % 3), 34 + 12 * (i % 2), 240 + 14 * i) for i in range(6)))
    pancreas = _tube(13, (38, 12, 398), (0, 22, 412), (-66, -8, 432))
    return [
        Part("gut", None, Tissue(38, 1.3), colon + bowel, ("cavity",)),
        Part("liver", "organs", Tissue(100, 2.3), liver, free),
        Part("stomach", "organs", Tissue(30, 1.6), _ball(-62, 34, 448, 42, 36, 56), free),
        Part("spleen", "organs", Tissue(110, 1.9), _ball(-100, -44, 452, 30, 36, 50), free),
        Part("pancreas", "organs", Tissue(80, 1.5), pancreas),
        Part("gallbladder", "organs", Tissue(8, 0.6), _ball(64, 58, 412, 17, 18, 27)),
        Part("kidney_right", "organs", Tissue(170, 4.5), _ball(64, -40, 378, 25, 23, 52)),
        Part("kidney_left", "organs", Tissue(170, 4.5), _ball(-64, -40, 396, 25, 23, 52)),
        Part("adrenal_gland_right", "organs", Tissue(60, 1.4), _ball(40, -24, 447, 9, 13, 14)),
        Part("adrenal_gland_left", "organs", Tissue(60, 1.4), _ball(-40, -24, 458, 9, 13, 14)),
        Part("bladder", "organs", Tissue(6, 18.0), _ball(0, 34, 172, 38, 30, 30)),
    ]


def _chest() -> list[Part]:
    artery = _tube(7, (10, 2, 318), (34, 0, 270), (62, 26, 205), (74, 52, 150))
    vein = _tube(8, (16, -16, 308), (40, -18, 268), (62, 6, 205), (66, 34, 150))
    down = (_by_spine(z, (640 - z) * 0.07 - 24, 34) for z in (640, 600, 540, 450, 400, 345, 325))
    aorta = _tube(13, (6, 22, 585), (12, 18, 640), (-2, 0, 668), (-20, -22, 664), *down)
    cava = _tube(12, *(_by_spine(z, 24, 34) for z in (312, 345, 400, 450)), (30, 4, 510), (36, 14, 548))
    trunk = _tube(12, (-20, 48, 585), (-12, 24, 622), (44, -2, 626), (-12, 24, 622), (-52, -8, 618))
    portal = _tube(8, (56, 10, 448), (14, 16, 428), (-40, 0, 432), (-78, -38, 446))
    return [
        *_pair(Part("iliac_artery", "cardiac", BLOOD, artery)),
        *_pair(Part("iliac_vena", "cardiac", BLOOD, vein)),
        Part("inferior_vena_cava", "cardiac", BLOOD, cava),
        Part("portal_splenic_vein", "cardiac", BLOOD, portal),
        Part("pulmonary_artery", "cardiac", BLOOD, trunk),
        Part("aorta", "cardiac", BLOOD, aorta),
        Part("heart_myocardium", "cardiac", Tissue(110, 5.0), _ball(-36, 26, 544, 42, 38, 46)),
        Part("heart_ventricle_left", "cardiac", BLOOD, _ball(-42, 24, 540, 23, 22, 32)),
        Part("heart_atrium_left", "cardiac", BLOOD, _ball(-18, -14, 574, 24, 20, 22)),
        # Only what lies on the right of this ventricle, which in life reaches across the midplane.
        Part("heart_ventricle_right", "cardiac", BLOOD, _ball(16, 50, 538, 24, 22, 32)),
        Part("heart_atrium_right", "cardiac", BLOOD, _ball(34, 18, 562, 23, 25, 28)),
        Part("windpipe", None, Tissue(-980, 0.1), _tube(9, (0, -12, 640), (0, 2, 740), (0, 14, 858))),
        *_pair(Part("thyroid", "organs", Tissue(110, 1.2), _ball(20, 8, 768, 11, 13, 25))),
    ]


def _vertebrae() -> list[Part]:
    parts = []
    for name, middle, tall, half in _VERTEBRAE:
        y = _spine_depth(middle)
        body = Loft(tuple((z, 0, y, half, half * 0.75) for z in (middle - tall, middle + tall)), 2.3)
        arch = _ball(0, y - half * 1.25, middle, half * 1.3, half * 0.75, tall * 0.8)
        spike = _ball(0, y - half * 2.1, middle - 3, 5, half * 0.75, tall * 0.8)
        parts.append(Part(f"vertebra_{name}", "vertebrae", SPONGY_BONE, (body, *arch, *spike)))
    canal = _tube(7, *(_by_spine(z, 0, -25) for z in (235, 270, 345, 450, 540, 640, 736, 800, 860)))
    sacrum = Part("sacrum", "vertebrae", SPONGY_BONE, _ball(0, -68, 224, 50, 22, 50))
    return [sacrum, *parts, Part("spinal_canal", None, Tissue(30, 1.0), canal)]


def _ribs() -> list[Part]:
    parts, heads = [], {name: middle for name, middle, *_ in _VERTEBRAE}
    for i in range(1, 13):
        # Angles from the front, in degrees; the last two ribs float.
        front = {11: 88, 12: 112}.get(i, 34)
        fall = (14 + 11 * min(i, 8)) / 131
        angles = range(165, front - 1, -8)
        arc = _tube(6.5, *(_on_ribcage(heads[f"T{i}"] - fall * (165 - angle), angle) for angle in angles))
        parts += [side._replace(name=f"{side.name}_{i}") for side in _pair(Part("rib", "ribs", BONE, arc))]
    return [*parts, Part("sternum", "ribs", SPONGY_BONE, _tube(11, (0, 93, 548), (0, 90, 610), (0, 68, 690)))]


def _on_ribcage(z: float, angle: float) -> Point:
    turn = math.radians(angle)
    _, y, width, depth = map(float, _section(_RIBCAGE, z))
    return (width - 3) * math.sin(turn), y + (depth - 3) * math.cos(turn), z


def _bones() -> list[Part]:
    hip = _ball(98, -22, 240, 15, 54, 62) + _ball(90, 2, 156, 30, 34, 36)
    hip += _tube(11, (80, 24, 152), (18, 56, 132)) + _tube(15, (86, -24, 145), (64, -34, 98))
    scapula = _ball(100, -84, 660, 42, 9, 64) + _tube(9, (125, -72, 705), (150, -22, 722))
    table = [
        Part("hip", "vertebrae", SPONGY_BONE, hip),
        Part("scapula", "peripheral_bones", BONE, scapula),
        Part("clavicle", "peripheral_bones", BONE, _tube(8, (24, 50, 715), (80, 36, 735), (140, -2, 742))),
    ]
    thigh = ((116, 2, 122), (106, 4, 20), (96, 0, -200))
    arm = ((162, -14, 735), (172, -8, 800), (180, -4, 910))
    hip_joint = _ball(90, 2, 152, 23, 23, 23) + _tube(14, (90, 2, 152), (118, -2, 126))
    limbs = (("femur", hip_joint, thigh, 14), ("humerus", _ball(162, -14, 735, 22, 22, 22), arm, 12))
    for name, joint, shaft, mm in limbs:
        table.append(Part(name, "peripheral_bones", SPONGY_BONE, joint))
        table.append(Part(name, "peripheral_bones", Tissue(900, 0.6), _tube(mm, *shaft)))
        table.append(Part(name, "peripheral_bones", Tissue(90, 1.0), _tube(mm / 2, *shaft)))  # marrow
    return [side for part in table for side in _pair(part)]
