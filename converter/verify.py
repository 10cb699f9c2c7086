"""Is a mirror what it says: objects against their digests, voxels against the tables and against the source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np

from converter.cast import LABEL_ROUNDING
from converter.description import Description, remembered
from converter.inventory import Inventory, take_inventory
from converter.pack import open_volume
from converter.publish import completed_subjects
from converter.reader import Mirror, Volume
from corpus import layout
from corpus.errors import LayoutError, SettingsError, SourceError, VoxshelfError
from corpus.findings import Finding, failure, unexpected
from corpus.geometry import Voxels
from corpus.models import SubjectOutcome

_SLICES: Final = 64


class VolumeChecked(msgspec.Struct, frozen=True, tag="checked"):
    """One volume was checked.

    Attributes
    ----------
    subject, volume
        Which one.
    voxels
        Number of voxels that were compared with the source; 0 without one.
    findings
        What is wrong; empty when all is right.
    """

    subject: str
    volume: str
    voxels: int
    findings: tuple[Finding, ...]


class Verification(msgspec.Struct, frozen=True):
    """The end of a check.

    Attributes
    ----------
    subjects, volumes, objects
        How many were checked.
    voxels
        How many were compared with the source.
    findings
        What is wrong.
    """

    subjects: int
    volumes: int
    objects: int
    voxels: int
    findings: tuple[Finding, ...]


def verify(
    mirror_url: str,
    source_url: str | None,
    subjects: frozenset[str] | None,
    listen: Callable[[VolumeChecked], None],
    description: Description | None = None,
) -> Verification:
    """Check a mirror.

    Every object is compared with the size and digest that were recorded when it was written; level 0 of every volume
    is decoded and compared with the tables; and, where a source is given, every voxel with the source's.

    Parameters
    ----------
    mirror_url
        The mirror.
    source_url
        The corpus it was made from, or None.
    subjects
        Ids; None for all.
    listen
        Called after each volume.
    description
        Of the corpus; None for the one that the mirror was converted with.

    Raises
    ------
    LayoutError
        It is no published mirror, or its tables are damaged.
    SettingsError
        No subject is selected.
    """
    mirror = Mirror(mirror_url)
    inventory = take_inventory(source_url, description or remembered(mirror.store)) if source_url else None
    outcomes = completed_subjects(mirror.store)
    listed = [subject for subject in mirror.catalog.subjects if subjects is None or subject in subjects]
    if not listed:
        raise SettingsError("settings.no-subjects", "no subject of the mirror is selected", place=mirror_url)
    findings: list[Finding] = []
    volumes = voxels = objects = 0
    for subject in listed:
        broken, count = _check_objects(mirror, outcomes.get(subject), subject)
        findings += broken
        objects += count
        for row in mirror.catalog.volumes.get(subject, []):
            checked = _check_volume(mirror, subject, row["volume"], inventory)
            listen(checked)
            findings += checked.findings
            volumes += 1
            voxels += checked.voxels
    return Verification(len(listed), volumes, objects, voxels, tuple(findings))


def _check_objects(mirror: Mirror, outcome: SubjectOutcome | None, subject: str) -> tuple[list[Finding], int]:
    if outcome is None:
        # A copy of a mirror need not carry the converter's records; its voxels are checked against the tables.
        return [], 0
    records = {record.key: record for record in outcome.objects}
    for volume in outcome.volumes:
        records = {record.key: record for record in volume.objects} | records
    findings = []
    sizes = mirror.store.sizes(layout.store_key(subject))
    for key, record in sorted(records.items()):
        if key not in sizes:
            findings.append(_broken(key, "the object is missing"))
        elif hashlib.sha256(mirror.store.get(key)).hexdigest() != record.sha256:
            findings.append(
                _broken(key, f"its bytes are not those written ({sizes[key]} bytes, {record.size} written)")
            )
    findings += [_broken(key, "nobody wrote this object") for key in sorted(set(sizes) - set(records))]
    return findings, len(records)


def _broken(key: str, message: str) -> Finding:
    return failure(LayoutError("layout.object", message, place=key))


def _check_volume(mirror: Mirror, subject: str, name: str, inventory: Inventory | None) -> VolumeChecked:
    voxels = 0
    findings: list[Finding] = []
    try:
        volume = mirror.volume(subject, name)
        _check_array(mirror, volume)
        if inventory is not None:
            voxels = _check_source(mirror, volume, inventory)
    except VoxshelfError as error:
        findings.append(failure(error, f"{subject}/{name}"))
    except (ValueError, OSError, KeyError) as error:
        # What zarr raises for a checksum, a cut shard or a missing document.
        findings.append(
            failure(LayoutError("layout.voxels", f"{type(error).__name__}: {error}", place=f"{subject}/{name}"))
        )
    except Exception as error:  # noqa: BLE001  # one odd volume must not end the check of the others
        findings.append(unexpected(error, f"{subject}/{name}"))
    return VolumeChecked(subject, name, voxels, tuple(findings))


def _check_array(mirror: Mirror, volume: Volume) -> None:
    array, _, _ = mirror.level(volume, 0)
    digest = hashlib.sha256()
    depth = array.encoding["shards"][0]
    for start in range(0, len(array), depth):
        digest.update(array[start : start + depth].values.tobytes())
    if digest.hexdigest() != volume.row["array_sha256"]:
        message = f"level 0 has sha256 {digest.hexdigest()}, the table says {volume.row['array_sha256']}"
        raise LayoutError("layout.voxels", message, place=volume.place)


def _check_source(mirror: Mirror, volume: Volume, inventory: Inventory) -> int:
    role = volume.row["volume"].removeprefix("labels/")
    subject = inventory.subjects.get(volume.row["subject"])
    if subject is None or role not in subject.files:
        raise SourceError("source.unreadable", "the source does not have this volume", place=volume.place)
    stored = _Feed(mirror.source_slabs(volume))
    compared = 0
    with open_volume(subject.files[role]) as stream:
        if stream.header.raw != volume.source_header:
            raise LayoutError("layout.voxels", "the source's header is not the one that was stored", place=volume.place)
        # Labels that were rounded on the way in may differ by as much as the converter allowed.
        tolerance = 0.0 if volume.lossless else LABEL_ROUNDING / abs(stream.header.scaling.slope)
        for slab in stream.slabs(_SLICES):
            found = np.frombuffer(stored.take(slab.nbytes), dtype=slab.dtype)
            if not _equal(slab.ravel(), found, tolerance):
                message = f"voxels {compared} to {compared + slab.size} of the file differ from the stored ones"
                raise LayoutError("layout.voxels", message, place=volume.place)
            compared += slab.size
    return compared


def _equal(expected: Voxels, found: Voxels, tolerance: float) -> bool:
    if tolerance:
        return expected.size == found.size and bool(np.max(np.abs(expected - found)) <= tolerance)
    # Bytes, so that NaN equals itself and minus zero is not zero.
    return expected.tobytes() == found.tobytes()


class _Feed:
    """Gives out the bytes of a sequence of slabs in portions of any size."""

    def __init__(self, slabs: Iterator[Voxels]) -> None:
        self._slabs = slabs
        self._held = b""

    def take(self, count: int) -> bytes:
        while len(self._held) < count and (slab := next(self._slabs, None)) is not None:
            self._held += slab.tobytes()
        taken, self._held = self._held[:count], self._held[count:]
        return taken
