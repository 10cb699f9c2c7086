"""A subject's store made whole: the documents above its images, the root's last, then its outcome record."""

from __future__ import annotations

from converter.documents import image_objects, subject_objects
from converter.write import RecordedStore, missing_objects
from corpus import layout
from corpus.errors import StoreError
from corpus.findings import Finding
from corpus.labels import families
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
        For the root's attributes.
    volumes
        What became of each volume; the stored ones lie in the store already.
    findings
        Gaps and warnings of the subject itself.

    Raises
    ------
    StoreError
        The store failed, or lost objects of the volumes.
    """
    if gone := missing_objects(store, info.subject, volumes):
        raise StoreError("store.read-back", f"{len(gone)} objects that were written are not there", place=gone[0])
    recorded = RecordedStore(store, layout.store_key(info.subject))
    images = {
        volume.image.path: image_objects(volume.image, families().get(volume.role), volume.findings)
        for volume in volumes
        if volume.image is not None
    }
    if images:
        for key, data in subject_objects(images, info, corpus, _one_version(volumes)).items():
            recorded.put(key, data)
    outcome = SubjectOutcome(info=info, volumes=volumes, findings=findings, objects=recorded.records)
    store.put(layout.subject_outcome_key(info.subject), to_json(outcome))
    return outcome


def _one_version(volumes: tuple[VolumeOutcome, ...]) -> str:
    (version,) = {volume.image.ome_version for volume in volumes if volume.image is not None}
    return version
