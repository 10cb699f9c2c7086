"""``croissant.json``: the data set described for search engines and loaders (MLCommons Croissant 1.1).

Source: http://mlcommons.org/croissant/1.1; the context is the one that the specification gives in its appendix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from corpus import layout
from corpus.catalog import MirrorRecord, TableRecord
from corpus.findable import MEDIA_TYPES, STORE_TYPE, Credit, description_of, known_licenses, organizations
from corpus.licenses import LICENSES
from corpus.models import to_json

_OWN: Final = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
    *("separator", "source", "subField", "transform"),
)
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _OWN},
}
_DATA_TYPES: Final = {
    pa.string(): "sc:Text",
    pa.int64(): "sc:Integer",
    pa.float64(): "sc:Float",
    pa.bool_(): "sc:Boolean",
}


def describe(mirror: MirrorRecord, credits_: Iterable[Credit], schemas: Mapping[str, pa.Schema]) -> bytes:
    """Return the description of a publication.

    Parameters
    ----------
    mirror
        What it consists of.
    credits_
        Its sources.
    schemas
        Columns of its tables, by name.
    """
    release = mirror.corpus.release
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": mirror.corpus.name,
        "description": description_of(mirror),
        "version": release,
        "citeAs": mirror.corpus.citation,
        "creator": organizations(credits_),
        "license": [LICENSES[spdx].url for spdx in known_licenses(mirror)],
        "distribution": [
            *(_file(name, record) for name, record in sorted(mirror.tables.items())),
            {
                "@type": "cr:FileSet",
                "@id": "subjects",
                "name": "subjects",
                "description": "One OME-Zarr store per subject; licences differ, see the catalog's column license.",
                "encodingFormat": STORE_TYPE,
                "includes": f"{layout.SUBJECTS}/*{layout.STORE_SUFFIX}/**",
            },
        ],
        "recordSet": [_records(name, schema) for name, schema in sorted(schemas.items())],
    }
    if re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", release):
        # Releases are years, and a description must not change with the day on which it is written.
        document["datePublished"] = release
    return to_json(document)


def _file(name: str, record: TableRecord) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": record.key,
        "contentSize": f"{record.size} B",
        # The second is from before Parquet had a registered type, and all that mlcroissant 1.1 knows.
        "encodingFormat": [MEDIA_TYPES[record.key.rpartition(".")[2]], "application/x-parquet"],
        "sha256": record.sha256,
    }


def _records(table: str, schema: pa.Schema) -> dict[str, Any]:
    # The table itself has the plain name, and ids are of the whole document.
    name = f"{table}_rows"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [_field(table, f"{name}/{column.name}", column) for column in schema],
    }


def _field(table: str, identifier: str, column: pa.Field) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    told = {
        "@type": "cr:Field",
        "@id": identifier,
        "name": identifier,
        "dataType": _DATA_TYPES[column.type.value_type if is_list else column.type],
        "source": {"fileObject": {"@id": table}, "extract": {"column": column.name}},
    }
    return {**told, "isArray": True, "arrayShape": "-1"} if is_list else told
