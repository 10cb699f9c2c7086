"""What the operator decides, in one value that is handed down."""

from __future__ import annotations

import msgspec


class ServiceSettings(msgspec.Struct, frozen=True):
    """Settings of the service.

    Attributes
    ----------
    mirror
        Path or URL of the mirror.
    catalog_ttl_s
        For how long the tables are used before a new publication is looked for, in seconds.
    """

    mirror: str
    catalog_ttl_s: float = 10.0
