"""What the operator decides: one value, read in one place, handed down.

Each setting says itself what it means; ``docs/service.toml`` is written from here by ``make docs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta

from corpus.errors import SettingsError

ENVIRONMENT: Final = "VOXSHELF_SERVE_"
"""What the names of environment variables start with: ``VOXSHELF_SERVE_PORT``."""


class Rule(StrEnum):
    """What a licence asks of those who read data under it."""

    OPEN = "open"
    """Anyone may read."""
    ACKNOWLEDGE = "acknowledge"
    """Those who say that they accept the licence, or whose token is for it."""
    TOKEN = "token"  # noqa: S105 - the name of a rule, not a secret
    """Those whose token is for the licence."""
    DENY = "deny"
    """Nobody."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bearer token that opens some licences. The token itself is not kept.

    Attributes
    ----------
    name
        Whose it is, for the operator.
    sha256
        Hexadecimal digest of the token: ``printf %s TOKEN | sha256sum``. Tokens are long and random, so a plain digest
        cannot be guessed back.
    licenses
        SPDX ids that it opens.
    """

    name: str
    sha256: str
    licenses: tuple[str, ...]


class ServiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the service.

    Attributes
    ----------
    mirror
        The others are described by `meaning_of`.
    """

    mirror: Annotated[
        str,
        Meta(
            min_length=1,
            description="Path or URL of the mirror. For s3:// keys and endpoint come from the environment: "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION.",
        ),
    ]
    catalog_ttl_s: Annotated[
        float, Meta(ge=0, description="For how long the tables are used before a new publication is looked for.")
    ] = 10.0
    license_rules: Annotated[
        dict[str, Rule],
        Meta(
            description="What each licence (by SPDX id) asks for: open, acknowledge, token or deny. One that is not "
            'named is open, and unknown is denied. For example { "CC-BY-NC-4.0" = "acknowledge" }.'
        ),
    ] = {}
    tokens: Annotated[
        tuple[Token, ...],
        Meta(
            description="Bearer tokens, each with name (whose it is), sha256 (64 hexadecimal digits) and licenses (the "
            "SPDX ids it opens). The token itself is not kept."
        ),
    ] = ()
    host: Annotated[str, Meta(description="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    trusted_proxies: Annotated[
        str,
        Meta(description="Addresses of proxies whose X-Forwarded-For is believed, with commas between; * for any."),
    ] = "127.0.0.1"
    shutdown_s: Annotated[
        int, Meta(ge=0, description="For how long answers under way may go on after SIGTERM before they are cut.")
    ] = 60
    access_log: Annotated[bool, Meta(description="Whether each request is logged, as a line of JSON.")] = True
    metrics_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port of its own for /metrics, so that it stays inside; 0 serves it with the rest.",
        ),
    ] = 0
    upstream_timeout_s: Annotated[
        float, Meta(gt=0, description="How long object storage may take to begin an answer, all three tries together.")
    ] = 15.0
    upstream_denied_is_missing: Annotated[
        bool,
        Meta(
            description="Take a 403 of object storage for a missing object. Only for a bucket that cannot be listed, "
            "where S3 says 403 for both: a lost permission then looks like air in a CT."
        ),
    ] = False
    reader_stall_s: Annotated[
        float, Meta(gt=0, description="For how long a reader may take no byte before the connection is closed.")
    ] = 60.0
    cache_mb: Annotated[
        float, Meta(ge=0, description="Memory for documents and shard indices of a mirror that is not a local folder.")
    ] = 32.0
    cache_ttl_s: Annotated[
        float, Meta(ge=0, description="For how long they are used; a new publication drops them at once.")
    ] = 60.0
    most_requests: Annotated[
        int, Meta(ge=1, description="Requests under way at once; more are answered 503. It bounds memory: 3 MiB each.")
    ] = 512
    client_requests: Annotated[
        int,
        Meta(ge=1, description="Requests under way at once of one client (an IPv4 address, an IPv6 /64); more wait."),
    ] = 128
    client_bytes_per_s: Annotated[
        float,
        Meta(ge=0, description="Bytes a second of one client, with ten seconds' worth at once; 0 for no limit."),
    ] = 0.0
    client_wait_s: Annotated[
        float,
        Meta(ge=0, description="How long a request over a limit waits before it is answered 429."),
    ] = 10.0
    most_answer_mb: Annotated[float, Meta(gt=0, description="Size of the largest cut-out, in MB of voxels.")] = 1024.0
    decoding_threads: Annotated[
        int, Meta(ge=1, description="Inner chunks that are decoded, or pictures that are drawn, at once.")
    ] = 4
    decoding_answers: Annotated[
        int,
        Meta(
            ge=1,
            description="Answers at once that may hold decoded voxels: a row of inner chunks each, 8 MB of a usual CT. "
            "Another one waits half a minute, and is then answered 503.",
        ),
    ] = 16
    redirect_s: Annotated[
        int, Meta(ge=1, le=604800, description="For how long the presigned URL of ?redirect=1 is valid.")
    ] = 3600
    redirect_endpoint: Annotated[
        str, Meta(description="The S3 endpoint as clients reach it, where it is not AWS_ENDPOINT_URL.")
    ] = ""
    accel_prefix: Annotated[
        str,
        Meta(
            pattern="^(/.*[^/])?$",
            description="Internal location of an nginx in front that holds the local mirror: it sends the bytes "
            "(X-Accel-Redirect) and the service only decides. Empty: the service sends them.",
        ),
    ] = ""


def meaning_of(name: str) -> str:
    """Return what a setting means, in a sentence for its operator."""
    hint = get_type_hints(ServiceSettings, include_extras=True)[name]
    description: str | None = next(meta.description for meta in hint.__metadata__ if isinstance(meta, Meta))
    return description or ""


def read_settings(file: str | None, environment: Mapping[str, str], given: Mapping[str, Any]) -> ServiceSettings:
    """Return the settings: what was given, else of the environment, else of the file, else the defaults.

    Parameters
    ----------
    file
        A TOML file in the shape of ``docs/service.toml``, or None.
    environment
        Of the process: ``VOXSHELF_SERVE_PORT=80``; lists and tables are written as JSON.
    given
        Of the command line; None for what was not given.

    Raises
    ------
    SettingsError
        A name is not known, or a value cannot be used.
    """
    fields = {field.name for field in msgspec.structs.fields(ServiceSettings)}
    values = _of_file(file) if file else {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT):
            name = variable.removeprefix(ENVIRONMENT).lower()
            # A rule whose name is misspelt must not be passed over in silence.
            if name not in fields:
                raise SettingsError("settings.option", "there is no such setting", place=variable)
            values[name] = _of_text(text, variable)
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(values, ServiceSettings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError("settings.option", str(error), place=file or "settings") from error


def _of_file(file: str) -> dict[str, Any]:
    try:
        return msgspec.toml.decode(Path(file).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError("settings.option", f"the settings cannot be read: {error}", place=file) from error


def _of_text(text: str, variable: str) -> Any:
    if not text.startswith(("[", "{")):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SettingsError("settings.option", f"no JSON: {error}", place=variable) from error
