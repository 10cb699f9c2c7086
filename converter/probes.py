"""What readers ask of a hosted mirror, what each answer has to be, and what mends it where it is not.

Sources: RFC 9110 (ranges, conditions, HEAD), the Fetch standard (CORS), and what zarr with fsspec, obstore, tensorstore
and zarrita were seen to send and to break on (docs/conformance.md has a suite of the same that goes deeper).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from converter.asking import Answer, Server
from corpus import layout
from corpus.delivery import media_type
from corpus.errors import StoreError
from corpus.zarr_v3 import DOCUMENT

_DAY_S: Final = 86400
_ELSEWHERE: Final = "https://viewer.example"
_SOME_DATE: Final = "Wed, 25 Nov 2026 00:00:00 GMT"
_CODINGS: Final = "gzip, deflate, br, zstd"
_PRIVATE: Final = (layout.settings_key(), f"{layout.PRIVATE}/report.json", f"{layout.REPORT}/index.html")


class Site(NamedTuple):
    """A mirror as it is hosted, and two of its objects to ask for.

    Attributes
    ----------
    server
        Where it is.
    document
        Key of a store's root document.
    chunk
        Key of a small shard.
    body
        Bytes of that shard.
    """

    server: Server
    document: str
    chunk: str
    body: bytes


class Advice(NamedTuple):
    """What is told of a fault that shows while a mirror is read, without being asked for; fields as of `Probe`."""

    name: str
    why: str
    remedy: str


class Probe(NamedTuple):
    """One thing to ask.

    Attributes
    ----------
    name
        Stable, for scripts.
    ask
        Returns what is wrong with the answer; nothing where it is right.
    why
        Whom a wrong answer hurts, and how.
    remedy
        What the host can do.
    """

    name: str
    ask: Callable[[Site], str]
    why: str
    remedy: str


def _missing(site: Site) -> str:
    gone = re.sub(r"\d+/0/0$", "99999/0/0", site.chunk)
    old = site.document.replace(DOCUMENT, ".zgroup")  # asked for by readers that do not know the version
    wrong = [f"{key} gives {status}" for key in (gone, old) if (status := _status(site, key)) != 404]
    return "; ".join(wrong)


def _range(site: Site) -> str:
    start, stop = len(site.body) // 3, len(site.body) // 3 + 100
    answer = site.server.ask("GET", site.chunk, Range=f"bytes={start}-{stop - 1}")
    return _ranged(site, answer, start, stop)


def _suffix(site: Site) -> str:
    size = len(site.body)
    return _ranged(site, site.server.ask("GET", site.chunk, Range="bytes=-20"), size - 20, size)


def _beyond(site: Site) -> str:
    status = site.server.ask("GET", site.chunk, Range=f"bytes={len(site.body) + 9}-").status
    return "" if status == 416 else f"a range behind the end gives {status} and not 416"


def _ranged(site: Site, answer: Answer, start: int, stop: int) -> str:
    said, wanted = answer.headers.get("content-range"), f"bytes {start}-{stop - 1}/{len(site.body)}"
    if answer.status != 206:
        return f"status {answer.status} with {len(answer.body)} bytes, and not 206"
    if said != wanted:
        return f"Content-Range is {said!r}, and not {wanted!r}"
    return "" if answer.body == site.body[start:stop] else "other bytes than those of the whole object"


def _head(site: Site) -> str:
    head, get = (site.server.ask(method, site.chunk) for method in ("HEAD", "GET"))
    if head.status != 200:
        return f"status {head.status}"
    if head.headers.get("content-length") != str(len(site.body)):
        return f"Content-Length is {head.headers.get('content-length')}, and not {len(site.body)}"
    names = ("etag", "content-type", "last-modified")
    wrong = [name for name in names if head.headers.get(name) != get.headers.get(name)]
    return f"HEAD and GET differ in {', '.join(wrong)}" if wrong else ""


def _plain(site: Site) -> str:
    for headers in ({}, {"Range": "bytes=0-99"}):
        answer = site.server.ask("GET", site.chunk, Accept_Encoding=_CODINGS, **headers)
        if coding := answer.headers.get("content-encoding"):
            return f"a chunk comes with Content-Encoding: {coding}"
        if answer.status in {200, 206} and answer.body not in {site.body, site.body[:100]}:
            return f"{len(answer.body)} bytes that are not the object's, where the reader accepts {_CODINGS}"
    return ""


def _etag(site: Site) -> str:
    first, second = (site.server.ask("GET", site.chunk).headers.get("etag") for _ in range(2))
    part = site.server.ask("GET", site.chunk, Range="bytes=0-9").headers.get("etag")
    if first is None or first.startswith("W/"):
        return f"the ETag is {first}"
    if {second, part} != {first}:
        return f"the ETag is now {first}, then {second}, of a range {part}"
    status = site.server.ask("GET", site.chunk, If_None_Match=first).status
    return "" if status == 304 else f"If-None-Match with the object's ETag gives {status} and not 304"


def _date(site: Site) -> str:
    said = site.server.ask("GET", site.chunk, Range="bytes=0-9").headers.get("last-modified")
    try:
        parsedate_to_datetime(said or _SOME_DATE)
    except ValueError:
        return f"Last-Modified is {said!r}, no date of HTTP"
    return ""


def _cors(site: Site) -> str:
    answer = site.server.ask("GET", site.chunk, Origin=_ELSEWHERE, Range="bytes=0-9")
    if answer.headers.get("access-control-allow-origin") not in {"*", _ELSEWHERE}:
        return "no Access-Control-Allow-Origin"
    exposed = _words(answer.headers.get("access-control-expose-headers", ""))
    hidden = {"content-range", "etag"} - exposed
    return f"hidden from scripts: {', '.join(sorted(hidden))}" if hidden and "*" not in exposed else ""


def _preflight(site: Site) -> str:
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range"}
    answer = site.server.ask("OPTIONS", site.chunk, Origin=_ELSEWHERE, **asked)
    if not 200 <= answer.status < 300:
        return f"OPTIONS gives {answer.status}"
    if answer.headers.get("access-control-allow-origin") not in {"*", _ELSEWHERE}:
        return "no Access-Control-Allow-Origin"
    allowed = _words(answer.headers.get("access-control-allow-headers", ""))
    return "" if allowed & {"range", "*"} else f"allowed headers are {sorted(allowed)}, without range"


def _kept(site: Site) -> str:
    said = site.server.ask("GET", site.chunk, Range="bytes=0-9").headers.get("cache-control", "")
    age = _age_s(said)
    return "" if age is not None and age >= _DAY_S else f"Cache-Control of a chunk is {said!r}"


def _looked_at(site: Site) -> str:
    wrong = []
    for key in (layout.MIRROR_JSON, site.document):
        said = site.server.ask("GET", key).headers.get("cache-control", "")
        age = 0 if "no-cache" in said or "no-store" in said else _age_s(said)
        if age is None or age > 3600:
            wrong.append(f"of {key} it is {said!r}")
    return "; ".join(wrong)


def _types(site: Site) -> str:
    wrong = []
    for key in (site.chunk, site.document, layout.MIRROR_JSON):
        said = site.server.ask("HEAD", key).headers.get("content-type", "")
        if said.partition(";")[0].strip() != media_type(key):
            wrong.append(f"{key} is {said or 'nothing'!r}, and not {media_type(key)}")
    return "; ".join(wrong)


def _private(site: Site) -> str:
    shown = [key for key in _PRIVATE if _status(site, key) == 200]
    return f"anybody can read {', '.join(shown)}" if shown else ""


def _status(site: Site, key: str) -> int:
    return site.server.ask("GET", key).status


def _words(text: str) -> set[str]:
    return {word.strip().lower() for word in text.split(",") if word.strip()}


def _age_s(cache_control: str) -> int | None:
    found = re.search(r"max-age=(\d+)", cache_control)
    return int(found[1]) if found else None


PROBES: Final = (
    Probe(
        "missing-key",
        _missing,
        "a chunk that is all zero is not stored: readers take 404 for zeros, and fail on anything else",
        "Answer 404. S3 says 403 to who may not list: allow s3:ListBucket (infra/s3/bucket-policy.json).",
    ),
    Probe(
        "range",
        _range,
        "readers fetch chunks out of shards by their bytes; without ranges they fail or fetch all of it",
        "Serve Range requests with 206 and Content-Range; a CDN or proxy must pass them on.",
    ),
    Probe(
        "suffix-range",
        _suffix,
        "the index stands at a shard's end: zarr and obstore ask for `bytes=-N`, and fail with a checksum error",
        "Use a server that knows suffix ranges, or stop the proxy from dropping them.",
    ),
    Probe("range-behind-the-end", _beyond, "a reader cannot tell it from a whole object", "Answer 416."),
    Probe(
        "head",
        _head,
        "browsers' readers take the size from HEAD, and ask for the index by it",
        "Answer HEAD as GET, without the body.",
    ),
    Probe(
        "no-compression",
        _plain,
        "compressed bytes have other ranges: readers decode rubbish, or stop with a checksum error",
        "Switch compression off for chunks (nginx: `gzip off`; a CDN: honour `no-transform`).",
    ),
    Probe(
        "etag",
        _etag,
        "without a strong, steady ETag a cache or a resumed download mixes two versions",
        "Give every object a strong ETag, the same on every replica, and answer If-None-Match with 304.",
    ),
    Probe("last-modified", _date, "obstore refuses every answer with such a date", "Write it as RFC 9110, 5.6.7 says."),
    Probe(
        "cors",
        _cors,
        "viewers in a browser cannot read the mirror, or not the ranges",
        "Allow any origin, and expose Content-Range and ETag (infra/s3/cors.json).",
    ),
    Probe(
        "cors-preflight",
        _preflight,
        "browsers ask before a suffix range, and give up",
        "Answer OPTIONS, and allow the header Range (infra/s3/cors.json).",
    ),
    Probe(
        "cache-chunks",
        _kept,
        "every look at a chunk costs the host its bytes again",
        "Send Cache-Control: max-age=31536000, immutable; `voxshelf publish` stores it with each object on S3.",
    ),
    Probe(
        "cache-documents",
        _looked_at,
        "a corrected licence or a withdrawn subject stays visible in caches",
        "Send Cache-Control: no-cache; `voxshelf publish` stores it with each object on S3.",
    ),
    Probe(
        "content-type",
        _types,
        "proxies compress what they take for text, and browsers refuse JSON of another type",
        "Store objects with their types, as `voxshelf publish` does on S3.",
    ),
    Probe(
        "private",
        _private,
        "the converter's records tell paths, findings and withdrawn subjects",
        f"Keep {layout.PRIVATE}/ from readers (infra/s3/bucket-policy.json), or publish to another place.",
    ),
)
"""In the order in which they are asked."""


def asked(probe: Probe, site: Site) -> str:
    """Return what is wrong with the answer to a probe; an answer that does not come is wrong too."""
    try:
        return probe.ask(site)
    except StoreError as error:
        return str(error)
