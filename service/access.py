"""Who may read the voxels of which subject: one rule for each licence, the same on every route.

A rule is about data only. The catalogue lists every subject, as the tables of the mirror do, and says which rule holds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from corpus.catalog import Row
from corpus.errors import RequestError, SettingsError
from corpus.licenses import LICENSES, UNKNOWN, License
from service.settings import Rule, ServiceSettings, Token

ACKNOWLEDGE_HEADER: Final = "X-Voxshelf-Acknowledge"
ACKNOWLEDGE_PARAMETER: Final = "acknowledge"
ATTRIBUTION_HEADER: Final = "X-Voxshelf-Attribution"

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Visitor(msgspec.Struct, frozen=True):
    """What a request says about who asks.

    Attributes
    ----------
    acknowledged
        SPDX ids of licences that the visitor accepts.
    token
        Bearer token, or None.
    """

    acknowledged: frozenset[str] = frozenset()
    token: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str], acknowledged: Iterable[str] = ()) -> Visitor:
        """Return the visitor that a request's headers, and its ``acknowledge`` parameters, tell of.

        A token is read from ``Authorization`` only: URLs are written to logs, of ours and of every proxy between.
        """
        texts = [headers.get(ACKNOWLEDGE_HEADER, ""), *acknowledged]
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        ids = frozenset(part.strip() for text in texts for part in text.split(","))
        return cls(ids, token.strip() or None if scheme.lower() == "bearer" else None)


_ANYBODY: Final = Visitor()


class Grant(msgspec.Struct, frozen=True):
    """Leave to read one subject, and what has to go with its data.

    Attributes
    ----------
    subject
        Its id.
    license
        Its licence.
    attribution
        The line that a user of the data has to give, or None.
    rule
        Which was met.
    """

    subject: str
    license: License
    attribution: str | None
    rule: Rule

    def headers(self, cache_control: str) -> dict[str, str]:
        """Return the headers of every answer with data of the subject, 304 included.

        Parameters
        ----------
        cache_control
            ``Cache-Control`` of the same answer if it were open to all. What only some may read is kept out of shared
            caches, which would hand it to others.
        """
        headers = {"Cache-Control": cache_control}
        if self.rule is not Rule.OPEN:
            headers["Cache-Control"] = ", ".join(["private", *_directives(cache_control, without="public")])
            headers["Vary"] = f"Authorization, {ACKNOWLEDGE_HEADER}"
        if self.license.url:
            headers["Link"] = f'<{self.license.url}>; rel="license"'
        if self.attribution:
            # Header values are Latin-1 at best; what is not ASCII is percent-encoded UTF-8.
            headers[ATTRIBUTION_HEADER] = quote(self.attribution, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}")
        return headers


class Access:
    """The operator's rules and tokens.

    Parameters
    ----------
    settings
        Of the service.

    Raises
    ------
    SettingsError
        A rule or a token names a licence that is not known (a typo would leave the real one open), or a token's
        digest is not SHA-256.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        for place, ids in [
            ("license_rules", settings.license_rules),
            *(("tokens", token.licenses) for token in settings.tokens),
        ]:
            if strange := set(ids) - set(LICENSES):
                message = f"no licence {sorted(strange)}; there are {', '.join(LICENSES)}"
                raise SettingsError("settings.option", message, place=place)
        for token in settings.tokens:
            if _SHA256.fullmatch(token.sha256) is None:
                message = f"sha256 of token {token.name!r} is not 64 lower-case hexadecimal digits"
                raise SettingsError("settings.option", message, place="tokens")
        self._rules = settings.license_rules
        self._tokens = settings.tokens

    def rule(self, license_: License) -> Rule:
        """Return the rule of a licence: the operator's, or ``open``, or ``deny`` where the licence is unknown."""
        return self._rules.get(license_.id, Rule.OPEN if license_.is_known else Rule.DENY)

    def grant_to_anybody(self, row: Row) -> Grant:
        """Return leave to read what is open, whatever a request says.

        Raises
        ------
        RequestError
            It is not open.
        """
        return self.grant(row, _ANYBODY)

    def grant(self, row: Row, visitor: Visitor) -> Grant:
        """Return leave to read the data of a subject.

        Parameters
        ----------
        row
            Of the subject, from ``catalog.parquet``.
        visitor
            Who asks.

        Raises
        ------
        RequestError
            ``request.licence``: nobody may. ``request.acknowledge``: the licence has to be acknowledged.
            ``request.token``: a token is needed; ``request.token-unknown``: it is none of ours;
            ``request.token-licence``: it is not for this licence.
        """
        license_ = license_of_row(row)
        rule = self.rule(license_)
        grant = Grant(row["subject"], license_, row["attribution"], rule)
        if rule is Rule.DENY:
            message = f"subjects under {license_.id!r} are not served"
            if not license_.is_known:
                message = "the licence of this subject is unknown, so it is not served"
            raise RequestError("request.licence", message, place=grant.subject)
        if rule is Rule.ACKNOWLEDGE and license_.id not in visitor.acknowledged and visitor.token is None:
            message = f"the data are under {license_.id}, which has to be acknowledged"
            hint = (
                f"Read {license_.url or 'the terms'}, then send the header '{ACKNOWLEDGE_HEADER}: {license_.id}', "
                f"or ?{ACKNOWLEDGE_PARAMETER}={license_.id}."
            )
            raise RequestError("request.acknowledge", message, place=grant.subject, hint=hint)
        if rule is Rule.TOKEN or (rule is Rule.ACKNOWLEDGE and license_.id not in visitor.acknowledged):
            self._require_token(license_, visitor, grant.subject)
        return grant

    def _require_token(self, license_: License, visitor: Visitor, subject: str) -> None:
        if visitor.token is None:
            raise RequestError("request.token", f"the data are under {license_.id} and need a token", place=subject)
        token = self._token(visitor.token)
        if token is None:
            raise RequestError("request.token-unknown", "the token is not known", place=subject)
        if license_.id not in token.licenses:
            raise RequestError("request.token-licence", f"the token is not for {license_.id}", place=subject)

    def _token(self, text: str) -> Token | None:
        given = hashlib.sha256(text.encode()).hexdigest()
        found = None
        for token in self._tokens:
            # All are compared, each in constant time: how long it takes must not tell how near a guess is.
            if hmac.compare_digest(given, token.sha256):
                found = token
        return found


def license_of_row(row: Row) -> License:
    """Return the licence of a subject's row; unknown when it is none that we know."""
    return LICENSES.get(row["license"], UNKNOWN)


def _directives(cache_control: str, *, without: str) -> list[str]:
    return [part.strip() for part in cache_control.split(",") if part.strip() != without]
