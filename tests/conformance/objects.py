"""Probes of the bytes of objects: whole, in part, and not there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import partial

from exchange import Answer
from probes import MUST, SHOULD, SkippedError, expect, probe
from target import Target

bytes_ = partial(probe, "bytes")


def ranged(target: Target, text: str, start: int, stop: int) -> Answer:
    """Ask for a range of the object, and hold what comes against bytes [start, stop) of the whole."""
    answer = target.server.get(target.key, {"Range": f"bytes={text}"})
    expect(answer.status == 206, f"status {answer.status}")
    expect(answer.body == target.body[start:stop], f"{len(answer.body)} bytes that are not those {stop - start}")
    said = answer.header("Content-Range")
    expect(said.startswith(f"bytes {start}-{stop - 1}/"), f"Content-Range {said!r}")
    return answer


@bytes_("get", MUST)
def get(target: Target) -> None:
    """GET of an object gives 200, all its bytes, and their number in Content-Length."""
    answer = target.object[1]
    expect(answer.header("Content-Length") == str(len(answer.body)), f"{answer.header('Content-Length')!r}")
    expect(target.server.get(target.key).body == answer.body, "the second GET gave other bytes than the first")


@bytes_("get-exact", MUST)
def get_exact(target: Target) -> None:
    """The bytes are those of the store, not decoded and encoded again."""
    if target.truth is None:
        raise SkippedError("no folder to compare with (--truth)")
    for key in (target.key, target.array.within("zarr.json"), "zarr.json"):
        expect(target.server.get(key).body == (target.truth / key).read_bytes(), f"{key} differs from the file")


@bytes_("get-sharded", SHOULD)
def get_sharded(target: Target) -> None:
    """The array is offered in shards, so that few requests read much."""
    expect(target.array.is_sharded, f"{target.array.path} has no shards")


@bytes_("head", MUST)
def head(target: Target) -> None:
    """HEAD gives 200, the Content-Length of GET, and no body; zarrita and Neuroglancer begin with it."""
    answer = target.server.get(target.key, method="HEAD")
    expect(answer.status == 200, f"status {answer.status}")
    expect(answer.header("Content-Length") == str(len(target.body)), f"{answer.header('Content-Length')!r}")


@bytes_("head-same", SHOULD)
def head_same(target: Target) -> None:
    """HEAD gives the ETag, Last-Modified, Content-Type, Cache-Control and Accept-Ranges of GET."""
    answer = target.server.get(target.key, method="HEAD")
    for name in ("ETag", "Last-Modified", "Content-Type", "Cache-Control", "Accept-Ranges"):
        whole = target.object[1].header(name)
        expect(answer.header(name) == whole, f"{name}: {answer.header(name)!r}, with GET {whole!r}")


@bytes_("range-closed", MUST)
def range_closed(target: Target) -> None:
    """Range bytes=a-b gives 206 with just those bytes."""
    ranged(target, "7-99", 7, 100)


@bytes_("range-open", MUST)
def range_open(target: Target) -> None:
    """Range bytes=a- gives all from byte a on."""
    ranged(target, "100-", 100, len(target.body))


@bytes_("range-suffix", MUST)
def range_suffix(target: Target) -> None:
    """Range bytes=-N gives the last N bytes: this is how the index of a shard is read."""
    ranged(target, "-64", len(target.body) - 64, len(target.body))


@bytes_("range-suffix-long", MUST)
def range_suffix_long(target: Target) -> None:
    """A suffix longer than the object gives all of it."""
    answer = target.server.get(target.key, {"Range": f"bytes=-{len(target.body) + 1000}"})
    expect(answer.status in {200, 206}, f"status {answer.status}")
    expect(answer.body == target.body, f"{len(answer.body)} of {len(target.body)} bytes")


@bytes_("range-clamped", MUST)
def range_clamped(target: Target) -> None:
    """A range that begins inside and ends past the end stops at the end."""
    ranged(target, f"10-{len(target.body) + 1000}", 10, len(target.body))


@bytes_("range-total", MUST)
def range_total(target: Target) -> None:
    """Content-Range ends in the object's size, never in `*`, which object_store cannot read."""
    for text in ("0-9", "-9"):
        said = target.server.get(target.key, {"Range": f"bytes={text}"}).header("Content-Range")
        expect(said.endswith(f"/{len(target.body)}"), f"Content-Range {said!r} of {len(target.body)} bytes")


@bytes_("range-length", MUST)
def range_length(target: Target) -> None:
    """Content-Length of a 206 is the number of bytes of the range."""
    answer = target.server.get(target.key, {"Range": "bytes=5-24"})
    expect(answer.status == 206 and answer.header("Content-Length") == "20", f"{answer.header('Content-Length')!r}")


@bytes_("range-past-end", MUST)
def range_past_end(target: Target) -> None:
    """A range past the end gives 416."""
    answer = target.server.get(target.key, {"Range": f"bytes={len(target.body)}-"})
    expect(answer.status == 416, f"status {answer.status}")


@bytes_("range-past-end-size", SHOULD)
def range_past_end_size(target: Target) -> None:
    """A 416 tells the size as `bytes */SIZE`."""
    said = target.server.get(target.key, {"Range": f"bytes={len(target.body)}-"}).header("Content-Range")
    expect(said == f"bytes */{len(target.body)}", f"Content-Range {said!r}")


