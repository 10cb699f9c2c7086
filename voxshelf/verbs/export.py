"""The verb ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.export import export
from converter.reader import Mirror
from corpus.cutouts import Cut
from corpus.errors import SettingsError
from corpus.regions import Bounds
from voxshelf import options
from voxshelf.display import VoxelBar, print_json


@click.command()
@options.mirror
@click.argument("subject")
@click.argument("volume")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.nii[.gz]")
@click.option(
    "--level", type=click.IntRange(min=0), default=0, show_default=True, help="Of the pyramid; 0 is the finest."
)
@click.option("--label", metavar="NAME", help="Only the surroundings of this label, for example liver.")
@click.option("--margin-mm", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Around the label.")
@click.option("--bbox-mm", metavar="X0,Y0,Z0,X1,Y1,Z1", help="Only voxels whose centres lie in this box, RAS+ mm.")
@options.as_json
def command(mirror: str, subject: str, volume: str, out: Path, *, as_json: bool, **choices: Any) -> None:
    """Write VOLUME of SUBJECT as a NIfTI file.

    VOLUME is ct, pet, or a label family such as organs. The whole volume comes back byte for byte as it was before
    the conversion (once inflated); a part of it gets an affine of its own, so that it lies where it was, and keeps
    slope and intercept. A label cuts any volume of the subject, for example the PET around the liver.

    \b
    Examples:
      voxshelf export mirror 0001 ct ct.nii.gz
      voxshelf export mirror 0001 pet liver_pet.nii.gz --label liver --margin-mm 10
      voxshelf export mirror 0001 ct box.nii --bbox-mm -50,-50,100,50,50,200 --level 1
    """
    cut = _cut(**choices)
    with VoxelBar("exporting") as bar:
        done = export(Mirror(mirror), subject, volume, out, cut, bar.update)
    if as_json:
        print_json(done)
        return
    note = ", byte-identical to the source once inflated" if done.byte_identical else ""
    if cut == Cut() and not done.byte_identical:
        note = ", not byte-identical to the source, whose label values were rounded when it was converted"
    click.echo(f"{done.path}: {' x '.join(map(str, done.shape_zyx))} voxels (z, y, x){note}")


def _cut(*, bbox_mm: str | None, **as_they_are: Any) -> Cut:
    return Cut(bbox_mm_ras=_bounds(bbox_mm) if bbox_mm else None, **as_they_are)


def _bounds(text: str) -> Bounds:
    try:
        x0, y0, z0, x1, y1, z1 = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError("settings.option", f"{text!r} is not six numbers", place="--bbox-mm") from None
    return x0, y0, z0, x1, y1, z1
