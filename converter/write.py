"""One volume, from its file to its shards: the unit of parallel work, which owns every object it writes.

The stream is inflated and hashed in one thread, encoded in a pool, cast, measured and downsampled here, and read back
from the store in one more thread. Nothing holds more than a few rows of inner chunks and three encoded shards.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
import numpy as np

from converter import nifti, trial
from converter.cast import Cast, DoesNotFitError
from converter.documents import image_objects
from converter.pack import open_volume
from converter.plan import VolumePlan, levels_of
from converter.pyramid import downsample
from converter.readback import ReadBack
from converter.shards import ShardWriter
from converter.statistics import IntensityStatistics, LabelStatistics
from corpus import chunking, layout
from corpus.errors import SourceError, StoreError
from corpus.findings import Finding, warning
from corpus.geometry import Voxels
from corpus.models import Region, SourceRecord, StoredImage, to_json
from corpus.nifti_header import trimmed
from corpus.ome import DEFAULT_VERSION
from corpus.outcomes import ObjectRecord, VolumeOutcome
from corpus.stores import Store

if TYPE_CHECKING:
    from converter.pack import PackStream
    from converter.source import VolumeStream
    from corpus.labels import Family

_MOST_SLICES: Final = 2 ** (chunking.MOST_LEVELS - 1)
"""Of a slab: four of them are in memory, and what is made of one should stay in the processor's cache."""


class RecordedStore:
    """A store that remembers what was put into it, with digests.

    Parameters
    ----------
    store
        The mirror.
    prefix
        Put before every key.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._records: dict[str, ObjectRecord] = {}

    def put(self, key: str, data: bytes | Sequence[bytes]) -> None:
        """Write an object, whole or in parts; safe from several threads."""
        whole = f"{self._prefix}/{key}"
        self._store.put(whole, data)
        self._records[whole] = ObjectRecord.of(whole, data)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open what the store gives back."""
        return self._store.open(f"{self._prefix}/{key}")

    @property
    def records(self) -> tuple[ObjectRecord, ...]:
        """What was put, by key."""
        return tuple(self._records[key] for key in sorted(self._records))


def write_volume(plan: VolumePlan, store: Store) -> VolumeOutcome:
    """Convert one volume and write its outcome record.

    Parameters
    ----------
    plan
        What to write.
    store
        The mirror.

    Raises
    ------
    SourceError
        The file is bad; what was written of it has been removed.
    StoreError
        The store failed, or did not give back what was written.
    """
    started = time.perf_counter()
    prefix = layout.store_key(plan.subject)
    record_key = layout.outcome_key(plan.subject, plan.role)
    carriers = (plan.role,) if plan.carries_labels else ()
    earlier = recorded_outcome(store, plan.subject, plan.role, plan.digest, carriers, plan.settings.ome_version)
    if earlier is not None:
        # A job that was given out twice: its twin on another worker was quicker.
        return earlier
    # A record never outlives the objects that it vouches for.
    store.delete(record_key)
    recorded, image, findings = _write_narrowest(plan, store, prefix)
    for key, data in image_objects(image, plan.family, findings).items():
        recorded.put(key, data)
    outcome = VolumeOutcome(
        subject=plan.subject,
        role=plan.role,
        digest=plan.digest,
        image=image,
        findings=findings,
        objects=recorded.records,
        seconds=time.perf_counter() - started,
    )
    store.put(record_key, to_json(outcome))
    return outcome


def recorded_outcome(
    store: Store,
    subject: str,
    role: str,
    digest: str,
    carriers: tuple[str, ...],
    ome_version: str = DEFAULT_VERSION,
) -> VolumeOutcome | None:
    """Return the record of a volume that was stored with these settings, if all its objects are still as it says.

    `carriers` are the images that label maps are laid on.
    """
    for data in store.get_many([layout.outcome_key(subject, role)]).values():
        try:
            outcome = msgspec.json.decode(data, type=VolumeOutcome)
        except msgspec.DecodeError:
            return None  # of another version
        if outcome.image is None or (outcome.digest, outcome.image.ome_version) != (digest, ome_version):
            return None
        if not missing_objects(store, subject, [outcome], carriers):
            return outcome
    return None


