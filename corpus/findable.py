"""How a mirror is found and credited: its sources, and what search engines read (schema.org, sitemap).

Sources: https://developers.google.com/search/docs/appearance/structured-data/dataset, https://www.sitemaps.org
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

import msgspec

from corpus import layout
from corpus.catalog import MirrorRecord
from corpus.licenses import LICENSES, UNKNOWN

MEDIA_TYPES: Final = {"parquet": "application/vnd.apache.parquet", "json": "application/json"}
"""Of the tables and documents that a description names, by the ending of their keys."""
STORE_TYPE: Final = "application/vnd.zarr"
_MOST_ADDRESSES: Final = 50_000
"""Of one sitemap, by its protocol."""


class Credit(msgspec.Struct, frozen=True, order=True):
    """A source of subjects that share a licence.

    Attributes
    ----------
    institution
        As the data card spells it.
    license
        SPDX id, or ``unknown``.
    subjects
        Their number.
    """

    institution: str
    license: str
    subjects: int

    @property
    def counted(self) -> str:
        """The number of subjects, in words."""
        return f"{self.subjects} subject{'' if self.subjects == 1 else 's'}"


def credits_of(catalog: Iterable[Mapping[str, Any]]) -> tuple[Credit, ...]:
    """Return the sources of a mirror, in order of their names, from the rows of ``catalog.parquet``."""
    found = Counter((row["source_institution"] or "an unnamed source", row["license"]) for row in catalog)
    return tuple(sorted(Credit(institution, spdx, count) for (institution, spdx), count in found.items()))


def description_of(mirror: MirrorRecord) -> str:
    """Return what a mirror holds in a sentence or two, of more than the 50 letters that search engines want."""
    return (
        f"{mirror.subjects} subjects of {mirror.corpus.name}: volumes and label maps as OME-Zarr, one store per "
        "subject, to be read in parts over HTTP. Each subject has the licence of its source; see the catalogue."
    )


def known_licenses(mirror: MirrorRecord) -> list[str]:
    """Return the SPDX ids of a mirror's licences, without ``unknown``."""
    return [spdx for spdx in mirror.licenses if LICENSES.get(spdx, UNKNOWN).is_known]


def attribution(mirror: MirrorRecord, credits_: Iterable[Credit]) -> str:
    """Return ``ATTRIBUTION.txt``: what to cite, then one line per source with its licence and number of subjects."""
    lines = [f"{mirror.corpus.name}, release {mirror.corpus.release}", f"Cite: {mirror.corpus.citation}", ""]
    for credit in credits_:
        license_ = LICENSES.get(credit.license, UNKNOWN)
        terms = f"{license_.id}, {license_.url}" if license_.is_known else license_.name
        lines.append(f"{credit.institution}: {credit.counted}, {terms}")
    return "\n".join([*lines, ""])


def dataset(mirror: MirrorRecord, credits_: Iterable[Credit], base: str = "") -> dict[str, Any]:
    """Return a schema.org Dataset.

    Parameters
    ----------
    mirror
        What the publication consists of.
    credits_
        Its sources.
    base
        Address of the mirror, with ``/`` at its end; without one, addresses are relative to the document's own.
    """
    document: dict[str, Any] = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": mirror.corpus.name,
        "description": description_of(mirror),
        "version": mirror.corpus.release,
        "citation": mirror.corpus.citation,
        "license": [LICENSES[spdx].url for spdx in known_licenses(mirror)],
        "creator": organizations(credits_),
        "isAccessibleForFree": True,
        "keywords": ["medical imaging", "NIfTI", "OME-Zarr", "segmentation"],
        "distribution": [
            {"@type": "DataDownload", "name": name, "contentUrl": f"{base}{key}", "encodingFormat": _type(key)}
            for name, key in _documents(mirror).items()
        ],
    }
    return {**document, "url": base} if base else document


def organizations(credits_: Iterable[Credit]) -> list[dict[str, str]]:
    """Return the sources as schema.org has them, each once."""
    names = dict.fromkeys(credit.institution for credit in credits_)
    return [{"@type": "Organization", "name": name} for name in names]


def sitemap(addresses: Iterable[str]) -> bytes:
    """Return ``sitemap.xml`` of these addresses, as many as one may hold."""
    entries = [f"<url><loc>{escape(address, quote=False)}</loc></url>" for address in addresses][:_MOST_ADDRESSES]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">']
    return "\n".join([*lines, *entries, "</urlset>", ""]).encode()


def _documents(mirror: MirrorRecord) -> dict[str, str]:
    tables = {name: table.key for name, table in sorted(mirror.tables.items())}
    return {**tables, "label tables": layout.LABELS_JSON, "Croissant": layout.CROISSANT_JSON}


def _type(key: str) -> str:
    return MEDIA_TYPES[key.rpartition(".")[2]]
