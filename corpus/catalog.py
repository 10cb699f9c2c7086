"""The tables of a mirror and ``mirror.json``, which commits them: columns, writing and reading.

A cell is null where something is not known, never 0 or "". Units are in the names of columns.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from corpus import layout
from corpus.errors import LayoutError, NotFoundError, RequestError
from corpus.models import CorpusInfo, Region, StoredImage, to_json
from corpus.outcomes import SubjectOutcome, VolumeOutcome
from corpus.stores import Readable
from corpus.subjectrows import SubjectRows

Row = dict[str, Any]

_TEXTS: Final = pa.list_(pa.string())
_CATALOG: Final = pa.schema(
    {
        "subject": pa.string(),
        "corpus": pa.string(),
        "release": pa.string(),
        "source_institution": pa.string(),
        "license": pa.string(),
        "attribution": pa.string(),
        "indication": pa.string(),
        "sex": pa.string(),
        "age_years": pa.float64(),
        "weight_kg": pa.float64(),
        "height_m": pa.float64(),
        "scanner": pa.string(),
        "details": pa.string(),
        "has_ct": pa.bool_(),
        "has_pet": pa.bool_(),
        "families_present": _TEXTS,
        "gaps": _TEXTS,
        "warnings": _TEXTS,
        "store": pa.string(),
        "bytes": pa.int64(),
    }
)
_VOLUMES: Final = pa.schema(
    {
        "subject": pa.string(),
        "volume": pa.string(),
        "image_path": pa.string(),
        "array_path": pa.string(),
        "dims": _TEXTS,
        "shape_zyx": pa.list_(pa.int64()),
        "spacing_mm_zyx": pa.list_(pa.float64()),
        "affine": pa.list_(pa.float64()),
        "affine_source": pa.string(),
        "orientation": pa.string(),
        "aligned": pa.bool_(),
        "dtype": pa.string(),
        "dtype_source": pa.string(),
        "lossless": pa.bool_(),
        "units": pa.string(),
        "suv_factor": pa.float64(),
        "levels": pa.int64(),
        "min": pa.float64(),
        "max": pa.float64(),
        "mean": pa.float64(),
        "nan_count": pa.int64(),
        "source_name": pa.string(),
        "source_size": pa.int64(),
        "source_sha256": pa.string(),
        "voxels_sha256": pa.string(),
        "array_sha256": pa.string(),
        "bytes": pa.int64(),
        "warnings": _TEXTS,
    }
)
_REGIONS: Final = pa.schema(
    {
        "subject": pa.string(),
        "family": pa.string(),
        "value": pa.int64(),
        "name": pa.string(),
        "voxels": pa.int64(),
        "volume_ml": pa.float64(),
        **{f"{dim}_{end}": pa.int64() for dim in "zyx" for end in ("start", "stop")},
        **{f"{dim}_{end}_mm": pa.float64() for dim in "xyz" for end in ("min", "max")},
        **{f"centroid_{dim}_mm": pa.float64() for dim in "xyz"},
        "touches_edge": pa.bool_(),
    }
)
SCHEMAS: Final = {"catalog": _CATALOG, "volumes": _VOLUMES, "regions": _REGIONS}
"""Columns of the tables by name."""


class TableRecord(msgspec.Struct, frozen=True):
    """A table as ``mirror.json`` names it.

    Attributes
    ----------
    key
        In the mirror.
    size, sha256
        Of the object.
    rows
        Number of rows.
    """

    key: str
    size: int
    sha256: str
    rows: int


class MirrorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``mirror.json``: what one publication consists of.

    Attributes
    ----------
    layout_version
        Of the whole mirror.
    corpus
        Name, release and citation.
    software
        Version of voxshelf that published it.
    subjects
        Number of subjects.
    licenses
        Number of subjects by SPDX id.
    tables
        By name.
    ome_versions
        Number of subjects by version of OME-Zarr: one version, unless an upgrade is under way.
    """

    layout_version: int
    corpus: CorpusInfo
    software: str
    subjects: int
    licenses: dict[str, int]
    tables: dict[str, TableRecord]
    ome_versions: dict[str, int] = {}


