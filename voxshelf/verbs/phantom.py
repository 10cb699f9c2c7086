"""The verb ``phantom``."""

from __future__ import annotations

import click

from converter.phantom import SIZES, write_phantom
from voxshelf.display import WorkBar


@click.command()
@click.argument("dest", metavar="DEST")
@click.option("--subjects", type=click.IntRange(min=1), default=3, show_default=True, help="How many subjects.")
@click.option(
    "--size",
    type=click.Choice(list(SIZES)),
    default="small",
    show_default=True,
    help="Of the volumes: small takes a fraction of a second a subject, full is 512 x 512 x 287.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed makes other people.")
def command(dest: str, subjects: int, size: str, seed: int) -> None:
    """Make a synthetic corpus in the folder DEST.

    It is laid out as ENHANCE.PET is: CT, PET on its own grid, seven label maps and two spreadsheets, from four
    institutions under two licences. Nobody was scanned: bodies are drawn from formulas.

    \b
    Example:
      voxshelf phantom corpus --subjects 4 --size medium
    """
    with WorkBar("drawing") as bar:
        bar.expect(subjects * 9 + 4)
        names = write_phantom(
            dest, subjects=subjects, size=size, seed=seed, progress=lambda _: bar.advance(0, failed=False)
        )
    click.echo(f"{len(names)} files of {subjects} subjects in {dest}")
