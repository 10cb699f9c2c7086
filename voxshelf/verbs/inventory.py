"""The verb ``inventory``."""

from __future__ import annotations

import click

from converter.census import RELEASES, Census, ranges_text, take_census
from converter.convert import doubts_of_source, read_infos
from converter.corpusfile import read_corpus
from converter.description import ENHANCE_PET, load
from converter.inventory import SubjectFiles, take_inventory
from corpus.findings import Finding
from voxshelf import options
from voxshelf.display import console, print_findings, print_json, print_table, size_text

_MOST_SHOWN = 40
"""A source with fewer subjects is shown whole; of a larger one only the subjects that something is to be said of."""


@click.command()
@options.source
@click.option("--all", "show_all", is_flag=True, help="List every subject, also where nothing is to be said.")
@click.option(
    "--release",
    type=click.Choice(list(RELEASES)),
    help="Compare the counts with this release. Default: the one whose ids are all there, if any.",
)
@options.corpus
@options.as_json
def command(source: str, *, show_all: bool, release: str | None, corpus: str, as_json: bool) -> None:
    """Show which volumes of which subjects SRC holds, without converting anything.

    SRC is a folder, a zip archive, or a URL: s3://bucket/prefix, a web folder with an index page, an archive on a web
    server. Files are recognised by the names of their folders or archives; zip archives are read in place. A dot
    stands for a volume that is there, a dash for one that is missing, a number for one that is there so many times.
    Of more than 40 subjects those with a gap, a duplicate or an unknown licence are listed.

    \b
    Examples:
      voxshelf inventory /data/ENHANCE-PET
      voxshelf inventory https://example.org/ENHANCE-PET-1_6k.zip --release 2025
      voxshelf inventory /data/Totalsegmentator_dataset_v201 --corpus totalsegmentator
    """
    description = load(corpus)
    found = take_inventory(source, description)
    about = read_corpus(source, description)
    infos, sheet_findings = read_infos(found, about.name, description)
    census = take_census(found, infos, release, about.contents)
    findings = [*found.findings, *(each for each in sheet_findings if not each.is_warning)]
    warnings = doubts_of_source(found, sheet_findings, about)
    if as_json:
        subjects = {"subjects": found.subjects, "infos": infos}
        print_json({"corpus": about, "census": census, **subjects, "findings": findings, "warnings": warnings})
        return
    shown = [
        entry
        for subject, entry in found.subjects.items()
        if show_all or len(infos) <= _MOST_SHOWN or entry.findings or infos[subject].license == "unknown"
    ]
    if shown:
        rows = [_row(entry, about.contents.roles, infos[entry.subject].license) for entry in shown]
        print_table(f"{about.name} in {source}", ["subject", *about.contents.roles, "size", "license"], rows)
    if len(shown) < len(found.subjects):
        console().print(f"{len(found.subjects) - len(shown)} more subjects are complete; --all lists them")
    _print_counts(census)
    _print_findings(found.subjects, findings, warnings)
    console().print(_summary(census, is_enhance_pet=about.name == ENHANCE_PET.name), markup=False)


def _row(entry: SubjectFiles, roles: tuple[str, ...], license_: str) -> list[str]:
    size = size_text(sum(file.size for file in entry.files.values()))
    return [entry.subject, *(_mark(entry, role) for role in roles), size, license_]


def _mark(entry: SubjectFiles, role: str) -> str:
    if role not in entry.files:
        return "-"
    return str(1 + entry.duplicates[role]) if role in entry.duplicates else "."


def _print_counts(census: Census) -> None:
    expected = census.expected or census.subjects
    rows = [
        [volume, count.found, expected, count.duplicates or "", size_text(count.bytes), _shortened(count.missing)]
        for volume, count in census.volumes.items()
    ]
    print_table("Volumes", ["volume", "found", "of", "duplicates", "size", "missing"], rows)


def _shortened(subjects: tuple[str, ...], width: int = 60) -> str:
    text = ranges_text(subjects)
    return text if len(text) <= width else f"{text[:width].rpartition(',')[0]}, ... ({len(subjects)} in all)"


def _print_findings(subjects: dict[str, SubjectFiles], findings: list[Finding], warnings: list[Finding]) -> None:
    print_findings("Cannot be used", findings)
    print_findings("Worth a look", warnings)
    print_findings("Gaps and duplicates", [finding for entry in subjects.values() for finding in entry.findings])


def _summary(census: Census, *, is_enhance_pet: bool) -> str:
    licenses = ", ".join(f"{spdx} {count}" for spdx, count in census.licenses.items())
    text = f"{census.subjects} subjects, {census.files} files, {size_text(census.bytes)}; licences: {licenses or '-'}"
    if census.expected is None:
        known = " nor ".join(f"{release} ({count} subjects)" for release, count in RELEASES.items())
        return f"{text}; unknown release" + (f": the ids are neither those of {known}" if is_enhance_pet else "")
    told = ", told by its ids" if census.guessed else ""
    beyond = f", {len(census.beyond)} subjects are not of it ({_shortened(census.beyond)})" if census.beyond else ""
    missing = census.expected - (census.subjects - len(census.beyond))
    return f"{text}; release {census.release}{told}: {missing} of {census.expected} subjects are missing{beyond}"
