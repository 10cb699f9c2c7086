"""What a copy costs to make and to host: bytes, objects and requests, and money by a stated table of prices."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from converter.copyplan import CopyPlan, SubjectPlan
from converter.publish import publication
from corpus.errors import SettingsError
from corpus.stores import Store

_GB: Final = 10**9
_LISTED_AT_ONCE: Final = 1000


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of prices.

    Attributes
    ----------
    name
        Whose, and of when.
    currency
        Of all of them.
    storage_per_gb_month, egress_per_gb
        For 10^9 bytes.
    put_per_1000, get_per_1000
        Requests that write or list, and requests that read.
    """

    name: str
    currency: str
    storage_per_gb_month: float
    egress_per_gb: float
    put_per_1000: float
    get_per_1000: float


class Estimate(msgspec.Struct, frozen=True, tag="estimate"):
    """What a publication would do and cost.

    Attributes
    ----------
    place
        The copy.
    prices
        Name of the table of prices.
    currency
        Of all costs.
    subjects, objects, bytes
        What the copy would hold then.
    copy_objects, copy_bytes
        What would be copied now.
    already, leaving
        Subjects that are there, and that would be removed.
    puts, gets
        Requests that the publication would make now, at most: writing and listing, and reading.
    publication_cost
        Of these requests, once.
    storage_cost_month
        Of all that the copy would hold.
    egress_cost_month
        Of `downloads_month` times the whole of it.
    downloads_month
        As it was given.
    """

    place: str
    prices: str
    currency: str
    subjects: int
    objects: int
    bytes: int
    copy_objects: int
    copy_bytes: int
    already: int
    leaving: int
    puts: int
    gets: int
    publication_cost: float
    storage_cost_month: float
    egress_cost_month: float
    downloads_month: float


def read_prices(path: Path | None) -> Prices:
    """Read a table of prices; None for the example that comes with voxshelf.

    Raises
    ------
    SettingsError
        It cannot be read.
    """
    try:
        text = path.read_bytes() if path else files("converter").joinpath("data/prices.toml").read_bytes()
        return msgspec.toml.decode(text, type=Prices)
    except (OSError, ValueError) as error:
        hint = "docs/publishing.md shows a table of prices."
        raise SettingsError("settings.option", str(error), place=f"--prices {path}", hint=hint) from error


def estimate(plan: CopyPlan, copy: Store, prices: Prices, downloads_month: float) -> Estimate:
    """Return what a plan would do and cost.

    Parameters
    ----------
    plan
        What has to be done.
    copy
        The store that it is for.
    prices
        Of the copy's store; the source's egress is not in it.
    downloads_month
        How often the whole copy is downloaded in a month.
    """
    documents = len(publication(plan.tables, plan.mirror.corpus, {})[1])
    size = sum(each.total_bytes for each in plan.subjects)
    copied = [record for each in plan.todo for record in each.objects]
    puts = sum(_puts(each) for each in plan.subjects) + 2 * documents
    # Manifests of both and the root to plan; then each object, read at its source or, of a server's copy, again.
    gets = 3 * len(plan.subjects) + len(copied) + 2 * documents
    return Estimate(
        place=copy.url,
        prices=prices.name,
        currency=prices.currency,
        subjects=len(plan.subjects),
        objects=sum(len(each.kept) + len(each.objects) + 1 for each in plan.subjects) + documents,
        bytes=size,
        copy_objects=len(copied),
        copy_bytes=sum(record.size for record in copied),
        already=len(plan.done),
        leaving=len(plan.leaving),
        puts=puts,
        gets=gets,
        publication_cost=(puts * prices.put_per_1000 + gets * prices.get_per_1000) / 1000,
        storage_cost_month=size / _GB * prices.storage_per_gb_month,
        egress_cost_month=size / _GB * prices.egress_per_gb * downloads_month,
        downloads_month=downloads_month,
    )


def _puts(plan: SubjectPlan) -> int:
    listings = 2 * (1 + (len(plan.kept) + len(plan.objects)) // _LISTED_AT_ONCE)
    return listings + len(plan.objects) + (0 if plan.is_done else 2)