def build_tables(subjects: Iterable[SubjectOutcome], corpus: CorpusInfo) -> dict[str, pa.Table]:
    """Return the three tables of a mirror.

    Parameters
    ----------
    subjects
        Complete subjects, in the order of the rows.
    corpus
        Their corpus.
    """
    subjects = list(subjects)
    flagged = [volume for subject in subjects for volume in subject.flagged_volumes]
    stored = [(volume, volume.image) for volume in flagged if volume.image is not None]
    regions = [
        region_row(told.subject, told.role, dims, each)
        for told, image in stored
        for dims in [image.grid.dims]
        for each in image.regions
    ]
    rows = {
        "catalog": [_catalog_row(subject, corpus) for subject in subjects],
        "volumes": [_volume_row(*each) for each in stored],
        "regions": regions,
    }
    return {name: _table(rows[name], schema) for name, schema in SCHEMAS.items()}


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    # By way of JSON: Table.from_pylist imports pandas where it is installed, which takes longer than converting a CT.
    if not rows:
        return pa.Table.from_batches([], schema)
    lines = msgspec.json.Encoder().encode_lines(rows)
    return pyarrow.json.read_json(
        pa.BufferReader(lines),
        # Without threads, as below; a row has to fit into a block.
        pyarrow.json.ReadOptions(use_threads=False, block_size=2**24),
        pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as Parquet; the same rows give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def record_of(name: str, data: bytes, table: pa.Table) -> TableRecord:
    """Return what ``mirror.json`` says of a table."""
    return TableRecord(layout.table_key(name), len(data), hashlib.sha256(data).hexdigest(), table.num_rows)


class Catalog:
    """The tables of a published mirror, in memory.

    Attributes
    ----------
    mirror
        What ``mirror.json`` says.
    subjects
        Row of ``catalog.parquet`` by subject.
    volumes
        Rows of ``volumes.parquet`` by subject.
    regions
        Rows of ``regions.parquet`` by subject.
    """

    def __init__(self, mirror: MirrorRecord, tables: dict[str, pa.Table]) -> None:
        self.mirror = mirror
        self.subjects: dict[str, Row] = {row["subject"]: row for row in tables["catalog"].to_pylist()}
        self.volumes = SubjectRows(tables["volumes"])
        self.regions = SubjectRows(tables["regions"])

    def subject(self, subject: str) -> Row:
        """Return a subject's row.

        Raises
        ------
        NotFoundError
            The mirror does not list it.
        """
        try:
            return self.subjects[subject]
        except KeyError:
            message = f"no subject {subject!r} among {len(self.subjects)}"
            raise NotFoundError("not-found.subject", message, place=subject) from None

    def volume(self, subject: str, name: str) -> Row:
        """Return a volume's row; `name` is ``ct``, ``pet``, or a label family.

        Raises
        ------
        NotFoundError
            The mirror does not list the subject, or the subject lacks the volume.
        """
        self.subject(subject)
        rows = {row["volume"].removeprefix("labels/"): row for row in self.volumes.get(subject, [])}
        try:
            return rows[name.removeprefix("labels/")]
        except KeyError:
            message = f"no volume {name!r}; there are {', '.join(rows)}"
            raise NotFoundError("not-found.volume", message, place=subject) from None

    def region(self, subject: str, name: str, own: str | None = None) -> Row:
        """Return the row of a label that a subject has, by its name or ``FAMILY/NAME``; of several, the `own` family's.

        Raises
        ------
        NotFoundError
            The mirror does not list the subject, or none of its label maps holds the label.
        RequestError
            Several label maps hold one of this name.
        """
        self.subject(subject)
        rows = {f"{row['family']}/{row['name']}": row for row in self.regions.get(subject, [])}
        found = {path: row for path, row in rows.items() if name in {path, row["name"]}}
        found = {path: row for path, row in found.items() if row["family"] == own} or found
        if not found:
            raise NotFoundError("not-found.label", f"no label {name!r} in the label maps", place=subject)
        if len(found) > 1:
            message = f"several label maps have a {name!r}: give one of {', '.join(found)}"
            raise RequestError("request.parameter", message, place=subject)
        return next(iter(found.values()))


def read_catalog(store: Readable) -> Catalog:
    """Read a mirror's tables, and check that they are those that ``mirror.json`` commits.

    Raises
    ------
    LayoutError
        This is no published mirror, its layout is not known, or a table is not the committed one.
    """
    mirror = read_mirror(store)
    if missing := set(layout.TABLES) - set(mirror.tables):
        raise LayoutError("layout.table", f"mirror.json does not name {sorted(missing)}", place=store.url)
    return Catalog(mirror, {name: read_table(store, record) for name, record in mirror.tables.items()})


def read_mirror(store: Readable) -> MirrorRecord:
    """Read ``mirror.json``.

    Raises
    ------
    LayoutError
        There is none, or its layout version is not known.
    """
    try:
        record = msgspec.json.decode(store.get(layout.MIRROR_JSON), type=MirrorRecord)
    except NotFoundError as error:
        raise LayoutError("layout.not-a-mirror", "there is no mirror.json", place=store.url) from error
    except msgspec.DecodeError as error:
        raise LayoutError("layout.version", f"mirror.json: {error}", place=store.url) from error
    if record.layout_version != layout.LAYOUT_VERSION:
        message = f"layout version {record.layout_version}, this is for {layout.LAYOUT_VERSION}"
        raise LayoutError("layout.version", message, place=store.url)
    return record


def read_table(store: Readable, record: TableRecord) -> pa.Table:
    """Read a table, and check that it is the one that ``mirror.json`` commits; raises `LayoutError` if it is not."""
    try:
        data = store.get(record.key)
    except NotFoundError as error:
        raise LayoutError("layout.table", "the table is missing", place=record.key) from error
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise LayoutError("layout.table", "its sha256 is not the one in mirror.json", place=record.key)
    # Without threads: the tables are small, and pyarrow's thread pool hangs or aborts a short process at its end
    # when it read from a Python object. https://github.com/apache/arrow/issues/50482
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def _catalog_row(outcome: SubjectOutcome, corpus: CorpusInfo) -> Row:
    info, contents = outcome.info, corpus.contents
    stored = {volume.role for volume in outcome.volumes if volume.image is not None}
    own = [*outcome.findings, *(finding for finding in outcome.quality if finding.place == info.subject)]
    return {
        **{name: value for name, value in msgspec.structs.asdict(info).items() if name in _CATALOG.names},
        "attribution": info.attribution or None,
        "corpus": corpus.name,
        "release": corpus.release,
        "details": to_json(info.extra).decode() if info.extra else None,
        "has_ct": any(contents.kind(role) == "ct" for role in stored),
        "has_pet": any(contents.kind(role) == "pet" for role in stored),
        "families_present": [role for role in contents.roles if contents.is_label(role) and role in stored],
        "gaps": [contents.volume_name(role) for role in contents.roles if role not in stored],
        "warnings": list(dict.fromkeys(finding.code for finding in own)),
        "store": layout.store_key(info.subject),
        "bytes": outcome.size,
    }


def _volume_row(volume: VolumeOutcome, image: StoredImage) -> Row:
    grid, statistics = image.grid, image.statistics
    return {
        "subject": volume.subject,
        "volume": layout.volume_name(volume.role, is_label=image.is_label),
        "image_path": image.path,
        "array_path": layout.array_path(image.path, 0),
        "dims": grid.dims,
        "shape_zyx": grid.shape_zyx,
        "spacing_mm_zyx": grid.spacing_mm_zyx,
        "affine": [value for row in grid.affine for value in row],
        "affine_source": image.affine_source,
        "orientation": grid.orientation,
        "aligned": grid.is_aligned,
        "dtype": image.dtype,
        "dtype_source": image.dtype_source,
        "lossless": image.lossless,
        "units": image.units or None,
        "suv_factor": image.suv_factor,
        "levels": len(image.levels),
        "min": statistics.minimum if statistics else None,
        "max": statistics.maximum if statistics else None,
        "mean": statistics.mean if statistics else None,
        "nan_count": statistics.non_finite if statistics else None,
        "source_name": image.source.name,
        "source_size": image.source.size,
        "source_sha256": image.source.sha256,
        "voxels_sha256": image.source.voxels_sha256,
        "array_sha256": image.array_sha256,
        "bytes": sum(record.size for record in volume.objects),
        "warnings": [finding.code for finding in volume.findings],
    }


def region_row(subject: str, family: str, dims: Iterable[str], region: Region) -> Row:
    """Return a row of ``regions.parquet``; `dims` are the names of the label map's axes."""
    # Columns go by the dimension's name, so that isel(z=slice(z_start, z_stop)) is right for permuted axes too.
    spans = zip(dims, region.start_zyx, region.stop_zyx, strict=True)
    low, high = region.bbox_mm_ras[:3], region.bbox_mm_ras[3:]
    row: Row = {
        "subject": subject,
        "family": family,
        "value": region.value,
        "name": region.name,
        "voxels": region.voxels,
        "volume_ml": region.volume_ml,
        "touches_edge": region.touches_edge,
    }
    for dim, start, stop in spans:
        row |= {f"{dim}_start": start, f"{dim}_stop": stop}
    for axis, dim in enumerate("xyz"):
        row |= {
            f"{dim}_min_mm": low[axis],
            f"{dim}_max_mm": high[axis],
            f"centroid_{dim}_mm": region.centroid_mm_ras[axis],
        }
    return row
