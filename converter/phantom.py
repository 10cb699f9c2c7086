"""A corpus in the shape of ENHANCE.PET whose subjects are made up: for tests, demos and measurements.

Nobody was scanned for it. The body is the one of `converter.anatomy`, a little different for each subject;
grids, voxel types, units, spellings and gaps of the sheets follow what is known of the corpus. The same
arguments give the same bytes. NIfTI is put together here byte by byte, so that the reader under test does not
read what its own library wrote.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import igzip

from converter.anatomy import SKULL_BASE, Axes, Ellipsoid, Part, Tissue, body_parts, paint
from converter.corpusfile import CORPUS_FILE
from converter.phantom_layouts import LayoutWriter
from converter.phantom_sheets import Row, workbook
from corpus.errors import SettingsError
from corpus.labels import Family, families
from corpus.models import CorpusInfo, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

type Numbers = npt.NDArray[np.uint8]
type Triple = tuple[float, float, float]
type Counts = tuple[int, int, int]

CT_EXTENT: Final = (500.0, 500.0, SKULL_BASE)
HALF_LIFE: Final = 6586.2  # of F-18, in seconds
_LAST_ID: Final = 9999


class PhantomSize(NamedTuple):
    """How finely the body is sampled: CT voxels along (x, y, z), and by how much the PET is coarser."""

    ct_shape: Counts
    pet_divisor: int


SIZES: Final = {
    "small": PhantomSize((128, 128, 72), 4),
    "medium": PhantomSize((256, 256, 144), 2),
    "full": PhantomSize((512, 512, 287), 1),
}


class Grid(NamedTuple):
    """Where voxels lie: LAS, the first axis running to the patient's left. All along (x, y, z).

    The origin is the centre of voxel (0, 0, 0) in RAS world coordinates; lengths are in mm.
    """

    shape: Counts
    spacing: Triple
    origin: Triple

    @classmethod
    def around(cls, middle: Triple, shape: Counts, extent: Triple) -> Grid:
        """Return the grid that fills a box, given by its middle and extent along (x, y, z) in mm."""
        (nx, ny, nz), (dx, dy, dz) = shape, (e / n for e, n in zip(extent, shape, strict=True))
        x, y, z = middle
        origin = x + (nx - 1) / 2 * dx, y - (ny - 1) / 2 * dy, z - (nz - 1) / 2 * dz
        return cls(shape, (dx, dy, dz), origin)

    def axes(self) -> Axes:
        """Return the world coordinates of the voxel centres in mm along z, y and x."""
        (nx, ny, nz), (dx, dy, dz), (x, y, z) = self
        lines = (z + dz * np.arange(nz), y + dy * np.arange(ny), x - dx * np.arange(nx))
        return lines[0].astype(np.float32), lines[1].astype(np.float32), lines[2].astype(np.float32)


class PhantomVolume(NamedTuple):
    """One file of a subject."""

    name: str  # path in the corpus
    voxels: npt.NDArray[Any]  # stored values, axis order (x, y, z), x fastest in memory
    grid: Grid
    slope: float  # from stored values to HU, Bq/ml or counts; 1 for label maps


class Source(NamedTuple):
    """What tells a source institution's scans apart; shape and spacing along (x, y, z), spacing in mm."""

    institution: str  # as the sheets spell it, which drifts from the data card
    scanner: str
    pet_shape: Counts
    pet_spacing: Triple
    pet_type: str  # NumPy's name of the stored type
    units: str  # in DICOM's terms: BQML or CNTS


_CAREGGI: Final = "Azienda Ospedaliero Universitaria Careggi (IT)"
_DAVIS: Final = "University of California Davis (US)\t"
SOURCES: Final = (
    Source("AutoPET Challenge", "Biograph mCT", (400, 400, 326), (2.0364201, 2.0364201, 3.0), "<f4", "BQML"),
    Source("University Hospital Leipzig (DE).", "Biograph 16", (168, 168, 290), (4.07, 4.07, 3), "<i2", "BQML"),
    Source(_CAREGGI, "Gemini TF", (144, 144, 226), (4, 4, 4), "<f4", "CNTS"),
    Source(_DAVIS, "uEXPLORER", (256, 256, 320), (2.34, 2.34, 2.89), "<u2", "BQML"),
)
# Every so many subjects (first number), one (with this remainder) lacks the cell, as in real sheets.
_GAPS: Final = {"Age": (5, 2), "Height [m]": (3, 0), "Injection Time": (4, 3), "Weight [kg]": (7, 6)}
_COUNTS_PER_BQML: Final = 0.21  # of the source that gives counts; no sheet tells it
# What takes up tracer besides the organs, per diagnosis; only the PET shows it.
_LESIONS: Final[dict[str, tuple[Ellipsoid, ...]]] = {
    "NEGATIVE": (),
    "LUNG_CANCER": (Ellipsoid((62, 14, 642), (15, 15, 17)), Ellipsoid((12, 2, 606), (10, 10, 12))),
    "LYMPHOMA": (Ellipsoid((-26, 14, 372), (12, 12, 22)), Ellipsoid((110, -30, 690), (12, 12, 14))),
    "MELANOMA": (Ellipsoid((92, 14, 488), (13, 13, 13)), Ellipsoid((104, 30, 60), (10, 10, 14))),
}
_TISSUES: Final = {"muscle": "skeletal_muscle", "skin_fat": "subcutaneous_fat", "cavity": "visceral_fat"}


