"""A subject's store made whole: the documents above its images, the root's last, then its outcome record."""

from __future__ import annotations

import msgspec

from converter.documents import image_objects, subject_objects
from converter.plan import meaning_of
from converter.quality import Coarse, check_subject
from converter.readback import read_level
from converter.write import RecordedStore, missing_objects
from corpus import layout
from corpus.contents import Contents
from corpus.errors import StoreError
from corpus.findings import Finding, warning
from corpus.manifest import manifest_bytes
from corpus.models import CorpusInfo, StoredImage, SubjectInfo, to_json
from corpus.outcomes import SubjectOutcome, VolumeOutcome
from corpus.stores import Store


def finish_subject(
    store: Store,
    info: SubjectInfo,
    corpus: CorpusInfo,
    volumes: tuple[VolumeOutcome, ...],
    findings: tuple[Finding, ...],
) -> SubjectOutcome:
    """Write what makes a subject's store complete, and the record that says so.

    Parameters
    ----------
    store
        The mirror.
    info, corpus
        For the root's attributes, and for what the numbers of a PET stand for.
    volumes
        What became of each volume; the stored ones lie in the store already.
    findings
        Gaps and warnings of the subject itself.

    Raises
    ------
    StoreError
        The store failed, or lost objects of the volumes.
    """
    volumes = tuple(_told_anew(volume, info, store, corpus.contents) for volume in volumes)
    if gone := missing_objects(store, info.subject, volumes, corpus.contents.carriers):
        raise StoreError("store.read-back", f"{len(gone)} objects that were written are not there", place=gone[0])
    recorded = RecordedStore(store, layout.store_key(info.subject))
    images = {
        volume.image.path: image_objects(volume.image, corpus.contents.family(volume.role), volume.findings)
        for volume in volumes
        if volume.image is not None
    }
    if images:
        for key, data in subject_objects(images, info, corpus, _one_version(volumes)).items():
            recorded.put(key, data)
    quality = _checked(store, info.subject, [volume.image for volume in volumes if volume.image is not None])
    outcome = SubjectOutcome(info=info, volumes=volumes, findings=findings, quality=quality, objects=recorded.records)
    if images:
        store.put(layout.manifest_key(info.subject), manifest_bytes(outcome.sha256s))
    store.put(layout.subject_outcome_key(info.subject), to_json(outcome))
    return outcome


def _told_anew(volume: VolumeOutcome, info: SubjectInfo, store: Store, contents: Contents) -> VolumeOutcome:
    """Put a stored volume's documents where the spreadsheets have another meaning for it by now; its voxels stay.

    The record comes last: a run that ends in between is made good by the next one, which puts them all again.
    """
    if volume.image is None:
        return volume
    image = msgspec.structs.replace(
        volume.image, **msgspec.structs.asdict(meaning_of(contents.kind(volume.role), info))
    )
    if image == volume.image:
        return volume
    recorded = RecordedStore(store, layout.store_key(info.subject))
    for key, data in image_objects(image, contents.family(volume.role), volume.findings).items():
        if key.endswith("zarr.json"):
            recorded.put(key, data)
    written = {record.key: record for record in (*volume.objects, *recorded.records)}
    told = msgspec.structs.replace(volume, image=image, objects=tuple(written[key] for key in sorted(written)))
    store.put(layout.outcome_key(info.subject, volume.role), to_json(told))
    return told


def _one_version(volumes: tuple[VolumeOutcome, ...]) -> str:
    (version,) = {volume.image.ome_version for volume in volumes if volume.image is not None}
    return version


def _checked(store: Store, subject: str, images: list[StoredImage]) -> tuple[Finding, ...]:
    # A store that fails stops the subject, as ever: its flags must not depend on the weather.
    coarse = {image.role: read_coarsest(store, subject, image) for image in images}
    try:
        return check_subject(subject, images, coarse)
    except Exception as error:  # noqa: BLE001  # an odd volume must never keep a subject from being published
        return (warning("warning.not-checked", subject, f"{type(error).__name__}: {error}"),)


def read_coarsest(store: Store, subject: str, image: StoredImage) -> Coarse:
    """Read the coarsest level of a stored volume.

    Raises
    ------
    StoreError
        What is there is not what was written.
    """
    level = image.levels[-1]
    key = f"{layout.store_key(subject)}/{layout.array_path(image.path, len(image.levels) - 1)}"
    return Coarse(read_level(store, key, level, image.dtype), level.grid)