def missing_objects(
    store: Store, subject: str, volumes: Iterable[VolumeOutcome], carriers: tuple[str, ...]
) -> list[str]:
    """Return the keys of objects of a subject's volumes that are not there, or not of the size that was written.

    `carriers` are the images that label maps are laid on.
    """
    prefix = layout.store_key(subject)
    sizes = store.sizes(prefix)
    # The document of an image that carries label maps is written anew once these are known.
    anew = {f"{prefix}/{carrier}/zarr.json" for carrier in carriers}
    records = [record for volume in volumes for record in volume.objects if record.key not in anew]
    return [record.key for record in records if sizes.get(record.key) != record.size]


def _delete_image(store: Store, prefix: str, path: str) -> None:
    # The group of an image also holds the label maps that are laid on it, which other tasks own.
    labels = f"{prefix}/{path}/labels/"
    store.delete_keys(key for key in store.keys(f"{prefix}/{path}") if not key.startswith(labels))


def _write_narrowest(
    plan: VolumePlan, store: Store, prefix: str
) -> tuple[RecordedStore, StoredImage, tuple[Finding, ...]]:
    # Leftovers of a run that was cut short, or of another source.
    _delete_image(store, prefix, plan.path)
    for target in plan.types:
        recorded = RecordedStore(store, prefix)
        try:
            return recorded, *_Writing(plan, target, recorded).run()
        except DoesNotFitError:
            # Rare, and found early: the file is read again for the next type. Its shards may be cut otherwise, so
            # none of these may stay.
            _delete_image(store, prefix, plan.path)
        except SourceError:
            # Only here: a job that fails otherwise may be the straggling twin of one that has finished.
            _delete_image(store, prefix, plan.path)
            raise
    raise AssertionError("the last stored type holds every source value")


