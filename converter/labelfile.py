"""The ``labels.json`` that comes with a corpus, compared with the built-in tables, which alone are used.

The published file is not valid JSON (a comma before a closing bracket), lacks a label, and is in none of the archives.
A copy that names a value otherwise is from another model or release, and then so may be the label maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from converter.description import ENHANCE_PET
from converter.inventory import Inventory
from converter.names import Names
from converter.source import read_small
from corpus.errors import SourceError
from corpus.findings import Finding, warning
from corpus.labels import Family, families

LABEL_FILE: Final = "labels.json"
_MOST_TOLD: Final = 5
_NAMES: Final = Names(ENHANCE_PET)


def check_label_files(inventory: Inventory) -> list[Finding]:
    """Return a warning for each label table of a source that is absent, not valid, or not the built-in one."""
    if not inventory.label_files:
        return [_told(LABEL_FILE, "the source has none; the built-in tables are used")]
    findings = []
    for file in inventory.label_files:
        try:
            document, problems = _parsed(read_small(file).decode("utf-8-sig"))
        except (SourceError, ValueError) as error:
            findings.append(_told(file.name, f"cannot be read: {error}"))
            continue
        findings += [_told(file.name, problem) for problem in [*problems, *_differences(document)]]
    return findings


def _told(place: str, message: str) -> Finding:
    return warning("warning.label-table", place, message)


def _parsed(text: str) -> tuple[Any, list[str]]:
    try:
        return msgspec.json.decode(text), []
    except msgspec.DecodeError as error:
        # Commas before closing brackets; no name of a region holds any.
        document = msgspec.json.decode(re.sub(r",(\s*[}\]])", r"\1", text))
        return document, [f"not valid JSON ({error}); read without the commas before closing brackets"]


def _differences(document: Any) -> list[str]:
    told = dict(_tables(document))
    if not told:
        return ["no table of a label family was found in it; it was not compared"]
    problems = [f"no table of {family.folder}" for family in families().values() if family.id not in told]
    for role, names in told.items():
        differing = [*_differing(families()[role], names)]
        more = f" and {len(differing) - _MOST_TOLD} more" if len(differing) > _MOST_TOLD else ""
        if differing:
            problems.append(f"{families()[role].folder}: {'; '.join(differing[:_MOST_TOLD])}{more}")
    return problems


def _tables(document: Any) -> Iterator[tuple[str, dict[int, str]]]:
    """Yield role and names by value of each family, whichever way round the file has them."""
    if not isinstance(document, dict):
        return
    for key, entry in document.items():
        role = _NAMES.role_of((key,))
        if role in families() and isinstance(entry, dict):
            pairs = [(str(one), str(other)) for one, other in entry.items()]
            yield role, {int(v): n for one, other in pairs for v, n in ((one, other), (other, one)) if v.isdecimal()}
        else:
            yield from _tables(entry)


def _differing(family: Family, names: dict[int, str]) -> Iterator[str]:
    known = family.by_value()
    for value, name in sorted(names.items()):
        if value == 0:
            continue
        if value not in known:
            yield f"{value} is {name!r} there, and unknown here"
        elif _bare(name) not in {_bare(known[value].name), _bare(known[value].display)}:
            yield f"{value} is {name!r} there, and {known[value].name!r} here"
    for value in sorted(known.keys() - names.keys()):
        if known[value].in_every_release:
            yield f"{value} ({known[value].name}) is missing"


def _bare(name: str) -> str:
    # "Left kidney", "kidney_left" and "KIDNEY-LEFT" are one name.
    return " ".join(sorted(re.findall("[a-z0-9]+", name.casefold())))
