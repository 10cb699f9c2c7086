"""The verb ``unpublish``."""

from __future__ import annotations

import sys

import click

from converter.convert import parse_subjects
from converter.withdraw import Withdrawn, withdraw
from voxshelf import options
from voxshelf.display import WorkBar, print_json, print_table, size_text


@click.command()
@options.mirror
@click.argument("subjects", metavar="SUBJECT...", nargs=-1, required=True)
@click.option("--profile", metavar="NAME", help="AWS profile with endpoint and credentials of MIRROR.")
@options.break_lock
@options.as_json
def command(mirror: str, subjects: tuple[str, ...], *, profile: str | None, break_lock: bool, as_json: bool) -> None:
    """Remove SUBJECTs from MIRROR for good, for example when a consent was withdrawn.

    First they are taken out of the tables, then all that MIRROR holds of them is removed: stores, manifests, records
    and pictures. In the end it is listed again, and what is left is shown. They are kept on a private list, so that
    neither `convert` nor `publish` brings them back; --bring-back there lifts that. Copies of MIRROR lose them with
    the next `voxshelf publish`, or by this command. Older versions that a bucket with versioning keeps, and backups,
    are not removed.

    \b
    Examples:
      voxshelf unpublish s3://me/mirror 0003
      voxshelf unpublish s3://public/mirror 0003 0007-0009 --json

    Exit status: 0 nothing is left, 1 something is left and is listed.
    """
    wanted = sorted({each for text in subjects for each in parse_subjects(text)})
    with WorkBar("removing") as bar:
        bar.expect(len(wanted))

        def listen(event: Withdrawn) -> None:
            bar.advance(event.bytes, failed=not event.is_gone)
            if as_json:
                print_json(event)

        done = withdraw(mirror, wanted, listen, profile=profile, break_lock=break_lock)
    if not as_json:
        _print_proof(done)
    sys.exit(0 if all(each.is_gone for each in done) else 1)


def _print_proof(done: list[Withdrawn]) -> None:
    rows = [
        (
            each.subject,
            f"{each.objects} objects, {size_text(each.bytes)}",
            f"{len(each.left)} objects{', and still listed' if each.listed else ''}",
            ", ".join(each.left[:3]) or None,
        )
        for each in done
    ]
    print_table("Removed, and listed again", ("subject", "removed", "left", "which"), rows)
