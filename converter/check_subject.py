"""Does a subject's store agree with its records, with itself, and with the tables: everything but the voxels."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from corpus import layout
from corpus.catalog import Catalog, Row, build_tables
from corpus.contents import Contents
from corpus.errors import LayoutError, NotFoundError
from corpus.findings import Finding, failure
from corpus.geometry import Grid
from corpus.manifest import read_manifest
from corpus.outcomes import SubjectOutcome, VolumeOutcome
from corpus.stores import Store

type Documents = dict[str, dict[str, Any]]
"""Every ``zarr.json`` of a subject's store, decoded, by its path there; the root's is ``""``."""

_DOCUMENT: Final = "zarr.json"
_ROOT_COLUMNS: Final = (
    *("subject", "corpus", "release", "source_institution", "indication", "sex", "age_years", "weight_kg"),
    *("height_m", "scanner"),
)


def read_outcome(store: Store, subject: str) -> SubjectOutcome | None:
    """Return the record of a subject; None where there is none, as in a copy without the converter's records.

    Raises
    ------
    LayoutError
        It cannot be read.
    """
    key = layout.subject_outcome_key(subject)
    try:
        outcome = msgspec.json.decode(store.get(key), type=SubjectOutcome)
    except NotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LayoutError("layout.metadata", f"not an outcome record of this version: {error}", place=key) from error
    if outcome.info.subject != subject:
        raise LayoutError("layout.metadata", f"it is the record of {outcome.info.subject!r}", place=key)
    return outcome


def check_bytes(key: str, data: bytes, sha256: str) -> Iterator[Finding]:
    """Compare an object with what was written."""
    if hashlib.sha256(data).hexdigest() != sha256:
        yield broken(key, f"its bytes are not those written ({len(data)} bytes)")


def broken(key: str, message: str) -> Finding:
    """Make a finding of an object that is not what it should be."""
    return failure(LayoutError("layout.object", message, place=key))


def check_subject(store: Store, catalog: Catalog, subject: str, sizes: dict[str, int]) -> Iterator[Finding]:
    """Check all documents of a subject's store, and which objects it consists of.

    Parameters
    ----------
    store
        The mirror.
    catalog
        The tables; rows of other subjects are not looked at.
    subject
        Id.
    sizes
        Of all objects of its store, by key.

    Yields
    ------
    Finding
        What is wrong, with the object, or the table, row and column.
    """
    prefix = layout.store_key(subject)
    held = store.get_many(key for key in sizes if key.endswith(f"/{_DOCUMENT}"))
    try:
        outcome = read_outcome(store, subject)
    except LayoutError as error:
        outcome = None
        yield failure(error)
    try:
        manifest = read_manifest(store, subject)
        if manifest is None and outcome is not None and outcome.objects:
            yield broken(layout.manifest_key(subject), "the list of what was written is missing")
    except LayoutError as error:
        manifest = None
        yield failure(error)
    recorded = outcome.sha256s if outcome is not None else manifest
    yield from _check_sizes(catalog, subject, sizes) if recorded is None else _check_objects(recorded, sizes, held)
    if manifest is not None and manifest != recorded:
        yield broken(layout.manifest_key(subject), "it is not the list of what was written")
    if outcome is not None:
        yield from _check_volume_records(store, outcome)
        yield from _check_rows_of_record(catalog, outcome)
    documents: Documents = {}
    for key, data in held.items():
        try:
            documents[key[len(prefix) + 1 : -len(_DOCUMENT)].rstrip("/")] = json.loads(data)
        except ValueError as error:
            yield broken(key, f"it is not JSON: {error}")
    for path, message in stale_copies(documents):
        place = "/".join(filter(None, [prefix, path, _DOCUMENT]))
        yield failure(LayoutError("layout.stale-copy", message, place=place))
    yield from _check_rows_of_store(catalog, subject, documents)


def _check_sizes(catalog: Catalog, subject: str, sizes: dict[str, int]) -> Iterator[Finding]:
    """Compare the bytes that the tables count; where nobody recorded which objects there should be, only sums tell."""
    store = layout.store_key(subject)
    carriers = catalog.mirror.corpus.contents.carriers
    counted = {f"{store}/": ("catalog", catalog.subjects[subject]["bytes"])} | {
        f"{store}/{row['image_path']}/": ("volumes", row["bytes"])
        for row in catalog.volumes.get(subject, [])
        # The document of an image that carries label maps is written anew once these are known, and they lie in it.
        if row["image_path"] not in carriers
    }
    for prefix, (table, told) in counted.items():
        found = sum(size for key, size in sizes.items() if key.startswith(prefix))
        if found != told:
            yield broken(prefix.rstrip("/"), f"its objects have {found} bytes, {layout.table_key(table)} says {told}")


def _check_objects(digests: dict[str, str], sizes: dict[str, int], documents: dict[str, bytes]) -> Iterator[Finding]:
    for key, sha256 in sorted(digests.items()):
        if key not in sizes:
            yield broken(key, "the object is missing")
        elif key in documents:
            yield from check_bytes(key, documents[key], sha256)
    for key in sorted(sizes.keys() - digests.keys()):
        yield broken(key, "nobody wrote this object")


def _check_volume_records(store: Store, outcome: SubjectOutcome) -> Iterator[Finding]:
    subject = outcome.info.subject
    keys = {layout.outcome_key(subject, volume.role): volume for volume in outcome.volumes if volume.image is not None}
    for key, data in store.get_many(keys).items():
        try:
            found: VolumeOutcome | None = msgspec.json.decode(data, type=VolumeOutcome)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if found != keys[key]:
            yield broken(key, "this record is not the one that the subject's record holds a copy of")


def stale_copies(documents: Documents) -> Iterator[tuple[str, str]]:
    """Find groups whose consolidated metadata are not what their members' own documents say.

    Yields
    ------
    tuple
        Path of the group, and what is wrong.
    """
    for group, document in sorted(documents.items()):
        below = f"{group}/" if group else ""
        members = {
            path[len(below) :]: own for path, own in documents.items() if path != group and path.startswith(below)
        }
        if document.get("node_type") != "group" or not members:
            continue
        copies = (document.get("consolidated_metadata") or {}).get("metadata")
        if copies is None:
            yield group, "the group has no consolidated metadata"
            continue
        for path in sorted(members.keys() | copies.keys()):
            if path not in copies:
                yield group, f"its consolidated metadata lack {path}"
            elif path not in members:
                yield group, f"its consolidated metadata name {path}, which has no document"
            elif _alone(copies[path]) != _alone(members[path]):
                yield group, f"its consolidated copy of {path} is not what {path}/{_DOCUMENT} says"


def _alone(document: dict[str, Any]) -> dict[str, Any]:
    # zarr writes an empty consolidation into the copies of groups.
    return {name: value for name, value in document.items() if name != "consolidated_metadata"}


def _check_rows_of_record(catalog: Catalog, outcome: SubjectOutcome) -> Iterator[Finding]:
    """Compare all columns of all tables with what the record gives."""
    subject = outcome.info.subject
    tables = build_tables([outcome], catalog.mirror.corpus)
    found = tables_of(catalog, subject)
    for name, key in (("catalog", ()), ("volumes", ("volume",)), ("regions", ("family", "value"))):
        rows = {_key(row, key): row for row in tables[name].to_pylist()}
        yield from check_rows(name, rows, {_key(row, key): row for row in found[name]}, subject, "the record")


def tables_of(catalog: Catalog, subject: str) -> dict[str, list[Row]]:
    """Return the rows of a subject by table."""
    return {
        "catalog": [catalog.subjects[subject]],
        "volumes": catalog.volumes.get(subject, []),
        "regions": catalog.regions.get(subject, []),
    }


def check_rows(
    table: str, expected: dict[str, Row], found: dict[str, Row], subject: str, who: str
) -> Iterator[Finding]:
    """Compare the rows of a table with what somebody else says.

    Parameters
    ----------
    table
        Its name.
    expected
        What it should hold, by a name of each row; columns that are not there are not compared.
    found
        What it holds.
    subject
        Of the rows.
    who
        Says otherwise, for the message.
    """
    place = f"{layout.table_key(table)}: {subject}"
    for name in sorted(expected.keys() | found.keys()):
        row = f"{place}/{name}" if name else place
        if name not in found:
            yield _disagrees(row, f"the table lacks a row that {who} has")
        elif name not in expected:
            yield _disagrees(row, f"the table has a row that {who} lacks")
        else:
            for column, value in expected[name].items():
                if not _same(value, found[name].get(column)):
                    told = f"the table says {found[name].get(column)!r}, {who} {value!r}"
                    yield _disagrees(f"{row}, {column}", told)


def _disagrees(place: str, message: str) -> Finding:
    return failure(LayoutError("layout.table-row", message, place=place))


def _key(row: Row, columns: Iterable[str]) -> str:
    return "/".join(str(row[column]) for column in columns)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, (float, int)):
        # Sums of floats depend on how the voxels were cut into slabs.
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _check_rows_of_store(catalog: Catalog, subject: str, documents: Documents) -> Iterator[Finding]:
    """Compare with the tables what the store's own documents say too, as any reader of theirs sees it."""
    found = tables_of(catalog, subject)
    try:
        root = _catalog_row(documents, catalog.mirror.corpus.contents)
        volumes = {_volume_name(path): _volume_row(path, documents) for path in _images(documents)}
        regions = {f"{row['family']}/{row['value']}": row for row in _region_rows(documents)}
    except (KeyError, TypeError, ValueError) as error:
        message = f"a document lacks what it should say: {type(error).__name__}: {error}"
        yield failure(LayoutError("layout.metadata", message, place=layout.store_key(subject)))
        return
    who = "the store"
    yield from check_rows("catalog", {"": root}, {"": found["catalog"][0]}, subject, who)
    yield from check_rows("volumes", volumes, {row["volume"]: row for row in found["volumes"]}, subject, who)
    rows = {f"{row['family']}/{row['value']}": row for row in found["regions"]}
    yield from check_rows("regions", regions, rows, subject, who)


