"""The verb ``convert``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from converter.convert import ConvertSettings, convert, parse_subjects
from converter.corpusfile import read_corpus
from converter.description import load
from converter.events import Event, Planned, Report, VolumeDone
from converter.report import closing_event, document, slowest, totals
from corpus import layout
from corpus.contents import Contents
from corpus.errors import SettingsError
from corpus.models import CorpusInfo, to_json
from corpus.ome import VERSIONS
from voxshelf import options
from voxshelf.display import WorkBar, console, print_findings, print_json, print_table, size_text

_SLOWEST: Final = 5


@click.command()
@options.source
@options.mirror
@options.corpus
@options.subjects
@options.licenses
@click.option(
    "--volumes",
    metavar="LIST",
    help="Only these, for example ct,organs; labels are all label maps. Default: all.",
)
@options.workers
@options.scheduler
@click.option("--overwrite", is_flag=True, help="Convert the selected subjects anew; they are unpublished first.")
@click.option(
    "--ome-version",
    type=click.Choice(VERSIONS),
    help="OME-Zarr version of the metadata; the arrays are the same. Default: the mirror's, 0.5 for a new one.",
)
@click.option(
    "--levels",
    type=click.Choice(["all", "few"]),
    help="few leaves out a level of more than an eighth of the voxels of the one above: of thick slices a mirror gets a"
    " sixth smaller, and a viewer has no half resolution. Default: the mirror's, all for a new one.",
)
@options.break_lock
@options.bring_back
@click.option("--release", metavar="TEXT", help="Release of the corpus, for example 2025; it is kept in the tables.")
@click.option("--no-pictures", is_flag=True, help="Leave the pictures of subjects out of the report page.")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="Write report.json here as well.")
@options.as_json
def command(
    source: str,
    mirror: str,
    *,
    corpus: str,
    report: Path | None,
    no_pictures: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Turn the corpus SRC into the mirror MIRROR.

    SRC and MIRROR are folders, or URLs such as s3://bucket/prefix. Run it again at any time: it does only what is
    missing, and goes on where it was stopped. A file that is bad is reported and left out; everything else goes on.
    In the end .voxshelf/report.json tells what was done, and .voxshelf/report/index.html shows each subject.

    \b
    Examples:
      voxshelf convert /data/ENHANCE-PET mirror
      voxshelf convert s3://corpus s3://public/mirror --license CC-BY-4.0 --scheduler tcp://head:8786
      voxshelf convert corpus mirror --subjects 0001-0010 --volumes ct,organs --workers 0
      voxshelf convert /data/Totalsegmentator_dataset_v201 mirror --corpus totalsegmentator
      voxshelf convert /data/mine mirror --corpus mine.toml

    Exit status: 0 all done, 1 some volumes failed and are listed.
    """
    description = load(corpus)
    settings = _settings(read_corpus(source, description), **choices)
    settings = msgspec.structs.replace(settings, description=description, pictures=not no_pictures)
    with WorkBar("converting") as bar:

        def listen(event: Event) -> None:
            if as_json:
                print_json(event)
            if isinstance(event, Planned):
                bar.expect(event.volumes)
                _say(f"{event.volumes} volumes to convert, {event.already} are there already; at {event.place}")
            elif isinstance(event, VolumeDone):
                bar.advance(event.source_bytes, failed=not event.stored)

        done = convert(source, mirror, settings, listen)
    if report is not None:
        _write_report(report, done)
    if as_json:
        print_json(closing_event(done))
    else:
        _print_report(done, mirror)
    sys.exit(1 if done.failures else 0)


def _settings(
    about: CorpusInfo,
    *,
    subjects: str | None,
    licenses: tuple[str, ...],
    volumes: str | None,
    workers: int | None,
    release: str | None,
    bring_back: str | None,
    **as_they_are: Any,
) -> ConvertSettings:
    return ConvertSettings(
        subjects=parse_subjects(subjects) if subjects else None,
        licenses=options.known_licenses(licenses),
        bring_back=parse_subjects(bring_back) if bring_back else frozenset(),
        roles=_roles(volumes, about.contents),
        workers=(os.cpu_count() or 1) if workers is None else workers,
        corpus=msgspec.structs.replace(about, release=release) if release else about,
        **as_they_are,
    )


def _roles(volumes: str | None, contents: Contents) -> tuple[str, ...]:
    if volumes is None:
        return contents.roles
    names = {name.strip() for name in volumes.split(",")}
    if "labels" in names:
        names = names - {"labels"} | {role for role in contents.roles if contents.is_label(role)}
    unknown = names - set(contents.roles)
    if unknown:
        choices = ", ".join((*contents.roles, "labels"))
        raise SettingsError("settings.option", f"{sorted(unknown)} are none of {choices}", place="--volumes")
    return tuple(role for role in contents.roles if role in names)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _write_report(path: Path, report: Report) -> None:
    try:
        path.write_bytes(to_json(document(report)))
    except OSError as error:
        raise SettingsError("settings.option", f"cannot be written: {error}", place="--report") from error


def _print_report(report: Report, mirror: str) -> None:
    print_findings("Failed", report.failures)
    print_findings("Worth a look", report.warnings)
    if report.volumes:
        _print_speed(report)
    licenses = ", ".join(f"{spdx} {count}" for spdx, count in report.licenses.items())
    console().print(
        f"{report.converted} volumes converted, {report.already} were there, {len(report.failures)} failures; "
        f"{report.subjects} subjects published in {mirror} ({licenses})",
        markup=False,
    )
    _say(f"look over all subjects in {mirror.rstrip('/')}/{layout.REPORT}/index.html")


def _print_speed(report: Report) -> None:
    rows = [
        (f"{volume.subject}/{volume.role}", f"{volume.seconds:.1f}", *_sizes(volume))
        for volume in slowest(report)[:_SLOWEST]
    ]
    print_table("Slowest", ["volume", "seconds", "source", "stored"], rows)
    sums = totals(report)
    console().print(
        f"{size_text(sums['source_bytes'])} in, {size_text(sums['stored_bytes'])} out, {sums['seconds']:.1f} s"
        f" ({sums['mb_per_s']} MB of source a second)",
        markup=False,
    )


def _sizes(volume: VolumeDone) -> tuple[str, str]:
    return size_text(volume.source_bytes), size_text(volume.stored_bytes)
