"""The verb ``report``."""

from __future__ import annotations

import sys

import click

from converter.report import make_report
from converter.run import executor
from voxshelf import options
from voxshelf.display import console, print_findings, print_json, step


@click.command()
@options.mirror
@click.option("--out", metavar="FOLDER", help="Where to put the page. Default: .voxshelf/report in MIRROR.")
@click.option("--redraw", is_flag=True, help="Draw all pictures anew, also those that are there.")
@options.workers
@options.scheduler
@options.as_json
def command(
    mirror: str, out: str | None, workers: int | None, scheduler: str | None, *, redraw: bool, as_json: bool
) -> None:
    """Make a web page with one row per subject of MIRROR: its picture, licence, gaps and warnings.

    `convert` makes it at the end of each run. The page needs no network and no server: open it in a browser. It shows
    people, so it lies where no server shows it, and is not for publication.

    \b
    Examples:
      voxshelf report mirror
      voxshelf report https://example.org/mirror --out look
    """
    with step("drawing"), executor(workers or 0, scheduler) as place:
        subjects, findings, index = make_report(mirror, out, place, redraw=redraw)
    if as_json:
        print_json({"subjects": subjects, "page": index, "without_picture": findings})
    else:
        print_findings("Without a picture", findings)
        console().print(f"{subjects} subjects in {index}", markup=False)
    sys.exit(1 if findings else 0)
