"""Builders of the frozen values that the modules of `corpus` take: grids, stored images, subjects, mirrors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings

from corpus import chunking, layout
from corpus.catalog import MirrorRecord, build_tables, record_of, table_bytes
from corpus.contents import ENHANCE_PET
from corpus.geometry import Grid, Reorder
from corpus.licenses import license_of
from corpus.models import (
    CodecChoice,
    CorpusInfo,
    Level,
    Region,
    Scaling,
    SourceRecord,
    Statistics,
    StoredImage,
    SubjectInfo,
    to_json,
)
from corpus.outcomes import ObjectRecord, SubjectOutcome, VolumeOutcome
from corpus.stores import Store

# The time of one example says nothing: the first one pays for imports.
settings.register_profile(
    "corpus", parent=settings.get_profile(settings.get_current_profile_name()), deadline=None, max_examples=60
)
settings.load_profile("corpus")

WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@pytest.fixture(scope="session")
def make_grid() -> Callable[..., Grid]:
    """A grid of an orientation code such as LAS; spacing goes by NIfTI axis (i, j, k), as the code does."""

    def build(
        orientation: str = "LAS",
        shape_zyx: Sequence[int] = (12, 20, 24),
        spacing_ijk: Sequence[float] = (0.75, 1.5, 3.0),
        origin_mm: Sequence[float] = (10.0, -20.0, 30.0),
    ) -> Grid:
        affine = np.eye(4)
        affine[:3, :3] = 0
        for column, (letter, spacing) in enumerate(zip(orientation, spacing_ijk, strict=True)):
            world, sign = WORLD[letter]
            affine[world, column] = sign * spacing
        affine[:3, 3] = origin_mm
        return Grid.of(shape_zyx, affine)

    return build


@pytest.fixture(scope="session")
def make_region() -> Callable[..., Region]:
    """A region of a label map, with numbers that all differ."""

    def build(value: int = 1, name: str = "liver", **fields: Any) -> Region:
        usual: dict[str, Any] = {
            "value": value,
            "name": name,
            "voxels": 100 + value,
            "volume_ml": 1.25 * value,
            "start_zyx": (1, 2, 3),
            "stop_zyx": (4, 6, 8),
            "bbox_mm_ras": (-11.0, -12.0, -13.0, 21.0, 22.0, 23.0),
            "centroid_mm_ras": (5.5, 6.5, 7.5),
            "touches_edge": True,
        }
        return Region(**usual | fields)

    return build


@pytest.fixture(scope="session")
def make_image(make_grid: Callable[..., Grid]) -> Callable[..., StoredImage]:
    """A stored image with the pyramid that `corpus.chunking` gives its grid."""

    def build(role: str = "ct", grid: Grid | None = None, **fields: Any) -> StoredImage:
        grid = grid or make_grid(shape_zyx=(60, 100, 130))
        is_label = ENHANCE_PET.is_label(role)
        levels = []
        for factors in chunking.level_factors(grid):
            level = grid.downsampled(factors)
            chunk = chunking.inner_chunk(grid)
            levels.append(Level(factors, level, chunk, chunking.shard(level.shape_zyx, chunk, 2)))
        usual: dict[str, Any] = {
            "role": role,
            "path": ENHANCE_PET.image_path(role),
            "source": SourceRecord(f"images/{role}/0001.nii.gz", 1234, "a" * 64, "b" * 64),
            "dtype": "uint8" if is_label else "int16",
            "dtype_source": "<i2",
            "scaling": Scaling(),
            "units": "" if is_label else {"ct": "HU", "pet": "Bq/ml"}[role],
            "units_from": "the modality",
            "affine_source": "sform",
            "reorder": Reorder(),
            "lossless": True,
            "levels": tuple(levels),
            "codec": CodecChoice("shuffle", 1),
            "header": b"\x5c\x01" + bytes(350),
            "source_header": None,
            "array_sha256": "c" * 64,
            "software": "0.1.0",
            "statistics": None if is_label else Statistics(-1000.0, 2000.0, -500.5, 3, 900.25),
        }
        return StoredImage(**usual | fields)

    return build


@pytest.fixture(scope="session")
def corpus_info() -> CorpusInfo:
    return CorpusInfo("ENHANCE.PET 1.6k", "2026", "Cite the paper.")


@pytest.fixture(scope="session")
def make_subject(make_image: Callable[..., StoredImage]) -> Callable[..., SubjectOutcome]:
    """A complete subject; `images` are the volumes that were stored, `failed` the roles that were not."""

    def build(
        subject: str = "0001",
        images: Sequence[StoredImage] | None = None,
        failed: Sequence[str] = (),
        institution: str | None = "University Hospital Leipzig (DE)",
        **info: Any,
    ) -> SubjectOutcome:
        if images is None:
            images = [make_image("ct"), make_image("pet")]
        volumes = [
            VolumeOutcome(
                subject=subject,
                role=image.role,
                digest=f"digest of {image.role}",
                image=image,
                objects=(ObjectRecord(f"{layout.store_key(subject)}/{image.path}/c/0", 1000, "d" * 64),),
                seconds=1.5,
            )
            for image in images
        ]
        volumes += [VolumeOutcome(subject=subject, role=role, digest="failed", image=None) for role in failed]
        return SubjectOutcome(
            info=SubjectInfo(
                subject=subject,
                source_institution=institution,
                license=license_of(institution).id,
                **info,
            ),
            volumes=tuple(volumes),
            objects=(ObjectRecord(f"{layout.store_key(subject)}/zarr.json", 77, "e" * 64),),
        )

    return build


@pytest.fixture(scope="session")
def publish(corpus_info: CorpusInfo) -> Callable[..., MirrorRecord]:
    """Writes the tables of subjects and their mirror.json into a store, as the layout describes it."""

    def build(store: Store, subjects: Sequence[SubjectOutcome], **fields: Any) -> MirrorRecord:
        records = {}
        for name, table in build_tables(subjects, corpus_info).items():
            data = table_bytes(table)
            store.put(layout.table_key(name), data)
            records[name] = record_of(name, data, table)
        licenses: dict[str, int] = {}
        for outcome in subjects:
            licenses[outcome.info.license] = licenses.get(outcome.info.license, 0) + 1
        record = MirrorRecord(
            layout_version=layout.LAYOUT_VERSION,
            corpus=corpus_info,
            software="0.1.0",
            subjects=len(subjects),
            licenses=licenses,
            tables=records,
        )
        record = msgspec.structs.replace(record, **fields)
        store.put(layout.MIRROR_JSON, to_json(record))
        return record

    return build