@bytes_("range-several", MUST)
def range_several(target: Target) -> None:
    """Several ranges give the whole object or multipart/byteranges, never one range as if it were all."""
    answer = target.server.get(target.key, {"Range": "bytes=0-9,20-29"})
    whole = answer.status == 200 and answer.body == target.body
    parts = answer.status == 206 and answer.header("Content-Type").startswith("multipart/byteranges")
    expect(whole or parts or answer.status == 416, f"status {answer.status}, {len(answer.body)} bytes")


@bytes_("range-unit", MUST)
def range_unit(target: Target) -> None:
    """A range in another unit than bytes is ignored."""
    answer = target.server.get(target.key, {"Range": "planes=0-1"})
    expect(answer.status == 200 and answer.body == target.body, f"status {answer.status}, {len(answer.body)} bytes")


@bytes_("range-gzip", MUST)
def range_gzip(target: Target) -> None:
    """A range asked for with Accept-Encoding: gzip comes as it lies in the store, as 206 and not encoded."""
    answer = target.server.get(target.key, {"Range": "bytes=0-99", "Accept-Encoding": "gzip, deflate, br, zstd"})
    expect(answer.status == 206, f"status {answer.status}")
    expect(not answer.header("Content-Encoding"), f"Content-Encoding {answer.header('Content-Encoding')!r}")
    expect(answer.body == target.body[:100], "other bytes")


@bytes_("get-gzip", MUST)
def get_gzip(target: Target) -> None:
    """An object asked for with Accept-Encoding: gzip comes as it lies in the store."""
    answer = target.server.get(target.key, {"Accept-Encoding": "gzip, deflate, br, zstd"})
    expect(not answer.header("Content-Encoding"), f"Content-Encoding {answer.header('Content-Encoding')!r}")
    expect(answer.body == target.body, "other bytes")


@bytes_("parallel", MUST)
def parallel(target: Target) -> None:
    """Thirty-two ranges at once come back each with its own bytes."""
    step = max(1, (len(target.body) - 50) // 32)

    def one(start: int) -> bool:
        answer = target.server.get(target.key, {"Range": f"bytes={start}-{start + 49}"})
        return answer.status == 206 and answer.body == target.body[start : start + 50]

    starts = range(0, len(target.body) - 50, step)
    with ThreadPoolExecutor(16) as pool:
        right = sum(pool.map(one, starts))
    expect(right == len(starts), f"{len(starts) - right} of {len(starts)} were wrong")


@bytes_("keep-alive", SHOULD)
def keep_alive(target: Target) -> None:
    """A connection serves several requests, also after a 404."""
    connection = target.server.connect()
    try:
        for key, status in ((target.beyond(), 404), (target.key, 200), (target.key, 200)):
            answer = target.server.ask(connection, key)
            expect(answer.status == status, f"status {answer.status} for {key}")
            expect(answer.header("Connection").lower() != "close", "the server closes after each answer")
    finally:
        connection.close()


@bytes_("hang-up", MUST)
def hang_up(target: Target) -> None:
    """Clients that hang up in the middle of a body leave the server as it was."""
    for _ in range(8):
        connection = target.server.connect()
        connection.request("GET", f"{target.server.root}/{target.key}")
        connection.close()
    expect(target.server.get(target.key).body == target.body, "other bytes afterwards")


@bytes_("missing-object", MUST)
def missing_object(target: Target) -> None:
    """An object outside the array's grid gives 404: neither 403, nor a page, nor invented zeros."""
    answer = target.server.get(target.beyond())
    expect(answer.status == 404, f"status {answer.status}")


@bytes_("missing-head", MUST)
def missing_head(target: Target) -> None:
    """HEAD of it gives 404 too."""
    answer = target.server.get(target.beyond(), method="HEAD")
    expect(answer.status == 404, f"status {answer.status}")


@bytes_("missing-range", MUST)
def missing_range(target: Target) -> None:
    """A range of an object that is not there gives 404."""
    answer = target.server.get(target.beyond(), {"Range": "bytes=-64"})
    expect(answer.status == 404, f"status {answer.status}")


@bytes_("missing-v2", MUST)
def missing_v2(target: Target) -> None:
    """The documents of Zarr 2, which clients ask for first, give 404."""
    for key in (".zgroup", ".zattrs", ".zmetadata", target.array.within(".zarray")):
        status = target.server.get(key).status
        expect(status == 404, f"{key} gave {status}")


@bytes_("missing-below", MUST)
def missing_below(target: Target) -> None:
    """A key below an object, and one that is only a prefix of objects, give 404."""
    for key in (f"{target.key}/0", target.array.within("c")):
        status = target.server.get(key).status
        expect(status in {301, 404}, f"{key} gave {status}")


@bytes_("last-modified", MUST)
def last_modified(target: Target) -> None:
    """Last-Modified, where there is one, is a date as HTTP writes it, or else object_store fails."""
    said = target.object[1].header("Last-Modified")
    if not said:
        raise SkippedError("no Last-Modified")
    try:
        fine = said.endswith(" GMT") and parsedate_to_datetime(said)
    except ValueError:
        fine = False
    expect(fine, f"Last-Modified {said!r}")
