"""The report page: one row per subject, with its picture, licence, gaps and warnings, to look over in minutes.

A static file that needs no network: style and script are in it, pictures lie beside it. All that comes from files and
spreadsheets is escaped, and a content security policy forbids every script but the one that is meant.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import NamedTuple

from corpus.catalog import Catalog, Row
from corpus.errors import CODES
from corpus.findings import WARNINGS, Finding, warning
from corpus.licenses import UNKNOWN
from corpus.outcomes import SubjectOutcome

_GAP = "warning.volume-missing"
"""Gaps have a line of their own."""


class Entry(NamedTuple):
    """A row of the page.

    Attributes
    ----------
    row
        Of ``catalog.parquet``.
    findings
        Failures and warnings of the subject and its volumes, gaps left out.
    picture
        Where its picture lies, relative to the page; empty where there is none.
    """

    row: Row
    findings: tuple[Finding, ...]
    picture: str


def findings_of(catalog: Catalog, subject: str, outcome: SubjectOutcome | None) -> tuple[Finding, ...]:
    """Return what the page says of a subject: from its record, or where that was not copied from the tables."""
    if outcome is not None:
        of_volumes = [finding for volume in outcome.volumes for finding in volume.findings]
        found = [*outcome.quality, *of_volumes, *outcome.findings]
    else:
        found = [warning(code, subject) for code in catalog.subject(subject)["warnings"]]
        for row in catalog.volumes.get(subject, []):
            place = f"{subject}/{row['volume'].removeprefix('labels/')}"
            found += [warning(code, place) for code in row["warnings"]]
    return tuple(sorted((f for f in found if f.code != _GAP), key=lambda finding: finding.is_warning))


def render(catalog: Catalog, entries: Iterable[Entry]) -> str:
    """Return the page.

    Parameters
    ----------
    catalog
        Tables of the mirror.
    entries
        Its subjects, in order.
    """
    entries = list(entries)
    style, script = (resources.files("converter").joinpath(f"data/report.{kind}").read_text() for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"{catalog.mirror.corpus.name}: {len(entries)} subjects"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{_licences(catalog)}. Each picture: axial, coronal and sagittal CT with the label maps, then the PET from the front.
The patient's right (R) is on the left. Not for publication: the pictures show people.</p>
{_summary(entries)}
</header>
<nav>
<input id="words" type="search" placeholder="Filter: id, licence, code, label map ..." aria-label="Filter" autofocus>
<label><input id="warned" type="checkbox"> only with warnings</label>
<output id="shown"></output>
</nav>
<main>
{"".join(map(_article, entries))}</main>
<script>{script}</script>
</body>
</html>
"""


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _licences(catalog: Catalog) -> str:
    return escape(", ".join(f"{count} under {spdx}" for spdx, count in catalog.mirror.licenses.items()))


def _summary(entries: list[Entry]) -> str:
    # Each code once, with what to do about it, however many subjects have it.
    subjects = Counter(code for entry in entries for code in {finding.code for finding in entry.findings})
    if not subjects:
        return "<p>Nothing was found amiss.</p>"
    known = {**CODES, **WARNINGS}
    rows = "".join(
        f'<tr><td class="count">{count}</td><td><button {_kind(code in WARNINGS)} data-code="{escape(code)}">'
        f"{escape(code)}</button></td><td>{escape(known[code].meaning)} {escape(known[code].hint)}</td></tr>\n"
        for code, count in sorted(subjects.items(), key=lambda item: (item[0] in WARNINGS, -item[1], item[0]))
    )
    return f"<table>\n<tr><th>subjects</th><th>code</th><th>meaning, and what to do</th></tr>\n{rows}</table>"


def _article(entry: Entry) -> str:
    row = entry.row
    licence = str(row["license"])
    unknown = " unknown" if licence == UNKNOWN.id else ""
    gaps = f"<p>missing: {escape(', '.join(row['gaps']))}</p>\n" if row["gaps"] else ""
    findings = "".join(_item(finding, row["subject"]) for finding in entry.findings)
    picture = '<figure class="none">no picture</figure>'
    if entry.picture:
        text = escape(f"planes of subject {row['subject']}")
        picture = (
            f'<figure><img loading="lazy" decoding="async" height="240" alt="{text}" src="{escape(entry.picture)}">'
            "</figure>"
        )
    return f"""<article{" data-warned" if entry.findings else ""}>
<div>
<h2>{escape(str(row["subject"]))} <span class="licence{unknown}">{escape(licence)}</span></h2>
<p>{escape(_description(row))}</p>
{gaps}{f"<ul>{findings}</ul>" if findings else ""}
</div>
{picture}
</article>
"""


def _description(row: Row) -> str:
    age = f"{row['age_years']:g} years" if row["age_years"] is not None else None
    parts = (row["indication"], row["sex"], age, row["scanner"], row["source_institution"])
    return ", ".join(str(part).strip() for part in parts if part)


def _item(finding: Finding, subject: str) -> str:
    place = "" if finding.place == subject else f"{finding.place.removeprefix(f'{subject}/')}: "
    text = escape(f"{place}{finding.message}")
    return f"<li {_kind(finding.is_warning)}>{text}<code>{escape(finding.code)}</code></li>"


def _kind(is_warning: bool) -> str:  # noqa: FBT001  # which of two classes
    return 'class="warn"' if is_warning else 'class="bad"'
