"""Options that several verbs share, each defined once."""

from __future__ import annotations

import click

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
