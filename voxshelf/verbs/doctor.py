"""The verb ``doctor``."""

from __future__ import annotations

import sys
from typing import Final

import click
import msgspec

from converter.asking import Server
from converter.doctor import Check, Diagnosis, diagnose
from voxshelf import options
from voxshelf.display import console, print_json

_SIGNS: Final = {"pass": "[green]ok[/]", "fail": "[red]FAIL[/]", "skip": "[yellow]-[/]"}


@click.command()
@click.argument("url", metavar="URL")
@click.option("--all", "everything", is_flag=True, help="Compare the stores of all subjects with the tables.")
@click.option("--token", envvar="VOXSHELF_TOKEN", help="Bearer token of a service that asks for one.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the host may say nothing.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one answer may take in all; raise it for large tables on a slow line.",
)
@options.as_json
def command(url: str, *, everything: bool, token: str | None, timeout: float, deadline: float, as_json: bool) -> None:
    """Ask the mirror hosted at URL what its readers will ask.

    URL is where mirror.json is: a public bucket, a folder on a web server, or `voxshelf serve`. Nothing is written, and
    nothing but HTTP is used. Each fault is told with whom it hurts, and what mends it. After three questions in a row
    without an answer in time no other is asked, and what was left out is told.

    \b
    Examples:
      voxshelf doctor https://mirror.example.org
      voxshelf doctor https://bucket.s3.eu-central-1.amazonaws.com/enhance-pet --all
      voxshelf doctor http://127.0.0.1:8000 --json

    Exit status: 0 all is right, 1 something is wrong and is listed.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    server = Server(url, timeout, headers, deadline_s=deadline)
    found = diagnose(server, print_json if as_json else _say, everything=everything)
    if as_json:
        print_json({"type": "result", **msgspec.to_builtins(found)})
    else:
        _print_result(found)
    sys.exit(0 if found.is_sound else 1)


def _say(check: Check) -> None:
    console().print(f"{_SIGNS[check.status]:>16} {check.name}")
    for label, text in (("seen", check.seen), ("why", check.why), ("mend", check.remedy)):
        if text:
            console().print(f"        {label}: {text}", markup=False)


def _print_result(found: Diagnosis) -> None:
    counts = {status: sum(check.status == status for check in found.checks) for status in ("pass", "fail", "skip")}
    console().print(
        f"{found.url}, taken for {found.host}: {counts['pass']} right, {counts['fail']} wrong, {counts['skip']} not "
        f"asked; {found.looked_at} of {found.subjects} stores compared with the tables",
        markup=False,
    )
