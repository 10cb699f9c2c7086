"""The verb ``upgrade``."""

from __future__ import annotations

import sys

import click
import msgspec

from converter.convert import parse_subjects
from converter.upgrade import NEWEST, SubjectUpgraded, Upgrade, UpgradePlanned, upgrade
from voxshelf import options
from voxshelf.display import WorkBar, console, print_findings, print_json


@click.command()
@options.mirror
@options.subjects
@click.option("--dry-run", is_flag=True, help="Only say how many subjects would be upgraded.")
@options.as_json
def command(mirror: str, subjects: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Turn the OME-Zarr 0.5 metadata of MIRROR into 0.6, in place.

    Only the JSON documents of groups are written anew, about a dozen small ones per subject; no array is touched, and
    no source is needed. The result is what `voxshelf convert --ome-version 0.6` writes. Run it again at any time: it
    does what is left. A subject that is being upgraded holds documents of both versions for a moment; readers that
    know only 0.5 should not use the mirror any more. There is no way back but a new mirror.

    With --subjects the mirror is upgraded in portions; the next `convert` upgrades what is left.

    \b
    Examples:
      voxshelf upgrade mirror --dry-run
      voxshelf upgrade s3://public/mirror

    Exit status: 0 all done, 1 some subjects failed and are listed.
    """
    with WorkBar("upgrading") as bar:

        def listen(event: UpgradePlanned | SubjectUpgraded) -> None:
            if as_json:
                print_json(event)
            if isinstance(event, UpgradePlanned):
                bar.expect(event.subjects)
            else:
                bar.advance(0, failed=bool(event.findings))

        done = upgrade(mirror, parse_subjects(subjects) if subjects else None, listen, dry_run=dry_run)
    if as_json:
        print_json({"type": "result", **msgspec.to_builtins(done)})
    else:
        _print_result(done, mirror)
    sys.exit(1 if done.failures else 0)


def _print_result(done: Upgrade, mirror: str) -> None:
    print_findings("Failed", done.failures)
    console().print(
        f"{done.upgraded} subjects upgraded to OME-Zarr {NEWEST}, {done.already} had it; "
        f"{done.left} of {mirror} have an older version",
        markup=False,
    )
