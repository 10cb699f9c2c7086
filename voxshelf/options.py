"""Options that several verbs share, each defined once."""

from __future__ import annotations

import click

from corpus.errors import SettingsError
from corpus.licenses import LICENSES

source = click.argument("source", metavar="SRC")
mirror = click.argument("mirror", metavar="MIRROR")

subjects = click.option("--subjects", metavar="IDS", help="Only these subjects, for example 0001,0003-0010.")
corpus = click.option(
    "--corpus",
    default="enhance-pet",
    show_default=True,
    metavar="NAME|FILE",
    help="What SRC looks like: enhance-pet, totalsegmentator, bids, or a description of your own (docs/corpora.md).",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text, for scripts.")
workers = click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Worker processes of a local Dask cluster; 0 runs in this process. Default: one per processor.",
)
scheduler = click.option(
    "--scheduler",
    metavar="ADDRESS|FILE",
    help="Use a running Dask cluster: tcp://host:8786, or the scheduler file it wrote (*.json).",
)
licenses = click.option(
    "--license", "licenses", multiple=True, metavar="SPDX", help="Only subjects under this licence; repeatable."
)
bring_back = click.option(
    "--bring-back", metavar="IDS", help="Lift the withdrawal (voxshelf unpublish) of these subjects."
)
break_lock = click.option(
    "--break-lock", is_flag=True, help="Take MIRROR from a run that holds it; only if you know it is dead."
)


def known_licenses(spdx: tuple[str, ...]) -> frozenset[str] | None:
    """Return the licences that were given; None for none.

    Raises
    ------
    SettingsError
        One of them is not known.
    """
    for each in spdx:
        if each not in LICENSES:
            raise SettingsError("settings.option", f"{each!r} is none of {', '.join(LICENSES)}", place="--license")
    return frozenset(spdx) or None
