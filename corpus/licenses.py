"""Licences per subject: from the name of the source institution to an SPDX id, failing closed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec


class License(msgspec.Struct, frozen=True):
    """A licence under which a subject may be shared.

    Attributes
    ----------
    id
        SPDX id, or ``unknown``.
    name
        Name for people.
    url
        Its text; empty when unknown.
    """

    id: str
    name: str
    url: str

    @property
    def is_known(self) -> bool:
        """Whether the subject may be served at all."""
        return self.id != "unknown"


UNKNOWN: Final = License("unknown", "Unknown: ask the source before any use", "")
LICENSES: Final[dict[str, License]] = {
    "CC-BY-4.0": License(
        "CC-BY-4.0", "Creative Commons Attribution 4.0", "https://creativecommons.org/licenses/by/4.0/"
    ),
    "CC-BY-NC-4.0": License(
        "CC-BY-NC-4.0",
        "Creative Commons Attribution Non Commercial 4.0",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ),
    "CC0-1.0": License("CC0-1.0", "Creative Commons Zero 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "PDDL-1.0": License(
        "PDDL-1.0", "Public Domain Dedication and License 1.0", "https://opendatacommons.org/licenses/pddl/1-0/"
    ),
    "unknown": UNKNOWN,
}


class Institution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source whose name gives a licence.

    Attributes
    ----------
    name
        As the data card spells it.
    license
        SPDX id.
    country
        What may stand in brackets after the name, in bare words.
    """

    name: str
    license: str
    country: tuple[str, ...] = ()


INSTITUTIONS: Final = (
    Institution("AutoPET Challenge", "CC-BY-NC-4.0"),
    Institution("University Hospital Leipzig (DE)", "CC-BY-4.0", ("de", "germany")),
    Institution("Azienda Ospedaliero Universitaria Careggi (IT)", "CC-BY-4.0", ("it", "italy")),
    Institution("University of California Davis (US)", "CC-BY-4.0", ("us", "usa")),
)
"""Those of ENHANCE.PET."""

_SPELLINGS: Final = {
    "CC-BY-4.0": ("Creative Commons Attribution 4.0 International",),
    "CC-BY-NC-4.0": (
        "Creative Commons Attribution NonCommercial 4.0",
        "Creative Commons Attribution NonCommercial 4.0 International",
        "Creative Commons Attribution Non Commercial 4.0 International",
    ),
    "CC0-1.0": ("CC0", "Creative Commons Zero", "CC0 1.0 Universal", "Creative Commons Zero 1.0 Universal"),
    "PDDL-1.0": ("PDDL", "PDDL 1.0", "Open Data Commons Public Domain Dedication and License 1.0"),
}
"""How people spell licences that have one version only, or with the version: CC BY without one is not known."""


def _words(text: str) -> str:
    # Words of any script: one more word, in whatever letters, is another institution.
    return " ".join(re.findall(r"\w+", text.casefold()))


def _name_and_country(text: str) -> tuple[str, str]:
    name, _, country = text.partition("(")
    return _words(name), _words(country)


def _known(text: str | None, institutions: Iterable[Institution]) -> Institution | None:
    # Spelling drifts between versions of the card: "(DE).", "(Germany)", a trailing blank or tab. What stands in
    # brackets must be the institution's own country, or nothing.
    name, country = _name_and_country(text or "")
    for institution in institutions:
        if name == _name_and_country(institution.name)[0] and country in {"", *institution.country}:
            return institution
    return None


def license_of(institution: str | None, institutions: Iterable[Institution] = INSTITUTIONS) -> License:
    """Return the licence of a source institution; `UNKNOWN` for one that is not in the table.

    Parameters
    ----------
    institution
        Cell of the ``Data-Source`` column, or None.
    institutions
        The table.
    """
    known = _known(institution, institutions)
    return LICENSES.get(known.license, UNKNOWN) if known else UNKNOWN


def license_of_text(text: str | None) -> License:
    """Return the licence that a free text names in full, alone: its SPDX id, name or address; else `UNKNOWN`."""
    words = _words(text or "")
    for license_ in LICENSES.values():
        address = license_.url.removeprefix("https://")
        spellings = {license_.id, license_.name, address, f"http://{address}", license_.url}
        if words in {_words(spelling) for spelling in (*spellings, *_SPELLINGS.get(license_.id, ()))} - {""}:
            return license_
    return UNKNOWN


def institution_of(text: str | None, institutions: Iterable[Institution] = INSTITUTIONS) -> str | None:
    """Return an institution as the data card spells it, or the text itself when it is not known."""
    if text is None or not text.strip():
        return None
    known = _known(text, institutions)
    return known.name if known else text.strip()


def attribution_of(
    institution: str | None, corpus_name: str, institutions: Iterable[Institution] = INSTITUTIONS
) -> str:
    """Return the line that a user of the subject has to give."""
    return f"{corpus_name}, images from {institution_of(institution, institutions) or 'an unnamed source'}"
