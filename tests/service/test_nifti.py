"""Virtual NIfTI files: any range is that of the inflated source, and no more chunks are read than it lies in."""

from __future__ import annotations

import gzip
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import httpx
import nibabel as nib
import numpy as np
import pytest
import uvicorn

from converter.convert import ConvertSettings, convert
from converter.corpusfile import read_corpus
from converter.phantom_sheets import workbook
from service.app import create_app
from service.ranges import ByteRange
from service.settings import ServiceSettings
from service.upstream import Opened, Upstream

Source = Callable[..., bytes]
SUBJECTS = [f"{number + 1:04d}" for number in range(12)]


class Watched:
    """An upstream that remembers what it was asked for."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.asked: list[tuple[str, int, int]] = []

    async def open(self, key: str, wanted: ByteRange | None, *, body: bool) -> Opened:
        opened = await self._upstream.open(key, wanted, body=body)
        self.asked.append((key, opened.start, opened.stop))
        return opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._upstream, name)

    def voxel_reads(self) -> list[tuple[str, int, int]]:
        return [read for read in self.asked if "/scale0/" in read[0]]


@contextmanager
def listening(mirror: Path, **settings: Any) -> Iterator[tuple[str, Watched]]:
    """The service in a thread of this process, so that what it asks upstream for can be counted."""
    app = create_app(ServiceSettings(str(mirror), **settings))
    watched = app.state.upstream = Watched(app.state.upstream)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)  # uvicorn tells by this flag alone
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", watched
    finally:
        server.should_exit = True
        thread.join()


def ranges(size: int, seed: str) -> list[tuple[int, int]]:
    random_ = random.Random(seed)
    firsts = [0, 100, 347, 352, size - 1, *(random_.randrange(size) for _ in range(6))]
    return [(first, min(size, first + random_.choice([1, 7, 999, 30_000, 200_000]))) for first in firsts]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_range_is_that_of_the_source_in_every_order(
    orders_client: httpx.Client, orders_corpus: Path, source_of: Source, subject: str
) -> None:
    for role in ("ct", "organs", "pet"):
        source, url = source_of(orders_corpus, role, subject), f"/v1/subjects/{subject}/{role}.nii"
        whole = orders_client.get(url)
        assert (whole.status_code, whole.content) == (200, source)
        assert whole.headers["x-voxshelf-byte-identical"] == "true"
        assert gzip.decompress(orders_client.get(f"{url}.gz").content) == source
        for start, stop in ranges(len(source), subject + role):
            answer = orders_client.get(url, headers={"Range": f"bytes={start}-{stop - 1}"})
            assert (answer.status_code, answer.content) == (206, source[start:stop])
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(source)}"
            assert answer.headers["content-length"] == str(stop - start)


def test_headers_and_conditions(orders_client: httpx.Client, orders_corpus: Path, source_of: Source) -> None:
    url, size = "/v1/subjects/0003/ct.nii", len(source_of(orders_corpus, "ct", "0003"))
    head, get = orders_client.head(url), orders_client.get(url)
    assert (head.status_code, head.content) == (200, b"")
    own = {"date": "", "x-request-id": ""}
    assert {**head.headers, **own} == {**get.headers, **own}
    assert head.headers["content-length"] == str(size)
    assert head.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in head.headers
    etag = head.headers["etag"]
    suffix = orders_client.get(url, headers={"Range": "bytes=-516"})
    assert (suffix.status_code, suffix.content) == (206, get.content[-516:])
    beyond = orders_client.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert orders_client.get(url, headers={"If-None-Match": etag}).status_code == 304
    same = orders_client.get(url, headers={"Range": "bytes=0-9", "If-Range": etag})
    assert (same.status_code, same.content) == (206, get.content[:10])
    other = orders_client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, get.content)
    stale = orders_client.get(url, headers={"If-Match": '"other"', "Range": "bytes=0-9"})
    assert (stale.status_code, stale.json()["code"]) == (412, "request.precondition")
    assert orders_client.get(url, headers={"If-Match": etag, "Range": "bytes=0-9"}).status_code == 206
    assert orders_client.get(f"{url}?level=1").status_code == 422
    zipped = orders_client.head(f"{url}.gz")
    assert "content-length" not in zipped.headers
    assert zipped.headers["content-type"] == "application/gzip"
    assert orders_client.get(f"{url}.gz", headers={"If-None-Match": zipped.headers["etag"]}).status_code == 304


def test_nibabel_over_fsspec_reads_one_slice_and_no_other_chunk(mirror: Path, corpus: Path, source_of: Source) -> None:
    # 72 slices in rows of 16: one row holds the slice.
    with listening(mirror) as (base, watched):
        with fsspec.open(f"{base}/v1/subjects/0001/ct.nii", cache_type="none") as file:
            image = nib.Nifti1Image.from_stream(file)
            header_reads = watched.voxel_reads()
            found = np.asarray(image.dataobj[:, :, 40])
        expected = nib.Nifti1Image.from_bytes(source_of(corpus, "ct", "0001"))
        np.testing.assert_array_equal(found, expected.dataobj[:, :, 40])
        assert header_reads == [], "the header is not among the voxels"
        shard = mirror / "subjects/0001.ome.zarr/ct/scale0/ct/c/0/0/0"
        entries = np.frombuffer(shard.read_bytes()[-84:-4], "<u8").reshape(5, 2)
        reads = watched.voxel_reads()
        index = (len(shard.read_bytes()) - 84, len(shard.read_bytes()))
        chunk = (int(entries[2, 0]), int(entries[2].sum()))
        assert {read[1:] for read in reads} == {index, chunk}
        assert len(reads) == 2, "the index and one chunk, once each"


def test_few_reads_for_many_chunks(mirror: Path) -> None:
    with listening(mirror) as (base, watched):
        assert httpx.get(f"{base}/v1/subjects/0001/ct/cutout.raw").status_code == 200
        reads = watched.voxel_reads()
        # The index, and a read for each row of chunks.
        assert len(reads) == 1 + 5
        assert len(watched.asked) == len(reads) + 2, "one document and the header"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose bytes are not those that are stored: types narrowed, bytes swapped, labels scaled and rounded."""
    folder = tmp_path_factory.mktemp("odd")
    random_ = np.random.default_rng(7)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])

    def save(role: str, voxels: np.ndarray, order: str, slope: float = 1.0, inter: float = 0.0) -> None:
        header = nib.Nifti1Header(endianness=order)
        image = nib.Nifti1Image(voxels, affine, header)
        image.header.set_xyzt_units("mm")
        image.header.set_slope_inter(slope, inter)
        path = folder / "corpus/imaging-data" / role / "0001.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(image.to_bytes()))

    labels = np.zeros((20, 21, 40))
    labels[3:9, 4:9, 5:30] = 8
    save("images/CT", random_.integers(-1000, 2000, (20, 21, 40)).astype(">f4"), ">")
    save("images/PT", random_.random((9, 8, 7)).astype(">f8"), ">", 3.0, 1.0)
    save("ground-truth/Organs", (labels[::-1] * 2 + 6).astype(">i2"), ">", 0.5, -3.0)
    save("ground-truth/Ribs", np.where(labels > 0, 3.0004, 0).astype("<f4"), "<")
    (folder / "corpus/CT-details.xlsx").write_bytes(workbook([{"Patient": 1, "Data-Source": "AutoPET Challenge"}]))
    settings = ConvertSettings(corpus=read_corpus(str(folder / "corpus")))
    assert not convert(str(folder / "corpus"), str(folder / "mirror"), settings, lambda _: None).failures
    return folder


