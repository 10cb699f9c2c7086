"""The verb ``describe``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import click

from converter.findable import Hosting, aws_registry, citation
from corpus import findable, layout
from corpus.catalog import Catalog, read_catalog
from corpus.errors import SettingsError
from corpus.findable import Credit
from corpus.licenses import LICENSES, UNKNOWN
from corpus.models import to_json
from corpus.stores import Store
from voxshelf import options

_FORMATS: Final = ("attribution", "citation", "jsonld", "sitemap", "aws-registry")


@click.command()
@options.mirror
@click.option("--format", "form", type=click.Choice(_FORMATS), default="attribution", show_default=True)
@click.option("--base", metavar="URL", help="Address under which readers find MIRROR, for jsonld and sitemap.")
@click.option("--arn", help="Of the bucket, for aws-registry. Default: that of MIRROR, if it is s3://...")
@click.option("--region", help="Of the bucket, for example us-west-2.")
@click.option("--contact", metavar="ADDRESS", help="Mail or web address for questions.")
@click.option("--documentation", metavar="URL", help="Page that explains the data.")
@click.option("--managed-by", metavar="TEXT", help="Institution that hosts MIRROR.")
@click.option("--date", metavar="DATE", help="Of the registry entry. Default: today.")
def command(mirror: str, *, form: str, base: str | None, arn: str | None, **hosting: str | None) -> None:
    """Print what citations, search engines and registries need of MIRROR.

    MIRROR itself holds ATTRIBUTION.txt, CITATION.cff, dataset.jsonld and croissant.json; what depends on where it is
    hosted is made here.

    \b
    Examples:
      voxshelf describe mirror
      voxshelf describe mirror --format sitemap --base https://data.example.org/mirror > sitemap.xml
      voxshelf describe s3://open-pet/mirror --format aws-registry --region us-west-2 --contact data@example.org \\
        --documentation https://example.org/pet --managed-by "Example Hospital" > open-pet.yaml
    """
    catalog = read_catalog(Store(mirror))
    credits_ = findable.credits_of(catalog.subjects.values())
    if form == "aws-registry":
        document = aws_registry(catalog.mirror, credits_, _hosting(mirror, arn, **hosting))
    else:
        document = _described(form, catalog, credits_, f"{base.rstrip('/')}/" if base else "")
    click.echo(document.rstrip(b"\n"))


def _described(form: str, catalog: Catalog, credits_: tuple[Credit, ...], address: str) -> bytes:
    mirror = catalog.mirror
    if form == "sitemap":
        if not address:
            raise SettingsError("settings.option", "a sitemap holds whole addresses", place="--base")
        return findable.sitemap(f"{address}{key}" for key in _keys(catalog))
    if form == "jsonld":
        return to_json(findable.dataset(mirror, credits_, address))
    return citation(mirror, credits_) if form == "citation" else findable.attribution(mirror, credits_).encode()


def _keys(catalog: Catalog) -> list[str]:
    documents = [layout.DATASET_JSONLD, layout.CROISSANT_JSON, layout.CITATION_CFF, layout.ATTRIBUTION]
    known = [row for row in catalog.subjects.values() if LICENSES.get(row["license"], UNKNOWN).is_known]
    return [*documents, *(f"{row['store']}/zarr.json" for row in known)]


def _hosting(mirror: str, arn: str | None, **given: str | None) -> Hosting:
    arn = arn or (f"arn:aws:s3:::{mirror.removeprefix('s3://').rstrip('/')}" if mirror.startswith("s3://") else None)
    told = {"arn": arn, **given, "date": given["date"] or f"{datetime.now(UTC):%Y-%m-%d}"}
    missing = [f"--{name.replace('_', '-')}" for name, value in told.items() if not value]
    if missing:
        raise SettingsError("settings.option", "a registry asks for more", place=", ".join(missing))
    return Hosting(**{name: value or "" for name, value in told.items()})
