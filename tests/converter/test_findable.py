"""What describes a mirror, judged by those who read it: mlcroissant, the schemas of CFF and of the AWS registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from corpus.catalog import read_catalog
from corpus.stores import Store
from tests.conftest import BIN

_LINK = r"^(https?:\/\/)?([\da-z\.\-\_]+)\.([a-z\.]{2,63})(\/.*)*\/?$"
_DATE = r"^\d{4}-\d{2}-\d{2}$"
# The rules of schema.yaml, ext.py and (those that are used) tags.yaml and resources.yaml, as of commit 0b701d7 of
# https://github.com/awslabs/open-data-registry. That the bucket is in its region is asked of AWS, and not here.
AWS_REGISTRY = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("Name", "Description", "Documentation", "Contact", "UpdateFrequency", "Tags", "License"),
        *("RegistryEntryAdded", "RegistryEntryLastModified", "Resources"),
    ],
    "properties": {
        **{
            name: {"type": "string"}
            for name in (
                *("Name", "Description", "Documentation", "Contact", "ManagedBy", "Citation", "UpdateFrequency"),
                *("License", "DeprecatedNotice"),
            )
        },
        "Tags": {
            "type": "array",
            "items": {
                "enum": [
                    *("cancer", "computed tomography", "labeled", "life sciences", "medical imaging", "nifti"),
                    *("radiology", "segmentation", "zarr"),
                ]
            },
        },
        "RegistryEntryAdded": {"type": "string", "pattern": _DATE},
        "RegistryEntryLastModified": {"type": "string", "pattern": _DATE},
        "Resources": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["Description", "ARN", "Region", "Type"],
                "properties": {
                    "Description": {"type": "string"},
                    "ARN": {"type": "string", "pattern": r"^arn:(aws|aws-iso):.+:.*:.*:.+$"},
                    "Region": {"type": "string", "pattern": r"^.{2}-.+-\d$"},
                    "Type": {"enum": ["S3 Bucket", "SNS Topic", "CloudFront Distribution"]},
                    "ControlledAccess": {"type": "string", "pattern": _LINK},
                    "RequesterPays": {"type": "boolean"},
                    "Explore": {"type": "array", "items": {"pattern": r"^\[.+\]\(https?:\/\/[\w\d.\-\/#\?\&=]+\)$"}},
                },
            },
        },
    },
}
HOSTED = [
    *("--arn", "arn:aws:s3:::open-pet/mirror", "--region", "us-west-2", "--contact", "data@example.org"),
    *("--documentation", "https://example.org/pet", "--managed-by", "Example Hospital"),
]


def croissant(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "mlcroissant", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_mlcroissant_accepts_the_description_and_reads_a_table_by_it(phantom_mirror: Path) -> None:
    told = croissant("validate", "--jsonld", phantom_mirror / "croissant.json")
    assert told.returncode == 0, told.stderr
    # The phantom's release is no year and no version, which is all that it may complain about.
    complaints = [line for line in told.stderr.splitlines() if line.lstrip().startswith("-")]
    assert [line for line in complaints if "datePublished" not in line and "MAJOR.MINOR.PATCH" not in line] == []
    assert "not standard" not in told.stderr
    read = croissant(
        *("load", "--jsonld", phantom_mirror / "croissant.json", "--record_set", "catalog_rows", "--num_records", "4")
    )
    assert read.returncode == 0, read.stderr
    assert "AutoPET Challenge" in read.stdout + read.stderr


def test_mlcroissant_refuses_a_description_with_a_fault(phantom_mirror: Path, tmp_path: Path) -> None:
    document = json.loads((phantom_mirror / "croissant.json").read_text())
    document["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    (tmp_path / "croissant.json").write_text(json.dumps(document))
    assert croissant("validate", "--jsonld", tmp_path / "croissant.json").returncode != 0


def test_every_column_of_every_table_is_described(phantom_mirror: Path) -> None:
    document = json.loads((phantom_mirror / "croissant.json").read_text())
    fields = {field["@id"] for records in document["recordSet"] for field in records["field"]}
    catalog = read_catalog(Store(str(phantom_mirror)))
    rows = {"catalog": catalog.subject("0001"), "volumes": catalog.volumes["0001"][0]}
    assert {f"{table}_rows/{column}" for table, row in rows.items() for column in row} <= fields


def test_the_citation_file_keeps_the_schema_of_its_format(phantom_mirror: Path, tmp_path: Path) -> None:
    check = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.citation-file-format"]
    subprocess.run([*check, str(phantom_mirror / "CITATION.cff")], check=True, capture_output=True)
    document = yaml.safe_load((phantom_mirror / "CITATION.cff").read_text())
    assert document["license"] == ["CC-BY-4.0", "CC-BY-NC-4.0"]
    assert "Synthetic: nobody was scanned." in document["message"]
    bad = tmp_path / "CITATION.cff"
    bad.write_text(yaml.safe_dump({**document, "license": ["CC-BY"]}))
    assert subprocess.run([*check, str(bad)], check=False, capture_output=True).returncode == 1


def test_each_source_is_named_with_its_licence_and_its_subjects(phantom_mirror: Path) -> None:
    lines = (phantom_mirror / "ATTRIBUTION.txt").read_text().splitlines()
    catalog = read_catalog(Store(str(phantom_mirror)))
    for row in catalog.subjects.values():
        (line,) = (line for line in lines if line.startswith(f"{row['source_institution']}: "))
        assert line.startswith(f"{row['source_institution']}: 1 subject, {row['license']}, https://")
    assert len(lines) == 3 + len(catalog.subjects)


def test_the_registry_entry_keeps_the_registry_s_rules(phantom_mirror: Path, voxshelf: Callable[..., Any]) -> None:
    told = voxshelf("describe", phantom_mirror, "--format", "aws-registry", *HOSTED).stdout
    entry = yaml.safe_load(told)
    jsonschema.validate(entry, AWS_REGISTRY)
    assert "CC-BY-NC-4.0" in entry["License"]
    with pytest.raises(jsonschema.ValidationError, match="does not match"):
        jsonschema.validate({**entry, "RegistryEntryAdded": "today"}, AWS_REGISTRY)


def test_a_registry_entry_needs_to_know_who_hosts(phantom_mirror: Path, voxshelf: Callable[..., Any]) -> None:
    told = voxshelf("describe", phantom_mirror, "--format", "aws-registry", *HOSTED[2:], status=2)
    assert "--arn" in told.stderr
    assert "--base" in voxshelf("describe", phantom_mirror, "--format", "sitemap", status=2).stderr


def test_what_is_hosted_is_told_with_whole_addresses(phantom_mirror: Path, voxshelf: Callable[..., Any]) -> None:
    base = "https://data.example.org/mirror"
    linked = json.loads(voxshelf("describe", phantom_mirror, "--format", "jsonld", "--base", base).stdout)
    assert linked["url"] == f"{base}/"
    assert {each["contentUrl"].rpartition("/")[0] for each in linked["distribution"]} == {base}
    sitemap = voxshelf("describe", phantom_mirror, "--format", "sitemap", "--base", base).stdout
    assert f"<loc>{base}/subjects/0001.ome.zarr/zarr.json</loc>" in sitemap
