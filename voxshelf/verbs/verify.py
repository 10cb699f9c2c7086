"""The verb ``verify``."""

from __future__ import annotations

import os
import sys

import click
import msgspec

from converter.convert import parse_subjects
from converter.description import load
from converter.verify import Event, Planned, VerifySettings, VolumeChecked, verify
from voxshelf import options
from voxshelf.display import WorkBar, console, print_findings, print_json


@click.command()
@options.mirror
@click.option("--source", metavar="SRC", help="Compare every voxel with the corpus that the mirror was made from.")
@click.option(
    "--corpus",
    metavar="NAME|FILE",
    help="What SRC looks like, as for convert. Default: what the mirror was converted with.",
)
@options.subjects
@click.option("--deep", is_flag=True, help="Also make all levels, regions and statistics anew from level 0.")
@options.workers
@options.scheduler
@options.as_json
def command(
    mirror: str,
    *,
    source: str | None,
    corpus: str | None,
    subjects: str | None,
    deep: bool,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Check that MIRROR is what it says.

    Every object is compared with the digest that was recorded when it was written, consolidated metadata with the
    documents they copy, the tables with the stores, and every checksum and level 0 of every volume with its voxels.
    With --source every voxel is compared with the source's. With --deep levels and statistics are made anew.

    \b
    Examples:
      voxshelf verify mirror
      voxshelf verify mirror --source /data/ENHANCE-PET --subjects 0001-0010
      voxshelf verify s3://public/mirror --deep --scheduler tcp://head:8786

    Exit status: 0 all is right, 1 something is wrong and is listed.
    """
    settings = VerifySettings(
        source=source,
        description=load(corpus) if corpus else None,
        subjects=parse_subjects(subjects) if subjects else None,
        deep=deep,
        workers=(os.cpu_count() or 1) if workers is None else workers,
        scheduler=scheduler,
    )
    with WorkBar("checking") as bar:

        def listen(event: Event) -> None:
            if as_json:
                print_json(event)
            if isinstance(event, Planned):
                bar.expect(event.volumes)
            elif isinstance(event, VolumeChecked):
                bar.advance(0, failed=bool(event.findings))

        result = verify(mirror, settings, listen)
    if as_json:
        print_json({"type": "result", **msgspec.to_builtins(result)})
    else:
        print_findings("Wrong", result.findings)
        compared = f", {result.voxels} voxels equal to the source's" if source and not result.findings else ""
        console().print(
            f"{result.subjects} subjects, {result.volumes} volumes, {result.objects} objects checked{compared}: "
            f"{len(result.findings)} faults"
        )
    sys.exit(1 if result.findings else 0)