def test_narrowing_byte_order_and_label_scaling_are_undone(odd: Path) -> None:
    folders = {"ct": "images/CT", "pet": "images/PT", "organs": "ground-truth/Organs", "ribs": "ground-truth/Ribs"}
    with listening(odd / "mirror") as (base, _):
        for role, folder in folders.items():
            source = gzip.decompress((odd / "corpus/imaging-data" / folder / "0001.nii.gz").read_bytes())
            answer = httpx.get(f"{base}/v1/subjects/0001/{role}.nii")
            assert answer.headers["x-voxshelf-byte-identical"] == str(role != "ribs").lower()
            assert (answer.content == source) == (role != "ribs"), role
            assert len(answer.content) == len(source)
            for start, stop in ranges(len(source), role):
                part = httpx.get(f"{base}/v1/subjects/0001/{role}.nii", headers={"Range": f"bytes={start}-{stop - 1}"})
                assert part.content == answer.content[start:stop]


def test_voxels_that_are_not_the_source_s_never_come_whole(mirror: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(mirror, tmp_path / "mirror"))
    shard = "ct/scale0/ct/c/0/0/0"
    # Another subject's shard: every checksum in it is right. A mirror without manifests loses shards unseen.
    shutil.copy(own / "subjects/0002.ome.zarr" / shard, own / "subjects/0001.ome.zarr" / shard)
    (own / "subjects/0003.ome.zarr" / shard).unlink()
    (own / "subjects/0003.ome.zarr.sha256").unlink()
    with listening(own) as (base, _):
        for subject in ("0001", "0003"):
            for name in ("ct.nii", "ct.nii.gz"):
                answer = httpx.get(f"{base}/v1/subjects/{subject}/{name}")
                assert (answer.status_code, answer.json()["code"]) == (502, "layout.voxels")
