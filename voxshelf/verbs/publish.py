"""The verb ``publish``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from converter.convert import parse_subjects
from converter.copying import Copied, CopyPlanned, SubjectCopied, copy_mirror, places
from converter.copyplan import CopySettings, plan_copy
from converter.hosting import Estimate, Prices, estimate, read_prices
from corpus.stores import Store
from voxshelf import options
from voxshelf.display import WorkBar, console, print_findings, print_json, print_table, size_text


@click.command()
@options.mirror
@click.argument("destination", metavar="DEST")
@click.option(
    "--license",
    "licenses",
    multiple=True,
    metavar="SPDX",
    help="Only subjects under this licence; repeatable. Default: all but those whose licence is unknown.",
)
@options.subjects
@click.option("--split-by-license", is_flag=True, help="A mirror for each licence: DEST/CC-BY-4.0, ...")
@click.option("--dry-run", is_flag=True, help="Only say what would be copied, and what it would cost.")
@click.option(
    "--prices",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Table of prices (TOML) for --dry-run. Default: an example; docs/publishing.md shows it.",
)
@click.option(
    "--downloads",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="N",
    help="For --dry-run: how often the whole copy is downloaded in a month.",
)
@click.option("--profile", metavar="NAME", help="AWS profile with endpoint and credentials of DEST.")
@click.option("--source-profile", metavar="NAME", help="AWS profile with endpoint and credentials of MIRROR.")
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Objects under way at once; through memory, each takes up to 64 MiB.",
)
@options.bring_back
@click.option("--break-lock", is_flag=True, help="Take DEST from a run that holds it; only if you know it is dead.")
@options.as_json
def command(
    mirror: str,
    destination: str,
    *,
    split_by_license: bool,
    dry_run: bool,
    profile: str | None,
    source_profile: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Make DEST a copy of the chosen subjects of MIRROR, and of no others.

    Only what is new or changed is copied, and every object is checked by its SHA-256. Subjects that are not chosen any
    more are removed from DEST. Whoever reads DEST meanwhile only ever sees complete subjects. Run it again at any
    time: it goes on where it was stopped. Buckets of one server are copied by the server, without passing here.
    The converter's private folder, with records, report and pictures, does not go along.

    \b
    Examples:
      voxshelf publish s3://me/mirror s3://public/mirror --license CC-BY-4.0 --dry-run
      voxshelf publish s3://me/mirror s3://public/mirror --license CC-BY-4.0
      voxshelf publish mirror s3://public/mirror --split-by-license --profile public

    Exit status: 0 all done, 1 some subjects failed and are listed.
    """
    prices, downloads = read_prices(choices.pop("prices")), choices.pop("downloads")
    settings = _settings(**choices)
    source = Store(mirror, source_profile)
    chosen = [(Store(destination, profile), settings)]
    if split_by_license:
        chosen = places(source, destination, settings, profile)
    if dry_run:
        _estimate(source, chosen, prices, downloads, as_json=as_json)
        return
    done = [_copy(source, copy, own, as_json=as_json) for copy, own in chosen]
    sys.exit(1 if any(each.failures for each in done) else 0)


def _settings(
    *, licenses: tuple[str, ...], subjects: str | None, bring_back: str | None, **as_they_are: Any
) -> CopySettings:
    return CopySettings(
        subjects=parse_subjects(subjects) if subjects else None,
        licenses=options.known_licenses(licenses),
        bring_back=parse_subjects(bring_back) if bring_back else frozenset(),
        **as_they_are,
    )


def _copy(source: Store, copy: Store, settings: CopySettings, *, as_json: bool) -> Copied:
    with WorkBar("copying") as bar:

        def listen(event: CopyPlanned | SubjectCopied) -> None:
            if as_json:
                print_json(event)
            if isinstance(event, CopyPlanned):
                bar.expect(event.subjects - event.already)
            else:
                bar.advance(event.bytes, failed=bool(event.findings))

        done = copy_mirror(source, copy, settings, listen)
    if as_json:
        print_json({"type": "result", **msgspec.to_builtins(done)})
    else:
        _print_result(done)
    return done


def _print_result(done: Copied) -> None:
    print_findings("Failed", done.failures)
    print_findings("Left out", done.warnings)
    licenses = ", ".join(f"{count} {spdx}" for spdx, count in done.licenses.items()) or "none"
    console().print(
        f"{done.copied} subjects copied ({done.objects} objects, {size_text(done.bytes)}), {done.already} were there, "
        f"{done.removed} removed; {done.place} has {done.subjects} subjects: {licenses}",
        markup=False,
    )


def _estimate(
    source: Store, chosen: Iterable[tuple[Store, CopySettings]], prices: Prices, downloads: float, *, as_json: bool
) -> None:
    for copy, settings in chosen:
        plan = plan_copy(source, copy, settings)
        told = estimate(plan, copy, prices, downloads)
        if as_json:
            print_json(told)
        else:
            print_findings("Would fail", plan.failures)
            _print_estimate(told)


def _print_estimate(told: Estimate) -> None:
    def money(amount: float) -> str:
        return f"{amount:.2f} {told.currency}"

    rows = [
        ("copied now", f"{told.copy_objects} objects, {size_text(told.copy_bytes)}"),
        ("subjects there already", told.already),
        ("subjects that would be removed", told.leaving),
        ("held then", f"{told.subjects} subjects, {told.objects} objects, {size_text(told.bytes)}"),
        ("requests now, at most", f"{told.puts} to write or list, {told.gets} to read: {money(told.publication_cost)}"),
        ("storage", f"{money(told.storage_cost_month)} a month"),
        ("egress", f"{money(told.egress_cost_month)} a month, for {told.downloads_month:g} downloads of the whole"),
        ("prices", told.prices),
    ]
    print_table(f"{told.place} (nothing was written)", ("what", "how much"), rows)