class _Writing:
    """One attempt to write a volume as one type."""

    def __init__(self, plan: VolumePlan, target: str, recorded: RecordedStore) -> None:
        self._plan = plan
        self._target = target
        self._recorded = recorded
        self._levels = levels_of(plan.grid, plan.cut_like, target, plan.settings.levels)
        self._trial = trial.Trial()
        self._cast = Cast(target, plan.header.scaling, is_label=plan.is_label, place=plan.source.name)
        self._intensities = IntensityStatistics()
        self._labels = LabelStatistics(plan.grid)
        # Where the stored bytes are the source's, the stream hashes them already.
        same = self._cast.keeps_bytes(plan.header.dtype) and plan.reorder.is_identity
        self._digest = None if same else hashlib.sha256()
        factors = [level.factors_zyx for level in self._levels]
        self._steps = [(), *(chunking.halvings(a, b) for a, b in pairwise(factors))]

    def run(self) -> tuple[StoredImage, tuple[Finding, ...]]:
        place = f"{layout.store_key(self._plan.subject)}/{self._plan.path}"
        # One keeps up with the stream of small voxels, and a second would only take turns with it.
        encoders = 1 if np.dtype(self._target).itemsize <= 2 else 2
        with (
            ReadBack(self._levels[0], self._target, self._opened, place) as back,
            ThreadPoolExecutor(encoders, thread_name_prefix="encode") as pool,
        ):
            writers = [
                ShardWriter(level, self._target, self._put(number, back), pool, self._trial)
                for number, level in enumerate(self._levels)
            ]
            source = self._stream(writers)
            for writer in writers:
                writer.close()
            found = back.sha256()
        expected = self._digest.hexdigest() if self._digest else source.voxels_sha256
        if found != expected:
            message = f"level 0 has sha256 {found}, written was {expected}"
            raise StoreError("store.read-back", message, place=place)
        return self._describe(source, expected)

    def _opened(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self._recorded.open(f"{layout.array_path(self._plan.path, 0)}/{key}")

    def _put(self, number: int, back: ReadBack) -> Callable[[str, Sequence[bytes]], None]:
        path = layout.array_path(self._plan.path, number)

        def put(key: str, data: Sequence[bytes]) -> None:
            self._recorded.put(f"{path}/{key}", data)
            if number == 0:
                back.expect(key)

        return put

    def _stream(self, writers: list[ShardWriter]) -> SourceRecord:
        with open_volume(self._plan.source) as stream:
            for slab in self._slabs(stream):
                if self._digest is not None:
                    self._digest.update(np.ascontiguousarray(slab))
                bounds = None if self._plan.is_label else self._intensities.update(slab)
                if self._plan.is_label:
                    self._labels.update(slab)
                self._write(slab, writers, bounds)
            return stream.record

    def _slabs(self, stream: VolumeStream | PackStream) -> Iterator[Voxels]:
        depth = min(self._levels[0].chunk_zyx[0], _MOST_SLICES)
        slabs = (self._cast(slab) for slab in stream.slabs(depth))
        if self._plan.reorder.is_identity:
            yield from slabs
            return
        # A label map in another voxel order: its slices do not arrive in the order in which they are stored.
        arrived = np.empty(self._plan.header.grid.shape_zyx, dtype=self._target)
        start = 0
        for slab in slabs:
            arrived[start : start + len(slab)] = slab
            start += len(slab)
        whole = self._plan.reorder.apply(arrived)
        for start in range(0, len(whole), depth):
            yield np.ascontiguousarray(whole[start : start + depth])

    def _write(self, slab: Voxels, writers: list[ShardWriter], bounds: tuple[float, float] | None) -> None:
        # As deep as an inner chunk, or `_MOST_SLICES`: of these powers of two even halving at each level leaves no odd
        # slice, except at the volume's end.
        for steps, writer in zip(self._steps, writers, strict=True):
            for step in steps:
                slab = downsample(slab, step, is_label=self._plan.is_label, bounds=bounds)
            writer.write(slab)

    def _describe(self, source: SourceRecord, array_sha256: str) -> tuple[StoredImage, tuple[Finding, ...]]:
        plan = self._plan
        statistics = None if plan.is_label else self._intensities.result(plan.scaling)
        regions = self._labels.result(plan.family) if plan.family is not None else ()
        header = nifti.describe_stored(plan.header, plan.grid, self._target, plan.scaling)
        changed = header != plan.header.raw or np.dtype(plan.header.dtype).byteorder == ">"
        image = StoredImage(
            role=plan.role,
            path=plan.path,
            source=source,
            dtype=self._target,
            dtype_source=plan.header.dtype,
            scaling=plan.scaling,
            **msgspec.structs.asdict(plan.meaning),
            affine_source=plan.header.affine_source,
            reorder=plan.reorder,
            lossless=self._cast.lossless and not source.masks,
            levels=self._levels,
            codec=self._trial.choice or trial.DEFAULT,
            header=trimmed(header),
            source_header=plan.header.raw if changed else None,
            array_sha256=array_sha256,
            software=version("voxshelf"),
            digest=plan.digest,
            statistics=statistics,
            regions=regions,
            ome_version=plan.settings.ome_version,
        )
        return image, (*plan.findings, *self._findings(image))

    def _findings(self, image: StoredImage) -> Iterator[Finding]:
        if self._cast.rounded:
            yield warning("warning.label-rounded", self._plan.place)
        if image.source.overlap_voxels:
            message = f"{image.source.overlap_voxels} voxels are claimed by more than one mask"
            yield warning("warning.mask-overlap", self._plan.place, message)
        if image.statistics and image.statistics.non_finite:
            yield warning("warning.non-finite", self._plan.place, f"{image.statistics.non_finite} voxels")
        if self._plan.family is not None:
            yield from _label_findings(image.regions, self._plan.family, self._plan)


def _label_findings(regions: tuple[Region, ...], family: Family, plan: VolumePlan) -> Iterator[Finding]:
    if not regions:
        yield warning("warning.label-empty", plan.place)
    known = family.by_value()
    unexpected = [region.value for region in regions if region.value not in known]
    if unexpected:
        yield warning(
            "warning.label-unexpected", plan.place, f"values {unexpected} are not in the table of {plan.role}"
        )
