"""The verb ``verify``."""

from __future__ import annotations

import sys

import click
import msgspec

from converter.convert import parse_subjects
from converter.description import load
from converter.verify import VolumeChecked, verify
from voxshelf import options
from voxshelf.display import console, print_findings, print_json, step


@click.command()
@options.mirror
@click.option("--source", metavar="SRC", help="Compare every voxel with the corpus that the mirror was made from.")
@click.option(
    "--corpus",
    metavar="NAME|FILE",
    help="What SRC looks like, as for convert. Default: what the mirror was converted with.",
)
@options.subjects
@options.as_json
def command(mirror: str, source: str | None, corpus: str | None, subjects: str | None, *, as_json: bool) -> None:
    """Check that MIRROR is what it says.

    Every object is compared with the digest that was recorded when it was written, and level 0 of every volume is
    decoded and compared with the tables. With --source every voxel is compared with the source's.

    \b
    Examples:
      voxshelf verify mirror
      voxshelf verify mirror --source /data/ENHANCE-PET --subjects 0001-0010

    Exit status: 0 all is right, 1 something is wrong and is listed.
    """

    def listen(checked: VolumeChecked) -> None:
        if as_json:
            print_json(checked)

    with step(f"checking {mirror}"):
        selected = parse_subjects(subjects) if subjects else None
        result = verify(mirror, source, selected, listen, load(corpus) if corpus else None)
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
