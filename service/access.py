"""Leave to read a subject's data."""

from __future__ import annotations

import msgspec

from corpus.catalog import Row
from corpus.errors import RequestError
from corpus.licenses import License
from service.reader import license_of_row


class Grant(msgspec.Struct, frozen=True):
    """Leave to read one subject.

    Attributes
    ----------
    license
        Its licence.
    """

    license: License

    def headers(self, cache_control: str) -> dict[str, str]:
        """Return the headers of every answer with data of the subject, 304 included."""
        return {"Cache-Control": cache_control, "Link": f'<{self.license.url}>; rel="license"'}


def grant(row: Row) -> Grant:
    """Return leave to read a subject, of which the row is from ``catalog.parquet``.

    Raises
    ------
    RequestError
        Its licence is unknown.
    """
    license_ = license_of_row(row)
    if not license_.is_known:
        message = "the licence of this subject is unknown, so it is not served"
        raise RequestError("request.licence", message, place=row["subject"])
    return Grant(license_)
