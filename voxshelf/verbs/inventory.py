"""The verb ``inventory``."""

from __future__ import annotations

import click

from converter.convert import read_infos
from converter.corpusfile import read_corpus
from converter.inventory import take_inventory
from corpus import layout
from voxshelf import options
from voxshelf.display import console, print_findings, print_json, print_table, size_text


@click.command()
@options.source
@options.as_json
def command(source: str, *, as_json: bool) -> None:
    """Show which volumes of which subjects SRC holds, without converting anything.

    SRC is a folder, or a URL such as s3://bucket/prefix. Files are recognised by their names; zip archives are looked
    into. A dot stands for a volume that is there, a dash for one that is missing.

    \b
    Example:
      voxshelf inventory /data/ENHANCE-PET
    """
    found = take_inventory(source)
    corpus = read_corpus(source)
    infos, sheet_findings = read_infos(found, corpus.name)
    findings = [*found.findings, *sheet_findings]
    if as_json:
        print_json({"corpus": corpus, "subjects": found.subjects, "infos": infos, "findings": findings})
        return
    rows = []
    for subject, entry in found.subjects.items():
        marks = ["." if role in entry.files else "-" for role in layout.roles()]
        size = size_text(sum(file.size for file in entry.files.values()))
        rows.append([subject, *marks, size, infos[subject].license])
    print_table(f"{corpus.name} in {source}", ["subject", *layout.roles(), "size", "license"], rows)
    counts = {role: sum(role in entry.files for entry in found.subjects.values()) for role in layout.roles()}
    console().print(f"{len(found.subjects)} subjects; " + ", ".join(f"{role} {n}" for role, n in counts.items()))
    print_findings("Cannot be used", findings)
    gaps = [finding for entry in found.subjects.values() for finding in entry.findings]
    print_findings("Gaps and duplicates", gaps)