def _images(documents: Documents) -> list[str]:
    return [path for path, own in sorted(documents.items()) if "multiscales" in own["attributes"].get("ome", {})]


def _role(path: str) -> str:
    return layout.array_name(path)


def _volume_name(path: str) -> str:
    return layout.volume_name(_role(path), is_label=layout.is_label_path(path))


def _catalog_row(documents: Documents, contents: Contents) -> Row:
    told = documents[""]["attributes"]["voxshelf"]
    stored = {_role(path) for path in _images(documents)}
    return {
        **{column: told[column] for column in _ROOT_COLUMNS},
        "license": told["license"]["id"],
        "attribution": told["license"]["attribution"] or None,
        **{f"has_{kind}": any(contents.kind(role) == kind for role in stored) for kind in ("ct", "pet")},
        "families_present": [role for role in contents.roles if contents.is_label(role) and role in stored],
        "gaps": [contents.volume_name(role) for role in contents.roles if role not in stored],
        "store": layout.store_key(told["subject"]),
    }


def _volume_row(path: str, documents: Documents) -> Row:
    attributes = documents[path]["attributes"]
    told, levels = attributes["voxshelf"], attributes["ome"]["multiscales"][0]["datasets"]
    array_path, grid = _lattice(path, documents)
    array = documents[array_path]
    return {
        "volume": _volume_name(path),
        "image_path": path,
        "array_path": array_path,
        "dims": array["dimension_names"],
        "shape_zyx": array["shape"],
        "spacing_mm_zyx": grid.spacing_mm_zyx,
        "affine": [value for row in told["affine"] for value in row],
        "affine_source": told["affine_source"],
        "orientation": told["orientation"],
        "aligned": told["aligned"],
        "dtype": array["data_type"],
        "dtype_source": told["source"]["dtype"],
        "lossless": told["lossless"],
        "units": told["units"] or None,
        "suv_factor": told.get("suv_factor"),
        "levels": len(levels),
        "source_name": told["source"]["name"],
        "source_size": told["source"]["size"],
        "source_sha256": told["source"]["sha256"],
        "voxels_sha256": told["source"]["voxels_sha256"],
        "array_sha256": told["array_sha256"],
    }


def _lattice(path: str, documents: Documents) -> tuple[str, Grid]:
    """Return where the voxels of an image lie, in the store and in the world."""
    attributes = documents[path]["attributes"]
    array_path = f"{path}/{attributes['ome']['multiscales'][0]['datasets'][0]['path']}"
    return array_path, Grid.of(documents[array_path]["shape"], attributes["voxshelf"]["affine"])


def _region_rows(documents: Documents) -> Iterator[Row]:
    for path in _images(documents):
        _, grid = _lattice(path, documents)
        for label in documents[path]["attributes"]["ome"].get("image-label", {}).get("properties", []):
            if label["voxels"]:
                row = {"family": _role(path), "value": label["label-value"]}
                yield {
                    **row,
                    "name": label["name"],
                    "voxels": label["voxels"],
                    "volume_ml": label["voxels"] * grid.voxel_ml,
                }
