"""Licences per subject: from the name of the source institution to an SPDX id, failing closed."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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
    "unknown": UNKNOWN,
}


class _Institution(NamedTuple):
    """A source as the data card spells it, the bare words of its country, and its licence."""

    name: str
    country: frozenset[str]
    license: License


_INSTITUTIONS: Final = (
    _Institution("AutoPET Challenge", frozenset(), LICENSES["CC-BY-NC-4.0"]),
    _Institution("University Hospital Leipzig (DE)", frozenset({"de", "germany"}), LICENSES["CC-BY-4.0"]),
    _Institution("Azienda Ospedaliero Universitaria Careggi (IT)", frozenset({"it", "italy"}), LICENSES["CC-BY-4.0"]),
    _Institution("University of California Davis (US)", frozenset({"us", "usa"}), LICENSES["CC-BY-4.0"]),
)


def _words(text: str) -> str:
    # Words of any script: one more word, in whatever letters, is another institution.
    return " ".join(re.findall(r"\w+", text.casefold()))


def _name_and_country(text: str) -> tuple[str, str]:
    name, _, country = text.partition("(")
    return _words(name), _words(country)


def _known(text: str | None) -> _Institution | None:
    # Spelling drifts between versions of the card: "(DE).", "(Germany)", a trailing blank or tab. What stands in
    # brackets must be the institution's own country, or nothing.
    name, country = _name_and_country(text or "")
    for institution in _INSTITUTIONS:
        if name == _name_and_country(institution.name)[0] and country in {"", *institution.country}:
            return institution
    return None


def license_of(institution: str | None) -> License:
    """Return the licence of a source institution; `UNKNOWN` for one that is not in the table.

    Parameters
    ----------
    institution
        Cell of the ``Data-Source`` column, or None.
    """
    known = _known(institution)
    return known.license if known else UNKNOWN


def institution_of(text: str | None) -> str | None:
    """Return an institution as the data card spells it, or the text itself when it is not known."""
    if text is None or not text.strip():
        return None
    known = _known(text)
    return known.name if known else text.strip()


def attribution_of(institution: str | None, corpus_name: str) -> str:
    """Return the line that a user of the subject has to give."""
    return f"{corpus_name}, images from {institution_of(institution) or 'an unnamed source'}"
