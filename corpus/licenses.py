"""Licences per subject: from the name of the source institution to an SPDX id, failing closed."""

from __future__ import annotations

import re
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
    "unknown": UNKNOWN,
}

# The Data-Source column as the data card spells it. Spelling drifts between its versions ("(DE).", "(Germany)",
# trailing blanks), so both sides are compared as bare lower-case words without the country in brackets.
_INSTITUTIONS: Final[dict[str, str]] = {
    "AutoPET Challenge": "CC-BY-NC-4.0",
    "University Hospital Leipzig (DE)": "CC-BY-4.0",
    "Azienda Ospedaliero Universitaria Careggi (IT)": "CC-BY-4.0",
    "University of California Davis (US)": "CC-BY-4.0",
}


def _bare(institution: str) -> str:
    without_country = re.sub(r"\([^)]*\)", " ", institution)
    return " ".join(re.findall(r"[a-z0-9]+", without_country.casefold()))


_BY_BARE_NAME: Final = {_bare(name): (name, LICENSES[spdx]) for name, spdx in _INSTITUTIONS.items()}


def license_of(institution: str | None) -> License:
    """Return the licence of a source institution; `UNKNOWN` for one that is not in the table.

    Parameters
    ----------
    institution
        Cell of the ``Data-Source`` column, or None.
    """
    known = _BY_BARE_NAME.get(_bare(institution or ""))
    return known[1] if known else UNKNOWN


def institution_of(text: str | None) -> str | None:
    """Return an institution as the data card spells it, or the text itself when it is not known."""
    if text is None or not text.strip():
        return None
    known = _BY_BARE_NAME.get(_bare(text))
    return known[0] if known else text.strip()


def attribution_of(institution: str | None, corpus_name: str) -> str:
    """Return the line that a user of the subject has to give."""
    return f"{corpus_name}, images from {institution_of(institution) or 'an unnamed source'}"
