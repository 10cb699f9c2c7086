"""What a publication says of itself for citation, credit and registries, besides its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from converter import croissant
from corpus import findable, layout
from corpus.catalog import MirrorRecord
from corpus.errors import SettingsError
from corpus.findable import Credit
from corpus.models import to_json


def documents(mirror: MirrorRecord, tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
    """Return the documents of a publication, by key.

    Parameters
    ----------
    mirror
        What it consists of.
    tables
        By name.
    """
    credits_ = findable.credits_of(tables["catalog"].select(["source_institution", "license"]).to_pylist())
    schemas = {name: table.schema for name, table in tables.items()}
    return {
        layout.CROISSANT_JSON: croissant.describe(mirror, credits_, schemas),
        layout.DATASET_JSONLD: to_json(findable.dataset(mirror, credits_)),
        layout.CITATION_CFF: citation(mirror, credits_),
        layout.ATTRIBUTION: findable.attribution(mirror, credits_).encode(),
    }


def citation(mirror: MirrorRecord, credits_: Sequence[Credit]) -> bytes:
    """Return ``CITATION.cff`` (Citation File Format 1.2.0); its authors are the sources of the subjects."""
    corpus, licenses = mirror.corpus, findable.known_licenses(mirror)
    names = list(dict.fromkeys(credit.institution for credit in credits_)) or [corpus.name]
    document: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": f"If you use these data, cite: {corpus.citation}",
        "title": corpus.name,
        "type": "dataset",
        "version": corpus.release,
        "abstract": findable.description_of(mirror),
        "authors": [{"name": name} for name in names],
    }
    return msgspec.yaml.encode({**document, "license": licenses} if licenses else document)


class Hosting(msgspec.Struct, frozen=True, kw_only=True):
    """Who hosts a mirror on S3, and where: what a registry asks and no mirror knows.

    Attributes
    ----------
    arn
        Of the bucket, with the prefix.
    region
        Of the bucket.
    contact
        Mail or web address.
    documentation
        Web address.
    managed_by
        Institution.
    date
        Of the entry, as ``2026-11-25``.
    """

    arn: str
    region: str
    contact: str
    documentation: str
    managed_by: str
    date: str


def aws_registry(mirror: MirrorRecord, credits_: Sequence[Credit], hosting: Hosting) -> bytes:
    """Return an entry of the Registry of Open Data on AWS.

    Source of its rules: ``schema.yaml`` and ``ext.py`` of https://github.com/awslabs/open-data-registry

    Raises
    ------
    SettingsError
        No subject has a known licence.
    """
    if not findable.known_licenses(mirror):
        raise SettingsError("settings.no-subjects", "no subject has a known licence", place="aws-registry")
    terms = "; ".join(f"{each.institution}: {each.license} ({each.counted})" for each in credits_)
    corpus = mirror.corpus
    return msgspec.yaml.encode(
        {
            "Name": f"{corpus.name} as OME-Zarr",
            "Description": findable.description_of(mirror),
            "Documentation": hosting.documentation,
            "Contact": hosting.contact,
            "ManagedBy": hosting.managed_by,
            "UpdateFrequency": "With releases of the corpus",
            "Tags": ["life sciences", "medical imaging", "nifti", "radiology", "segmentation", "zarr"],
            "License": f"Each subject has the licence of its source. {terms}",
            "Citation": corpus.citation,
            "RegistryEntryAdded": hosting.date,
            "RegistryEntryLastModified": hosting.date,
            "Resources": [
                {
                    "Description": f"{corpus.name}, release {corpus.release}: tables, one OME-Zarr store per subject",
                    "ARN": hosting.arn,
                    "Region": hosting.region,
                    "Type": "S3 Bucket",
                }
            ],
        }
    )
