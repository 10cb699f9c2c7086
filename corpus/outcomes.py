"""What became of volumes and subjects: the records that a conversion leaves, and that the tables are made of.

As `corpus.models`, JSON documents that hold no time of day and no absolute path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Self

import msgspec

from corpus.findings import Finding
from corpus.models import StoredImage, SubjectInfo


# A corpus has hundreds of thousands of these, and none is in a cycle that a collector would have to find.
class ObjectRecord(msgspec.Struct, frozen=True, gc=False):
    """An object that was written.

    Attributes
    ----------
    key
        Relative to the mirror.
    size
        Bytes.
    sha256
        Hexadecimal digest of the bytes.
    """

    key: str
    size: int
    sha256: str

    @classmethod
    def of(cls, key: str, data: bytes | Sequence[bytes]) -> Self:
        """Describe an object of these bytes, whole or in parts."""
        digest, size = hashlib.sha256(), 0
        for part in (data,) if isinstance(data, bytes) else data:
            digest.update(part)
            size += len(part)
        return cls(key, size, digest.hexdigest())


class VolumeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one volume.

    Attributes
    ----------
    subject, role
        Which volume.
    digest
        Of the source's identity and all settings that shape the bytes; a different digest means: do it again.
    image
        None where the volume failed.
    findings
        Failure or warnings.
    objects
        What was written, in order.
    seconds
        Wall time.
    """

    subject: str
    role: str
    digest: str
    image: StoredImage | None
    findings: tuple[Finding, ...] = ()
    objects: tuple[ObjectRecord, ...] = ()
    seconds: float = 0.0


class SubjectOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one subject, whose store is complete.

    Attributes
    ----------
    info
        As in its root attributes.
    volumes
        What became of each volume, failures included.
    findings
        Gaps and warnings of the subject itself.
    quality
        What looks wrong in the voxels (`converter.quality`); its places name the volumes.
    objects
        Metadata documents that complete the store; the root is the last.
    """

    info: SubjectInfo
    volumes: tuple[VolumeOutcome, ...]
    findings: tuple[Finding, ...] = ()
    quality: tuple[Finding, ...] = ()
    objects: tuple[ObjectRecord, ...] = ()

    @property
    def flagged_volumes(self) -> tuple[VolumeOutcome, ...]:
        """The volumes, each with what was seen of it only once its subject was whole."""
        seen: dict[str, tuple[Finding, ...]] = {}
        for finding in self.quality:
            seen[finding.place] = (*seen.get(finding.place, ()), finding)
        return tuple(
            msgspec.structs.replace(each, findings=each.findings + seen.get(f"{each.subject}/{each.role}", ()))
            for each in self.volumes
        )

    @property
    def sha256s(self) -> dict[str, str]:
        """SHA-256 of all objects of the store, by key; of a document that was written twice, of the last."""
        return {key: record.sha256 for key, record in self._last_written.items()}

    @property
    def size(self) -> int:
        """Bytes of all objects of the store, each counted once."""
        return sum(record.size for record in self._last_written.values())

    @property
    def _last_written(self) -> dict[str, ObjectRecord]:
        records = [record for volume in self.volumes for record in volume.objects]
        return {record.key: record for record in (*records, *self.objects)}

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each stored volume, by role."""
        return {volume.role: volume.digest for volume in self.volumes if volume.image is not None}

    @property
    def ome_version(self) -> str | None:
        """Version of OME-Zarr of the whole store; None where nothing is stored."""
        return next((volume.image.ome_version for volume in self.volumes if volume.image is not None), None)
