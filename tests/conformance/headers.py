"""Probes of validators, caching, types, and what a page of another origin may read."""

from __future__ import annotations

from functools import partial

from exchange import Answer
from probes import MUST, SHOULD, SkippedError, expect, probe
from target import Target

headers = partial(probe, "headers")
_ORIGIN = {"Origin": "https://viewer.example"}


def etag_of(target: Target) -> str:
    """Return the object's ETag; skip what needs one where there is none."""
    etag = target.object[1].header("ETag")
    if not etag:
        raise SkippedError("no ETag")
    return etag


def readable(answer: Answer) -> None:
    """Expect that a page of another origin may read an answer."""
    allowed = answer.header("Access-Control-Allow-Origin")
    expect(allowed in {"*", _ORIGIN["Origin"]}, f"Access-Control-Allow-Origin {allowed!r} on {answer.status}")


@headers("etag", SHOULD)
def etag(target: Target) -> None:
    """Objects have a strong ETag."""
    said = target.object[1].header("ETag")
    expect(said and not said.startswith("W/"), f"ETag {said!r}")


@headers("etag-quoted", MUST)
def etag_quoted(target: Target) -> None:
    """An ETag, where there is one, is in quotes."""
    said = etag_of(target).removeprefix("W/")
    expect(len(said) > 2 and said[0] == said[-1] == '"', f"ETag {said!r}")


@headers("etag-range", MUST)
def etag_range(target: Target) -> None:
    """A part has the ETag of the whole, so that parts can be put together."""
    part = target.server.get(target.key, {"Range": "bytes=0-9"}).header("ETag")
    expect(part == etag_of(target), f"{part!r}, the whole {etag_of(target)!r}")


@headers("if-none-match", SHOULD)
def if_none_match(target: Target) -> None:
    """If-None-Match of the same ETag gives 304 without a body and with the ETag, in a list and as `*` too."""
    same = etag_of(target)
    for condition in (same, f'"other", {same}', "*", f"W/{same.removeprefix('W/')}"):
        answer = target.server.get(target.key, {"If-None-Match": condition})
        expect(answer.status == 304 and not answer.body, f"{condition} gave {answer.status}")
    expect(answer.header("ETag") == same, f"ETag {answer.header('ETag')!r} on 304")


@headers("if-none-match-other", MUST)
def if_none_match_other(target: Target) -> None:
    """If-None-Match of another ETag gives the object."""
    answer = target.server.get(target.key, {"If-None-Match": '"other"'})
    expect(answer.status == 200 and answer.body == target.body, f"status {answer.status}")


@headers("if-range-same", SHOULD)
def if_range_same(target: Target) -> None:
    """If-Range of the same ETag gives the part."""
    answer = target.server.get(target.key, {"Range": "bytes=0-9", "If-Range": etag_of(target)})
    expect(answer.status == 206 and answer.body == target.body[:10], f"status {answer.status}")


@headers("if-range-other", MUST)
def if_range_other(target: Target) -> None:
    """If-Range of another ETag gives the whole, so that bytes of two versions never meet."""
    answer = target.server.get(target.key, {"Range": "bytes=0-9", "If-Range": '"other"'})
    expect(answer.status == 200 and answer.body == target.body, f"status {answer.status}")


@headers("accept-ranges", SHOULD)
def accept_ranges(target: Target) -> None:
    """Accept-Ranges: bytes says that ranges work."""
    said = target.object[1].header("Accept-Ranges")
    expect(said == "bytes", f"Accept-Ranges {said!r}")


@headers("cache-control", SHOULD)
def cache_control(target: Target) -> None:
    """Objects say how long they may be kept, and that no proxy may change them (no-transform)."""
    said = target.object[1].header("Cache-Control")
    expect("max-age" in said and "no-transform" in said, f"Cache-Control {said!r}")


@headers("cache-missing", SHOULD)
def cache_missing(target: Target) -> None:
    """A 404 is not kept for long: the object may come."""
    said = target.server.get(target.beyond()).header("Cache-Control")
    expect(any(word in said for word in ("no-store", "no-cache", "max-age")), f"Cache-Control {said!r}")
    expect("immutable" not in said, f"Cache-Control {said!r}")


@headers("type-json", SHOULD)
def type_json(target: Target) -> None:
    """zarr.json is application/json."""
    said = target.server.get("zarr.json").header("Content-Type")
    expect(said.startswith("application/json"), f"Content-Type {said!r}")


@headers("type-object", SHOULD)
def type_object(target: Target) -> None:
    """Objects are application/octet-stream, not guessed at, and browsers are told not to guess (nosniff)."""
    answer = target.object[1]
    expect(answer.header("Content-Type") == "application/octet-stream", f"{answer.header('Content-Type')!r}")
    expect(answer.header("X-Content-Type-Options") == "nosniff", "no X-Content-Type-Options: nosniff")


@headers("license-link", SHOULD)
def license_link(target: Target) -> None:
    """Data come with a link to their licence (Link, rel="license")."""
    said = target.object[1].header("Link")
    expect('rel="license"' in said or "rel=license" in said, f"Link {said!r}")


@headers("cors-data", SHOULD)
def cors_data(target: Target) -> None:
    """Pages of any origin can read objects and parts of them."""
    readable(target.server.get(target.key, _ORIGIN))
    readable(target.server.get(target.key, {**_ORIGIN, "Range": "bytes=0-9"}))


@headers("cors-304", SHOULD)
def cors_unchanged(target: Target) -> None:
    """Pages of any origin can read a 304, or their cache is of no use."""
    answer = target.server.get(target.key, {**_ORIGIN, "If-None-Match": etag_of(target)})
    expect(answer.status == 304, f"status {answer.status}")
    readable(answer)


@headers("cors-errors", SHOULD)
def cors_errors(target: Target) -> None:
    """Pages of any origin can read 404 and 416; otherwise a missing chunk looks like a broken server."""
    readable(target.server.get(target.beyond(), _ORIGIN))
    readable(target.server.get(target.key, {**_ORIGIN, "Range": f"bytes={len(target.body)}-"}))


@headers("cors-expose", SHOULD)
def cors_expose(target: Target) -> None:
    """Content-Range, Content-Length and ETag are exposed to pages of other origins."""
    said = target.server.get(target.key, {**_ORIGIN, "Range": "bytes=0-9"}).header("Access-Control-Expose-Headers")
    names = {name.strip().lower() for name in said.split(",")}
    expect("*" in names or {"content-range", "content-length", "etag"} <= names, f"exposed are {said!r}")


@headers("preflight", SHOULD)
def preflight(target: Target) -> None:
    """OPTIONS allows the Range header, which a suffix range in a browser asks for first."""
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    answer = target.server.get(target.key, {**_ORIGIN, **asked}, method="OPTIONS")
    expect(answer.status in {200, 204}, f"status {answer.status}")
    readable(answer)
    said = answer.header("Access-Control-Allow-Headers").lower()
    expect("range" in said or said.strip() == "*", f"Access-Control-Allow-Headers {said!r}")


@headers("preflight-kept", SHOULD)
def preflight_kept(target: Target) -> None:
    """A browser may keep the preflight's answer for an hour or more."""
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    said = target.server.get(target.key, {**_ORIGIN, **asked}, method="OPTIONS").header("Access-Control-Max-Age")
    expect(said.isdigit() and int(said) >= 3600, f"Access-Control-Max-Age {said!r}")
