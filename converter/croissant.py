"""``croissant.json``: the data set described for search engines and loaders (MLCommons Croissant 1.1).

Source: http://mlcommons.org/croissant/1.1
"""

from __future__ import annotations

from typing import Any, Final

from corpus import layout
from corpus.catalog import MirrorRecord, TableRecord
from corpus.licenses import LICENSES
from corpus.models import to_json

_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "includes": "cr:includes",
}
_TYPES: Final = {"parquet": "application/vnd.apache.parquet", "json": "application/json"}


def describe(mirror: MirrorRecord) -> bytes:
    """Return the description of a publication.

    Parameters
    ----------
    mirror
        What it consists of.
    """
    licenses = [LICENSES[spdx].url for spdx in mirror.licenses if LICENSES[spdx].is_known]
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": mirror.corpus.name,
        "description": f"{mirror.subjects} subjects with their volumes and label maps as OME-Zarr, one store each.",
        "version": mirror.corpus.release,
        "citeAs": mirror.corpus.citation,
        "license": licenses,
        "distribution": [
            *(_file(name, record) for name, record in sorted(mirror.tables.items())),
            {
                "@type": "cr:FileSet",
                "@id": "subjects",
                "name": "subjects",
                "description": "One OME-Zarr store per subject; licences differ, see the catalog's column license.",
                "encodingFormat": "application/vnd.zarr",
                "includes": f"{layout.SUBJECTS}/*{layout.STORE_SUFFIX}/**",
            },
        ],
    }
    return to_json(document)


def _file(name: str, record: TableRecord) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": record.key,
        "contentSize": f"{record.size} B",
        "encodingFormat": _TYPES[record.key.rpartition(".")[2]],
        "sha256": record.sha256,
    }