class Subject(NamedTuple):
    """A made-up person and scan; places and scales along (x, y, z)."""

    number: int  # from 1
    source: Source
    scale: Triple  # size against the reference body
    parts: list[Part]
    noise: float  # standard deviation of the CT in HU
    ct_middle: Triple  # of the grids, in world mm
    pet_middle: Triple
    weight: float  # kg
    height: float  # m
    dose: float  # MBq at injection
    wait: int  # minutes from injection to acquisition
    diagnosis: str

    @property
    def units_per_suv(self) -> float:
        """PET value, in the unit of the source, of an uptake of 1 g/ml."""
        left: float = self.dose * 1e6 * 0.5 ** (self.wait * 60 / HALF_LIFE)
        return left / (self.weight * 1000) * (_COUNTS_PER_BQML if self.source.units == "CNTS" else 1)


def make_subject(index: int, seed: int = 0) -> Subject:
    """Return the subject with a number, from 1; the same for the same arguments."""
    rng = np.random.default_rng([seed, index])
    low, high = (0.94, 0.94, 0.97, 9, 11, 240), (1.06, 1.06, 1.03, 24, 15, 380)
    wide, deep, tall, fat, noise, dose = rng.uniform(low, high).tolist()
    aside, before, pet_aside, pet_before, pet_above = rng.uniform(-9, 9, size=5).tolist()
    return Subject(
        number=index,
        source=SOURCES[(index - 1) % len(SOURCES)],
        scale=(wide, deep, tall),
        parts=[_displaced(part, rng) for part in body_parts(fat)],
        noise=noise,
        ct_middle=(aside, before - 12, SKULL_BASE / 2),
        pet_middle=(pet_aside, pet_before - 20, SKULL_BASE / 2 + pet_above),
        weight=round(72 * wide * deep * tall + (fat - 14) * 1.6, 1),
        height=round(1.74 * tall, 2),
        dose=round(dose, 1),
        wait=int(rng.integers(55, 75)),
        diagnosis=tuple(_LESIONS)[int(rng.integers(len(_LESIONS)))],
    )


def _displaced(part: Part, rng: np.random.Generator) -> Part:
    # Lungs share their borders, bones and vessels their joints: only the other organs lie a little elsewhere.
    if part.family != "organs" or part.name.startswith("lung"):
        return part
    x, y, z = rng.uniform((-3, -4, -6), (3, 4, 6))
    return part._replace(shift=(float(x), float(y), float(z)))


def subject_volumes(index: int, size: str = "small", seed: int = 0) -> Iterator[PhantomVolume]:
    """Make the nine volumes of a subject one after the other: CT, PET, then the label maps.

    Parameters
    ----------
    index
        Number of the subject, from 1.
    size
        A key of `SIZES`.
    seed
        Other seeds give other people.
    """
    subject = make_subject(index, seed)
    shape, divisor = SIZES[size]
    stem = f"{index:04d}.nii.gz"
    grid = Grid.around(subject.ct_middle, shape, CT_EXTENT)
    numbers = _painted(subject, grid, subject.parts)
    voxels = _scan_ct(numbers, subject, np.random.default_rng([seed, index, 1]))
    yield PhantomVolume(f"imaging-data/images/CT/{stem}", voxels.T, grid, 1.0)
    yield _pet_volume(subject, divisor, np.random.default_rng([seed, index, 2]))
    for family in families().values():
        labels = _label_map(numbers, subject.parts, family)
        yield PhantomVolume(f"imaging-data/ground-truth/{family.folder}/{stem}", labels.T, grid, 1.0)


def _painted(subject: Subject, grid: Grid, parts: list[Part]) -> Numbers:
    """Return the part number of each voxel, axis order (z, y, x)."""
    z, y, x = grid.axes()
    wide, deep, tall = (np.float32(1 / factor) for factor in subject.scale)
    numbers = np.zeros(grid.shape[::-1], dtype=np.uint8)
    # Bodies grow downwards from the skull base, where every scan begins.
    paint(numbers, (SKULL_BASE - (SKULL_BASE - z) * tall, y * deep, x * wide), parts)
    return numbers


