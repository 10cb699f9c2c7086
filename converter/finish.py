"""A subject's store made whole: the documents above its images, the root's last, then its outcome record."""

from __future__ import annotations

import msgspec

from converter.documents import image_objects, subject_objects
from converter.plan import meaning_of
from converter.write import RecordedStore, missing_objects
from corpus import layout
from corpus.contents import Contents
from corpus.errors import StoreError
from corpus.findings import Finding
from corpus.models import CorpusInfo, SubjectInfo, SubjectOutcome, VolumeOutcome, to_json
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
    outcome = SubjectOutcome(info=info, volumes=volumes, findings=findings, objects=recorded.records)
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
