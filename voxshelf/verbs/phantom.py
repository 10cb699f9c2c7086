"""The verb ``phantom``."""

from __future__ import annotations

import click

from converter.phantom import SIZES, write_phantom
from converter.phantom_layouts import LAYOUTS
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
@click.option("--first", type=click.IntRange(min=1), default=1, show_default=True, help="Number of the first subject.")
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS), case_sensitive=False),
    default="L1",
    show_default=True,
    help="Folders and archives: " + "; ".join(f"{layout} {meaning}" for layout, meaning in LAYOUTS.items()) + ".",
)
def command(dest: str, subjects: int, size: str, seed: int, first: int, layout: str) -> None:
    """Make a synthetic corpus in the folder DEST.

    It is laid out as ENHANCE.PET is: CT, PET on its own grid, seven label maps and two spreadsheets, from four
    institutions under two licences. Nobody was scanned: bodies are drawn from formulas.

    \b
    Examples:
      voxshelf phantom corpus --subjects 4 --size medium
      voxshelf phantom zipped --layout L5 --first 1000
    """
    with WorkBar("drawing") as bar:
        bar.expect(subjects * 9 + 4)
        names = write_phantom(
            dest,
            subjects=subjects,
            size=size,
            seed=seed,
            first=first,
            layout=layout,
            progress=lambda _: bar.advance(0, failed=False),
        )
    click.echo(f"{len(names)} files of {subjects} subjects in {dest}")