def _scan_ct(numbers: Numbers, subject: Subject, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Return CT numbers in HU, axis order (z, y, x)."""
    mean = np.array([-1000, *(part.tissue.hu for part in subject.parts)], dtype=np.float32)
    y, x = np.ogrid[-1 : 1 : numbers.shape[1] * 1j, -1 : 1 : numbers.shape[2] * 1j]
    beyond = y**2 + x**2 > 1  # what the scanner does not reconstruct
    hounsfield = np.empty(numbers.shape, dtype="<i2")
    for number, out in zip(numbers, hounsfield, strict=True):  # slice by slice, for the sake of memory
        values = rng.standard_normal(number.shape, dtype=np.float32) * subject.noise + mean[number]
        values[beyond] = -1024
        out[...] = np.clip(np.rint(values), -1024, 3071)
    return hounsfield


def _label_map(numbers: Numbers, parts: list[Part], family: Family) -> Numbers:
    """Return the labels of a family, axis order (z, y, x)."""
    names = [part.name if part.family == family.id else "" for part in parts]
    kept = np.full(len(numbers), fill_value=True)  # slices
    if family.id == "body_composition":
        # Muscles that have a label of their own are skeletal muscle all the same: two families overlap.
        names = [_TISSUES.get("muscle" if part.family == "muscles" else part.name, "") for part in parts]
        kept = (numbers == 1 + [part.name for part in parts].index("vertebra_L3")).any(axis=(1, 2))
    values = {"": 0, **{label.name: label.value for label in family.labels}}
    table = np.array([0, *(values[name] for name in names)], dtype=np.uint8)
    return np.asarray(table[numbers] * kept[:, None, None])


def _pet_volume(subject: Subject, divisor: int, rng: np.random.Generator) -> PhantomVolume:
    source = subject.source
    across = max(-(-source.pet_shape[0] // divisor), 72)  # fewer would not be a picture
    shape = across, across, -(-source.pet_shape[2] // divisor)
    width, depth, height = (n * mm for n, mm in zip(source.pet_shape, source.pet_spacing, strict=True))
    grid = Grid.around(subject.pet_middle, shape, (width, depth, height))
    parts = [*subject.parts, Part("lesion", None, Tissue(40, 9.0), _LESIONS[subject.diagnosis])]
    uptake = np.array([0.02, *(part.tissue.suv for part in parts)], dtype=np.float32)
    values = uptake[_painted(subject, grid, parts)]
    for plane in values:
        # The spread of a Poisson process goes with the root of what is counted.
        plane += np.sqrt(plane) * 0.6 * rng.standard_normal(plane.shape, dtype=np.float32)  # noqa: PLW2901 - in place
    values = np.maximum(_blurred(values), 0) * np.float32(subject.units_per_suv)
    stored, slope = _stored_pet(values, source.pet_type)
    return PhantomVolume(f"imaging-data/images/PT/{subject.number:04d}.nii.gz", stored.T, grid, slope)


def _blurred(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the values smoothed with (1, 2, 1) / 4 along each axis, as a scanner's resolution does."""
    for axis in range(3):
        smooth = values * 0.5
        target, origin = np.moveaxis(smooth, axis, 0), np.moveaxis(values, axis, 0)
        target[1:] += origin[:-1] * 0.25
        target[:-1] += origin[1:] * 0.25
        values = smooth
    return values


def _stored_pet(values: npt.NDArray[np.float32], kind: str) -> tuple[npt.NDArray[Any], float]:
    """Return PET values as a source stores them, axis order (z, y, x), and the slope back to real values."""
    if kind == "<f4":
        # DICOM holds a slope for each slice, which leaves float volumes with 32768 different values a slice.
        steps = np.maximum(values.max(axis=(1, 2), keepdims=True), np.float32(1e-3)) / np.float32(32767)
        return (np.rint(values / steps) * steps).astype(kind, copy=False), 1.0
    slope = np.float32(values.max() / np.iinfo(kind).max)
    return np.rint(values / slope).clip(0, np.iinfo(kind).max).astype(kind), float(slope)


def write_phantom(
    destination: str,
    *,
    subjects: int = 3,
    size: str = "small",
    seed: int = 0,
    first: int = 1,
    layout: str = "L1",
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Write a corpus into a local folder, laid out as ENHANCE.PET is.

    Parameters
    ----------
    destination
        Folder, made when missing.
    subjects
        How many.
    size
        A key of `SIZES`.
    seed
        Other seeds give other people.
    first
        Number of the first subject; ids are four digits.
    layout
        A key of `converter.phantom_layouts.LAYOUTS`.
    progress
        Called with the name of each file when it is written.

    Returns
    -------
    list of str
        Names of the files, relative to the folder; a member of an archive is ``archive.zip!member``.

    Raises
    ------
    SettingsError
        An argument cannot be used.
    """
    last = first + subjects - 1
    if size not in SIZES or not 1 <= first <= last <= _LAST_ID:
        message = f"cannot make {size!r} subjects {first} to {last}; sizes are {[*SIZES]}, ids 1 to {_LAST_ID}"
        raise SettingsError("settings.option", message)
    written = []
    with LayoutWriter(Path(destination), layout) as writer:
        for name, content in _files([make_subject(number, seed) for number in range(first, last + 1)], size, seed):
            if placed := writer.write(name, content):
                written.append(placed)
                if progress:
                    progress(placed)
    return written


def _files(people: list[Subject], size: str, seed: int) -> Iterator[tuple[str, bytes]]:
    yield "CT-details.xlsx", workbook([_ct_row(person) for person in people])
    yield "PT-details.xlsx", workbook([_pt_row(person, seed) for person in people])
    # The published file has no trachea either, and no released map holds one.
    names = {
        family.folder: {str(label.value): label.name for label in family.labels if label.name != "trachea"}
        for family in families().values()
    }
    yield "labels.json", json.dumps(names, indent=2).encode()
    yield CORPUS_FILE, to_json(CorpusInfo("voxshelf phantom", f"seed {seed}", "Synthetic: nobody was scanned."))
    for person in people:
        for volume in subject_volumes(person.number, size, seed):
            yield volume.name, nifti_bytes(volume)


def nifti_bytes(volume: PhantomVolume) -> bytes:
    """Return a volume as a .nii.gz file; no name and no time in it, so that equal volumes are equal files."""
    (shape, (dx, dy, dz), (x, y, z)), kind = volume.grid, volume.voxels.dtype
    header, put = bytearray(352), struct.pack_into
    put("<i", header, 0, 348)
    put("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    put("<2h", header, 70, {"u1": 2, "i2": 4, "f4": 16, "u2": 512}[kind.str[1:]], kind.itemsize * 8)
    # The last axis is to be flipped (-1) after half a turn about y (quaternion 0, 0, 1, 0): that makes LAS.
    put("<8f", header, 76, -1, dx, dy, dz, 0, 0, 0, 0)
    put("<3f", header, 108, 352, volume.slope, 0)
    put("<B", header, 123, 2 | 8)  # mm and seconds
    put("<80s", header, 148, b"voxshelf phantom: made up, nobody was scanned")
    put("<2h6f", header, 252, 1, 1, 0, 1, 0, x, y, z)
    put("<12f", header, 280, -dx, 0, 0, x, 0, dy, 0, y, 0, 0, dz, z)
    put("<4s", header, 344, b"n+1")
    return igzip.compress(header + volume.voxels.tobytes(order="F"), 1, mtime=0)


def _ct_row(person: Subject) -> Row:
    return {
        "Patient": person.number,
        "Data-Source": person.source.institution,
        "Manufacturer Model": person.source.scanner,
        "kVp": 120 if person.number % 3 else 100,
        "Slice Thickness [mm]": 3.0,
        "Exposure [mAs]": None if person.number % 4 == 0 else round(13500 / person.noise**2),
    }


def _pt_row(person: Subject, seed: int) -> Row:
    rng = np.random.default_rng([seed, person.number, 3])
    injected = datetime(2015, 1, 1, 8, tzinfo=UTC) + timedelta(seconds=int(rng.integers(6 * 3600)))
    cells: Row = {
        "Patient": person.number,
        "Age": round(float(rng.uniform(24, 86)), 1),
        "Sex": "MfFm"[int(rng.integers(4))],
        "Weight [kg]": person.weight,
        "Height [m]": person.height,
        "Data-Source": person.source.institution,
        "Diagnosis": person.diagnosis,
        "Manufacturer Model": person.source.scanner,
        "Year": int(rng.integers(2009, 2022)),
        "Units": person.source.units,
        "Injected Dose [MBq]": person.dose,
        "Injection Time": f"{injected:%H:%M:%S}",
        "Acquisition Time": f"{injected + timedelta(minutes=person.wait):%H:%M:%S}",
        "Half Life [s]": HALF_LIFE,
    }
    gaps = {name for name, (every, which) in _GAPS.items() if person.number % every == which}
    return {name: None if name in gaps else cell for name, cell in cells.items()}
